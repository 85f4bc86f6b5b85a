"""What is wrong with the light: too little of it, too much, fading or flickering."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from airflow_provider_ophys.report.curves import FEWEST_FOR_A_COURSE, course, spread, stretches
from airflow_provider_ophys.report.evidence import Evidence, NotChecked, Sighting
from airflow_provider_ophys.report.saturation import SATURATED_SHARE

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Light that bleaches does not come back: half of what is regained between tenths counts against the fall.
BLEACHED_SHARE, REGAINED_SHARE = 0.1, 0.5
TENTHS = 10

# A line in the spectrum of the mean: so many times the median, and so much of all that changes.
LINE_RATIO, LINE_SHARE = 60.0, 0.25
FEWEST_CYCLES, FEWEST_FOR_A_LINE = 20, 100
FEWEST_LINES = 24
# What is slower may be tissue that is active together.
LEAST_HERTZ = 1.0
MOST_FLICKER = 3.0
# Bands along the rows: so many times what there is along the columns, and at the other frequencies.
BAND_RATIO = 8.0
FEWEST_BANDS, FEWEST_FREQUENCIES = 2, 8


def dark_detector(evidence: Evidence) -> Iterator[Sighting]:
    """Yield where the frames have lost most of their light, or show none at all."""
    evidence.need()
    lit = evidence.intensity[~evidence.is_dark]
    instead = f", not {float(np.median(lit)):.4g}" if len(lit) else ""
    for stretch in stretches(evidence.is_dark, evidence.indices):
        darkest = float(evidence.intensity[stretch].min())
        yield evidence.at(stretch, f"the detector sees next to nothing: the mean is {darkest:.4g}{instead}")


def light_leaks(evidence: Evidence) -> Iterator[Sighting]:
    """
    Yield where a frame is brighter than those around it, and so are its darkest pixels.

    A cell that fires brightens itself; light from outside brightens everything. What is saturated is marked as
    that: which pixels are its darkest says little then.
    """
    evidence.need(FEWEST_FOR_A_COURSE)
    for stretch in stretches(evidence.is_leaking, evidence.indices):
        usual = float(np.median(evidence.intensity[evidence.is_usable]))
        brightness = float(evidence.intensity[stretch].max()) / usual
        yield evidence.at(stretch, f"all pixels are brighter; the mean is {brightness:.3g} times its usual")


def saturated(evidence: Evidence) -> Iterator[Sighting]:
    """Yield where much of a frame is saturated, or that some pixels are all along."""
    found = evidence.saturation
    if found.level is None:
        return
    is_found = False
    for stretch in stretches(found.per_sample >= SATURATED_SHARE, evidence.indices):
        share = float(found.per_sample[stretch].max())
        is_found = True
        yield evidence.at(stretch, f"up to {share:.1%} of the pixels are at {found.level:g}")
    if not is_found and found.is_worth_a_mark:
        where = np.flatnonzero(found.per_sample)
        stretch = slice(int(where[0]), int(where[-1]) + 1) if len(where) else slice(0, len(evidence.indices))
        yield evidence.at(stretch, f"{found.share:.2g} of all pixels pile up at about {found.level:g}")


def partly_zero(evidence: Evidence) -> Iterator[Sighting]:
    """Yield where a part of a frame is 0 that is not in the frames around it: data that were lost on the way."""
    evidence.need()
    for stretch in stretches(evidence.is_losing, evidence.indices):
        yield evidence.at(stretch, f"up to {float(evidence.zeros[stretch].max()):.0%} of the pixels are 0")


def bleaching(evidence: Evidence) -> Iterator[Sighting]:
    """
    Yield one sighting if the last tenth is darker than the first by a tenth, and light did not come and go.

    Frames that are marked for their light do not count. It is the mean itself that falls, for nobody tells a
    camera's offset from light; where that is below zero, what is above.
    """
    evidence.need()
    is_odd = evidence.survey.is_blank | evidence.is_dark | evidence.is_leaking | evidence.is_losing
    usable = np.flatnonzero(~is_odd)
    if len(usable) < TENTHS:
        return
    levels = np.array([np.median(part) for part in np.array_split(evidence.intensity[usable], TENTHS)])
    fall, regained = float(levels[0] - levels[-1]), float(np.maximum(np.diff(levels), 0).sum())
    light = float(levels[0]) - min(evidence.survey.dark, 0.0)
    if light > 0 and fall - REGAINED_SHARE * regained > BLEACHED_SHARE * light:
        yield evidence.always(f"the light falls by {fall / light:.0%} from the first tenth to the last")


def line_noise(evidence: Evidence) -> Iterator[Sighting]:
    """Yield one sighting if the light flickers at one frequency: from frame to frame, or while one is scanned."""
    evidence.need(FEWEST_FOR_A_LINE)
    evidence.need_neighbours()
    bands = row_bands(evidence)
    if bands is not None:
        yield evidence.always(bands)
    if evidence.period > 1:
        raise NotChecked("channels or planes are written in turn")
    flicker = _flicker(evidence)
    if flicker is not None:
        yield evidence.always(flicker)


def _flicker(evidence: Evidence) -> str | None:
    """Look for a line in the spectrum of the light that falls on all pixels."""
    usable = evidence.is_usable
    if np.count_nonzero(usable) < FEWEST_FOR_A_LINE:
        return None
    values = np.where(usable, evidence.floor, np.median(evidence.floor[usable]))
    change = np.where(usable, values - course(values), 0.0)
    # A leak of light is no flicker, nor is tissue that is active together.
    change[np.abs(change) > MOST_FLICKER * spread(change)] = 0.0
    power = np.abs(np.fft.rfft(change * np.hanning(len(change)))) ** 2
    seconds = float(evidence.times[-1] - evidence.times[0]) * len(change) / (len(change) - 1)
    first = max(FEWEST_CYCLES, int(LEAST_HERTZ * seconds))
    if not power.any():
        return None
    if len(power) - first < FEWEST_LINES:
        raise NotChecked("at so few frames a second flicker looks like tissue that is active together")
    peak = first + int(power[first:].argmax())
    line, total = power[max(peak - 2, first) : peak + 3].sum(), power[first:].sum()
    if power[peak] < LINE_RATIO * _around(power, peak, 12) or line < LINE_SHARE * total:
        return None
    return f"all pixels flicker together, at {peak / seconds:.3g} Hz or what the frame rate makes look like it"


def row_bands(evidence: Evidence) -> str | None:
    """Look for a line in how much rows are brighter or darker than usual, that columns do not have."""
    rows, columns = (band.sum(axis=0) for band in evidence.survey.statistics.bands)
    if min(len(rows), len(columns)) < FEWEST_FREQUENCIES:
        return None
    peak = FEWEST_BANDS + int(rows[FEWEST_BANDS:].argmax())
    place = peak * (len(columns) - 1) / (len(rows) - 1)
    along_columns = float(columns[max(int(place) - 1, 0) : int(place) + 3].max()) * len(rows) / len(columns)
    if rows[peak] <= BAND_RATIO * max(_around(rows, peak, 4), along_columns):
        return None
    height = evidence.survey.statistics.shape[2] / peak
    return (
        f"rows are brighter and darker in turn, in bands of about {height:.3g} rows that move from frame to frame"
    )


def _around(power: NDArray[np.float64], peak: int, width: int) -> float:
    """Return the median power beside a peak, on the side where it is more: what only falls is no line."""
    sides = power[max(peak - width, 1) : max(peak - 2, 1)], power[peak + 3 : peak + width]
    return max((float(np.median(side)) for side in sides if len(side)), default=float(power.max()))
