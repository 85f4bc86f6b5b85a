"""Curves of one value per frame: their usual course, and what stands out of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

type Curve = NDArray[np.float64]

NORMAL_SIGMA_PER_MAD = 1.4826
# Of the curve, what its usual course at a place is taken from.
COURSE_SHARE = 0.2
FEWEST_FOR_A_COURSE = 15
# The course of a long curve is worked out at so many places, with lines between.
MOST_PLACES, MOST_VALUES = 200, 1000


def spread(values: Curve) -> float:
    """Return the standard deviation of most of the values, whatever the others are."""
    return NORMAL_SIGMA_PER_MAD * float(np.median(np.abs(values - np.median(values)))) if len(values) else 0.0


def course(values: Curve, *, share: float = COURSE_SHARE, percentile: float = 50.0) -> Curve:
    """
    Return the running median, or another percentile, of a curve; beyond its ends its trend is taken to go on.

    :param share: Of the curve, how much of it goes into each value.
    """
    half = max(FEWEST_FOR_A_COURSE // 2, int(len(values) * share / 2))
    half = min(half, len(values) - 1)
    before = 2 * _first_level(values) - values[half:0:-1]
    after = 2 * _first_level(values[::-1]) - values[-2 : -half - 2 : -1]
    padded = np.concatenate([before, values, after])
    count = len(values)
    places = np.unique(np.linspace(0, count - 1, min(count, MOST_PLACES)).round().astype(int))
    thinning = max(1, 2 * half // MOST_VALUES)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1)[places, ::thinning]
    levels = np.percentile(windows, percentile, axis=1)
    return np.asarray(np.interp(np.arange(count), places, levels))


def _first_level(values: Curve) -> float:
    """Return where the line through the medians of the first few values and of the next few starts."""
    few = FEWEST_FOR_A_COURSE
    first = float(np.median(values[:few]))
    following = float(np.median(values[few : 2 * few])) if len(values) >= 2 * few else first
    return first + (first - following) / 2


def stretches(found: NDArray[np.bool_], indices: NDArray[np.int64]) -> Iterator[slice]:
    """Yield the places of frames that follow each other in the movie and are all found."""
    places = np.flatnonzero(found)
    breaks = np.flatnonzero((np.diff(places) > 1) | (np.diff(indices[places]) > 1)) + 1
    for stretch in np.split(places, breaks):
        if len(stretch):
            yield slice(int(stretch[0]), int(stretch[-1]) + 1)
