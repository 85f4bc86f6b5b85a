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
# By so many times its noise a curve may start elsewhere than it seems to come from.
START_SIGMAS = 4.0
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
    few = max(FEWEST_FOR_A_COURSE, half // 4)
    before = 2 * _first_level(values, few) - values[half:0:-1]
    after = 2 * _first_level(values[::-1], few) - values[-2 : -half - 2 : -1]
    padded = np.concatenate([before, values, after])
    count = len(values)
    places = np.unique(np.linspace(0, count - 1, min(count, MOST_PLACES)).round().astype(int))
    thinning = max(1, 2 * half // MOST_VALUES)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1)[places, ::thinning]
    levels = np.percentile(windows, percentile, axis=1)
    return np.asarray(np.interp(np.arange(count), places, levels))


def _first_level(values: Curve, few: int) -> float:
    """
    Return where a curve starts: on the line through the medians of its first few values and of the next few.

    First values that are far from where the following ones came from are no part of the course.
    """
    first = float(np.median(values[:few]))
    if len(values) < 2 * few:
        return first
    second = float(np.median(values[few : 2 * few]))
    level = first + (first - second) / 2
    if len(values) < 3 * few:
        return level
    third = float(np.median(values[2 * few : 3 * few]))
    expected = second + 1.5 * (second - third)
    allowed = 2 * abs(second - third) + START_SIGMAS * spread(values[few : 3 * few])
    return level if abs(level - expected) <= allowed else expected


def stretches(found: NDArray[np.bool_], indices: NDArray[np.int64]) -> Iterator[slice]:
    """Yield the places of frames that follow each other in the movie and are all found."""
    places = np.flatnonzero(found)
    breaks = np.flatnonzero((np.diff(places) > 1) | (np.diff(indices[places]) > 1)) + 1
    for stretch in np.split(places, breaks):
        if len(stretch):
            yield slice(int(stretch[0]), int(stretch[-1]) + 1)
