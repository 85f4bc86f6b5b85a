"""Regular stamps become a rate; everything else is written as it is."""

from __future__ import annotations

import numpy as np
import pytest

from airflow_provider_ophys.exceptions import MetadataError, SourceDataError
from airflow_provider_ophys.models.metadata import validate_metadata
from airflow_provider_ophys.models.metadata_sections import MicroscopySeriesMetadata
from airflow_provider_ophys.models.remarks import gathering_remarks
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


@pytest.mark.parametrize("rate", [np.inf, np.nan, 0.0, -5.0, None])
def test_a_rate_that_is_none_is_refused_unless_there_are_times(rate):
    with pytest.raises(SourceDataError, match="neither timestamps nor a sampling frequency that makes sense"):
        timing_of(Recording(rate), always_write_timestamps=False)
    assert "rate" in timing_of(Recording(rate, native=EVEN[:3]), always_write_timestamps=False)


@pytest.mark.parametrize(
    "times",
    [
        np.array([0, 33_333_333, 66_666_667]),
        np.array([0, 33_333, 66_667]),
        np.array([0.0, 33_333_333.0, 66_666_667.0]),
        np.array([0, 33_333_333, 66_666_667], "timedelta64[ns]"),
    ],
    ids=["integer nanoseconds", "integer microseconds", "as set_times keeps them", "timedelta64"],
)
def test_stamps_of_a_smaller_unit_become_seconds(times):
    timing = timing_of(Recording(native=times), always_write_timestamps=True)
    np.testing.assert_allclose(timing["timestamps"], np.arange(3) / 30, atol=1e-6)


@pytest.mark.parametrize(
    ("times", "rate", "message"),
    [
        (np.array(["2026-01-01", "2026-01-02", "2026-01-03"], "datetime64[ns]"), 30.0, "are dates"),
        (np.array([0, 33_333_333, 66_666_667]), None, "cannot be seconds"),
    ],
)
def test_stamps_of_no_known_unit_are_refused(times, rate, message):
    with pytest.raises(SourceDataError, match=message):
        timing_of(Recording(rate, native=times), always_write_timestamps=False)


def test_whole_seconds_are_seconds():
    timing = timing_of(Recording(0.1, native=np.array([0, 10, 21])), always_write_timestamps=False)
    assert timing["timestamps"].tolist() == [0.0, 10.0, 21.0]


def series(**fields):
    return MicroscopySeriesMetadata(name="Movie", unit="n.a.", **fields)


def given(recording, **fields):
    with gathering_remarks() as remarks:
        return timing_of(recording, always_write_timestamps=False, given=series(**fields)), remarks


def test_times_of_the_metadata_win_over_the_recordings_with_a_remark():
    timing, remarks = given(Recording(20.0), rate=30.03)
    assert timing == {"rate": 30.03, "starting_time": 0.0}
    assert remarks == [
        "The rate of the series 'Movie' is 30.03 Hz, as the metadata says, not the recording's 20.0."
    ]
    assert given(Recording(20.0), starting_time=3600.5) == ({"rate": 20.0, "starting_time": 3600.5}, [])
    assert given(Recording(np.inf), rate=2.0)[0] == {"rate": 2.0, "starting_time": 0.0}
    assert given(Recording(native=EVEN[:3] + 5), rate=2.0)[0] == {"rate": 2.0, "starting_time": 5.0}


def test_a_start_of_the_metadata_moves_the_recordings_timestamps():
    timing, remarks = given(Recording(native=np.array([1.0, 1.5, 9.0])), starting_time=100.0)
    assert timing["timestamps"].tolist() == [100.0, 100.5, 108.0]
    assert "moved from 1.0 s to the starting_time of the metadata, 100.0 s" in remarks[0]


def test_timestamps_of_the_metadata_may_be_in_a_file(tmp_path):
    stamps = [0.5, 0.75, 2.0]
    np.save(tmp_path / "a.npy", stamps)
    (tmp_path / "a.txt").write_text("seconds\n0.5\n0.75\n2.0\n")
    for timestamps in (stamps, str(tmp_path / "a.npy"), tmp_path / "a.txt"):
        timing, remarks = given(Recording(), timestamps=timestamps)
        assert timing["timestamps"].tolist() == stamps
        assert len(remarks) == 1
    with pytest.raises(MetadataError, match="2 timestamps, but it has 3 samples"):
        given(Recording(), timestamps=[0.0, 1.0])
    with pytest.raises(MetadataError, match="go back"):
        given(Recording(), timestamps=[0.0, 2.0, 1.0])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rate": 0}, "greater than 0"),
        ({"rate": np.inf}, "finite"),
        ({"timestamps": [0.0], "rate": 3.0}, "one or the other"),
        ({"timestamps": [0.0, np.nan]}, "finite"),
        ({"timestamps": "/not/there.csv"}, "it is not there"),
        ({"timestamps": "/dev/zero"}, "it is no file"),
    ],
)
def test_times_that_make_no_sense_are_refused(fields, message):
    with pytest.raises(MetadataError, match=message):
        validate_metadata({"Ophys": {"MicroscopySeries": {"m": {"name": "M", "unit": "n.a.", **fields}}}})
