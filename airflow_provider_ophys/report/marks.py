"""
What catches the eye in a movie: bleaching, light leaks, saturated and dropped frames, each precisely defined.

``docs/report.md`` has the definitions for users; a change here belongs there too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from airflow_provider_ophys.nwb.contents import Timing
from airflow_provider_ophys.report.movie import MovieSurvey

if TYPE_CHECKING:
    from numpy.typing import NDArray

Kind = Literal["light leak", "saturated", "dropped", "bleaching"]

# Full scale of analog-to-digital converters, in bits; the largest value of an integer type counts as well.
CONVERTER_BITS = (8, 10, 11, 12, 13, 14, 15, 16)
SATURATED_SHARE = 0.01
PILED_UP_SHARE = 1e-4
BELOW_FULL_SCALE = 0.05

LEAK_SIGMAS = 6.0
LEAK_SHARE = 0.1
BASELINE_SHARE = 0.2
# In a movie without noise, rounding must not look like light.
SMALLEST_EXCESS = 1e-6
FEWEST_FOR_A_BASELINE = 15
NORMAL_SIGMA_PER_MAD = 1.4826

BLEACHED_SHARE = 0.1
FEWEST_FOR_BLEACHING = 20

GAP_PERIODS = 1.5
STAMPS_AT_ONCE = 1_000_000


@dataclass(frozen=True)
class Mark:
    """
    Something that a person should look at.

    :param start: Seconds, on the clock of the movie; of the first sample concerned.
    :param stop: Seconds; of the last sample concerned.
    :param samples: How many samples are concerned.
    :param detail: A sentence for people.
    """

    kind: Kind
    start: float
    stop: float
    samples: int
    detail: str

    def to_json(self) -> dict[str, Any]:
        """Return the mark as plain JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Saturation:
    """
    Pixels that the detector could not tell apart any more.

    :param level: Their value; ``None`` if there are none.
    :param share: Of all pixels that were looked at.
    :param per_sample: Share of each sample's pixels.
    """

    level: float | None
    share: float
    per_sample: NDArray[np.float64]


def find_saturation(survey: MovieSurvey) -> Saturation:
    """
    Tell whether pixels are saturated, and how many.

    The largest pixel value is the saturation level if it is the largest of its integer type or the full scale of
    a converter of 8 or 10 to 16 bits, or if values pile up there: at least a ten-thousandth of all pixels have
    it, more than all values within 5 % of the range below it together.
    """
    level = survey.brightest.max()
    counts = np.where(survey.brightest == level, survey.frames["tops"].sum(axis=1), 0)
    per_sample = counts / survey.pixels_per_sample
    share = survey.statistics.tops[float(level)] / (len(counts) * survey.pixels_per_sample)
    if not (_is_full_scale(level) or _is_piled_up(survey.pixels, level, share)):
        return Saturation(None, 0.0, np.zeros(len(counts)))
    return Saturation(float(level), share, per_sample)


def _is_full_scale(level: Any) -> bool:
    if np.issubdtype(level.dtype, np.integer):
        value = int(level)
        return value == int(np.iinfo(level.dtype).max) or value + 1 in [2**bits for bits in CONVERTER_BITS]
    return False


def _is_piled_up(pixels: NDArray[Any], level: Any, share: float) -> bool:
    least = float(np.min(pixels))
    edge = float(level) - BELOW_FULL_SCALE * (float(level) - least)
    near = np.count_nonzero((pixels >= edge) & (pixels < level)) / pixels.size
    return bool(share >= PILED_UP_SHARE and share > near and float(level) > least)


def find_marks(survey: MovieSurvey, saturation: Saturation, timing: Timing) -> list[Mark]:
    """Find everything that a person should look at, in the order of time."""
    indices = survey.indices
    times = timing.at(indices)
    marks = [
        *_saturated(saturation, indices, times),
        *_blank(survey, saturation, indices, times),
        *_repeated(survey, indices, times),
        *_light_leaks(survey, saturation, indices, times),
        *_gaps(timing),
        *_bleaching(survey, times),
    ]
    return sorted(marks, key=lambda mark: mark.start)


def _stretches(found: NDArray[np.bool_], indices: NDArray[np.int64]) -> Iterator[slice]:
    """Yield the places of samples that follow each other in the movie and are all found."""
    places = np.flatnonzero(found)
    breaks = np.flatnonzero((np.diff(places) > 1) | (np.diff(indices[places]) > 1)) + 1
    for stretch in np.split(places, breaks):
        if len(stretch):
            yield slice(int(stretch[0]), int(stretch[-1]) + 1)


def _mark(kind: Kind, stretch: slice, times: NDArray[np.float64], detail: str) -> Mark:
    within = times[stretch]
    return Mark(kind, float(within[0]), float(within[-1]), len(within), detail)


def _saturated(saturation: Saturation, indices: NDArray[np.int64], times: NDArray[np.float64]) -> Iterator[Mark]:
    for stretch in _stretches(saturation.per_sample >= SATURATED_SHARE, indices):
        share = float(saturation.per_sample[stretch].max())
        yield _mark("saturated", stretch, times, f"up to {share:.1%} of the pixels are at {saturation.level:g}")


def _blank(
    survey: MovieSurvey, saturation: Saturation, indices: NDArray[np.int64], times: NDArray[np.float64]
) -> Iterator[Mark]:
    blank = survey.is_blank & (saturation.per_sample == 0) & (survey.pixels_per_sample > 1)
    for stretch in _stretches(blank, indices):
        yield _mark("dropped", stretch, times, f"blank: all pixels are {survey.brightest[stretch.start]:g}")


def _repeated(survey: MovieSurvey, indices: NDArray[np.int64], times: NDArray[np.float64]) -> Iterator[Mark]:
    for stretch in _stretches(survey.is_repeat & ~survey.is_blank, indices):
        yield _mark("dropped", stretch, times, "every pixel is as in the sample before")


def _gaps(timing: Timing) -> Iterator[Mark]:
    """Yield where the timestamps jump by more than one and a half periods; reads all of them, in blocks."""
    if timing.timestamps is None or timing.num_samples < 3:  # noqa: PLR2004 - a period needs two neighbours
        return
    period: float | None = None
    for first in range(0, timing.num_samples - 1, STAMPS_AT_ONCE):
        stamps = np.asarray(timing.timestamps[first : first + STAMPS_AT_ONCE + 1], dtype=np.float64)
        steps = np.diff(stamps)
        period = period or float(np.median(steps))
        for place in np.flatnonzero(steps > GAP_PERIODS * period):
            missing = max(1, round(float(steps[place]) / period) - 1)
            detail = f"{missing} missing: the timestamps jump by {steps[place]:.3g} s"
            yield Mark("dropped", float(stamps[place]), float(stamps[place + 1]), missing, detail)


def _light_leaks(
    survey: MovieSurvey, saturation: Saturation, indices: NDArray[np.int64], times: NDArray[np.float64]
) -> Iterator[Mark]:
    """
    Yield where a sample is brighter than those around it, and so are its darkest pixels.

    A cell that fires brightens itself; light from outside brightens everything. What is saturated is marked as
    that: which pixels are its darkest says little then.
    """
    usable = ~survey.is_blank & (saturation.per_sample < SATURATED_SHARE)
    if np.count_nonzero(usable) < FEWEST_FOR_A_BASELINE:
        return
    found = np.zeros(len(usable), dtype=bool)
    found[usable] = _is_outlier(survey.intensity[usable], survey.dark) & _is_outlier(
        survey.floor[usable], survey.dark
    )
    for stretch in _stretches(found, indices):
        brightness = float(survey.intensity[stretch].max() / np.median(survey.intensity[usable]))
        yield _mark(
            "light leak", stretch, times, f"all pixels are brighter; the mean is {brightness:.2g} times its usual"
        )


def _is_outlier(values: NDArray[np.float64], dark: float) -> NDArray[np.bool_]:
    excess = values - _baseline(values)
    sigma = NORMAL_SIGMA_PER_MAD * float(np.median(np.abs(excess - np.median(excess))))
    least = LEAK_SHARE * max(float(np.median(values)) - dark, 0.0)
    return np.asarray(excess > max(LEAK_SIGMAS * sigma, least, SMALLEST_EXCESS))


def _baseline(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the running median over a fifth of the values; at the ends the trend is taken to go on."""
    half = max(FEWEST_FOR_A_BASELINE // 2, int(len(values) * BASELINE_SHARE / 2))
    half = min(half, len(values) - 1)
    before = 2 * _first_level(values) - values[half:0:-1]
    after = 2 * _first_level(values[::-1]) - values[-2 : -half - 2 : -1]
    return _running_median(np.concatenate([before, values, after]), half)


def _first_level(values: NDArray[np.float64]) -> float:
    """Return where the line through the medians of the first few values and of the next few starts."""
    few = FEWEST_FOR_A_BASELINE
    first = float(np.median(values[:few]))
    following = float(np.median(values[few : 2 * few])) if len(values) >= 2 * few else first
    return first + (first - following) / 2


def _running_median(padded: NDArray[np.float64], half: int) -> NDArray[np.float64]:
    """Return the median of each window; of a long recording at evenly spaced places, with lines between."""
    count = len(padded) - 2 * half
    places = np.unique(np.linspace(0, count - 1, min(count, 200)).round().astype(int))
    thinning = max(1, half // 500)
    medians = [np.median(padded[place : place + 2 * half + 1 : thinning]) for place in places]
    return np.interp(np.arange(count), places, medians)


def _bleaching(survey: MovieSurvey, times: NDArray[np.float64]) -> Iterator[Mark]:
    """
    Yield one mark if the last tenth is darker than the first by a tenth.

    Of the mean itself, for nobody tells a camera's offset from light; where that is below zero, of what is above.
    """
    usable = np.flatnonzero(~survey.is_blank)
    if len(usable) < FEWEST_FOR_BLEACHING:
        return
    tenth = len(usable) // 10
    first = float(np.median(survey.intensity[usable[:tenth]]))
    last = float(np.median(survey.intensity[usable[-tenth:]]))
    light = first - min(survey.dark, 0.0)
    if light > 0 and (first - last) / light > BLEACHED_SHARE:
        detail = f"the light falls by {(first - last) / light:.0%} from the first tenth to the last"
        yield Mark("bleaching", float(times[0]), float(times[-1]), len(times), detail)
