"""HDF5 files that have their content elsewhere: beside them, or where nobody was to look."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from airflow_provider_ophys.exceptions import SourceChangedError, SourceDataError
from airflow_provider_ophys.extractors import open_imaging
from airflow_provider_ophys.recordings import hdf5_references, recording_of
from airflow_provider_ophys.recordings.hdf5_references import referenced_files

SHAPE = (1, 3, 4, 5)
MOVIE = np.arange(60, dtype="u1").reshape(SHAPE)
LONG_AGO = 1_700_000_000


@pytest.fixture
def drop(tmp_path):
    folder = tmp_path / "drop"
    folder.mkdir()
    return folder


@pytest.fixture
def secret(tmp_path):
    """An HDF5 file outside of the folder, which HDF5 could read."""
    file = tmp_path / "elsewhere" / "secret.h5"
    file.parent.mkdir()
    with h5py.File(file, "w") as opened:
        opened["mov"] = MOVIE
    return file


def refer(file: Path, how: str, name: str, dataset: str = "mov", target: str = "/mov") -> Path:
    """Write a file whose dataset is in another one."""
    with h5py.File(file, "w") as opened:
        if how == "link":
            opened[dataset] = h5py.ExternalLink(name, target)
        elif how == "storage":
            opened.create_dataset(dataset, shape=SHAPE, dtype="u1", external=[(name, 0, 60)])
        else:
            layout = h5py.VirtualLayout(SHAPE, "u1")
            layout[...] = h5py.VirtualSource(name, target, SHAPE)
            opened.create_virtual_dataset(dataset, layout)
    return file


def refused(file: Path, *words: str) -> None:
    with pytest.raises(SourceDataError) as error:
        referenced_files(file)
    for word in words:
        assert word in str(error.value)
    with pytest.raises(SourceDataError):
        open_imaging("Hdf5", {"file_path": file, "sampling_frequency": 10.0})


ALL = pytest.mark.parametrize("how", ["link", "storage", "virtual"])


@ALL
@pytest.mark.parametrize("target", ["/proc/self/environ", "/dev/zero", "/nowhere/at/all"])
def test_a_reference_to_a_file_of_the_machine_is_refused(drop, how, target):
    refused(refer(drop / "a.h5", how, target), "a.h5", target, "outside of the recording's folder")


@ALL
@pytest.mark.parametrize("spelling", ["absolute", "relative", "by a link in the folder", "in a folder below"])
def test_a_reference_to_a_file_outside_is_refused(drop, secret, how, spelling):
    if spelling == "by a link in the folder":
        (drop / "beside.h5").symlink_to(secret)
    if spelling == "in a folder below":
        (drop / "below").symlink_to(secret.parent)
    name = {
        "absolute": str(secret),
        "relative": "../elsewhere/secret.h5",
        "by a link in the folder": "beside.h5",
        "in a folder below": "below/secret.h5",
    }[spelling]
    refused(refer(drop / "a.h5", how, name), "outside of the recording's folder")


@ALL
def test_what_hdf5_would_find_in_the_working_folder_is_refused(drop, secret, how, monkeypatch):
    monkeypatch.chdir(secret.parent)
    refused(refer(drop / "a.h5", how, "secret.h5"), "outside of the recording's folder")


@ALL
def test_a_named_pipe_is_not_opened(drop, how):
    os.mkfifo(drop / "pipe")
    refused(refer(drop / "a.h5", how, str(drop / "pipe")), "no regular file")
    (drop / "a.h5").unlink()
    (drop / "a.h5").symlink_to(drop / "pipe")
    refused(drop / "a.h5", "named pipe")


@ALL
def test_a_file_beside_that_leads_out_is_refused(drop, secret, how):
    refer(drop / "b.h5", how, str(secret))
    refused(refer(drop / "a.h5", "link", "b.h5"), "b.h5", str(secret))


def test_a_soft_link_through_an_external_one_is_refused(drop, secret):
    with h5py.File(drop / "a.h5", "w") as opened:
        opened["deep/down/out"] = h5py.ExternalLink(str(secret), "/")
        opened["mov"] = h5py.SoftLink("/deep/down/out/mov")
    refused(drop / "a.h5", "deep/down/out is an external link")


@ALL
def test_a_reference_that_is_read_from_where_a_link_lies_is_refused(drop, secret, how, tmp_path):
    (tmp_path / "real").mkdir()
    refer(tmp_path / "real" / "a.h5", how, "b.h5")
    (drop / "a.h5").symlink_to(tmp_path / "real" / "a.h5")
    (drop / "b.h5").symlink_to(secret)
    (tmp_path / "real" / "b.h5").write_bytes(secret.read_bytes())
    refused(drop / "a.h5", "outside of the recording's folder")


@pytest.mark.parametrize("how", ["link", "virtual"])
def test_a_file_beside_belongs_to_the_recording(drop, secret, how):
    (drop / "b.h5").write_bytes(secret.read_bytes())
    file = refer(drop / "a.h5", how, "b.h5")
    assert referenced_files(file) == [drop / "b.h5"]
    recording = recording_of("imaging", "Hdf5", {"file_path": str(file), "sampling_frequency": 10.0})
    assert recording.files == [file, drop / "b.h5"]
    extractor = open_imaging("Hdf5", recording.arguments)
    np.testing.assert_array_equal(extractor.get_series(), MOVIE[0])


def test_raw_data_beside_belongs_to_the_recording(drop):
    (drop / "raw.bin").write_bytes(MOVIE.tobytes())
    assert referenced_files(refer(drop / "a.h5", "storage", str(drop / "raw.bin"))) == [drop / "raw.bin"]


def test_a_virtual_dataset_of_a_dataset_in_the_same_file_is_read(drop):
    with h5py.File(drop / "a.h5", "w") as opened:
        opened["planes/first"] = MOVIE
        layout = h5py.VirtualLayout(SHAPE, "u1")
        layout[...] = h5py.VirtualSource(".", "/planes/first", SHAPE)
        opened.create_virtual_dataset("mov", layout)
    assert referenced_files(drop / "a.h5") == []
    extractor = open_imaging("Hdf5", {"file_path": drop / "a.h5", "sampling_frequency": 10.0})
    np.testing.assert_array_equal(extractor.get_series(), MOVIE[0])


def test_virtual_datasets_in_a_circle_are_refused_for_hdf5_would_end_the_process(drop):
    refused(refer(drop / "a.h5", "virtual", "."), "no plain dataset")
    refer(drop / "b.h5", "virtual", "a.h5")
    refused(refer(drop / "a.h5", "virtual", "b.h5"), "itself refers to other data")
    refer(drop / "b.h5", "link", "a.h5")
    refused(drop / "a.h5", "itself refers to other data")


def test_names_by_number_are_refused(drop, secret):
    unlimited = h5py.h5s.UNLIMITED
    whole = h5py.h5s.create_simple((10,), (unlimited,))
    whole.select_hyperslab((0,), (unlimited,), (10,), (10,))
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_virtual(whole, b"part-%b.h5", b"mov", h5py.h5s.create_simple((10,)))
    with h5py.File(drop / "a.h5", "w") as opened:
        h5py.h5d.create(opened.id, b"mov", h5py.h5t.NATIVE_UINT8, whole, properties)
    refused(drop / "a.h5", "does not name one file")


def test_groups_in_a_circle_are_looked_at_once(drop):
    with h5py.File(drop / "a.h5", "w") as opened:
        opened["mov"] = MOVIE
        opened["group/itself"] = opened["/"]
        opened["gone"] = h5py.SoftLink("/gone")
    assert referenced_files(drop / "a.h5") == []


def test_a_file_of_too_many_parts_is_refused(drop, monkeypatch):
    monkeypatch.setattr(hdf5_references, "MOST_OBJECTS", 20)
    with h5py.File(drop / "a.h5", "w") as opened:
        for number in range(21):
            opened[f"d{number}"] = h5py.SoftLink("/mov")
    refused(drop / "a.h5", "too many")


@pytest.mark.parametrize("keep", [0, 10, 700, 2000])
def test_a_damaged_file_is_named_and_may_still_be_growing(drop, secret, keep):
    (drop / "a.h5").write_bytes(secret.read_bytes()[:keep])
    with pytest.raises(SourceChangedError, match=r"a\.h5"):
        referenced_files(drop / "a.h5")
    os.utime(drop / "a.h5", (LONG_AGO, LONG_AGO))
    refused(drop / "a.h5", "a.h5", "copy it again")
