"""The panels of a segmentation: outlines over an image, traces of some ROIs, and when which ROI is active."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.ticker import MaxNLocator

from airflow_provider_ophys.report.panels import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    SMALL,
    VERMILION,
    Montage,
    drawable,
    envelope,
    time_label,
    time_origin,
)
from airflow_provider_ophys.report.rois import Outline, SampleTraces

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

TRACE_COLOURS = (BLUE, VERMILION, GREEN, PURPLE, "#A6761D", "#6A3D9A", "#B8860B", "#444444")
EVENTS_FROM, EVENTS_TO = 2.0, 8.0


def draw_outlines(
    axes: Axes,
    outlines: list[Outline],
    accepted: NDArray[np.bool_] | None,
    montage: Montage,
    *,
    numbered: Sequence[tuple[int, str]] = (),
    width: float = 1.5,
) -> None:
    """
    Draw outlines over an image: accepted ones thick and blue, rejected ones thin and orange.

    :param accepted: Of each ROI; ``None`` if nobody knows.
    :param numbered: ROIs that get their name, in the colours of their traces, which are shown.
    :param width: Of the lines, in points.
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
                linewidths=width * 0.6 if is_rejected else width,
                linestyles="--" if is_rejected else "-",
                label=f"{kind} ({count})",
            )
        )
    first = {outline.roi: outline for outline in reversed(outlines) if outline.loops}
    taken: list[NDArray[np.float64]] = []
    for place, (roi, name) in enumerate(numbered):
        if roi not in first:
            continue
        outline, colour = first[roi], TRACE_COLOURS[place % len(TRACE_COLOURS)]
        offset = _offset(montage, outline.plane)
        loops = [loop + offset for loop in outline.loops]
        axes.add_collection(LineCollection(loops, colors=colour, linewidths=2.2))
        _write_beside(axes, drawable(name), loops[0], taken, montage=montage, colour=colour)


def _write_beside(
    axes: Axes,
    text: str,
    loop: NDArray[np.float64],
    taken: list[NDArray[np.float64]],
    *,
    montage: Montage,
    colour: str,
) -> None:
    """Write a name at a corner of an outline where no other name is yet; where all are taken, at the first."""
    low, high = loop.min(axis=0), loop.max(axis=0)
    width, height = montage.size
    room = np.array([0.02 * width * len(text), 0.05 * height])
    corners = [np.array(corner) for corner in (high, (low[0] - room[0], high[1]), (high[0], low[1]), low - room)]

    def is_free(at: NDArray[np.float64]) -> bool:
        inside = (at >= 0).all() and (at + room <= (width, height)).all()
        return bool(inside and all((np.abs(at - other) > room).any() for other in taken))

    at = next((corner for corner in corners if is_free(corner)), high)
    taken.append(at)
    axes.text(
        float(at[0]),
        float(at[1]),
        text, fontsize=SMALL, color="white", fontweight="bold", clip_on=True, va="center",
        bbox={"facecolor": colour, "alpha": 0.75, "pad": 0.8, "linewidth": 0},
    )  # fmt: skip


def _offset(montage: Montage, plane: int) -> NDArray[np.int64]:
    return np.array(montage.corner(montage.planes.index(plane)))


def draw_traces(axes: Axes, traces: SampleTraces, names: Sequence[str]) -> None:
    """Draw traces above each other, each scaled to its own range, the first on top."""
    origin = time_origin(traces.times)
    for place in range(len(names)):
        values = traces.values[:, place]
        low, high = np.nanpercentile(values, [1, 99.9]) if np.isfinite(values).any() else (0.0, 1.0)
        scaled = (values - low) / ((high - low) or 1.0)
        height = len(names) - 1 - place
        axes.plot(
            *envelope(traces.times - origin, 0.85 * scaled + height),
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
    axes.tick_params(labelsize=SMALL, labelbottom=False)
    axes.margins(x=0.0)
    part = "" if traces.is_whole else f", the first {traces.times[-1] - traces.times[0]:.0f} s"
    what = "dF/F" if traces.is_relative else f"{traces.source.name} ({traces.source.unit})"
    derived = ", from Fluorescence" if traces.is_relative and traces.source.container == "Fluorescence" else ""
    axes.set_title(drawable(f"{what}{derived}{part}; at the right: range"), fontsize=11, loc="left")


def draw_events(axes: Axes, traces: SampleTraces) -> None:
    """Draw when which ROI is active: a row for each, dark where it is far above its usual."""
    origin = time_origin(traces.times)
    first, last = traces.times[[0, -1]] - origin
    axes.imshow(
        traces.events.T,
        cmap="Greys",
        vmin=EVENTS_FROM,
        vmax=EVENTS_TO,
        aspect="auto",
        interpolation="nearest",
        extent=(first, last if last > first else first + 1, traces.events.shape[1] - 0.5, -0.5),
    )
    axes.set_title(
        f"Events of {traces.events.shape[1]} ROIs: above {EVENTS_FROM:g} (white) to {EVENTS_TO:g} (black) "
        "standard deviations",
        fontsize=9,
        loc="left",
    )
    axes.set_xlabel(time_label(origin), fontsize=SMALL)
    axes.set_ylabel("ROI", fontsize=SMALL)
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.tick_params(labelsize=SMALL)
