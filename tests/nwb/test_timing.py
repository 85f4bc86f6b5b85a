"""Regular stamps become a rate; everything else is written as it is."""

from __future__ import annotations

import numpy as np
import pytest

from airflow_provider_ophys.exceptions import SourceDataError
from airflow_provider_ophys.nwb.timing import regular_rate, timing_of

EVEN = np.arange(1000) / 30.0


class Recording:
    def __init__(self, rate=30.0, native=None, times=None):
        self.rate, self.native, self.times = rate, native, times

    def has_time_vector(self):
        return self.times is not None

    def get_timestamps(self):
        return self.times

    def get_native_timestamps(self):
        if isinstance(self.native, Exception):
            raise self.native
        return self.native

    def get_sampling_frequency(self):
        return self.rate

    def get_num_samples(self):
        return 3


def test_regular():
    assert regular_rate(EVEN) == pytest.approx(30.0)
    assert regular_rate(EVEN + 12.5 + 4e-7 * (np.arange(1000) % 2)) == pytest.approx(30.0)


@pytest.mark.parametrize(
    "timestamps",
    [
        EVEN[:1],
        np.zeros(5),
        -EVEN,
        np.where(np.arange(1000) == 500, np.nan, EVEN),
        # A drift of a fifth of a microsecond per sample: neighbours look equal, the middle is far off the line.
        EVEN + 2e-7 * np.arange(1000) ** 2 / 1000,
        np.where(np.arange(1000) < 500, EVEN, EVEN + 0.5),
    ],
    ids=["one", "equal", "decreasing", "nan", "drifting", "interrupted"],
)
def test_not_regular(timestamps):
    assert regular_rate(timestamps) is None


def test_the_nominal_rate_counts_if_it_fits_the_stamps():
    since_1970 = 1570464826.418463 + np.arange(200) / 5.56
    assert regular_rate(since_1970) != 5.56, "rounding shows"
    assert regular_rate(since_1970, 5.56) == 5.56
    assert regular_rate(EVEN, 29.0) == pytest.approx(30.0)


def test_set_times_come_before_native_ones_and_those_before_the_rate():
    assert timing_of(Recording(times=EVEN[:3] + 1, native=EVEN[:3] + 2), always_write_timestamps=False) == {
        "rate": pytest.approx(30.0),
        "starting_time": 1.0,
    }
    assert timing_of(Recording(native=EVEN[:3] + 2), always_write_timestamps=False)["starting_time"] == 2.0
    assert timing_of(Recording(), always_write_timestamps=False) == {"rate": 30.0, "starting_time": 0.0}


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([0.0, 1.0], r"shape \(2,\) for 3 samples"),
        ([0.0, np.nan, 1.0], "no time for sample 1 "),
        ([0.0, 1.0, np.inf], "no time for sample 2 "),
        ([0.0, 1.0, 0.5], "go back at sample 2 .* from 1.0 s to 0.5 s"),
    ],
)
def test_times_that_cannot_be_are_refused_with_the_sample(times, message):
    with pytest.raises(SourceDataError, match=message):
        timing_of(Recording(times=np.array(times)), always_write_timestamps=False)


def test_timestamps_on_demand():
    np.testing.assert_array_equal(
        timing_of(Recording(), always_write_timestamps=True)["timestamps"], np.arange(3) / 30.0
    )


def test_without_its_timing_file_a_recording_has_its_rate():
    assert timing_of(Recording(native=FileNotFoundError()), always_write_timestamps=False)["rate"] == 30.0
    with pytest.raises(SourceDataError, match="neither timestamps nor a sampling frequency"):
        timing_of(Recording(rate=None), always_write_timestamps=False)
