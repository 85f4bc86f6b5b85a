"""When each sample was taken: a rate where the stamps are regular, the stamps themselves otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from airflow_provider_ophys.exceptions import SourceDataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOLERANCE_SECONDS = 1e-6
TOLERANCE_PERIODS = 0.1


def timing_of(extractor: Any, *, always_write_timestamps: bool) -> dict[str, Any]:
    """
    Return the timing arguments of a pynwb ``TimeSeries``: ``timestamps``, or ``rate`` and ``starting_time``.

    Times that were set on the extractor come first, then those that the recording has, then its rate.

    :param extractor: A roiextractors imaging or segmentation extractor.
    :param always_write_timestamps: Write one stamp per sample (seconds) even if they are regular.
    :raises SourceDataError: If there is neither a time nor a rate, or the times are not finite, decrease, or are
        not one per sample; names the sample.
    """
    timestamps = _timestamps(extractor)
    if timestamps is None:
        rate = extractor.get_sampling_frequency()
        if rate is None or not rate > 0:
            raise SourceDataError(
                f"{type(extractor).__name__} has neither timestamps nor a sampling frequency. "
                "Give sampling_frequency in extractor_kwargs if the extractor takes it."
            )
        if always_write_timestamps:
            return {"timestamps": np.arange(extractor.get_num_samples()) / float(rate)}
        return {"rate": float(rate), "starting_time": 0.0}
    _check_times(extractor, timestamps)
    if not always_write_timestamps:
        rate = regular_rate(timestamps, extractor.get_sampling_frequency())
        if rate is not None:
            return {"rate": rate, "starting_time": float(timestamps[0])}
    return {"timestamps": timestamps}


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
            f"{timestamps[not_finite[0]]}, as are {not_finite.size - 1} more. Correct the recording's timestamps."
        )
    backwards = np.flatnonzero(np.diff(timestamps) < 0)
    if backwards.size:
        at = int(backwards[0]) + 1
        raise SourceDataError(
            f"The timestamps of {name} go back at sample {at} (counted from 0), from {timestamps[at - 1]} s to "
            f"{timestamps[at]} s, and at {backwards.size - 1} more. Correct the recording's timestamps."
        )


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
    return None if times is None else np.asarray(times, dtype=np.float64)
