"""What is at the output path is, at every moment, the old output or the new one, whole."""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading

import numpy as np
import pytest
from pynwb import NWBHDF5IO
from roiextractors.testing import generate_dummy_imaging_extractor, generate_dummy_segmentation_extractor

from airflow_provider_ophys.conversion import output
from airflow_provider_ophys.conversion.additions import MovieAddition
from airflow_provider_ophys.conversion.output import WriteOptions, prepare_output, write_nwbfile
from airflow_provider_ophys.conversion.publishing import publishing
from airflow_provider_ophys.conversion.run import convert_imaging
from airflow_provider_ophys.exceptions import (
    BackendConfigurationError,
    ConfigurationError,
    ConversionStoppedError,
    EmptyRecordingError,
    InvalidOutputError,
    MemoryBudgetError,
    MetadataError,
    OutputBusyError,
    OutputExistsError,
    OutputFolderError,
    SourceDataError,
    SourceNotFoundError,
)
from airflow_provider_ophys.models.conversion import ImagingConversion
from airflow_provider_ophys.models.metadata import validate_metadata
from airflow_provider_ophys.nwb import (
    add_imaging_to_nwbfile,
    get_default_backend_configuration,
    write_imaging_to_nwbfile,
    write_segmentation_to_nwbfile,
)
from airflow_provider_ophys.nwb.existing import backend_of
from airflow_provider_ophys.nwb.nwbfile import make_nwbfile

METADATA = {"NWBFile": {"session_start_time": "2026-11-22T09:30:00+01:00"}}
SECOND = METADATA | {"Ophys": {"MicroscopySeries": {"second": {"name": "Second", "unit": "n.a."}}}}
BACKENDS = ["hdf5", "zarr"]


@pytest.fixture
def imaging():
    return generate_dummy_imaging_extractor(num_rows=13, num_columns=29, num_samples=40)


@pytest.fixture
def broken():
    """A movie that cannot be read beyond sample 20."""
    movie = generate_dummy_imaging_extractor(num_rows=13, num_columns=29, num_samples=40)
    read = movie.get_series

    def get_series(start_sample=None, end_sample=None):
        if end_sample > 20:
            raise OSError("the disk is gone")
        return read(start_sample, end_sample)

    movie.get_series = get_series
    return movie


def digest(path):
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    total = hashlib.sha256()
    for file in files:
        total.update(str(file.relative_to(path.parent)).encode() + file.read_bytes())
    return total.hexdigest()


SMALL_READS = {"iterator_options": {"chunk_shape": (5, 29, 13), "buffer_shape": (5, 29, 13)}}


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_failure_leaves_nothing(tmp_path, broken, backend):
    with pytest.raises(SourceDataError, match=r"cannot read sample 20 .*: OSError: the disk is gone"):
        write_imaging_to_nwbfile(broken, tmp_path / "a.nwb", metadata=METADATA, backend=backend, **SMALL_READS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", ["overwrite", "append_on_disk_nwbfile"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_failure_leaves_the_old_output_as_it_was(tmp_path, imaging, broken, backend, mode):
    path = tmp_path / "a.nwb"
    write_imaging_to_nwbfile(imaging, path, metadata=METADATA, backend=backend)
    before = digest(path)
    with pytest.raises(SourceDataError, match="disk is gone"):
        write_imaging_to_nwbfile(broken, path, metadata=SECOND, backend=backend, **{mode: True}, **SMALL_READS)
    assert digest(path) == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.nwb"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_existing_output_is_left_alone_unless_told_otherwise(tmp_path, imaging, backend):
    path = tmp_path / "a.nwb"
    write_imaging_to_nwbfile(imaging, path, metadata=METADATA, backend=backend)
    before = digest(path)
    with pytest.raises(OutputExistsError, match="overwrite=True"):
        write_imaging_to_nwbfile(imaging, path, metadata=METADATA, backend=backend)
    assert digest(path) == before
    write_imaging_to_nwbfile(imaging, path, metadata=SECOND, backend=backend, overwrite=True)
    assert digest(path) != before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.nwb"]


@pytest.mark.parametrize("new", BACKENDS)
@pytest.mark.parametrize("old", BACKENDS)
def test_an_output_of_one_kind_is_replaced_by_one_of_another(tmp_path, imaging, old, new):
    path = tmp_path / "a.nwb"
    write_imaging_to_nwbfile(imaging, path, metadata=METADATA, backend=old)
    write_imaging_to_nwbfile(imaging, path, metadata=METADATA, backend=new, overwrite=True)
    assert backend_of(path) == new
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.nwb"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_appending_adds_to_the_file_and_takes_its_backend(tmp_path, imaging, backend):
    from hdmf_zarr import NWBZarrIO

    path = tmp_path / "a.nwb"
    write_imaging_to_nwbfile(imaging, path, metadata=METADATA, backend=backend)
    segmentation = generate_dummy_segmentation_extractor(num_rois=3, num_rows=13, num_columns=29)
    assert write_imaging_to_nwbfile(imaging, path, metadata=SECOND, append_on_disk_nwbfile=True) is None
    write_segmentation_to_nwbfile(segmentation, path, append_on_disk_nwbfile=True)
    with NWBHDF5IO(path, "r") if backend == "hdf5" else NWBZarrIO(str(path), "r") as io:
        nwbfile = io.read()
        for name in ("TwoPhotonSeries", "Second"):
            data = nwbfile.acquisition[name].data[:]
            np.testing.assert_array_equal(data, imaging.get_series().transpose(0, 2, 1))
        assert len(nwbfile.processing["ophys"]["ImageSegmentation"]["PlaneSegmentation"]) == 3
        assert list(nwbfile.imaging_planes) == ["ImagingPlane"], "the plane of that name is used again"


def test_appending_as_the_other_backend_is_refused(tmp_path, imaging):
    path = tmp_path / "a.nwb"
    write_imaging_to_nwbfile(imaging, path, metadata=METADATA)
    with pytest.raises(ConfigurationError, match="is 'hdf5', so it cannot be appended to as 'zarr'"):
        write_imaging_to_nwbfile(imaging, path, metadata=SECOND, append_on_disk_nwbfile=True, backend="zarr")


def test_appending_to_nothing_is_refused(tmp_path, imaging):
    with pytest.raises(SourceNotFoundError, match="There is no NWB file at"):
        write_imaging_to_nwbfile(imaging, tmp_path / "a.nwb", append_on_disk_nwbfile=True)


def test_appending_the_same_series_is_refused(tmp_path, imaging):
    path = tmp_path / "a.nwb"
    write_imaging_to_nwbfile(imaging, path, metadata=METADATA)
    with pytest.raises(ConfigurationError, match="already has 'TwoPhotonSeries'"):
        write_imaging_to_nwbfile(imaging, path, metadata=METADATA, append_on_disk_nwbfile=True)


def test_a_file_in_memory_is_written_with_what_it_has(tmp_path, imaging):
    nwbfile = make_nwbfile(validate_metadata(METADATA))
    add_imaging_to_nwbfile(imaging, nwbfile, METADATA)
    assert write_imaging_to_nwbfile(imaging, tmp_path / "a.nwb", nwbfile=nwbfile, metadata=SECOND) is nwbfile
    with NWBHDF5IO(tmp_path / "a.nwb", "r") as io:
        assert set(io.read().acquisition) == {"TwoPhotonSeries", "Second"}
    with pytest.raises(ConfigurationError, match="Leave one of the two out"):
        write_imaging_to_nwbfile(imaging, tmp_path / "a.nwb", nwbfile=nwbfile, append_on_disk_nwbfile=True)


def test_a_file_in_memory_that_was_written_before_is_refused(tmp_path, imaging):
    nwbfile = write_imaging_to_nwbfile(imaging, tmp_path / "a.nwb", metadata=METADATA)
    with pytest.raises(ConfigurationError, match="was read from .* or written there before"):
        write_imaging_to_nwbfile(imaging, tmp_path / "b.nwb", nwbfile=nwbfile, metadata=SECOND)
    assert set(nwbfile.acquisition) == {"TwoPhotonSeries"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.nwb"]


def test_what_is_wrong_is_said_before_anything_is_written(tmp_path, imaging):
    with pytest.raises(OutputFolderError, match="does not exist"):
        write_imaging_to_nwbfile(imaging, tmp_path / "missing" / "a.nwb", metadata=METADATA)
    path = tmp_path / "a.nwb"
    with pytest.raises(MetadataError, match="session_start_time"):
        write_imaging_to_nwbfile(imaging, path)
    with pytest.raises(MetadataError, match="'x' is not in Ophys.MicroscopySeries"):
        write_imaging_to_nwbfile(imaging, path, metadata=METADATA, metadata_key="x")
    with pytest.raises(BackendConfigurationError, match="names 'acquisition/Nothing/data', which is not written"):
        write_imaging_to_nwbfile(
            imaging, path, metadata=METADATA, backend_configuration={"acquisition/Nothing/data": {}}
        )
    wrong_shape = {"acquisition/TwoPhotonSeries/data": {"chunk_shape": (100, 29, 13)}}
    with pytest.raises(BackendConfigurationError, match="does not fit its shape"):
        write_imaging_to_nwbfile(imaging, path, metadata=METADATA, backend_configuration=wrong_shape)
    with pytest.raises(MemoryBudgetError, match=r"memory budget .* is too small"):
        write_imaging_to_nwbfile(imaging, path, metadata=METADATA, memory_limit=1000)
    with pytest.raises(ConfigurationError, match="chunk_mb"):
        write_imaging_to_nwbfile(
            imaging, path, metadata=METADATA, iterator_options={"chunk_mb": 10, "buffer_gb": 0.001}
        )
    assert list(tmp_path.iterdir()) == []


def test_an_empty_recording_is_refused(tmp_path):
    empty = generate_dummy_imaging_extractor(num_samples=0)
    with pytest.raises(EmptyRecordingError, match="has no samples"):
        write_imaging_to_nwbfile(empty, tmp_path / "a.nwb", metadata=METADATA)
    no_rois = generate_dummy_segmentation_extractor(num_rois=0, has_summary_images=False)
    with pytest.raises(EmptyRecordingError, match="has no ROIs"):
        write_segmentation_to_nwbfile(no_rois, tmp_path / "a.nwb", metadata=METADATA)
    assert list(tmp_path.iterdir()) == []


def test_a_recording_that_is_shorter_than_it_says_is_refused(tmp_path, imaging):
    imaging.get_num_samples = lambda: 60
    imaging.get_series = lambda start, stop: np.zeros((min(stop, 40) - start, 13, 29), dtype="uint16")
    with pytest.raises(SourceDataError, match="returned 40 samples instead of 60"):
        write_imaging_to_nwbfile(imaging, tmp_path / "a.nwb", metadata=METADATA)
    assert list(tmp_path.iterdir()) == []


def test_a_stopped_conversion_leaves_nothing_and_no_thread(tmp_path, imaging):
    stop = threading.Event()
    read = imaging.get_series

    def get_series(start_sample=None, end_sample=None):
        if start_sample >= 20:
            stop.set()
        return read(start_sample, end_sample)

    imaging.get_series = get_series
    options = WriteOptions(stop=stop)
    addition = MovieAddition(imaging, METADATA, SMALL_READS)
    prepared = prepare_output(
        tmp_path / "a.nwb", [addition], metadata=validate_metadata(METADATA), options=options
    )
    with pytest.raises(ConversionStoppedError):
        write_nwbfile(prepared, options)
    assert list(tmp_path.iterdir()) == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ophys-")]


def test_an_invalid_file_is_not_published(tmp_path, imaging, monkeypatch):
    def damage(root, path, record):
        del root["acquisition/TwoPhotonSeries/imaging_plane"]

    monkeypatch.setattr(output, "record_conversion", damage)
    conversion = ImagingConversion(
        extractor="Numpy",
        extractor_kwargs={"timeseries": imaging.get_series()[..., np.newaxis], "sampling_frequency": 30.0},
        nwbfile_path=str(tmp_path / "a.nwb"),
        metadata=METADATA,
    )
    with pytest.raises(InvalidOutputError, match="imaging_plane"):
        convert_imaging(conversion)
    assert list(tmp_path.iterdir()) == []


def test_two_writers_of_one_output_do_not_mix(tmp_path):
    path = tmp_path / "a.nwb"
    with publishing(path, replace=False) as part:
        part.write_text("first")
        with pytest.raises(OutputBusyError, match="Another task is writing"), publishing(path, replace=False):
            raise AssertionError
    assert path.read_text() == "first"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.nwb"]


def test_an_output_that_appears_meanwhile_is_not_replaced(tmp_path):
    path = tmp_path / "a.nwb"
    with pytest.raises(OutputExistsError, match="appeared"), publishing(path, replace=False) as part:
        part.write_text("ours")
        path.write_text("theirs")
    assert path.read_text() == "theirs"


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path):
    path = tmp_path / "a.nwb"
    pid = os.fork()
    if pid == 0:
        with publishing(path, replace=False) as part:
            part.write_text("half")
            os._exit(9)
    os.waitpid(pid, 0)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".a.nwb.lock", ".a.part.nwb"]
    with publishing(path, replace=False) as part:
        assert not part.exists()
        part.write_text("whole")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.nwb"]


def test_the_lock_holds_against_another_process(tmp_path):
    path = tmp_path / "a.nwb"
    with publishing(path, replace=False) as part:
        part.write_text("ours")
        with (tmp_path / ".a.nwb.lock").open() as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_default_configuration_names_every_big_dataset(tmp_path, imaging, backend):
    nwbfile = make_nwbfile(validate_metadata(METADATA))
    add_imaging_to_nwbfile(imaging, nwbfile, METADATA)
    configuration = get_default_backend_configuration(nwbfile, backend)
    assert list(configuration.dataset_configurations) == ["acquisition/TwoPhotonSeries/data"]
    chosen = configuration.dataset_configurations["acquisition/TwoPhotonSeries/data"]
    assert chosen.chunk_shape == (40, 29, 13)
    same = type(configuration).model_validate_json(configuration.model_dump_json())
    assert same == configuration, "a DAG carries it as JSON"
    write_imaging_to_nwbfile(
        imaging, tmp_path / "a.nwb", metadata=METADATA, backend=backend, backend_configuration=same
    )


def test_a_manufacturer_is_written_where_nwb_has_it_now(tmp_path, imaging):
    plane = {
        "name": "P",
        "device_metadata_key": "d",
        "excitation_lambda": 920.0,
        "indicator": "x",
        "location": "y",
        "optical_channel": [{"name": "c", "description": "d", "emission_lambda": 510.0}],
    }
    metadata = METADATA | {
        "Devices": {"d": {"name": "Scope", "manufacturer": "us"}},
        "Ophys": {
            "ImagingPlanes": {"p": plane},
            "MicroscopySeries": {"m": {"name": "M", "unit": "n.a.", "imaging_plane_metadata_key": "p"}},
        },
    }
    write_imaging_to_nwbfile(imaging, tmp_path / "a.nwb", metadata=metadata)
    with NWBHDF5IO(tmp_path / "a.nwb", "r") as io:
        model = io.read().devices["Scope"].model
        assert (model.name, model.manufacturer) == ("Scope", "us")
