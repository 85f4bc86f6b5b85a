"""Pickles are data: what is sound is read as NumPy reads it, and all else is refused, without running it."""

from __future__ import annotations

import datetime as dt
import io
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path, PosixPath, PurePosixPath, PureWindowsPath

import numpy as np
import pytest
from numpy._core.multiarray import _reconstruct, scalar
from numpy._core.numeric import _frombuffer

from airflow_provider_ophys.exceptions import SourceChangedError, SourceDataError, SourceNotFoundError
from airflow_provider_ophys.extractors import open_segmentation
from airflow_provider_ophys.recordings import recording_of
from airflow_provider_ophys.recordings.pickles import check_pickle

MOST_MEBIBYTES = 700
LONG_AGO = 1_700_000_000
HEADER = {"descr": "|O", "fortran_order": False, "shape": ()}
NOW = dt.datetime(2026, 11, 22, 9, 30, 5, 17, tzinfo=dt.timezone(dt.timedelta(hours=1)))
SOUND = {
    "numbers": [1, -1, 2**40, 2**100, 0.5, float("inf"), True, None, 3 + 4j],
    "texts": ["", "Ø", "\U0001f400", b"\x00\xff", bytearray(b"abc")],
    "times": [NOW, NOW.date(), NOW.time(), dt.timedelta(1, 2, 3), dt.UTC],
    "path": PosixPath("/data/m1"),
    "nested": {"a": [{"b": (1, (2, [3]))}]},
    "scalars": [np.float32(1.5), np.int16(-3), np.bool_(1), np.complex64(1j), np.str_("ab"), np.bytes_(b"x")],
    "arrays": [np.zeros(kind) for kind in ((), (0,), (3,), (2, 0, 4), (2, 3, 4))],
    "types": [
        np.arange(4).astype(kind) for kind in ("?", "i1", ">i2", "<u4", "u8", "f2", ">f4", "f8", "c8", "c16")
    ],
    "columns first": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "text arrays": [np.array(["a", "bc"]), np.array([b"a", b"bc"])],
    "objects": np.array([{"x": np.arange(3)}, None, "text"], dtype=object),
}


def same(ours, theirs):
    """Compare with kinds, orders of bytes and axes, and whether they may be written to."""
    if isinstance(theirs, Path):
        return ours == PurePosixPath(theirs)
    if type(ours) is not type(theirs):
        return False
    if isinstance(theirs, dict):
        return list(ours) == list(theirs) and all(same(ours[key], theirs[key]) for key in theirs)
    if isinstance(theirs, np.ndarray):
        alike = (ours.dtype, ours.shape, ours.strides, ours.flags.writeable) == (
            *(theirs.dtype, theirs.shape, theirs.strides, theirs.flags.writeable),
        )
        return alike and all(map(same, ours.ravel().tolist(), theirs.ravel().tolist()))
    if isinstance(theirs, (list, tuple)):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    return ours == theirs


def write(path, content, *, protocol=4):
    """Write a NumPy file of one object, which is pickled by itself or already."""
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, HEADER)
        stream.write(content if isinstance(content, bytes) else pickle.dumps(content, protocol=protocol))
    os.utime(path, (LONG_AGO, LONG_AGO))
    return path


@pytest.mark.parametrize("value", SOUND.values(), ids=SOUND.keys())
def test_data_is_read_as_numpy_reads_it(tmp_path, value):
    file = tmp_path / "ops.npy"
    np.save(file, np.array({"value": value}, dtype=object), allow_pickle=True)
    assert same(check_pickle(file).item(), np.load(file, allow_pickle=True).item())


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_data_of_every_binary_protocol_is_read(tmp_path, protocol):
    content = pickle.dumps(np.array([SOUND], dtype=object), protocol=protocol)
    truth = pickle.loads(content, encoding="latin1")  # noqa: S301 - made here
    assert same(check_pickle(write(tmp_path / "stat.npy", content)), truth)


def test_data_of_python_2_is_read(tmp_path):
    """Its texts are bytes, and so is the content of its arrays; its names are those of then."""
    content = (
        b"\x80\x02}q\x00(U\x02fsG@$\x00\x00\x00\x00\x00\x00U\x03picq\x01cnumpy.core.multiarray\n_reconstruct\n"
        b"cnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNN"
        b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x08\x00\x00\x80?\x00\x00\x00@tbU\x01nc__builtin__\ncomplex\n"
        b"G?\xf0\x00\x00\x00\x00\x00\x00G@\x00\x00\x00\x00\x00\x00\x00\x86Ru."
    )
    options = check_pickle(write(tmp_path / "ops.npy", content))
    assert options.pop("pic").tolist() == [1.0, 2.0]
    assert options == {"fs": 10.0, "n": 1 + 2j}


def test_paths_of_another_system_are_read(tmp_path):
    content = pickle.dumps({"data_path": [PureWindowsPath(r"D:\data\m1")]}, protocol=4)
    content = content.replace(b"\x8c\x0fPureWindowsPath", b"\x8c\x0bWindowsPath")
    content = content[:2] + content[11:]  # without its frame, whose length is another now
    assert check_pickle(write(tmp_path / "ops.npy", content)) == {"data_path": [PureWindowsPath("D:/data/m1")]}


class Call:
    """Pickles as a call, with a state for what it returns."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


class Own:
    """An object of a class."""


def typed(code, *state):
    return Call(np.dtype, (code, False, True), state) if state else Call(np.dtype, (code, False, True))


ADDRESSES, EMPTY = b"\x41" * 16, (np.ndarray, (0,), b"b")
PARTS_OF_OBJECTS = typed("V8", 3, "|", None, ("a",), {"a": (typed("O"), 0)}, 8, 1, 0)
SEVEN = Call(_reconstruct, EMPTY, (1, (7,), np.dtype("f8"), False, b"12345678"))
FORGED = {
    "a command": Call(os.system, ("true",)),
    "an import": Call(__import__, ("antigravity",)),
    "an attribute": Call(getattr, ("", "join")),
    "an object": Own(),
    "an array over addresses": Call(np.ndarray, ((2,), typed("O"), ADDRESSES)),
    "addresses in a buffer": Call(_frombuffer, (ADDRESSES, typed("O"), (2,), "C")),
    "addresses as a state": Call(_reconstruct, EMPTY, (1, (2,), typed("O"), False, ADDRESSES)),
    "an address as a scalar": Call(scalar, (typed("O"), ADDRESSES[:8])),
    "parts of objects": Call(_frombuffer, (ADDRESSES, PARTS_OF_OBJECTS, (2,), "C")),
    "a type of another size": typed("f8", 3, "<", None, None, None, 1, 1, 0),
    "more than there is": SEVEN,
    "fewer objects than places": Call(_reconstruct, EMPTY, (1, (9,), np.dtype("O"), False, [1, 2])),
    "a negative shape": Call(_reconstruct, EMPTY, (1, (-1,), np.dtype("f8"), False, b"")),
    "a shape beyond all": Call(_reconstruct, EMPTY, (1, (2**62, 4), np.dtype("f8"), False, b"")),
    "a subclass of arrays": Call(_reconstruct, (np.matrix, (0,), b"b")),
    "room for bytes": Call(bytearray, (1 << 40,)),
    "another encoding": Call(__import__("_codecs").encode, ("a", "zlib")),
    "a time of something": Call(dt.datetime, ([],)),
    "a state of a dict": Call(dict, (), {"a": 1}),
    "a key that takes for ever": {(1, 2): 3},
}  # fmt: skip


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED.keys())
def test_what_is_not_data_is_refused(tmp_path, forged):
    with pytest.raises(SourceDataError, match=r"stat.npy .*(is not read: it|cannot be read)") as caught:
        check_pickle(write(tmp_path / "stat.npy", {"value": forged}))
    assert not caught.value.retryable
    assert len(str(caught.value)) < 1000


def test_numbers_that_say_that_they_are_objects_are_numbers(tmp_path):
    kind = typed("f8", 3, "<", None, None, None, -1, -1, 63)
    array = check_pickle(write(tmp_path / "stat.npy", Call(_frombuffer, (ADDRESSES, kind, (2,), "C"))))
    assert array.dtype == "f8"
    assert not array.dtype.hasobject


CALLED = []


def call_from_a_pickle():
    CALLED.append(True)
    return 5


def test_what_is_refused_is_read_where_the_platform_allows_it(tmp_path):
    file = write(tmp_path / "ops.npy", np.array([Call(call_from_a_pickle, ())], dtype=object))
    with pytest.raises(SourceDataError, match=r"call_from_a_pickle, which is not data.*\[ophys\] allow_pickle"):
        check_pickle(file)
    assert not CALLED
    assert check_pickle(file, allow_pickle=True).tolist() == [5]
    assert CALLED


def repeated(operation, count):
    return b"\x80\x04" + operation * count + b"."


MEGABYTE = b"X\x00\x00\x10\x00" + b"a" * (1 << 20) + b"\x94"
BOMBS = {
    "a place in memory beyond all": b"\x80\x04Nr\xff\xff\xff\xff.",
    "lists": repeated(b"]", 20_000_000),
    "sets": repeated(b"\x8f", 20_000_000),
    "marks": repeated(b"(", 20_000_000),
    "memos": b"\x80\x04N" + b"\x94" * 20_000_000 + b".",
    "a text beyond all": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 60) + b"a.",
    "bytes beyond all": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 36) + b"a.",
    "a frame beyond all": b"\x80\x04\x95" + struct.pack("<Q", 1 << 36) + b"N.",
    "one text many times": b"\x80\x04c_codecs\nencode\n\x94" + MEGABYTE + b"\x8c\x06latin1\x94"
    + b"h\x00h\x01h\x02\x86R" * 100_000 + b".",
    "one path many times": b"\x80\x04cpathlib\nPath\n\x94" + MEGABYTE + b"h\x00(" + b"h\x01" * 100_000 + b"tR.",
}  # fmt: skip
READER = """
import os, sys; from pathlib import Path
from airflow_provider_ophys.exceptions import SourceDataError
from airflow_provider_ophys.extractors import open_segmentation
from airflow_provider_ophys.recordings import recording_of
from airflow_provider_ophys.recordings.pickles import check_pickle
for file in sys.argv[1:]:
    child = os.fork()  # so that what they need is imported once
    if child:
        os.waitpid(child, 0)
        continue
    try:
        outcome = check_pickle(Path(file))
    except SourceDataError:
        outcome = "refused"
    status = Path("/proc/self/status").read_text()  # ru_maxrss begins with what the starting process held
    print(outcome, int(status.partition("VmHWM:")[2].split()[0]) // 1024, flush=True)
    os._exit(0)
"""


def test_what_would_fill_the_memory_does_not(tmp_path):
    files = []
    for name, bomb in BOMBS.items():
        (tmp_path / name).mkdir()
        files.append(write(tmp_path / name / "ops.npy", bomb))
    command = [sys.executable, "-c", READER, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    told = [line.split() for line in done.stdout.splitlines()]
    assert len(told) == len(BOMBS), done.stderr[-1000:]
    for name, (outcome, mebibytes) in zip(BOMBS, told, strict=True):
        assert outcome in ("refused", "None"), name
        assert int(mebibytes) < MOST_MEBIBYTES, name


def test_a_file_that_is_cut_off_is_damaged_or_still_growing(tmp_path):
    stream = io.BytesIO()
    np.save(stream, np.array([SOUND], dtype=object), allow_pickle=True)
    content, file = stream.getvalue(), tmp_path / "stat.npy"
    for length in (0, 5, 60, 200, len(content) - 1):
        file.write_bytes(content[:length])
        with pytest.raises(SourceChangedError, match="stat.npy is not whole"):
            check_pickle(file)
        os.utime(file, (LONG_AGO, LONG_AGO))
        with pytest.raises(SourceDataError, match="stat.npy is not whole: it cannot be read") as caught:
            check_pickle(file)
        assert not caught.value.retryable


def test_a_pipe_and_what_is_not_there_are_said(tmp_path):
    os.mkfifo(tmp_path / "ops.npy")
    with pytest.raises(SourceDataError, match="is no regular file but a named pipe"):
        check_pickle(tmp_path / "ops.npy")
    with pytest.raises(SourceNotFoundError):
        check_pickle(tmp_path / "stat.npy")


def test_a_dataset_of_sima_is_refused_unless_it_may_run(tmp_path):
    folder = tmp_path / "cells.sima"
    folder.mkdir()
    (folder / "dataset.pkl").write_bytes(pickle.dumps({}))
    arguments = {"file_path": str(folder)}
    with pytest.raises(SourceDataError, match=r"cells.sima is not read: .*allow_pickle = True"):
        open_segmentation("Sima", arguments)
    recording_of("segmentation", "Sima", arguments, allow_pickle=True).check()
