"""What NFS does otherwise than a local disk, where the kernel is made to answer so; see also tests/chaos."""

from __future__ import annotations

import errno
import os
import shutil
from types import SimpleNamespace

import pytest
from failing_calls import run_with_failures, why_not

from airflow_provider_ophys.exceptions import OutputExistsError
from airflow_provider_ophys.writing.network_shares import REMOVED, remove, sweep
from airflow_provider_ophys.writing.output_lock import output_lock
from airflow_provider_ophys.writing.replacement import move_to_nothing

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


@pytest.mark.parametrize("kind", ["file", "folder", "folder before a file"])
def test_what_another_host_makes_at_the_last_moment_is_not_replaced(tmp_path, kind):
    part, path = tmp_path / ".a.part.nwb", tmp_path / "a.nwb"
    if kind == "file":
        part.write_text("ours")
    else:
        (part / "c").mkdir(parents=True)

    def make_theirs(call):
        """The file system cannot look and rename at once; when it is asked for less, they are first."""
        if call.name == "renameat2":
            return errno.EINVAL
        if call.name in ("link", "linkat", "rename", "renameat") and not path.exists():
            if kind == "folder":
                path.mkdir()
                (path / "theirs").touch()
            else:
                path.write_text("theirs")
        return 0

    def move():
        with pytest.raises(OutputExistsError, match="was left as it is"):
            move_to_nothing(part, path)
        return True

    assert run_with_failures(move, make_theirs)
    assert (path / "theirs").exists() if kind == "folder" else path.read_text() == "theirs"
    assert part.exists(), "and ours is there too"


@pytest.mark.parametrize("link", [0, errno.EPERM])
def test_a_part_gets_its_name_with_links_and_without(tmp_path, link):
    part, path = tmp_path / ".a.part.nwb", tmp_path / "a.nwb"
    part.write_text("ours")
    fails = {"renameat2": errno.EINVAL, "link": link, "linkat": link}
    run_with_failures(lambda: move_to_nothing(part, path), lambda call: fails.get(call.name, 0))
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.nwb"]
    assert path.read_text() == "ours"
    assert path.stat().st_nlink == 1


def test_a_lock_file_that_another_host_removed_is_no_lock(tmp_path):
    asked = []

    def remove_it_once(call):
        if call.name in ("fstat", "newfstatat") and call.path.endswith(".a.nwb.lock") and not asked:
            asked.append(call)
            (tmp_path / ".a.nwb.lock").unlink()
            return errno.ESTALE
        return 0

    def take():
        with output_lock(tmp_path / "a.nwb"):
            return [entry.name for entry in tmp_path.iterdir()]

    assert run_with_failures(take, remove_it_once) == [".a.nwb.lock"]
    assert asked


def test_a_folder_that_cannot_go_while_somebody_reads_in_it_gets_out_of_the_way(tmp_path):
    store = tmp_path / ".a.part.nwb"
    for name in ("c/0", "c/1", "zarr.json", "other/zarr.json"):
        (store / name).parent.mkdir(parents=True, exist_ok=True)
        (store / name).touch()

    def keeps_open(call):
        return errno.EBUSY if call.name.startswith("unlink") and call.path.endswith("c/0") else 0

    run_with_failures(lambda: remove(store), keeps_open)
    (left,) = tmp_path.iterdir()
    assert REMOVED.fullmatch(left.name)
    assert [str(path.relative_to(left)) for path in sorted(left.rglob("*"))] == ["c", "c/0"]
    run_with_failures(lambda: sweep(tmp_path), keeps_open)
    assert left.exists(), "it is still open"
    (tmp_path / ".ophys-removed-by-me").mkdir()
    sweep(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == [".ophys-removed-by-me"]


def test_what_vanishes_while_it_is_removed_is_no_failure(tmp_path):
    (tmp_path / "store" / "c").mkdir(parents=True)
    (tmp_path / "store" / "c" / "0").touch()

    def vanishes(call):
        if call.name == "openat" and call.path.endswith("store/c"):
            shutil.rmtree(tmp_path / "store" / "c", ignore_errors=True)
        return 0

    run_with_failures(lambda: remove(tmp_path / "store"), vanishes)
    assert list(tmp_path.iterdir()) == []


def test_a_time_limit_that_ends_as_a_folder_is_closed_stays_one(tmp_path, monkeypatch):
    class TimeIsOverError(BaseException):
        pass

    closed = []

    def close_and_end(descriptor):
        os.close(descriptor)
        if not closed:
            closed.append(descriptor)
            raise TimeIsOverError

    (tmp_path / "store").mkdir()
    # A signal's handler runs between the call and the next line.
    monkeypatch.setattr(shutil, "os", SimpleNamespace(**{**vars(os), "close": close_and_end}))
    with pytest.raises(TimeIsOverError):
        remove(tmp_path / "store")
    assert closed
