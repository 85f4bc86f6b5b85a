"""
Every number that the system may give, at every call on the output by which a conversion is written and published.

After a failure the old output is still at the path, and nothing beside it; the error is of the kind that
docs/safety.md has for that number, and puts nothing down to the recording. One of these numbers for each call, at
one place; ``OPHYS_FAILING_CALLS=100`` tries all, at so many places.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
import zlib
from collections import Counter
from pathlib import Path

import failing_calls
import h5py
import pytest
import zarr
from failing_calls import ProcessDiedError, run_with_failures, why_not
from movies import imaging, write_tiff
from test_system_errors import SORTED

from airflow_provider_ophys.conversion.run import convert_imaging
from airflow_provider_ophys.exceptions import OphysError
from airflow_provider_ophys.models.conversion import ImagingConversion
from demo.processes import SessionProcess

PLACES = int(os.environ.get("OPHYS_FAILING_CALLS", "0"))
NAMES = {"hdf5": "a.nwb", "zarr": "a.nwb.zarr"}
# Python and HDF5 do not tell why these failed: what cannot be looked at is not there, not ours or not writable.
SWALLOWED = {"access", "newfstatat", "lstat", "stat", "statx", "fstat", "lseek", "read", "pread64", "openat"}
OTHERWISE = {
    # CIFS says so of a lock that another holds.
    ("flock", "EACCES"): "OutputBusyError",
    ("flock", "EAGAIN"): "OutputBusyError",
}

pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]


def convert(movie, output, backend):
    conversion = ImagingConversion(**imaging(movie, output, backend=backend, if_exists="overwrite"))
    try:
        convert_imaging(conversion)
    except OphysError as error:
        return {"error": type(error).__name__, "retryable": error.retryable, "message": str(error)}
    return {}


def fresh(folder, old):
    """Put the old output into a folder that is otherwise empty; return its path."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (shutil.copytree if old.is_dir() else shutil.copy2)(old, folder / old.name)
    return folder / old.name


def content(path):
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}


def values(path):
    """All that is in an output, but for what tells one from another: its datasets and attributes."""
    found = {}

    def add(name, node):
        attributes = {key: str(value) for key, value in node.attrs.items() if key != "object_id"}
        found[name] = (attributes, str(node[()]) if hasattr(node, "shape") else None)

    if path.is_file():
        with h5py.File(path) as file:
            file.visititems(add)
    else:
        for name, node in zarr.open_group(path, mode="r").members(max_depth=None):
            add(name, node)
    return {name: value for name, value in found.items() if name not in {"identifier", "file_create_date"}}


def plan(counts, backend):
    """Which call fails, at which of so many places, with which number: others for each backend."""
    for call, count in sorted(counts.items()):
        shift = zlib.crc32(f"{backend} {call}".encode()) % len(SORTED)
        numbers = list(SORTED) if PLACES else [list(SORTED)[shift]]
        places = {place * count // max(PLACES, 1) for place in range(PLACES)} or {shift % count}
        yield from ((call, place, number) for place in sorted(places) for number in numbers)


@pytest.mark.parametrize("backend", NAMES)
def test_a_call_that_fails_leaves_the_old_output_and_the_error_of_the_table(tmp_path, backend):
    movie, old, folder = write_tiff(tmp_path / "movie.tif"), tmp_path / NAMES[backend], tmp_path / "out"
    assert convert(movie, old, backend) == {}
    before = content(old)
    counts = Counter()

    def count(call):
        counts[call.name] += call.path.startswith(str(folder))
        return 0

    output = fresh(folder, old)
    assert run_with_failures(lambda: convert(movie, output, backend), count) == {}
    sound = values(output)
    for name, place, number in plan(+counts, backend):
        seen = 0

        def fails(call, name=name, place=place, number=number):
            nonlocal seen
            if call.name != name or not call.path.startswith(str(folder)):
                return 0
            seen += 1
            return getattr(errno, number) if seen == place + 1 else 0

        fresh(folder, old)
        try:
            got = run_with_failures(lambda: convert(movie, output, backend), fails)
            died = None
        except ProcessDiedError as error:
            died = str(error)
        if died is not None:
            # HDF5 2 may end the process when it cannot read its own file back: nothing is published then.
            assert (backend, died, name in SWALLOWED) == ("hdf5", "SIGSEGV", True), (name, place, number)
            assert content(output) == before, (name, place, number)
            continue
        where = (name, place, number, got)
        if not got:
            # A call that need not succeed: the new output lacks nothing.
            assert values(output) == sound, where
            continue
        expected = {SORTED[number][1].__name__, OTHERWISE.get((name, number))}
        if name not in SWALLOWED:
            assert got["error"] in expected, where
        assert got["error"].startswith(("Output", "DiskSpace")), where
        assert "recording" not in got["message"].lower(), where
        assert str(folder) in got["message"], where
        # What failed after the old output was replaced has left the new one.
        assert output.exists(), where
        if name not in {"unlink", "unlinkat", "rmdir"} | SWALLOWED:
            assert content(output) == before, where
            assert {path.name for path in folder.iterdir()} <= {output.name, f".{output.name}.lock"}, where


def test_no_value_is_missing_because_one_write_failed(tmp_path):
    """HDF5 writes small values when their object is closed, where h5py can only print what failed."""
    movie, old, folder = write_tiff(tmp_path / "movie.tif"), tmp_path / "a.nwb", tmp_path / "out"
    assert convert(movie, old, "hdf5") == {}
    before, output, seen = content(old), fresh(folder, old), 0

    def fails(call):
        nonlocal seen
        if call.name != "pwrite64" or not call.path.startswith(str(folder)):
            return 0
        seen += 1
        return errno.ENOSPC if seen == place + 1 else 0

    place = -1
    assert run_with_failures(lambda: convert(movie, output, "hdf5"), fails) == {}
    for place in range(1, seen, max(1, seen // (PLACES or 6))):
        fresh(folder, old)
        seen = 0
        got = run_with_failures(lambda: convert(movie, output, "hdf5"), fails)
        assert got.get("error") == "DiskSpaceError", (place, got)
        assert content(output) == before, place


def test_memory_that_is_taken_before_anybody_answers_is_not_waited_for(tmp_path):
    """Of what hands calls over: when it is not so, tests stand still now and then."""
    code = """
import failing_calls
from array import array

def take_memory(*arguments):
    kept.append(bytearray(1 << 26))
    return array(*arguments)

kept, failing_calls.array = [], take_memory
assert failing_calls.run_with_failures(lambda: len(kept), lambda _: 0) == 1
"""
    tests = Path(failing_calls.__file__).parent
    command = [sys.executable, "-c", code]
    process = SessionProcess(command, environment=os.environ, log=tmp_path / "log", folder=tests)
    try:
        assert process.wait(60) == 0, process.log_tail()
    finally:
        process.kill()


@pytest.mark.parametrize("how", ["exchange", "steps"])
@pytest.mark.parametrize("backend", NAMES)
def test_what_was_replaced_and_cannot_be_removed_makes_no_failure_of_what_was_published(tmp_path, backend, how):
    movie, old, folder = write_tiff(tmp_path / "movie.tif"), tmp_path / NAMES[backend], tmp_path / "out"
    assert convert(movie, old, backend) == {}
    before, output, failed = content(old), fresh(folder, old), []
    stays, published = str(folder / "."), False

    def fails(call):
        nonlocal published
        if call.name == "renameat2" and call.path.startswith(stays):
            published = True
            return errno.EINVAL if how == "steps" else 0
        if published and call.name in {"unlink", "unlinkat", "rmdir"} and call.path.startswith(stays):
            if call.path.endswith((".lock", ".journal.part")):
                return 0
            failed.append(call.path)
            return errno.EIO
        return 0

    assert run_with_failures(lambda: convert(movie, output, backend), fails) == {}
    assert content(output) != before
    if (backend, how) != ("hdf5", "steps"):
        assert failed, "one of two files takes the place of the other, and nothing is left"
        assert len(list(folder.iterdir())) > 1
    published = failed.clear()
    assert convert(movie, output, backend) == {}
    assert [entry.name for entry in folder.iterdir()] == [output.name], "the next writer has removed it"


@pytest.mark.parametrize("backend", NAMES)
def test_an_old_output_that_a_share_gives_to_nobody_for_a_moment_is_not_taken_for_a_foreign_one(tmp_path, backend):
    """Python's own files take "try again" for the end of the file."""
    movie, old = write_tiff(tmp_path / "movie.tif"), tmp_path / NAMES[backend]
    assert convert(movie, old, backend) == {}
    output = fresh(tmp_path / "out", old)
    got = run_with_failures(
        lambda: convert(movie, output, backend),
        lambda call: errno.EAGAIN if call.name == "read" and call.path.startswith(str(output)) else 0,
    )
    assert got["error"].startswith("Output"), got
    assert got["retryable"], got
    assert content(output) == content(old)
