"""The panels of a report, each drawn into matplotlib axes; x is the image column, as a microscopist expects."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.collections import LineCollection
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ticker import MaxNLocator, NullLocator

from airflow_provider_ophys.report.marks import Mark
from airflow_provider_ophys.report.saturation import SATURATED_SHARE
from airflow_provider_ophys.report.survey import SeenMovie

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

# Okabe and Ito's colours, which people of every colour vision tell apart; shapes and line widths differ as well.
BLUE, SKY, ORANGE, VERMILION, PURPLE, GREEN = "#0072B2", "#56B4E9", "#E69F00", "#D55E00", "#CC79A7", "#009E73"
YELLOW, GREY = "#F0E442", "#777777"
MARK_STYLES = {
    "dark detector": ("#000000", "s"),
    "light leak": (ORANGE, "v"),
    "saturated": (VERMILION, "X"),
    "dropped": (PURPLE, "D"),
    "duplicated": (PURPLE, "d"),
    "partly zero": (GREY, "P"),
    "interleaved": (GREEN, "*"),
    "jump": (BLUE, "^"),
    "jitter": (BLUE, "o"),
    "drift": (SKY, ">"),
    "z-drift": (SKY, "<"),
    "bleaching": (YELLOW, ">"),
    "line noise": (GREEN, "h"),
}

SMALL = 8
LONGEST_TEXT = 90
MOST_TICKS = 4
MOST_PLANES, MOST_CURVES = 36, 8
# Of the height of a panel, between two numbers beside it.
LEAST_DISTANCE = 0.055
# Enough to choose black and white by.
SCALE_PIXELS = 50_000
# What lasts longer than this share of the recording is a line and no band over the curve.
LASTING_SHARE = 0.3
POINTS = 2000
HISTOGRAM_BINS = 128
SECONDS_PER_DAY = 86_400
DARKEST, BRIGHTEST = 1.0, 99.7


def drawable(text: object, longest: int = LONGEST_TEXT) -> str:
    """Make any text one that can be drawn: one short line, without formulas, of letters that the font has."""
    line = " ".join(str(text).split())
    if len(line) > longest:
        line = line[: longest - 1] + "…"
    known = "".join(letter if ord(letter) in _letters() else "?" for letter in line)
    return known.replace("$", r"\$")


@cache
def _letters() -> frozenset[int]:
    return frozenset(get_font(findfont(FontProperties())).get_charmap())


@dataclass(frozen=True)
class Montage:
    """
    Where the planes of a volume are in one picture; a single plane is the picture.

    :param columns: Of one plane, in pixels.
    :param rows: Of one plane, in pixels.
    :param planes: Which planes are shown.
    """

    columns: int
    rows: int
    planes: tuple[int, ...]

    @classmethod
    def of(cls, shape: Sequence[int]) -> Montage:
        """Lay out (columns, rows[, planes]); of many planes 36, evenly spread."""
        count = shape[2] if len(shape) > 2 else 1  # noqa: PLR2004 - the third axis is the plane
        shown = np.unique(np.linspace(0, count - 1, min(count, MOST_PLANES)).round().astype(int))
        return cls(int(shape[0]), int(shape[1]), tuple(int(plane) for plane in shown))

    @property
    def is_volume(self) -> bool:
        """Whether there are several planes."""
        return len(self.planes) > 1

    def corner(self, place: int) -> tuple[int, int]:
        """Return the column and row at which the plane at this place starts, in pixels of the picture."""
        across = self._across
        return (place % across) * (self.columns + self._gap), (place // across) * (self.rows + self._gap)

    def picture(self, image: NDArray[Any], step: int) -> NDArray[Any]:
        """
        Return what is shown, (rows, columns) of the picture; what is between planes is NaN.

        :param image: (columns, rows[, planes]).
        :param step: Every so many pixels of the plane are in the image.
        """
        if not self.is_volume:
            return (image if image.ndim == 2 else image[:, :, 0]).T  # noqa: PLR2004 - a plane
        width, height = self.size
        picture = np.full((-(-height // step), -(-width // step)), np.nan)
        for place, plane in enumerate(self.planes):
            column, row = (pixel // step for pixel in self.corner(place))
            tile = image[:, :, plane].T
            picture[row : row + tile.shape[0], column : column + tile.shape[1]] = tile
        return picture

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture, in pixels."""
        down = -(-len(self.planes) // self._across)
        return (
            self._across * (self.columns + self._gap) - self._gap,
            down * (self.rows + self._gap) - self._gap,
        )

    @property
    def _across(self) -> int:
        return min(len(self.planes), max(1, round(math.sqrt(len(self.planes) * self.rows / self.columns))))

    @property
    def _gap(self) -> int:
        return max(2, self.columns // 32)


def grey_levels(picture: NDArray[Any]) -> tuple[float, float]:
    """Return which values are black and white in a picture."""
    values = picture.ravel()[:: max(1, picture.size // SCALE_PIXELS) | 1]
    values = values[np.isfinite(values)]
    black, white = np.percentile(values, [DARKEST, BRIGHTEST]) if values.size else (0.0, 1.0)
    return float(black), float(white if white > black else black + 1)


def draw_image(
    axes: Axes,
    image: NDArray[Any],
    montage: Montage,
    *,
    step: int,
    title: str,
    unit: str,
    micrometres: float | None = None,
) -> None:
    """
    Draw an image the right way up: x, the image column, to the right, and y, the image row, down.

    :param image: (columns, rows[, planes]), as NWB stores it.
    :param micrometres: Across a pixel, for a scale bar; ``None`` if nobody knows.
    """
    picture = montage.picture(image, step)
    width, height = montage.size
    black, white = grey_levels(picture)
    axes.imshow(
        picture,
        cmap="gray",
        vmin=black,
        vmax=white,
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        interpolation="nearest",
    )
    axes.set_title(f"{title}\n", fontsize=11, loc="left")
    axes.text(
        0.0,
        1.01,
        drawable(f"black {black:.4g}, white {white:.4g} ({unit})"),
        transform=axes.transAxes,
        fontsize=SMALL,
        color="#555555",
    )
    axes.tick_params(labelsize=SMALL)
    if micrometres is not None:
        _draw_scale(axes, montage, micrometres)
    if montage.is_volume:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_xlabel(f"planes of {montage.columns} x {montage.rows} px (x: column, y: row)", fontsize=SMALL)
        _name_planes(axes, montage)
    else:
        # Each tick takes as long as a curve.
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(MOST_TICKS, steps=[1, 2, 5, 10], integer=True))
        axes.set_xlabel("x: image column (px)", fontsize=SMALL)
        axes.set_ylabel("y: image row (px)", fontsize=SMALL)


def _draw_scale(axes: Axes, montage: Montage, micrometres: float) -> None:
    """Draw a bar of a round length, about a fifth of a plane, in the lower left corner."""
    wanted = montage.columns * micrometres / 5
    power = 10.0 ** math.floor(math.log10(wanted))
    length = max(step * power for step in (1, 2, 5) if step * power <= wanted * (1 + 1e-9))
    column, row = montage.corner(len(montage.planes) - 1) if montage.is_volume else (0, 0)
    start, height = column + 0.05 * montage.columns, row + 0.94 * montage.rows
    axes.plot([start, start + length / micrometres], [height, height], color="black", linewidth=5)
    axes.plot([start, start + length / micrometres], [height, height], color="white", linewidth=3)
    axes.text(
        start,
        height - 0.025 * montage.rows,
        f"{length:g} µm",
        color="white",
        fontsize=SMALL,
        fontweight="bold",
        va="bottom",
        bbox={"facecolor": "black", "alpha": 0.5, "pad": 1.0, "linewidth": 0},
    )


def _name_planes(axes: Axes, montage: Montage) -> None:
    for place, plane in enumerate(montage.planes):
        column, row = montage.corner(place)
        axes.text(
            column + 0.03 * montage.columns,
            row + 0.03 * montage.rows,
            f"plane {plane}",
            fontsize=SMALL,
            color="white",
            va="top",
            bbox={"facecolor": "black", "alpha": 0.6, "pad": 1.0, "linewidth": 0},
        )


def draw_intensity(axes: Axes, seen: SeenMovie) -> None:
    """Draw the mean of each sample over time, and what catches the eye in it."""
    survey, origin = seen.survey, time_origin(seen.times)
    times = seen.times - origin
    indices = survey.indices
    breaks = np.flatnonzero(np.diff(indices) > 1) + 1
    curves = survey.frames["mean"].T
    planes = np.unique(np.linspace(0, len(curves) - 1, min(len(curves), MOST_CURVES)).astype(int))
    for plane in planes:
        shown = [
            envelope(when, values)
            for when, values in zip(np.split(times, breaks), np.split(curves[plane], breaks), strict=True)
        ]
        colour = "black" if len(curves) == 1 else _plane_colour(plane, len(curves))
        axes.add_collection(
            LineCollection([np.column_stack(line) for line in shown], colors=[colour], linewidths=0.9)
        )
    axes.autoscale_view()
    usual = survey.frames["mean"][~survey.is_blank & (seen.saturation.per_sample < SATURATED_SHARE)]
    if usual.size and np.ptp(usual) > 0:
        # What is saturated or blank is marked; it must not flatten all the rest.
        axes.set_ylim(usual.min() - 0.05 * np.ptp(usual), usual.max() + 0.05 * np.ptp(usual))
    if not survey.is_whole:
        where = np.concatenate([line[0] for line in shown])
        axes.plot(where, np.concatenate([line[1] for line in shown]), ".", color="black", markersize=2)
    _draw_marks(axes, seen.found.marks, origin)
    if len(curves) > 1:
        _number_curves(axes, curves, planes)
    axes.set_xlabel(time_label(origin), fontsize=SMALL)
    axes.set_ylabel(drawable(f"mean intensity ({seen.movie.unit})"), fontsize=SMALL)
    what = "every frame" if survey.is_whole else f"{len(indices)} of {seen.movie.timing.num_samples} frames"
    by_plane = ", by plane" if len(curves) > 1 else ""
    axes.set_title(f"Mean over time{by_plane}, {what}", fontsize=11, loc="left")
    axes.tick_params(labelsize=SMALL)
    axes.margins(x=0.01)


def _plane_colour(plane: int, count: int) -> Any:
    return colormaps["viridis"](plane / count)


def _number_curves(axes: Axes, curves: NDArray[Any], planes: NDArray[Any]) -> None:
    """Write the number of each plane beside its curve, or as near to it as the other numbers leave room."""
    low, high = axes.get_ylim()
    levels = (np.median(curves[planes], axis=1) - low) / (high - low)
    for plane, height in zip(planes, spread_out(levels, LEAST_DISTANCE), strict=True):
        axes.text(
            1.003, height, f"{plane}", fontsize=SMALL - 1, color=_plane_colour(plane, len(curves)),
            transform=axes.transAxes, va="center",
        )  # fmt: skip


def spread_out(places: NDArray[np.float64], distance: float) -> NDArray[np.float64]:
    """Return places in the same order, none nearer to another than a distance, and all from 0 to 1 if they fit."""
    order = np.argsort(places, kind="stable")
    apart = distance * np.arange(len(places))
    # What is left of a place when all below it have had their room may not fall; and the highest stays within.
    moved = np.maximum.accumulate(np.clip(places[order], 0, 1) - apart) + apart
    moved = np.minimum.accumulate((np.minimum(moved, 1) + apart[::-1])[::-1])[::-1] - apart[::-1]
    spread = np.empty(len(places))
    spread[order] = moved
    return spread


def time_origin(times: NDArray[np.float64]) -> float:
    """Return what to count seconds from: the clock of the recording, unless that began before the day did."""
    return float(times[0]) if abs(times[0]) > SECONDS_PER_DAY else 0.0


def time_label(origin: float) -> str:
    """Name the axis of time, with what it is counted from."""
    return f"time (s) after {origin:.3f} s" if origin else "time (s)"


def _draw_marks(axes: Axes, marks: list[Mark], origin: float) -> None:
    """Draw marks above the curve: a sign for what happens at a time, a line for what lasts."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + (0.1 + 0.06 * len(marks)) * (high - low))
    extent = np.diff(axes.get_xlim()).item()
    for place, mark in enumerate(marks):
        colour, shape = MARK_STYLES[mark.kind]
        height = 0.95 - 0.06 * place
        spans = [(start - origin, stop - origin) for start, stop in mark.spans]
        middles = [(start + stop) / 2 for start, stop in spans]
        label = f"{mark.kind} ({mark.count})" if mark.count > 1 else mark.kind
        level = axes.get_xaxis_transform()
        axes.plot(
            middles, [height] * len(middles), linestyle="", marker=shape, color=colour, markeredgecolor="black",
            markeredgewidth=0.4, markersize=6, label=label, transform=level, zorder=5,
        )  # fmt: skip
        for start, stop in spans:
            if stop - start > LASTING_SHARE * extent:
                axes.plot([start, stop], [height, height], color=colour, linewidth=1.5, transform=level, zorder=4)
            else:
                axes.axvspan(start, stop, color=colour, alpha=0.35, linewidth=1.0, zorder=0)
    if marks:
        # Beside the title, where no curve is.
        axes.legend(
            fontsize=SMALL, loc="lower right", bbox_to_anchor=(1.0, 1.0), frameon=False, ncols=5, borderpad=0.1,
            handletextpad=0.2, columnspacing=1.0,
        )  # fmt: skip


def envelope(times: NDArray[np.float64], values: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return a line of few points that looks the same: the least and the most of each stretch."""
    width = len(values) // (POINTS // 2)
    if width <= 2:  # noqa: PLR2004 - two points stand for two
        return times, values
    count = len(values) // width * width
    stretches = values[:count].reshape(-1, width)
    low, high = stretches.argmin(axis=1), stretches.argmax(axis=1)
    places = np.sort(np.column_stack([low, high]), axis=1) + np.arange(0, count, width)[:, None]
    kept = np.append(places.ravel(), np.arange(count, len(values)))
    return times[kept], values[kept]


def draw_histogram(axes: Axes, seen: SeenMovie) -> None:
    """Draw how often each pixel value occurs, and how many are saturated."""
    saturation = seen.saturation
    pixels = seen.survey.pixels[np.isfinite(seen.survey.pixels)]
    if not pixels.size:
        return
    edges = _bin_edges(pixels)
    counts, _ = np.histogram(pixels, bins=edges)
    axes.stairs(counts / pixels.size * 100, edges, fill=True, color="#777777")
    axes.set_yscale("log")
    # Powers of ten as formulas would load matplotlib's formula parser, which takes longer than all the drawing.
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(drawable(f"pixel value ({seen.movie.unit})"), fontsize=SMALL)
    axes.set_ylabel("pixels (%)", fontsize=SMALL)
    axes.set_title("Pixel values", fontsize=11, loc="left")
    axes.tick_params(labelsize=SMALL)
    if saturation.level is None:
        text = "no saturated pixels"
    else:
        axes.axvline(saturation.level, color=VERMILION, linestyle="--", linewidth=1.5)
        text = f"{saturation.share:.2g} saturated, at about {saturation.level:.6g}"
    # Above the bars, and not over them.
    axes.set_title(text, fontsize=SMALL, loc="right")


def _bin_edges(pixels: NDArray[Any]) -> NDArray[np.float64]:
    """Return edges with as many values of integers in each bin: else every other bin would be higher."""
    if not np.issubdtype(pixels.dtype, np.integer):
        return np.asarray(np.histogram_bin_edges(pixels, bins=HISTOGRAM_BINS))
    least, most = int(pixels.min()), int(pixels.max())
    width = -(-(most - least + 1) // HISTOGRAM_BINS)
    return np.asarray(np.arange(least, most + width + 1, width) - 0.5, dtype=np.float64)
