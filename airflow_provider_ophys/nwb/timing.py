"""When each sample was taken: a rate where the stamps are regular, the stamps themselves otherwise."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from airflow_provider_ophys.exceptions import MetadataError, SourceDataError
from airflow_provider_ophys.models.metadata_sections import SeriesMetadata
from airflow_provider_ophys.models.remarks import remark

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The fields of a series that say when its samples were taken.
TIMES = frozenset({"rate", "starting_time", "timestamps"})

TOLERANCE_SECONDS = 1e-6
TOLERANCE_PERIODS = 0.1

# How many are in a second, of what software counts times in. A recording of whole milliseconds may be one of
# seconds whose rate is wrong; with these, no recording goes on for so long.
SMALL_UNITS = {"nanoseconds": 1e9, "microseconds": 1e6}
UNIT_TOLERANCE = 0.1
LONGEST_PERIOD_SECONDS = 1e5


def series_fields(given: SeriesMetadata) -> dict[str, Any]:
    """Return what the metadata says of a series as arguments of its pynwb class, but for its times."""
    return given.model_dump(
        exclude_none=True, exclude={"imaging_plane_metadata_key", "device_metadata_key", *TIMES}
    )


def timing_of(
    extractor: Any, *, always_write_timestamps: bool, given: SeriesMetadata | None = None
) -> dict[str, Any]:
    """
    Return the timing arguments of a pynwb ``TimeSeries``: ``timestamps``, or ``rate`` and ``starting_time``.

    Times of the metadata come first, then those that were set on the extractor, then those that the recording has,
    then its rate.

    :param extractor: A roiextractors imaging or segmentation extractor.
    :param always_write_timestamps: Write one stamp per sample (seconds) even if they are regular.
    :param given: What the metadata says of the series.
    :raises SourceDataError: If there is neither a time nor a rate, or the times are not finite, decrease, or are
        not one per sample; names the sample.
    :raises MetadataError: If the metadata has not one timestamp for each sample.
    """
    times = _own_times(extractor) if given is None else _with_given(extractor, given)
    if times.timestamps is None:
        if not always_write_timestamps:
            return {"rate": times.rate, "starting_time": times.start}
        return {"timestamps": times.start + np.arange(extractor.get_num_samples()) / times.rate}
    if not always_write_timestamps:
        rate = regular_rate(times.timestamps, times.rate)
        if rate is not None:
            return {"rate": rate, "starting_time": float(times.timestamps[0])}
    return {"timestamps": times.timestamps}


@dataclass(frozen=True)
class _Times:
    """Seconds of the samples: stamps, beside which the rate is the nominal one, or a start and a rate."""

    rate: float | None
    start: float = 0.0
    timestamps: NDArray[np.float64] | None = None


def _own_times(extractor: Any) -> _Times:
    timestamps, rate = _timestamps(extractor), _nominal_rate(extractor)
    if timestamps is None and rate is None:
        raise SourceDataError(
            f"{type(extractor).__name__} has neither timestamps nor a sampling frequency that makes sense "
            f"({extractor.get_sampling_frequency()}). Give the rate of the series in the metadata, or "
            "sampling_frequency in extractor_kwargs if the extractor takes it."
        )
    if timestamps is not None:
        _check_times(extractor, timestamps)
        timestamps = _in_seconds(extractor, timestamps, rate)
    return _Times(rate, timestamps=timestamps)


def _nominal_rate(extractor: Any) -> float | None:
    rate = extractor.get_sampling_frequency()
    return float(rate) if rate is not None and 0 < rate < math.inf else None


def _with_given(extractor: Any, given: SeriesMetadata) -> _Times:
    """Put what the metadata says in place of what the recording says, and remark on it where that differs."""
    if given.timestamps is not None:
        remark(f"The timestamps of the series {given.name!r} are those of the metadata, not the recording's.")
        return _Times(None, timestamps=_given_timestamps(extractor, given))
    if given.rate is None:
        times = _own_times(extractor)
    else:
        nominal, timestamps = _nominal_rate(extractor), _timestamps(extractor)
        if nominal != given.rate or timestamps is not None:
            own = f"the recording's {nominal}" if timestamps is None else "the recording's timestamps"
            remark(f"The rate of the series {given.name!r} is {given.rate} Hz, as the metadata says, not {own}.")
        has_start = timestamps is not None and timestamps.size and np.isfinite(timestamps[0])
        times = _Times(given.rate, float(timestamps[0]) if has_start and timestamps is not None else 0.0)
    if given.starting_time is None:
        return times
    if times.timestamps is None:
        return replace(times, start=given.starting_time)
    remark(
        f"The timestamps of the series {given.name!r} are the recording's, moved from {times.timestamps[0]} s "
        f"to the starting_time of the metadata, {given.starting_time} s."
    )
    return replace(times, timestamps=times.timestamps - times.timestamps[0] + given.starting_time)


def _given_timestamps(extractor: Any, given: SeriesMetadata) -> NDArray[np.float64]:
    stamps, num_samples = np.array(given.timestamps, dtype=np.float64), int(extractor.get_num_samples())
    if len(stamps) != num_samples:
        raise MetadataError(
            f"The metadata gives the series {given.name!r} {len(stamps)} timestamps, but it has {num_samples} "
            "samples. Give one for each, or leave them out."
        )
    if np.any(np.diff(stamps) < 0):
        raise MetadataError(f"The timestamps of the series {given.name!r} in the metadata go back. Correct them.")
    return stamps


def _in_seconds(
    extractor: Any, timestamps: NDArray[np.float64], nominal_rate: float | None
) -> NDArray[np.float64]:
    """
    Return timestamps in seconds; whole numbers may be of something smaller.

    :raises SourceDataError: If they are so far apart that they are no seconds, and no rate tells what they are.
    """
    if len(timestamps) < 2 or np.any(timestamps != np.round(timestamps)):  # noqa: PLR2004 - no period
        return timestamps
    period, name = float(np.median(np.diff(timestamps))), type(extractor).__name__
    for unit, count in SMALL_UNITS.items():
        if nominal_rate is not None and abs(period * nominal_rate / count - 1) < UNIT_TOLERANCE:
            remark(
                f"The timestamps of {name} were taken as {unit}: they are {period:.0f} apart, and its sampling "
                f"frequency is {nominal_rate} Hz."
            )
            return timestamps / count
    if period > LONGEST_PERIOD_SECONDS:
        raise SourceDataError(
            f"The timestamps of {name} are {period:.0f} apart, which cannot be seconds. Give the recording's "
            "rate, from which follows what they are, or timestamps in seconds in the metadata of the series."
        )
    return timestamps


def _check_times(extractor: Any, timestamps: NDArray[np.float64]) -> None:
    name, num_samples = type(extractor).__name__, int(extractor.get_num_samples())
    if timestamps.shape != (num_samples,):
        raise SourceDataError(
            f"{name} has timestamps of the shape {timestamps.shape} for {num_samples} samples. Check that the "
            "files of the recording are complete and belong together."
        )
    not_finite = np.flatnonzero(~np.isfinite(timestamps))
    if not_finite.size:
        raise SourceDataError(
            f"{name} has no time for sample {not_finite[0]} (counted from 0): its timestamp is "
            f"{timestamps[not_finite[0]]}{_more(', as are', not_finite.size)}. Correct the recording's timestamps."
        )
    backwards = np.flatnonzero(np.diff(timestamps) < 0)
    if backwards.size:
        at = int(backwards[0]) + 1
        raise SourceDataError(
            f"The timestamps of {name} go back at sample {at} (counted from 0), from {timestamps[at - 1]} s to "
            f"{timestamps[at]} s{_more(', and at', backwards.size)}. Correct the recording's timestamps."
        )


def _more(words: str, count: int) -> str:
    return f"{words} {count - 1} more" if count > 1 else ""


def regular_rate(timestamps: NDArray[np.float64], nominal_rate: float | None = None) -> float | None:
    """
    Return the rate of regular timestamps, in hertz, and ``None`` for all others.

    Regular means that every stamp is within a microsecond, and within a tenth of a period, of the straight line
    through the first and the last: comparing neighbours only would let a slow drift pass. Fewer than two,
    equal, decreasing or NaN stamps are never regular.

    :param timestamps: Seconds.
    :param nominal_rate: Returned instead of the rate of that line if it fits the stamps as well: seconds since
        1970 have no more than a quarter of a microsecond, which shows in the line's.
    """
    if len(timestamps) < 2 or not np.all(np.isfinite(timestamps)):  # noqa: PLR2004
        return None
    duration = float(timestamps[-1] - timestamps[0])
    if duration <= 0:
        return None
    period = duration / (len(timestamps) - 1)
    tolerance = min(TOLERANCE_SECONDS, TOLERANCE_PERIODS * period)
    if not _on_line(timestamps, period, tolerance):
        return None
    if nominal_rate is not None and nominal_rate > 0 and _on_line(timestamps, 1 / nominal_rate, tolerance):
        return float(nominal_rate)
    return 1.0 / period


def _on_line(timestamps: NDArray[np.float64], period: float, tolerance: float) -> bool:
    line = timestamps[0] + np.arange(len(timestamps)) * period
    return bool(np.max(np.abs(timestamps - line)) <= tolerance)


def _timestamps(extractor: Any) -> NDArray[np.float64] | None:
    try:
        times = extractor.get_timestamps() if extractor.has_time_vector() else extractor.get_native_timestamps()
    except FileNotFoundError:
        # A Miniscope recording without its timeStamps.csv: its sampling frequency is what there is.
        return None
    if times is None:
        return None
    times = np.asarray(times)
    if times.dtype.kind == "M":
        raise SourceDataError(
            f"The timestamps of {type(extractor).__name__} are dates ({times.dtype}), but NWB has seconds from "
            "the session's start. Give these as timestamps in the metadata of the series, or its rate."
        )
    if times.dtype.kind == "m":
        return times / np.timedelta64(1, "s")
    return times.astype(np.float64)
