"""What the checks of a movie look at, worked out once for all of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from airflow_provider_ophys.nwb.contents import Timing
from airflow_provider_ophys.report.curves import FEWEST_FOR_A_COURSE, Curve, course, spread, stretches
from airflow_provider_ophys.report.movie import MovieSurvey
from airflow_provider_ophys.report.saturation import SATURATED_SHARE, Saturation
from airflow_provider_ophys.report.slices import seen_slices, structure

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Found = NDArray[np.bool_]

FEWEST_FRAMES = 20

# Dark is what has lost so much of the light that the frames around it have, most of it at once; and so much in its
# darkest quarter, where the noise of pixels without light counts more. A fifth of a recording may be dark.
DARK_SHARE, DARK_FLOOR_SHARE, SUDDEN_SHARE = 1 / 2, 1 / 3, 1 / 2
DARK_SIGMAS = 8.0
DARK_COURSE_SHARE, DARK_PERCENTILE = 0.5, 75.0

# So many blank frames in a row were not lost.
FEWEST_DARK = 10

LEAK_SIGMAS = 6.0
LEAK_SHARE, LEAK_SHARE_OF_MEAN = 0.1, 0.08
# In a movie without noise, rounding must not look like light.
SMALLEST_EXCESS = 1e-6

ZEROS_SHARE, ZEROS_SIGMAS = 0.02, 8.0

# By how much frames that are as far apart as a period are more alike than neighbours; and what part of the changes
# of the mean a period must explain.
PERIOD_GAIN, PERIOD_RELATIVE_GAIN = 0.05, 0.1
PERIOD_EXPLAINS = 0.6
FEWEST_PERIODS = 8


class NotChecked(Exception):  # noqa: N818 - it is a result
    """A check cannot say anything; the message says why."""


@dataclass(frozen=True)
class Sighting:
    """
    Something seen at one time.

    :param start: Seconds, of the first frame concerned.
    :param stop: Seconds, of the last.
    :param samples: How many frames.
    :param detail: A sentence.
    """

    start: float
    stop: float
    samples: int
    detail: str


@dataclass(frozen=True)
class Evidence:
    """
    What the checks of a movie look at; every curve has a value for each frame that was looked at.

    :param survey: What was found in the frames.
    :param saturation: Of its pixels.
    :param timing: When the frames were taken.
    """

    survey: MovieSurvey
    saturation: Saturation
    timing: Timing

    @cached_property
    def indices(self) -> NDArray[np.int64]:
        """Which frames were looked at."""
        return self.survey.indices

    @cached_property
    def times(self) -> Curve:
        """When, in seconds."""
        return self.timing.at(self.indices)

    def at(self, stretch: slice, detail: str) -> Sighting:
        """Say what is seen in a stretch of the frames that were looked at."""
        within = self.times[stretch]
        return Sighting(float(within[0]), float(within[-1]), len(within), detail)

    def always(self, detail: str) -> Sighting:
        """Say what is seen all over the recording."""
        return self.at(slice(0, len(self.times)), detail)

    def need(self, count: int = FEWEST_FRAMES) -> None:
        """
        Make sure that there are so many frames.

        :raises NotChecked: If not.
        """
        if len(self.indices) < count:
            raise NotChecked(f"there are {len(self.indices)} frames, and it takes {count}")

    def need_neighbours(self) -> None:
        """
        Make sure that frames were looked at one after the other.

        :raises NotChecked: If not.
        """
        if not self.survey.is_whole:
            raise NotChecked("only samples of the movie were read")

    @cached_property
    def intensity(self) -> Curve:
        """Mean of each frame; of interleaved channels, each on the level of all."""
        return self.level(self.survey.intensity)

    @cached_property
    def floor(self) -> Curve:
        """Mean of the darkest quarter of each frame, levelled like the intensity."""
        return self.level(self.survey.floor)

    @cached_property
    def is_dark(self) -> Found:
        """Whether a frame has lost most of its light, without being blank or partly lost."""
        if len(self.indices) < FEWEST_FRAMES:
            return np.zeros(len(self.indices), dtype=bool)
        found = ~(self.survey.is_blank | self.is_losing)
        for curve, share in ((self.intensity, DARK_SHARE), (self.floor, DARK_FLOOR_SHARE)):
            usual = course(curve, share=DARK_COURSE_SHARE, percentile=DARK_PERCENTILE)
            noise = spread(np.diff(curve)) / np.sqrt(2)
            lost = usual - curve
            found &= lost > np.maximum(DARK_SIGMAS * noise, share * (usual - self._darkness))
        for stretch in stretches(found, self.indices):
            found[stretch] = self._is_sudden(stretch)
        return found | self.is_without_light

    def _is_sudden(self, stretch: slice) -> bool:
        """Tell whether light goes or comes from one frame to the next, as it does not where it bleaches."""
        curve = self.intensity
        before, after = curve[max(stretch.start - 1, 0)], curve[min(stretch.stop, len(curve) - 1)]
        steps = before - curve[stretch.start], after - curve[stretch.stop - 1]
        return bool(max(steps) > SUDDEN_SHARE * (np.median(curve) - curve[stretch].min()))

    @cached_property
    def is_empty(self) -> Found:
        """Whether all pixels of a frame are equal, of which there are several, and not saturated."""
        survey = self.survey
        return np.asarray(
            survey.is_blank & (self.saturation.per_sample == 0) & (survey.pixels_per_sample > 1), dtype=bool
        )

    @cached_property
    def is_without_light(self) -> Found:
        """
        Whether a frame is blank because its detector saw no light, and not because it was lost.

        A detector without noise shows its offset then; if that is 0, only how long it lasts tells the two apart.
        """
        found = self.is_empty & (self.survey.brightest != 0)
        for stretch in stretches(self.is_empty, self.indices):
            found[stretch] |= stretch.stop - stretch.start >= FEWEST_DARK
        return np.asarray(found)

    @cached_property
    def _darkness(self) -> float:
        """The value of a pixel without light, or less, by its noise; no frame's darkest quarter is darker."""
        floor = self.floor[~self.survey.is_blank]
        return min(self.survey.dark, float(floor.min())) if len(floor) else self.survey.dark

    @cached_property
    def is_usable(self) -> Found:
        """Whether a frame shows the tissue: neither blank nor dark nor saturated."""
        is_saturated = self.saturation.per_sample >= SATURATED_SHARE
        return ~(self.survey.is_blank | self.is_dark | is_saturated)

    @cached_property
    def is_leaking(self) -> Found:
        """Whether light from outside is seen in a frame."""
        usable = self.is_usable
        found = np.zeros(len(usable), dtype=bool)
        if np.count_nonzero(usable) >= FEWEST_FOR_A_COURSE:
            dark = self.survey.dark
            phases = self.indices[usable] % self.period
            curves = self.intensity[usable], self.floor[usable]
            found[usable] = np.logical_and(*(_is_brighter(curve, dark, phases) for curve in curves))
        return found

    @cached_property
    def zeros(self) -> Curve:
        """Share of the pixels of each frame that are 0, levelled like the intensity."""
        return self.level(self.survey.frames["zeros"].sum(axis=1) / self.survey.pixels_per_sample)

    @cached_property
    def is_losing(self) -> Found:
        """Whether a part of a frame is 0 that is not in the frames around it, and the rest is as it was."""
        usable = ~self.survey.is_blank
        found = np.zeros(len(usable), dtype=bool)
        if np.count_nonzero(usable) >= FEWEST_FOR_A_COURSE:
            zeros, light = self.zeros[usable], self.intensity[usable]
            usual = course(zeros)
            excess = zeros - usual
            rest = light / np.maximum(1 - excess / np.maximum(1 - usual, excess), 1e-3)
            is_bright = rest > (np.median(light) + min(self.survey.dark, float(light.min()))) / 2
            found[usable] = (excess > max(ZEROS_SHARE, ZEROS_SIGMAS * spread(excess))) & is_bright
        return found

    @cached_property
    def slice_patterns(self) -> tuple[NDArray[np.float32], Curve]:
        """
        The structure in each stretch of time that shows the tissue, and the numbers of these stretches.

        :raises NotChecked: If none shows it.
        """
        statistics = self.survey.statistics
        seen = seen_slices(statistics, self.indices, self.is_usable)
        if not seen.any():
            raise NotChecked("no frame shows the tissue")
        return structure(statistics, seen), np.flatnonzero(seen).astype(np.float64)

    @cached_property
    def likeness_by_lag(self) -> Curve:
        """Mean correlation of frames that are 1, 2, ... frames apart; as many as could be compared."""
        statistics = self.survey.statistics
        known = statistics.lag_counts > 0
        sums = statistics.lags.mean(axis=0)
        return np.asarray(sums[known] / statistics.lag_counts[known])

    @cached_property
    def period(self) -> int:
        """Every how many frames the same channel or plane comes again; 1 if there is only one."""
        return self._period_of_patterns() or self._period_of_means() or 1

    def _period_of_patterns(self) -> int | None:
        likeness, found = self.likeness_by_lag, dict[int, float]()
        for period in range(2, len(likeness) + 1):
            neighbours, again = likeness[: period - 1], likeness[period - 1 :: period]
            gain = float(again.min() - neighbours.max())
            if gain > max(PERIOD_GAIN, PERIOD_RELATIVE_GAIN * float(again.min())):
                found[period] = gain
        # Of four planes the first and the third may be a little alike.
        return max(found, key=found.__getitem__) if found else None

    def _period_of_means(self) -> int | None:
        """Look for a period in how bright frames are: it must explain most of what changes from frame to frame."""
        if not self.survey.is_whole:
            return None
        values = self.survey.intensity[~self.survey.is_blank]
        if len(values) < FEWEST_FRAMES:
            return None
        for period in range(2, len(self.survey.statistics.lag_counts) + 1):
            if len(values) < FEWEST_PERIODS * period:
                break
            # What a whole period has in common is no sign of one.
            change = values[: len(values) - period + 1] - np.convolve(values, np.full(period, 1 / period), "valid")
            change = np.clip(change, *np.percentile(change, [1, 99]))
            means = [float(change[phase::period].mean()) for phase in range(period)]
            within = sum(float(((change[phase::period] - means[phase]) ** 2).sum()) for phase in range(period))
            if within < (1 - PERIOD_EXPLAINS) * len(change) * float(change.var()):
                return period
        return None

    def level(self, curve: Curve) -> Curve:
        """Bring the frames of channels or planes that are written in turn to the level of the brightest."""
        if self.period == 1:
            return curve
        phases = self.indices % self.period
        usual = {int(phase): float(np.median(curve[phases == phase])) for phase in np.unique(phases)}
        # What is much for the dimmest may be little for the brightest.
        return np.asarray(curve + max(usual.values()) - np.array([usual[int(phase)] for phase in phases]))


def _is_brighter(values: Curve, dark: float, phases: NDArray[np.int64]) -> Found:
    excess = values - course(values)
    usual = float(np.median(values))
    # One of several channels may change more than the others.
    noise = max(spread(excess[phases == phase]) for phase in np.unique(phases))
    # Active tissue brightens all of a one-photon picture, in which nothing is dark, by a few percent.
    least = max(LEAK_SHARE * (usual - dark), LEAK_SHARE_OF_MEAN * usual)
    return np.asarray(excess > max(LEAK_SIGMAS * noise, least, SMALLEST_EXCESS))
