"""Times that the metadata give a series win over the recording's, whoever writes it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from pynwb import NWBHDF5IO

sys.path.append(str(Path(__file__).parents[1] / "recordings"))

from recording_makers import MAKERS

from airflow_provider_ophys.conversion import write_session
from airflow_provider_ophys.conversion.run import convert_imaging
from airflow_provider_ophys.exceptions import MetadataError
from airflow_provider_ophys.extractors import open_imaging
from airflow_provider_ophys.models.conversion import ImagingConversion
from airflow_provider_ophys.models.remarks import gathering_remarks
from airflow_provider_ophys.nwb import write_imaging_to_nwbfile
from airflow_provider_ophys.sessions import describe_session

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::pytest.PytestUnraisableExceptionWarning")

STAMPS = np.array([1.0, 1.5, 2.5, 2.75, 4.0, 4.5, 5.0])


def by_operator(made, metadata, path):
    options = {"extractor": made.extractor, "extractor_kwargs": made.arguments, "metadata": metadata}
    return convert_imaging(ImagingConversion(nwbfile_path=str(path), **options)).remarks


def by_writer(made, metadata, path):
    with gathering_remarks() as remarks:
        write_imaging_to_nwbfile(open_imaging(made.extractor, made.arguments), path, metadata=metadata)
    return remarks


def by_lists(made, metadata, path):
    movie = {"extractor": made.extractor, "extractor_kwargs": made.arguments}
    return write_session({"imaging": [movie], "metadata": metadata}, path).remarks


def by_description(made, metadata, path):
    return write_session(describe_session(made.folder, metadata=metadata), path).remarks


def stamps_in_a_file(folder):
    np.save(folder / "stamps.npy", STAMPS)
    return str(folder / "stamps.npy")


# What is given, what is remarked upon, and the rate, start and stamps that are written.
TIMES = {
    "rate": ({"rate": 15.0}, "rate of the series", (15.0, 0.0, None)),
    "start": ({"starting_time": 600.0}, None, (30.0, 600.0, None)),
    "both": ({"rate": 15.0, "starting_time": 600.0}, "rate of the series", (15.0, 600.0, None)),
    "stamps": ({"timestamps": STAMPS.tolist()}, "timestamps of the series", (None, None, STAMPS.tolist())),
    "file": ({"timestamps": stamps_in_a_file}, "timestamps of the series", (None, None, STAMPS.tolist())),
}


@pytest.mark.parametrize("write", [by_operator, by_writer, by_lists, by_description])
@pytest.mark.parametrize(("times", "said", "written"), TIMES.values(), ids=TIMES)
def test_given_times_are_written_and_remarked_upon(tmp_path, write, times, said, written):
    made = MAKERS["ScanImage, one file"](tmp_path / "recording")
    given = {name: value(tmp_path) if callable(value) else value for name, value in times.items()}
    series = {"default_metadata_key": {"name": "Movie", "unit": "n.a.", **given}}
    remarks = write(made, {"Ophys": {"MicroscopySeries": series}}, tmp_path / "a.nwb")
    with NWBHDF5IO(tmp_path / "a.nwb", "r") as io:
        movie = io.read().acquisition["Movie"]
        stamps = None if movie.timestamps is None else movie.timestamps[:].tolist()
        assert (movie.rate, movie.starting_time, stamps) == written
    assert said is None or any(said in remark and "metadata" in remark for remark in remarks)


@pytest.mark.parametrize("write", [by_operator, by_writer, by_lists, by_description])
def test_too_few_timestamps_are_refused_before_anything_is_written(tmp_path, write):
    made = MAKERS["ScanImage, one file"](tmp_path / "recording")
    series = {"default_metadata_key": {"name": "Movie", "unit": "n.a.", "timestamps": [0.0, 1.0]}}
    with pytest.raises(MetadataError, match="2 timestamps, but it has 7 samples"):
        write(made, {"Ophys": {"MicroscopySeries": series}}, tmp_path / "a.nwb")
    assert not (tmp_path / "a.nwb").exists()


@pytest.mark.parametrize("write", [by_operator, by_writer, by_lists, by_description])
def test_a_start_moves_stamps_that_the_recording_has(tmp_path, write):
    made = MAKERS["Miniscope"](tmp_path / "recording")
    series = {"default_metadata_key": {"name": "Movie", "unit": "n.a.", "starting_time": 100.0}}
    remarks = write(made, {"Ophys": {"MicroscopySeries": series}}, tmp_path / "a.nwb")
    with NWBHDF5IO(tmp_path / "a.nwb", "r") as io:
        movie = io.read().acquisition["Movie"]
        assert (movie.starting_time if movie.timestamps is None else movie.timestamps[0]) == 100.0
    assert any("moved" in remark and "100.0 s" in remark for remark in remarks)
