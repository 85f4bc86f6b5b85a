"""Pixels that the detector could not tell apart any more: at the end of its scale, or where values pile up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from airflow_provider_ophys.report.movie import MovieSurvey

if TYPE_CHECKING:
    from numpy.typing import NDArray


# Full scale of analog-to-digital converters, in bits; the largest value of an integer type counts as well.
CONVERTER_BITS = (8, 10, 11, 12, 13, 14, 15, 16)
SATURATED_SHARE = 0.01

# A value that occurs so often, and so many times as often as any of those below it, is piled up.
FEWEST_PILED, PILED_RATIO = 20, 5.0
# Noise after the converter spreads what is at its end over a few values.
TOLERANCE = 2
FEWEST_NEIGHBOURS = 8

# Of all pixels, how many have the largest value: more than all values in this share of the range below it, or so
# many times as many as the next value.
PILED_UP_SHARE = 1e-4
BELOW_FULL_SCALE = 0.05
NEXT_RATIO = 3.0

# A bump in the brightest eighth of the range: as many times as often as just below, in steps of this share of it.
BUMP_FROM, BUMP_STEP, BUMP_RATIO, BUMP_SIGMAS = 0.875, 0.005, 2.0, 6.0
MOST_BUMP_SHARE, FEWEST_BELOW = 0.02, 4.0


@dataclass(frozen=True)
class Saturation:
    """
    Pixels that the detector could not tell apart any more.

    :param level: Their value, or about that; ``None`` if there are none.
    :param share: Of all pixels that were looked at.
    :param per_sample: Share of each frame's pixels, of those at the top of the scale.
    :param is_worth_a_mark: Whether they are more than a few stray ones.
    """

    level: float | None
    share: float
    per_sample: NDArray[np.float64]
    is_worth_a_mark: bool = False


def find_saturation(survey: MovieSurvey) -> Saturation:
    """
    Tell whether pixels are saturated, and how many; ``docs/report.md`` has the rules.

    Values pile up at the end of a scale, over a few counts if there is noise after the converter, and in a bump
    below the largest value if an offset was subtracted pixel by pixel afterwards.
    """
    for find in (_at_the_top, _full_scale, _piled_up, _bump):
        found = find(survey)
        if found is not None:
            return found
    return Saturation(None, 0.0, np.zeros(len(survey.indices)))


def _at_the_top(survey: MovieSurvey) -> Saturation | None:
    """Look for a pile among the brightest values, all of which were counted."""
    tops = survey.statistics.tops
    if not np.issubdtype(survey.statistics.dtype, np.integer) or not tops:
        return None
    first, last = int(np.ceil(survey.statistics.tops_from)), int(max(tops))
    counts = np.array([tops.get(float(value), 0) for value in range(first, last + 1)])
    place = int(counts.argmax())
    below = counts[: max(place - TOLERANCE, 0)]
    if len(below) < FEWEST_NEIGHBOURS or counts[place] < FEWEST_PILED:
        return None
    if counts[place] < PILED_RATIO * max(float(below.max()), FEWEST_PILED / PILED_RATIO):
        return None
    return _counted(survey, first + place, TOLERANCE)


def _full_scale(survey: MovieSurvey) -> Saturation | None:
    level = survey.brightest.max()
    if not np.issubdtype(level.dtype, np.integer):
        return None
    value = int(level)
    if value != int(np.iinfo(level.dtype).max) and value + 1 not in [2**bits for bits in CONVERTER_BITS]:
        return None
    return _counted(survey, value, 0)


def _piled_up(survey: MovieSurvey) -> Saturation | None:
    level = survey.brightest.max()
    share = survey.statistics.tops[float(level)] / _num_pixels(survey)
    least = float(np.min(survey.pixels))
    edge = float(level) - BELOW_FULL_SCALE * (float(level) - least)
    below = survey.pixels[(survey.pixels >= edge) & (survey.pixels < level)]
    near, next_one = len(below), np.count_nonzero(below == below.max()) if len(below) else 0
    if share < PILED_UP_SHARE or float(level) <= least:
        return None
    if share <= min(near, NEXT_RATIO * next_one) / survey.pixels.size:
        return None
    return _counted(survey, level, 0)


def _bump(survey: MovieSurvey) -> Saturation | None:
    """Look for a bump in the tail of the histogram, of pixels that are not always so bright."""
    pixels = survey.pixels[np.isfinite(survey.pixels)]
    if not pixels.size:
        return None
    least, most = float(pixels.min()), float(np.max(survey.brightest))
    width = (most - least) * BUMP_STEP
    if width < 1:
        return None
    counts, edges = np.histogram(pixels, bins=round(1 / BUMP_STEP), range=(least, most))
    first = int(BUMP_FROM * len(counts))
    for place in range(first, len(counts) - 2):
        below = counts[place - 8 : place - 1]
        usual, here = float(below.mean()), float(counts[place : place + 3].mean())
        # Where nothing is just below, cells that fire are a group of their own.
        if usual < FEWEST_BELOW or here < max(BUMP_RATIO * usual, usual + BUMP_SIGMAS * np.sqrt(usual)):
            continue
        share = float(np.count_nonzero(pixels >= edges[place]) / pixels.size)
        is_bright_always = float(np.mean(survey.mean >= edges[place] - width))
        level = float(edges[place + int(counts[place:].argmax())] + width / 2)
        if share < MOST_BUMP_SHARE and is_bright_always < share / 2:
            return Saturation(level, share, np.zeros(len(survey.indices)), is_worth_a_mark=share >= PILED_UP_SHARE)
    return None


def _counted(survey: MovieSurvey, level: Any, tolerance: int) -> Saturation:
    tops = survey.statistics.tops
    count = sum(number for value, number in tops.items() if value >= level - tolerance)
    is_there = survey.frames["most"] >= level - tolerance
    per_sample = np.where(is_there, survey.frames["tops"], 0).sum(axis=1) / survey.pixels_per_sample
    share = count / _num_pixels(survey)
    return Saturation(float(level), share, per_sample, is_worth_a_mark=count >= FEWEST_PILED)


def _num_pixels(survey: MovieSurvey) -> int:
    return len(survey.indices) * survey.pixels_per_sample
