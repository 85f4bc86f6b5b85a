"""The panels of a report, each drawn into matplotlib axes; x is the image column, as a microscopist expects."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ticker import NullFormatter

from airflow_provider_ophys.report.marks import SATURATED_SHARE, Mark
from airflow_provider_ophys.report.rois import Outline, SampleTraces
from airflow_provider_ophys.report.survey import SeenMovie

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

# Okabe and Ito's colours, which people of every colour vision tell apart; shapes and line widths differ as well.
BLUE, SKY, ORANGE, VERMILION, PURPLE, GREEN = "#0072B2", "#56B4E9", "#E69F00", "#D55E00", "#CC79A7", "#009E73"
MARK_STYLES = {
    "light leak": (ORANGE, "v"),
    "saturated": (VERMILION, "X"),
    "dropped": (PURPLE, "D"),
    "bleaching": (BLUE, ">"),
}
TRACE_COLOURS = (BLUE, VERMILION, GREEN, PURPLE)

SMALL = 8
LONGEST_TEXT = 90
MOST_PLANES = 36
# Enough to choose black and white by.
SCALE_PIXELS = 50_000
MOST_MARKERS = 200
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


def draw_image(axes: Axes, image: NDArray[Any], montage: Montage, *, step: int, title: str, unit: str) -> None:
    """
    Draw an image the right way up: x, the image column, to the right, and y, the image row, down.

    :param image: (columns, rows[, planes]), as NWB stores it.
    """
    picture = montage.picture(image, step)
    width, height = montage.size
    values = picture.ravel()[:: max(1, picture.size // SCALE_PIXELS) | 1]
    values = values[np.isfinite(values)]
    black, white = np.percentile(values, [DARKEST, BRIGHTEST]) if values.size else (0.0, 1.0)
    axes.imshow(
        picture,
        cmap="gray",
        vmin=black,
        vmax=white if white > black else black + 1,
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
    if montage.is_volume:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_xlabel(f"planes of {montage.columns} x {montage.rows} px (x: column, y: row)", fontsize=SMALL)
        _name_planes(axes, montage)
    else:
        axes.set_xlabel("x: image column (px)", fontsize=SMALL)
        axes.set_ylabel("y: image row (px)", fontsize=SMALL)


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
    survey, origin = seen.survey, _origin(seen.times)
    times = seen.times - origin
    indices = survey.indices
    breaks = np.flatnonzero(np.diff(indices) > 1) + 1
    shown = [
        _envelope(when, values)
        for when, values in zip(np.split(times, breaks), np.split(survey.intensity, breaks), strict=True)
    ]
    segments = [np.column_stack(line) for line in shown]
    axes.add_collection(LineCollection(segments, colors="black", linewidths=0.9))
    axes.autoscale_view()
    usual = survey.intensity[~survey.is_blank & (seen.saturation.per_sample < SATURATED_SHARE)]
    if usual.size and np.ptp(usual) > 0:
        # What is saturated or blank is marked; it must not flatten all the rest.
        axes.set_ylim(usual.min() - 0.05 * np.ptp(usual), usual.max() + 0.05 * np.ptp(usual))
    if not survey.is_whole:
        where = np.concatenate([line[0] for line in shown])
        axes.plot(where, np.concatenate([line[1] for line in shown]), ".", color="black", markersize=2)
    _draw_marks(axes, seen.marks, origin)
    axes.set_xlabel(_time_label(origin), fontsize=SMALL)
    axes.set_ylabel(drawable(f"mean intensity ({seen.movie.unit})"), fontsize=SMALL)
    what = "every frame" if survey.is_whole else f"{len(indices)} of {seen.movie.timing.num_samples} frames"
    axes.set_title(f"Mean intensity over time, {what}", fontsize=11, loc="left")
    axes.tick_params(labelsize=SMALL)
    axes.margins(x=0.01)


def _origin(times: NDArray[np.float64]) -> float:
    """Return what to count seconds from: the clock of the recording, unless that began before the day did."""
    return float(times[0]) if abs(times[0]) > SECONDS_PER_DAY else 0.0


def _time_label(origin: float) -> str:
    return f"time (s) after {origin:.3f} s" if origin else "time (s)"


def _draw_marks(axes: Axes, marks: list[Mark], origin: float) -> None:
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.18 * (high - low))
    for kind, (colour, shape) in MARK_STYLES.items():
        of_kind = [mark for mark in marks if mark.kind == kind]
        if not of_kind:
            continue
        label = kind if kind == "bleaching" else f"{kind} ({len(of_kind)})"
        height = 0.94 - 0.05 * list(MARK_STYLES).index(kind)
        middles = [(mark.start + mark.stop) / 2 - origin for mark in of_kind[:MOST_MARKERS]]
        axes.plot(
            middles if kind != "bleaching" else [of_kind[0].start - origin, of_kind[0].stop - origin],
            [height] * (len(middles) if kind != "bleaching" else 2),
            linestyle="--" if kind == "bleaching" else "",
            marker=shape,
            color=colour,
            markersize=6,
            label=label,
            transform=axes.get_xaxis_transform(),
            zorder=5,
        )
        if kind != "bleaching":
            for mark in of_kind[:MOST_MARKERS]:
                axes.axvspan(
                    mark.start - origin, mark.stop - origin, color=colour, alpha=0.35, linewidth=1.0, zorder=0
                )
    if marks:
        axes.legend(fontsize=SMALL, loc="upper right", framealpha=0.9, ncols=len(MARK_STYLES))


def _envelope(times: NDArray[np.float64], values: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[Any]]:
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
    # One bin per value where there are few, else every other bin of a movie of integers might be empty.
    bins = min(HISTOGRAM_BINS, int(np.ptp(pixels)) + 1) if _is_whole(pixels) else HISTOGRAM_BINS
    edges = np.histogram_bin_edges(pixels, bins=bins)
    counts, _ = np.histogram(pixels, bins=edges)
    axes.stairs(counts / pixels.size * 100, edges, fill=True, color="#777777")
    axes.set_yscale("log")
    # Powers of ten as formulas would load matplotlib's formula parser, which takes longer than all the drawing.
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(drawable(f"pixel value ({seen.movie.unit})"), fontsize=SMALL)
    axes.set_ylabel("pixels (%)", fontsize=SMALL)
    axes.set_title("Pixel values", fontsize=11, loc="left")
    axes.tick_params(labelsize=SMALL)
    if saturation.level is None:
        text = "no saturated pixels"
    else:
        axes.axvline(saturation.level, color=VERMILION, linestyle="--", linewidth=1.5)
        text = f"{saturation.share:.3%} saturated, at {saturation.level:g}"
    axes.text(0.98, 0.95, text, transform=axes.transAxes, ha="right", va="top", fontsize=9)


def _is_whole(pixels: NDArray[Any]) -> bool:
    return bool(np.issubdtype(pixels.dtype, np.integer))


def draw_outlines(
    axes: Axes,
    outlines: list[Outline],
    accepted: NDArray[np.bool_] | None,
    montage: Montage,
    *,
    numbered: Sequence[tuple[int, str]] = (),
) -> None:
    """
    Draw outlines over an image: accepted ones thick and blue, rejected ones thin and orange.

    :param accepted: Of each ROI; ``None`` if nobody knows.
    :param numbered: ROIs that get their name: those whose traces are shown.
    """
    groups: dict[str, list[Outline]] = {}
    outlines = [outline for outline in outlines if outline.plane in montage.planes]
    for outline in outlines:
        kind = "ROI" if accepted is None else "accepted" if accepted[outline.roi] else "rejected"
        groups.setdefault(kind, []).append(outline)
    for kind, members in sorted(groups.items()):
        is_rejected = kind == "rejected"
        lines = [loop + _offset(montage, member.plane) for member in members for loop in member.loops]
        count = len({member.roi for member in members})
        axes.add_collection(
            LineCollection(
                lines,
                colors=ORANGE if is_rejected else SKY,
                linewidths=0.9 if is_rejected else 1.5,
                linestyles="--" if is_rejected else "-",
                label=f"{kind} ({count})",
            )
        )
    first = {outline.roi: outline for outline in reversed(outlines) if outline.loops}
    for roi, name in numbered:
        if roi in first:
            x, y = first[roi].loops[0].max(axis=0) + _offset(montage, first[roi].plane)
            axes.text(x, y, drawable(name), fontsize=SMALL, color="white", fontweight="bold", clip_on=True)


def _offset(montage: Montage, plane: int) -> NDArray[np.int64]:
    return np.array(montage.corner(montage.planes.index(plane)))


def draw_traces(axes: Axes, traces: SampleTraces, names: Sequence[str]) -> None:
    """Draw traces above each other, each scaled to its own range, the first on top."""
    origin = _origin(traces.times)
    for place in range(len(names)):
        values = traces.values[:, place]
        low, high = np.nanpercentile(values, [1, 99.9]) if np.isfinite(values).any() else (0.0, 1.0)
        scaled = (values - low) / ((high - low) or 1.0)
        height = len(names) - 1 - place
        axes.plot(
            *_envelope(traces.times - origin, 0.85 * scaled + height),
            color=TRACE_COLOURS[place % len(TRACE_COLOURS)],
            linewidth=0.8,
        )
        axes.annotate(
            f"{high - low:.3g}",
            (1.005, height + 0.4),
            xycoords=("axes fraction", "data"),
            fontsize=SMALL - 1,
            color="#555555",
        )
    axes.set_yticks([len(names) - 1 - place for place in range(len(names))], [drawable(name) for name in names])
    axes.set_xlabel(_time_label(origin), fontsize=SMALL)
    axes.tick_params(labelsize=SMALL)
    axes.margins(x=0.0)
    part = "" if traces.is_whole else f", the first {traces.times[-1] - traces.times[0]:.0f} s"
    what = f"Traces: {traces.source.container}/{traces.source.name}{part}; at the right: range"
    axes.set_title(drawable(f"{what} ({traces.source.unit})"), fontsize=11, loc="left")
