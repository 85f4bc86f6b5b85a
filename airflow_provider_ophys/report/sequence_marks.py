"""What is wrong with the sequence of frames: some are missing, come twice, or belong to another channel."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from airflow_provider_ophys.report.curves import stretches
from airflow_provider_ophys.report.evidence import Evidence, NotChecked, Sighting

GAP_PERIODS = 1.5
STAMPS_AT_ONCE = 1_000_000
FEWEST_LAGS = 2


def blank(evidence: Evidence) -> Iterator[Sighting]:
    """Yield frames whose pixels are all equal."""
    for stretch in stretches(evidence.is_empty & ~evidence.is_dark, evidence.indices):
        yield evidence.at(stretch, f"blank: all pixels are {evidence.survey.brightest[stretch.start]:g}")


def gaps(evidence: Evidence) -> Iterator[Sighting]:
    """Yield where the timestamps jump by more than one and a half periods; reads all of them, in blocks."""
    timing = evidence.timing
    if timing.timestamps is None:
        raise NotChecked("the file has a rate and no timestamps, which would tell of missing frames")
    if timing.num_samples < 3:  # noqa: PLR2004 - a period needs two neighbours
        return
    period: float | None = None
    for first in range(0, timing.num_samples - 1, STAMPS_AT_ONCE):
        stamps = np.asarray(timing.timestamps[first : first + STAMPS_AT_ONCE + 1], dtype=np.float64)
        steps = np.diff(stamps)
        period = period or float(np.median(steps))
        for place in np.flatnonzero(steps > GAP_PERIODS * period):
            missing = max(1, round(float(steps[place]) / period) - 1)
            detail = f"{missing} missing: the timestamps jump by {steps[place]:.3g} s"
            yield Sighting(float(stamps[place]), float(stamps[place + 1]), missing, detail)


def duplicated(evidence: Evidence) -> Iterator[Sighting]:
    """Yield frames that equal the one before, pixel by pixel."""
    for stretch in stretches(evidence.survey.is_repeat & ~evidence.survey.is_blank, evidence.indices):
        yield evidence.at(stretch, "every pixel is as in the frame before")


def interleaved(evidence: Evidence) -> Iterator[Sighting]:
    """Yield one sighting if the same channel or plane comes again every second, third ... frame."""
    evidence.need()
    if len(evidence.likeness_by_lag) < FEWEST_LAGS:
        raise NotChecked("the frames are so large that too few of them were looked at together")
    if evidence.period > 1:
        yield evidence.always(
            f"every {evidence.period} frames the same picture comes again: channels or planes are written in turn"
        )
