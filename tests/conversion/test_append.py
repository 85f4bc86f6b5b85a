"""An addition costs what is added, where the file system lets it, and never changes a byte of what it shares."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from forked_processes import ForkedProcesses
from hdmf_zarr import NWBZarrIO
from killed_appends import append
from mounts import SHARING, mounted
from pynwb import NWBHDF5IO
from roiextractors import NumpyImagingExtractor
from roiextractors.testing import generate_dummy_segmentation_extractor

from airflow_provider_ophys.conversion.publishing import part_of
from airflow_provider_ophys.conversion.repair import repair
from airflow_provider_ophys.conversion.storages import open_storage
from airflow_provider_ophys.exceptions import DiskSpaceError, OutputExistsError
from airflow_provider_ophys.nwb import write_imaging_to_nwbfile, write_segmentation_to_nwbfile
from airflow_provider_ophys.nwb.existing import find_foreign

METADATA = {"NWBFile": {"session_start_time": "2026-11-22T09:30:00+01:00"}}
DATA = "acquisition/TwoPhotonSeries/data"


def write_movie(path: Path, samples: int = 20, **options) -> np.ndarray:
    """Write a movie that nothing makes smaller; return it."""
    pixels = np.random.default_rng(0).integers(0, 2**16, (samples, 128, 128), dtype="uint16")
    imaging = NumpyImagingExtractor(pixels[..., np.newaxis], sampling_frequency=30.0)
    write_imaging_to_nwbfile(imaging, path, metadata=METADATA, compression="none", **options)
    return pixels


def append_cells(path: Path) -> None:
    cells = generate_dummy_segmentation_extractor(num_rois=2, num_rows=128, num_columns=128)
    write_segmentation_to_nwbfile(cells, path, append_on_disk_nwbfile=True)


def files_of(path: Path) -> dict[str, tuple[int, bytes]]:
    """Return number and content of all files of a store."""
    files = [file for file in path.rglob("*") if file.is_file()]
    return {file.relative_to(path).as_posix(): (file.stat().st_ino, file.read_bytes()) for file in files}


def link_tree(path: Path, copy: Path) -> dict[str, tuple[int, bytes]]:
    """Give all files of a store another name, as some backups do; return what they are."""
    shutil.copytree(path, copy, copy_function=os.link)
    return files_of(copy)


@pytest.mark.parametrize("backend", ["hdf5", "zarr"])
@pytest.mark.parametrize("kind", SHARING)
def test_an_addition_takes_the_space_of_what_is_added(tmp_path, kind, backend):
    with mounted(kind, tmp_path) as folder:
        path = folder / "a.nwb"
        pixels = write_movie(path, 2000, backend=backend)
        os.sync()
        free = shutil.disk_usage(folder).free
        # A full copy would not fit.
        with (folder / "other").open("wb") as other:
            os.posix_fallocate(other.fileno(), 0, max(1, free - 40_000_000))
        os.sync()
        free = shutil.disk_usage(folder).free
        append_cells(path)
        os.sync()
        assert free - shutil.disk_usage(folder).free < 8_000_000
        if backend == "hdf5":
            with NWBHDF5IO(path, "r") as io:
                nwbfile = io.read()
                np.testing.assert_array_equal(
                    nwbfile.acquisition["TwoPhotonSeries"].data[:], pixels.swapaxes(1, 2)
                )
                assert len(nwbfile.processing["ophys"]["ImageSegmentation"]["PlaneSegmentation"]) == 2
            if shutil.which("h5dump"):
                subprocess.run(["h5dump", "--header", path], check=True, capture_output=True)


def test_no_file_that_a_store_shares_with_its_past_is_written_to(tmp_path):
    path = tmp_path / "a.nwb.zarr"
    write_movie(path)
    before = link_tree(path, tmp_path / "backup")
    append_cells(path)
    after = files_of(path)
    assert files_of(tmp_path / "backup") == before
    assert find_foreign(path) is None
    same = {name for name in before if before[name][0] == after[name][0]}
    documents = {name for name in before if name.endswith("zarr.json")}
    assert {name for name in before if f"{DATA}/c/" in name} <= same
    assert not same & documents
    assert all(before[name] == after[name] for name in same)


def test_nor_when_the_addition_is_killed(tmp_path):
    path, backup = tmp_path / "a.nwb.zarr", tmp_path / "backup"
    imaging = NumpyImagingExtractor(np.ones((5, 3, 4, 1), "uint16"), sampling_frequency=30.0)
    write_imaging_to_nwbfile(imaging, path, metadata=METADATA, backend="zarr")
    before = link_tree(path, backup)
    killed, changes = 0, 0
    with ForkedProcesses(append) as processes:
        while True:
            code = processes.wait(processes.start(path=str(path), changes=changes))
            assert files_of(backup) == before
            if code == 0:
                break
            assert code == -signal.SIGKILL
            killed += 1
            repair(path)
            now = files_of(path)
            assert now == before or any("PlaneSegmentation" in name for name in now), "the old one or the new one"
            if now != before:
                shutil.rmtree(path)
                shutil.copytree(backup, path, copy_function=os.link)
            # The first ones are the most alike.
            changes += 1 + changes // 5
    assert killed > 15


def test_an_addition_to_hdf5_that_is_killed_leaves_the_old_file_or_the_new_one(tmp_path):
    path, old = tmp_path / "a.nwb", tmp_path / "old"
    imaging = NumpyImagingExtractor(np.ones((5, 3, 4, 1), "uint16"), sampling_frequency=30.0)
    write_imaging_to_nwbfile(imaging, path, metadata=METADATA)
    shutil.copyfile(path, old)
    changes = 0
    with ForkedProcesses(append) as processes:
        while (code := processes.wait(processes.start(path=str(path), changes=changes))) != 0:
            assert code == -signal.SIGKILL
            repair(path)
            with h5py.File(path) as file:
                assert path.read_bytes() == old.read_bytes() or "processing" in file
            shutil.copyfile(old, path)
            changes += 1
    assert changes > 4


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A disk of 8 MB that has hard links and cannot clone."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted_it = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8M", "tmpfs", folder], check=False, capture_output=True, text=True
    )
    if mounted_it.returncode:
        pytest.skip(f"a disk can only be mounted by root: {mounted_it.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_where_a_copy_does_not_fit_a_file_is_refused_and_a_store_is_not(small_disk):
    hdf5, store = small_disk / "a.nwb", small_disk / "a.nwb.zarr"
    write_movie(hdf5, 130)
    content = hdf5.read_bytes()
    with pytest.raises(DiskSpaceError, match="will need at least"):
        append_cells(hdf5)
    assert hdf5.read_bytes() == content
    assert list(small_disk.iterdir()) == [hdf5]
    hdf5.unlink()
    write_movie(store, 130)
    append_cells(store)
    with NWBZarrIO(store, "r") as io:
        assert len(io.read().processing["ophys"]["ImageSegmentation"]["PlaneSegmentation"]) == 2


def test_a_disk_that_becomes_full_leaves_what_was_there(small_disk):
    path, backup = small_disk / "a.nwb.zarr", small_disk / "backup"
    write_movie(path, 20)
    before = link_tree(path, backup)
    with (small_disk / "other").open("wb") as other:
        os.posix_fallocate(other.fileno(), 0, shutil.disk_usage(small_disk).free - 200_000)
    with pytest.raises(DiskSpaceError):
        append_cells(path)
    assert files_of(path) == files_of(backup) == before
    assert {entry.name for entry in small_disk.iterdir()} == {"a.nwb.zarr", "backup", "other"}


@pytest.mark.parametrize("backend", ["hdf5", "zarr"])
def test_who_has_the_old_output_open_goes_on_reading_it(tmp_path, backend):
    path = tmp_path / "a.nwb"
    pixels = write_movie(path, backend=backend)
    with open_storage(path).io(path, "r") as io:
        old = io.read()
        append_cells(path)
        np.testing.assert_array_equal(old.acquisition["TwoPhotonSeries"].data[3], pixels[3].T)
        assert "ophys" not in old.processing
    with open_storage(path).io(path, "r") as io:
        assert "ophys" in io.read().processing


def test_an_output_that_somebody_else_writes_to_meanwhile_is_left_as_they_made_it(tmp_path):
    path = tmp_path / "a.nwb"
    write_movie(path)

    cells = generate_dummy_segmentation_extractor(num_rois=2, num_rows=128, num_columns=128)
    read = cells.get_traces_dict

    def read_while_another_writes() -> Any:
        if part_of(path).exists():
            with path.open("ab") as stream:
                stream.write(b"by another writer")
        return read()

    cells.get_traces_dict = read_while_another_writes
    with pytest.raises(OutputExistsError, match="changed while"):
        write_segmentation_to_nwbfile(cells, path, append_on_disk_nwbfile=True)
    assert path.read_bytes().endswith(b"by another writer")
    assert list(tmp_path.iterdir()) == [path]
