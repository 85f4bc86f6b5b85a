"""A copy to add to has the same content, and shares with the old output what never changes."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from failing_calls import run_with_failures, why_not
from mounts import SHARING, mounted

from airflow_provider_ophys.exceptions import ConversionStoppedError
from airflow_provider_ophys.writing.copying import bytes_to_copy, copy_output

MIB = 2**20


@pytest.fixture(scope="module", params=SHARING)
def sharing_disk(request, tmp_path_factory) -> Iterator[Path]:
    with mounted(request.param, tmp_path_factory.mktemp("disk")) as folder:
        yield folder


@pytest.fixture
def other_disk() -> Iterator[Path]:
    """A folder of another file system than the tests' own, to which the kernel copies nothing by itself."""
    memory = Path("/dev/shm")  # noqa: S108 -- mkdtemp makes a folder of its own
    if not memory.is_dir():
        pytest.skip(f"{memory} is not there")
    folder = Path(tempfile.mkdtemp(dir=memory))
    yield folder
    shutil.rmtree(folder)


def write_with_holes(path: Path) -> bytes:
    """Write data, a hole, data and a hole; return all of it."""
    data = os.urandom(3 * MIB + 5)
    with path.open("wb") as stream:
        stream.write(data)
        stream.seek(40 * MIB)
        stream.write(data)
        stream.truncate(60 * MIB)
    return path.read_bytes()


def make_store(path: Path) -> None:
    chunks = path / "acquisition" / "data" / "c"
    chunks.mkdir(parents=True)
    for folder in (path, path / "acquisition", path / "acquisition" / "data"):
        (folder / "zarr.json").write_text("{}")
    for number in range(3):
        (chunks / str(number)).write_bytes(os.urandom(1000))


def contents(path: Path) -> dict[str, bytes]:
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def shared(old: Path, new: Path) -> set[str]:
    """Return which files of two stores are the same ones."""
    files = {file.relative_to(old).as_posix() for file in old.rglob("*") if file.is_file()}
    return {name for name in files if (old / name).samefile(new / name)}


CHUNKS = {f"acquisition/data/c/{number}" for number in range(3)}


def test_a_file_is_cloned_where_that_can_be(sharing_disk):
    old, new = sharing_disk / "a.nwb", sharing_disk / "b.nwb"
    old.write_bytes(os.urandom(50 * MIB))
    os.sync()
    free = shutil.disk_usage(sharing_disk).free
    assert bytes_to_copy(old) == 0
    assert copy_output(old, new) == 0
    os.sync()
    assert free - shutil.disk_usage(sharing_disk).free < MIB
    content = old.read_bytes()
    with new.open("r+b") as stream:
        stream.write(b"changed")
    assert old.read_bytes() == content
    assert new.read_bytes() == b"changed" + content[7:]
    for file in (old, new):
        file.unlink()


@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
def test_a_clone_is_foreseen_where_every_file_has_a_name(sharing_disk):
    """So it is on NFS 4.2 before XFS."""
    old = sharing_disk / "named.nwb"
    old.write_bytes(os.urandom(MIB))
    before = sorted(sharing_disk.iterdir())

    def refuse_files_without_names(call):
        return errno.EOPNOTSUPP if call.name == "openat" and call.path == str(sharing_disk) else 0

    assert run_with_failures(lambda: bytes_to_copy(old), refuse_files_without_names) == 0
    assert sorted(sharing_disk.iterdir()) == before


def test_elsewhere_it_is_copied_with_its_holes(tmp_path, other_disk):
    old = tmp_path / "a.nwb"
    content = write_with_holes(old)
    for new in (tmp_path / "b.nwb", other_disk / "b.nwb"):
        copied = copy_output(old, new)
        assert new.read_bytes() == content
        # File systems cut at their blocks.
        assert copied <= 7 * MIB
        assert new.stat().st_blocks * 512 <= 7 * MIB


@pytest.mark.parametrize("size", [0, 1, MIB, 20 * MIB + 1])
def test_a_file_of_any_size_is_copied(tmp_path, other_disk, size):
    old = tmp_path / "a.nwb"
    old.write_bytes(os.urandom(size))
    for new in (tmp_path / "b.nwb", other_disk / "b.nwb"):
        assert copy_output(old, new) in (size, 0)
        assert new.read_bytes() == old.read_bytes()


def test_a_store_shares_its_chunks_and_none_of_its_documents(tmp_path):
    old, new = tmp_path / "a.nwb.zarr", tmp_path / "b.nwb.zarr"
    make_store(old)
    assert bytes_to_copy(old) == copy_output(old, new) == 3 * len("{}")
    assert contents(new) == contents(old)
    assert shared(old, new) == CHUNKS


def test_a_chunk_with_other_rights_is_copied_for_it_will_get_those_of_the_store(tmp_path):
    old, new = tmp_path / "a.nwb.zarr", tmp_path / "b.nwb.zarr"
    make_store(old)
    odd = old / "acquisition" / "data" / "c" / "1"
    odd.chmod(0o640 if odd.stat().st_mode & 0o777 != 0o640 else 0o600)
    copy_output(old, new)
    assert contents(new) == contents(old)
    assert shared(old, new) == CHUNKS - {"acquisition/data/c/1"}


@pytest.mark.parametrize("number", [errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EXDEV])
def test_what_cannot_be_linked_is_copied(tmp_path, monkeypatch, number):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    old, new = tmp_path / "a.nwb.zarr", tmp_path / "b.nwb.zarr"
    make_store(old)
    monkeypatch.setattr(os, "link", refuse)
    assert copy_output(old, new) == 3 * len("{}") + 3000
    assert contents(new) == contents(old)
    assert shared(old, new) == set()


def test_copying_ends_soon_when_it_shall(tmp_path, other_disk):
    asked = 0

    def stop() -> None:
        nonlocal asked
        asked += 1
        if asked > 1:
            raise ConversionStoppedError("stopped")

    old = tmp_path / "a.nwb"
    old.write_bytes(os.urandom(MIB))
    os.truncate(old, 300 * MIB)
    with old.open("r+b") as stream:
        stream.seek(200 * MIB)
        stream.write(os.urandom(MIB))
    with pytest.raises(ConversionStoppedError):
        copy_output(old, other_disk / "b.nwb", stop)


def test_nothing_is_copied_over_what_is_there(tmp_path):
    old, new = tmp_path / "a.nwb", tmp_path / "b.nwb"
    old.write_bytes(b"old")
    new.write_bytes(b"new")
    with pytest.raises(FileExistsError):
        copy_output(old, new)
    assert new.read_bytes() == b"new"
