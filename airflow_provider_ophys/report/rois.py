"""ROIs to be drawn: their outlines along pixel borders, and traces of some of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from airflow_provider_ophys.nwb.contents import Segmentation, Traces
from airflow_provider_ophys.report.curves import FEWEST_FOR_A_COURSE, course, spread

if TYPE_CHECKING:
    from numpy.typing import NDArray

# More outlines than this are a carpet; more masks than this take longer to read than the movie's sample.
MOST_OUTLINES = 1000
DENSE_MASK_BYTES = 256 * 2**20
MOST_TRACES = 8
TRACE_BYTES = 64 * 2**20
BASELINE_PERCENTILE = 20.0
MOST_STRETCHES = 1200

# Of each side of a pixel: the neighbour there, and the corners, from the pixel's own, in going around it.
SIDES = (
    ((0, -1), (0, 0), (1, 0)),
    ((1, 0), (1, 0), (1, 1)),
    ((0, 1), (1, 1), (0, 1)),
    ((-1, 0), (0, 1), (0, 0)),
)

# Whose traces are shown, the best first, and what is not what a cell looks like.
CONTAINERS = ("DfOverF", "Fluorescence")
DERIVED_TRACES = ("neuropil", "deconvolved", "background")


@dataclass(frozen=True)
class Outline:
    """
    The border of an ROI in one plane.

    :param roi: Row of the table.
    :param plane: Of a volume; 0 otherwise.
    :param loops: Closed polygons of (x, y) in pixels, where pixel (i, j) is the square from (i - 0.5, j - 0.5) to
        (i + 0.5, j + 0.5); inside them are all pixels of the ROI and no others.
    """

    roi: int
    plane: int
    loops: tuple[NDArray[np.float64], ...]


@dataclass(frozen=True)
class SampleTraces:
    """
    Traces of some ROIs.

    :param rois: Rows of the table.
    :param values: (time, ROIs): dF/F, of raw fluorescence worked out here; or what the file has, if it is neither.
    :param is_relative: Whether they are dF/F.
    :param times: Seconds.
    :param is_whole: Whether these are all samples.
    :param events: (stretches of time, ROIs) of up to 1,000 ROIs: how far each is above its usual, at most, in
        standard deviations.
    """

    source: Traces
    rois: NDArray[np.int64]
    values: NDArray[np.float64]
    is_relative: bool
    times: NDArray[np.float64]
    is_whole: bool
    events: NDArray[np.float32]


def choose_rois(segmentation: Segmentation) -> NDArray[np.int64]:
    """Choose the ROIs whose outlines are drawn: all, or so many, evenly spread, that it stays cheap."""
    most = MOST_OUTLINES
    if segmentation.mask_type == "image":
        bytes_per_mask = math.prod(segmentation.masks.shape[1:]) * np.dtype(segmentation.masks.dtype).itemsize
        most = min(most, max(1, DENSE_MASK_BYTES // bytes_per_mask))
    count = min(most, segmentation.num_rois)
    return np.unique(np.linspace(0, segmentation.num_rois - 1, count).round().astype(np.int64))


def outlines(segmentation: Segmentation, rois: NDArray[np.int64]) -> Iterator[Outline]:
    """
    Yield the outlines of ROIs, plane by plane.

    :param segmentation: With masks.
    :param rois: Rows of the table, ascending.
    """
    for roi in rois:
        members = _members(segmentation, int(roi))
        for plane in np.unique(members[:, 2]):
            pixels = members[members[:, 2] == plane, :2]
            yield Outline(int(roi), int(plane), tuple(borders(pixels)))


def frame_shape(segmentation: Segmentation) -> tuple[int, ...] | None:
    """Return (columns, rows[, planes]) of the masks; ``None`` if the table does not tell."""
    return tuple(segmentation.masks.shape[1:]) if segmentation.mask_type == "image" else None


def _members(segmentation: Segmentation, roi: int) -> NDArray[np.int64]:
    """Return the pixels of an ROI with a weight: rows of x, y and plane."""
    if segmentation.mask_type == "image":
        found = np.argwhere(np.asarray(segmentation.masks[roi]) != 0)
        return found if found.shape[1] == 3 else np.insert(found, 2, 0, axis=1)  # noqa: PLR2004 - x, y, plane
    ends = segmentation.mask_ends
    if ends is None:
        return np.empty((0, 3), dtype=np.int64)
    records = np.asarray(segmentation.masks[int(ends[roi - 1]) if roi else 0 : int(ends[roi])])
    records = records[records["weight"] != 0]
    plane = records["z"] if "z" in (records.dtype.names or ()) else np.zeros(len(records))
    return np.stack([records["x"], records["y"], plane], axis=1).astype(np.int64)


def borders(pixels: NDArray[np.int64]) -> Iterator[NDArray[np.float64]]:
    """
    Yield the closed polygons around a set of pixels, along their borders.

    :param pixels: Rows of x and y.
    """
    # Every border has its pixel on the same hand, so that following them goes once around; where two pixels touch
    # at a corner, two borders start there.
    following: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for start, end in _border_steps(pixels):
        following.setdefault(start, []).append(end)
    while following:
        corner = next(iter(following))
        loop = [corner]
        while corner in following:
            ends = following[corner]
            corner = ends.pop()
            if not ends:
                del following[loop[-1]]
            loop.append(corner)
        yield np.array(loop, dtype=np.float64) - 0.5


def _border_steps(pixels: NDArray[np.int64]) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Yield the sides of pixels beyond which there is no other, from corner to corner of the pixel grid."""
    if not len(pixels):
        return
    least = pixels.min(axis=0)
    inside = np.zeros(pixels.max(axis=0) - least + 3, dtype=bool)
    inside[tuple((pixels - least + 1).T)] = True
    for (x, y), start, end in SIDES:
        lonely = inside & ~np.roll(inside, (-x, -y), axis=(0, 1))
        corners = np.argwhere(lonely) + least - 1
        yield from zip(map(tuple, (corners + start).tolist()), map(tuple, (corners + end).tolist()), strict=True)


def sample_traces(segmentation: Segmentation) -> SampleTraces | None:
    """
    Read the traces of some ROIs, accepted ones if the file tells, evenly spread over the table.

    dF/F is preferred to fluorescence, of which it is worked out. What is longer than 64 MiB (of all ROIs) is cut.
    """
    source = _source(segmentation.traces)
    if source is None:
        return None
    columns = np.arange(len(source.rows))
    if segmentation.accepted is not None and segmentation.accepted[source.rows].any():
        columns = np.flatnonzero(segmentation.accepted[source.rows])
    columns = columns[np.unique(np.linspace(0, len(columns) - 1, min(MOST_TRACES, len(columns))).astype(int))]
    row_bytes = source.data.shape[1] * np.dtype(source.data.dtype).itemsize
    length = min(int(source.data.shape[0]), max(2, TRACE_BYTES // row_bytes))
    values = np.asarray(source.data[:length])
    shown = values[:, columns].astype(np.float64)
    relative = _relative(shown) if source.container == "Fluorescence" else None
    return SampleTraces(
        source=source,
        rois=source.rows[columns],
        values=shown if relative is None else relative,
        is_relative=relative is not None or source.container == "DfOverF",
        times=source.timing.at(np.arange(length)),
        is_whole=length == source.data.shape[0],
        events=_events(values),
    )


def _relative(values: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return dF/F: the change from the running 20th percentile, over it; ``None`` if that is not above zero."""
    if len(values) < FEWEST_FOR_A_COURSE or not np.isfinite(values).all():
        return None
    usual = np.column_stack([course(trace, percentile=BASELINE_PERCENTILE) for trace in values.T])
    return (values - usual) / usual if (usual > 0).all() else None


def _events(values: NDArray[Any]) -> NDArray[np.float32]:
    """Return how far ROIs are above their median, in their own standard deviations, at most in each stretch."""
    rois = np.unique(np.linspace(0, values.shape[1] - 1, min(MOST_OUTLINES, values.shape[1])).astype(int))
    edges = np.unique(np.linspace(0, len(values), min(MOST_STRETCHES, len(values)) + 1).astype(int))
    events = np.zeros((len(edges) - 1, len(rois)), dtype=np.float32)
    for place, roi in enumerate(rois):
        trace = np.nan_to_num(values[:, roi].astype(np.float64))
        above = (trace - np.median(trace)) / (spread(trace) or 1.0)
        events[:, place] = np.maximum.reduceat(above, edges[:-1])
    return events


def _source(traces: tuple[Traces, ...]) -> Traces | None:
    known = [trace for trace in traces if len(trace.data.shape) == 2 and 0 not in trace.data.shape]  # noqa: PLR2004 - (time, ROIs)

    def rank(trace: Traces) -> tuple[int, bool]:
        is_derived = any(word in trace.name.lower() for word in DERIVED_TRACES)
        return CONTAINERS.index(trace.container) if trace.container in CONTAINERS else len(CONTAINERS), is_derived

    return min(known, key=rank, default=None)
