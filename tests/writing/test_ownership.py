"""For its users an output that is replaced or added to is the same one: mode, owner, group and attributes stay."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from roiextractors.testing import generate_dummy_imaging_extractor, generate_dummy_segmentation_extractor

from airflow_provider_ophys.nwb import write_imaging_to_nwbfile, write_segmentation_to_nwbfile

METADATA = {"NWBFile": {"session_start_time": "2026-11-22T09:30:00+01:00"}}
MODES = [0o600, 0o640, 0o664, 0o444]


@pytest.fixture
def movie():
    return generate_dummy_imaging_extractor(num_rows=3, num_columns=4, num_samples=5)


def write_again(movie, path: Path, how: str) -> None:
    if how == "append":
        cells = generate_dummy_segmentation_extractor(num_rois=2, num_rows=3, num_columns=4)
        write_segmentation_to_nwbfile(cells, path, append_on_disk_nwbfile=True)
    else:
        write_imaging_to_nwbfile(movie, path, metadata=METADATA, overwrite=True, backend=how)


def modes(path: Path) -> tuple[set[int], set[int]]:
    """Return the modes of all folders and of all files of an output."""
    entries = [path, *path.rglob("*")]
    return tuple(
        {stat.S_IMODE(entry.stat().st_mode) for entry in entries if entry.is_dir() == folders}
        for folders in (True, False)
    )


@pytest.mark.parametrize("how", ["append", "hdf5", "zarr"])
@pytest.mark.parametrize("mode", MODES)
def test_a_file_keeps_its_mode(tmp_path, movie, mode, how):
    path = tmp_path / "a.nwb"
    write_imaging_to_nwbfile(movie, path, metadata=METADATA)
    path.chmod(mode)
    write_again(movie, path, how)
    folders, files = modes(path)
    assert files == {mode}
    assert folders == ({mode | (mode & 0o444) >> 2} if how == "zarr" else set())


@pytest.mark.parametrize("how", ["append", "hdf5", "zarr"])
@pytest.mark.parametrize("mode", MODES)
def test_a_store_keeps_its_modes_and_never_mixes_them(tmp_path, movie, mode, how):
    path = tmp_path / "a.nwb"
    write_imaging_to_nwbfile(movie, path, metadata=METADATA, backend="zarr")
    folder_mode = mode | 0o300 | (mode & 0o444) >> 2
    for entry in [*path.rglob("*"), path]:
        entry.chmod(folder_mode if entry.is_dir() else mode)
    write_again(movie, path, how)
    folders, files = modes(path)
    assert files == {mode}
    assert folders == (set() if how == "hdf5" else {folder_mode})


@pytest.mark.parametrize("backend", ["hdf5", "zarr"])
@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
def test_a_new_output_gets_what_the_umask_says(tmp_path, movie, backend, umask):
    before = os.umask(umask)
    try:
        write_imaging_to_nwbfile(movie, tmp_path / "a.nwb", metadata=METADATA, backend=backend)
    finally:
        os.umask(before)
    folders, files = modes(tmp_path / "a.nwb")
    assert files == {0o666 & ~umask}
    assert folders == ({0o777 & ~umask} if backend == "zarr" else set())


@pytest.mark.parametrize("backend", ["hdf5", "zarr"])
def test_owner_group_and_attributes_stay(tmp_path, movie, backend):
    if os.getuid() != 0:
        pytest.skip("only root can give files away")
    path = tmp_path / "a.nwb"
    write_imaging_to_nwbfile(movie, path, metadata=METADATA, backend=backend)
    for entry in (path, *path.rglob("*")):
        os.chown(entry, 1234, 5678)
    try:
        os.setxattr(path, "user.lab", b"ours")
    except OSError as error:
        pytest.skip(f"the file system has no attributes: {error}")
    write_again(movie, path, "append")
    owners = {(entry.stat().st_uid, entry.stat().st_gid) for entry in (path, *path.rglob("*"))}
    assert owners == {(1234, 5678)}
    assert os.getxattr(path, "user.lab") == b"ours"
