"""A folder as the microscope leaves it becomes one NWB file, with the values of the recording."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from pynwb import NWBHDF5IO
from session_recordings import (
    CELLS_RATE,
    CHANNELS,
    PLANES,
    VOLUMES,
    random_frames,
    recording,
    suite2p,
    traces,
    two_channels_of_three_planes,
    write_volumes,
)

from airflow_provider_ophys.conversion import write_session
from airflow_provider_ophys.conversion.session import convert_session
from airflow_provider_ophys.exceptions import ConfigurationError, OutputExistsError
from airflow_provider_ophys.extractors import open_imaging
from airflow_provider_ophys.models.session import Session
from airflow_provider_ophys.sessions import describe_session


@pytest.fixture
def written(tmp_path):
    """Describe, take what travels in an XCom, convert; yield the NWB file."""
    opened = []

    def write(folder, **options):
        described = describe_session(folder, **options)
        sent = json.dumps(described.model_dump(mode="json"), allow_nan=False)
        session = Session.model_validate_json(sent)
        assert session == described
        path = tmp_path / "out.nwb"
        result = convert_session(session.conversion(path))
        opened.append(NWBHDF5IO(path, "r"))
        return opened[-1].read(), session, result

    yield write
    for io in opened:
        io.close()


def tables_of(nwbfile):
    return nwbfile.processing["ophys"]["ImageSegmentation"].plane_segmentations


def test_channels_and_planes_become_series_and_the_cells_of_each_plane_are_tied_to_it(tmp_path, written):
    truth = two_channels_of_three_planes(tmp_path / "m1")

    nwbfile, session, _ = written(tmp_path / "m1", volumes=False)

    names = [f"TwoPhotonSeries{channel}Plane{plane}" for channel in CHANNELS for plane in range(PLANES)]
    assert [movie.name for movie in session.imaging] == names
    assert [movie.metadata_key for movie in session.imaging] == [
        name.removeprefix("TwoPhotonSeries") for name in names
    ]
    assert set(nwbfile.acquisition) == set(names)
    for number, channel in enumerate(CHANNELS):
        for plane in range(PLANES):
            series = nwbfile.acquisition[f"TwoPhotonSeries{channel}Plane{plane}"]
            assert np.array_equal(series.data[:], truth[:, plane, number].transpose(0, 2, 1))
            assert series.imaging_plane.name == f"ImagingPlane{channel}Plane{plane}"
            assert series.imaging_plane.optical_channel[0].name == channel
            assert series.rate == 7.5
    for plane in range(PLANES):
        table = tables_of(nwbfile)[f"PlaneSegmentationPlane{plane}"]
        assert table.imaging_plane is nwbfile.imaging_planes[f"ImagingPlaneGreenPlane{plane}"]
        fluorescence = nwbfile.processing["ophys"]["Fluorescence"].roi_response_series
        of_plane = [one for one in fluorescence.values() if one.rois.table is table]
        (raw,) = (one for one in of_plane if one.name.startswith("RoiResponseSeries"))
        assert np.array_equal(raw.data[:], traces(5, VOLUMES, 10 * plane).T)
        assert raw.rate == pytest.approx(CELLS_RATE)
    assert "Green" in " ".join(session.remarks)


def test_volumes_stay_one_series_each(tmp_path, written):
    truth = two_channels_of_three_planes(tmp_path / "m1")

    nwbfile, session, _ = written(tmp_path / "m1")

    assert set(nwbfile.acquisition) == {"TwoPhotonSeriesGreen", "TwoPhotonSeriesFar"}
    for number, channel in enumerate(CHANNELS):
        data = nwbfile.acquisition[f"TwoPhotonSeries{channel}"].data[:]
        assert np.array_equal(data, truth[:, :, number].transpose(0, 3, 2, 1))
    assert {table.imaging_plane.name for table in tables_of(nwbfile).values()} == {"ImagingPlaneGreen"}
    assert {each.imaging_plane for each in session.segmentation} == {"Green"}


PLANES_OF = ["Bruker, volumes", "OME-TIFF, one file", "Thor, volumes of two channels"]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", PLANES_OF)
def test_the_planes_of_any_makers_volumes_become_series_with_the_times_of_the_volumes(tmp_path, written, name):
    made = recording(name, tmp_path / "session")
    start = {"NWBFile": {"session_start_time": "2026-01-01T00:00:00+00:00"}}

    nwbfile, session, _ = written(tmp_path / "session", volumes=False, metadata=start)

    channel, num_planes = session.imaging[0].channel, made.truth.shape[3]
    assert len(session.imaging) == num_planes * made.num_movies
    for plane in range(num_planes):
        series = nwbfile.acquisition[f"TwoPhotonSeries{channel}Plane{plane}"]
        assert np.array_equal(series.data[:], made.truth[..., plane].transpose(0, 2, 1))
        assert series.rate == pytest.approx(made.rate)
        assert series.field_of_view is None or len(series.field_of_view) == 2
        spacing = series.imaging_plane.grid_spacing
        assert spacing is None or len(spacing) == 2


def test_volumes_that_stay_volumes_though_planes_are_asked_for_are_remarked_upon(tmp_path, written):
    made = recording("Bruker, volumes", tmp_path / "session")
    movie = "imaging: {extractor: Bruker, extractor_kwargs: {folder_path: .%s}}"
    for index, shape in (("", (12, 20, 3)), (", plane_index: 1", (12, 20))):
        (tmp_path / "session" / "session.yaml").write_text(movie % index)
        described = describe_session(tmp_path / "session", volumes=False)
        assert described.imaging[0].sample_shape == shape
        said = [remark for remark in described.remarks if "stays a series of volumes" in remark]
        assert len(said) == (len(shape) == 3)
    nwbfile, *_ = written(tmp_path / "session")
    (series,) = nwbfile.acquisition.values()
    assert np.array_equal(series.data[:], made.truth[..., 1].transpose(0, 2, 1))


WRONG_PLANES = {
    "too many": (3, "plane_index is 3, but the recording has 3 plane"),
    "negative": (-1, "plane_index is -1, but"),
    "no number": (0.5, "plane_index is 0.5. Write a whole number"),
}


@pytest.mark.parametrize(("index", "message"), WRONG_PLANES.values(), ids=WRONG_PLANES)
def test_a_plane_that_is_not_there_is_refused(tmp_path, index, message):
    made = recording("Bruker, volumes", tmp_path / "session")
    with pytest.raises(ConfigurationError, match=message):
        open_imaging("Bruker", made.arguments | {"plane_index": index})


def test_the_plane_may_be_a_text_that_a_template_made(tmp_path):
    made = recording("Bruker, volumes", tmp_path / "session")
    movie = {"extractor": "Bruker", "extractor_kwargs": made.arguments | {"plane_index": "2"}}
    write_session({"imaging": [movie]}, tmp_path / "a.nwb")
    with NWBHDF5IO(tmp_path / "a.nwb", "r") as io:
        (series,) = io.read().acquisition.values()
        assert np.array_equal(series.data[:], made.truth[..., 2].transpose(0, 2, 1))


@pytest.mark.parametrize("name", ["Bruker, a file per frame", "Miniscope"])
def test_a_makers_folder_becomes_a_file_with_what_its_headers_say(tmp_path, written, name):
    made = recording(name, tmp_path / "session")

    nwbfile, session, _ = written(tmp_path / "session")

    (series,) = nwbfile.acquisition.values()
    assert np.array_equal(series.data[:], made.truth.transpose(0, 2, 1))
    assert (
        nwbfile.session_start_time.replace(tzinfo=None) == made.start.replace(tzinfo=None) or name == "Miniscope"
    )
    assert session.imaging[0].rate == made.rate
    if name == "Miniscope":
        assert nwbfile.subject.subject_id == "m 12"
        assert type(series).__name__ == "OnePhotonSeries"
        assert session.sources["Subject.subject_id"] == "session/metaData.json: animalName"
        assert session.unknown_files == [
            f"BehavCam_0/{file}" for file in ("0.avi", "metaData.json", "timeStamps.csv")
        ]
    else:
        assert series.imaging_plane.excitation_lambda == 940.0
        assert series.imaging_plane.device.serial_number == "0A1B2C"
        assert session.unknown_files == ["session.env", "References/reference.tif"]


def two_acquisitions(folder, clock):
    """Two recordings of Bruker's, of which the second began when a clock showed another time."""
    recording("Bruker, a file per frame", folder / "a")
    made = recording("Bruker, a file per frame", folder / "b")
    index = folder / "b" / "b.xml"
    assert "11/30/2023 4:20:34 PM" in index.read_text()
    index.write_text(index.read_text().replace("11/30/2023 4:20:34 PM", clock))
    return made


def test_the_second_acquisition_begins_when_its_header_says(tmp_path, written):
    made = two_acquisitions(tmp_path / "day", "11/30/2023 4:30:35 PM")

    nwbfile, session, _ = written(tmp_path / "day")

    first, second = (nwbfile.acquisition[f"TwoPhotonSeries{name}Ch2"] for name in "AB")
    assert nwbfile.session_start_time.replace(tzinfo=None) == made.start.replace(tzinfo=None)
    assert (first.starting_time, second.starting_time) == (0.0, 601.0)
    assert first.rate == second.rate == made.rate
    assert session.sources["Ophys.MicroscopySeries.BCh2.starting_time"] == "starts of the recordings"
    assert any("different starts" in remark and "a.xml" in remark for remark in session.remarks)


def starts_of_traces(nwbfile):
    traces = nwbfile.processing["ophys"]["Fluorescence"].roi_response_series.values()
    return {each.name: each.starting_time for each in traces}


def test_the_traces_of_the_second_acquisition_begin_with_its_movie(tmp_path, written):
    two_acquisitions(tmp_path / "day", "11/30/2023 4:30:35 PM")
    for name in ("a", "b"):
        suite2p(tmp_path / "day" / name / "suite2p", samples=6)
    nwbfile, session, _ = written(tmp_path / "day")
    first, second = (each.metadata_key for each in session.segmentation)
    assert session.sources[f"Ophys.PlaneSegmentations.{second}.starting_time"] == "start of its movie"
    starts = starts_of_traces(nwbfile)
    assert {starts[name] for name in starts if name.endswith(first)} == {0.0}
    assert {starts[name] for name in starts if name.endswith(second)} == {601.0}


def test_a_given_start_of_the_second_acquisition_wins(tmp_path, written):
    two_acquisitions(tmp_path / "day", "11/30/2023 4:30:35 PM")
    suite2p(tmp_path / "day" / "b" / "suite2p", samples=6)
    given = {
        "MicroscopySeries": {"BCh2": {"starting_time": 12.5}},
        "RoiResponses": {
            "default_metadata_key": {
                "raw": {"name": "Raw", "unit": "n.a.", "starting_time": 13.5},
                "neuropil": {"name": "Neuropil", "unit": "n.a."},
            }
        },
    }
    nwbfile, *_ = written(tmp_path / "day", metadata={"Ophys": given})
    assert nwbfile.acquisition["TwoPhotonSeriesBCh2"].starting_time == 12.5
    assert starts_of_traces(nwbfile) == {"Raw": 13.5, "Neuropil": 12.5}


def test_acquisitions_of_different_days_are_not_taken_to_be_of_one_clock(tmp_path):
    two_acquisitions(tmp_path / "day", "12/2/2023 4:30:35 PM")
    session = describe_session(tmp_path / "day")
    assert all("starting_time" not in entry for entry in session.metadata["Ophys"]["MicroscopySeries"].values())
    assert any("more than a day. Give starting_time" in remark for remark in session.remarks)


def test_the_same_session_is_written_once(tmp_path, written):
    recording("ScanImage, one file", tmp_path / "m1")
    _, _, first = written(tmp_path / "m1")
    _, _, second = written(tmp_path / "m1")
    assert (first.reused, second.reused) == (False, True)


def test_a_script_writes_a_session_or_lists_of_movies_and_segmentations(tmp_path):
    made = recording("Bruker, a file per frame", tmp_path / "m1")
    session = describe_session(tmp_path / "m1")
    write_session(session, tmp_path / "described.nwb")
    write_session(session.model_dump(mode="json"), tmp_path / "json.nwb")
    listed = {
        "imaging": [
            {"extractor": movie.extractor, "extractor_kwargs": movie.extractor_kwargs} for movie in session.imaging
        ]
    }
    result = write_session(listed, tmp_path / "listed.zarr", compression="none")

    assert result.backend == "zarr"
    for name in ("described.nwb", "json.nwb"):
        with NWBHDF5IO(tmp_path / name, "r") as io:
            (series,) = io.read().acquisition.values()
            assert np.array_equal(series.data[:], made.truth.transpose(0, 2, 1))


def test_rois_that_came_later_are_added_and_nothing_else_is_touched(tmp_path):
    recording("ScanImage, one file", tmp_path / "m1")
    path = tmp_path / "m1.nwb"
    stored = {"backend_configuration": {"acquisition/TwoPhotonSeries/data": {"chunk_shape": "traces"}}}
    assert not write_session(describe_session(tmp_path / "m1"), path, **stored).reused
    suite2p(tmp_path / "m1" / "suite2p", samples=7)
    session = describe_session(tmp_path / "m1")

    added = write_session(session, path, **stored)
    again = write_session(session, path, **stored, inspect="report")

    assert (added.reused, added.num_samples, added.num_rois) == (False, None, 5)
    assert (again.reused, again.num_samples, again.num_rois) == (True, 7, 5)
    assert [series.name for series in again.photon_series] == ["TwoPhotonSeries"]
    assert again.plane_segmentations == ["PlaneSegmentation"]
    assert again.inspection is not None
    with NWBHDF5IO(path, "r") as io:
        nwbfile = io.read()
        assert tables_of(nwbfile)["PlaneSegmentation"].imaging_plane is nwbfile.imaging_planes["ImagingPlane"]


@pytest.mark.parametrize("changed", ["the movie", "the metadata", "the folder"])
def test_a_file_of_another_recording_or_session_gets_no_rois(tmp_path, changed):
    recording("ScanImage, one file", tmp_path / "m1")
    path = tmp_path / "out.nwb"
    write_session(describe_session(tmp_path / "m1"), path)
    content = path.read_bytes()
    folder, metadata = tmp_path / "m1", None
    if changed == "the metadata":
        metadata = {"NWBFile": {"lab": "Other"}}
    else:
        suite2p(folder / "suite2p", samples=7)
    if changed == "the folder":
        folder = folder.rename(tmp_path / "m2")
    if changed == "the movie":
        movie = folder / "m1_00001.tif"
        movie.write_bytes(movie.read_bytes()[:-4] + b"abcd")
    with pytest.raises(OutputExistsError, match="was not written by this conversion"):
        write_session(describe_session(folder, metadata=metadata), path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("reuse", ["state", "content"])
def test_a_movie_that_changed_between_its_samples_gets_no_rois_either(tmp_path, reuse):
    """With ``"content"``, even if its times say that it did not."""
    write_volumes(tmp_path / "m1", random_frames(60 * 4 * 2, "int16", shape=(128, 128)))
    path, movie = tmp_path / "m1.nwb", tmp_path / "m1" / "m1_00001.tif"
    times = movie.stat().st_atime_ns, movie.stat().st_mtime_ns
    write_session(describe_session(tmp_path / "m1"), path, reuse=reuse)
    suite2p(tmp_path / "m1" / "suite2p", planes=PLANES, samples=60)
    session, whole = describe_session(tmp_path / "m1", volumes=True), path.read_bytes()
    with movie.open("r+b") as file:
        file.seek(movie.stat().st_size // 40)
        kept = file.read(1000)
        file.seek(-1000, os.SEEK_CUR)
        file.write(bytes(1000))
    if reuse == "content":
        os.utime(movie, ns=times)
    with pytest.raises(
        OutputExistsError, match="only samples" if reuse == "state" else "has other content by now"
    ):
        write_session(session, path, reuse=reuse)
    assert path.read_bytes() == whole
    with movie.open("r+b") as file:
        file.seek(movie.stat().st_size // 40)
        file.write(kept)
    os.utime(movie, ns=times)
    assert not write_session(session, path, reuse=reuse).reused
    assert write_session(session, path, reuse=reuse).reused, "when all of it is there, each part is looked at"


def bytes_written():
    """How many bytes this process has written so far, by all system calls and to all files."""
    (line,) = [line for line in Path("/proc/self/io").read_text().splitlines() if line.startswith("wchar")]
    return int(line.split()[1])


@pytest.mark.parametrize(("backend", "name"), [("hdf5", "m1.nwb"), ("zarr", "m1.nwb.zarr")])
def test_two_channels_of_three_planes_and_their_cells_are_written_to_the_disk_once(tmp_path, backend, name):
    frames = random_frames(60 * 4 * 2, "int16", shape=(128, 128))
    write_volumes(tmp_path / "m1", frames)
    suite2p(tmp_path / "m1" / "suite2p", planes=PLANES, samples=60)
    session = describe_session(tmp_path / "m1", volumes=False)
    # Even a copy that the file system makes counts.
    before = bytes_written()
    copy = shutil.copy(tmp_path / "m1" / "m1_00001.tif", tmp_path / "copy.tif")
    assert bytes_written() - before >= Path(copy).stat().st_size

    before = bytes_written()
    result = write_session(session, tmp_path / name, backend=backend)
    written = bytes_written() - before

    assert (len(result.photon_series), len(result.plane_segmentations)) == (6, 3)
    assert result.size_bytes > 9_000_000
    assert written <= 1.02 * result.size_bytes
