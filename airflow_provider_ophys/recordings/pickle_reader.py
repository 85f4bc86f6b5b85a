"""
An interpreter of pickles that makes data and nothing else.

It knows numbers, text, containers, dates, paths and plain arrays. Nothing that a pickle names is called: each name
stands for a function of this module, which looks at its arguments and builds the value itself. Time and memory are
bounded by the size of the file, and absolutely.
"""

from __future__ import annotations

import datetime as dt
import io
import pickle
import re
from collections.abc import Callable
from math import prod
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, BinaryIO

import numpy as np

# Far beyond what suite2p writes for one plane.
MOST_BYTES = 1 << 30
# Beyond the bytes of arrays and texts: one byte of a pickle may ask for a list, or for a place in its memory. The
# statistics of 40,000 ROIs, each with 20 fields, take as much.
MOST_OVERHEAD_BYTES = 512 << 20
OPERATION_BYTES, CONTAINER_BYTES = 10, 100
# Numbers and texts; no objects, no fields, nothing whose bytes would be taken for addresses.
PLAIN_TYPE = re.compile(r"b1|[iu][1248]|f(2|4|8|12|16)|c(8|16|24|32)|[SU]\d{1,6}")
OBJECT_TYPE = re.compile(r"O[48]?")
LARGEST_KEY, MOST_DIMENSIONS, LONGEST_PATH = 1 << 32, 32, 1 << 15
TIMES = (str, bytes, int, float, type(None), dt.timedelta, dt.timezone)


class NotDataError(pickle.UnpicklingError):
    """A pickle holds something else than data."""


def read_pickle(stream: BinaryIO, size: int) -> Any:
    """
    Read a pickle of data.

    :param stream: It stands where the pickle begins.
    :param size: Bytes of the file, for its limit.
    :raises NotDataError: If it holds anything else, or more than a sound one would.
    """
    if size > MOST_BYTES:
        raise NotDataError(f"it has {size:,} bytes; {MOST_BYTES:,} are read at most")
    return _DataReader(stream.read(MOST_BYTES)).load()


class _Name:
    """What stands for a name in a pickle: it can be called there, by the reader."""

    __slots__ = ("build", "name")

    def __init__(self, name: str, build: Callable[..., Any]) -> None:
        self.name = name
        self.build = build


class _DataReader(pickle._Unpickler):  # noqa: SLF001 - the compiled one calls what is named, and its memory has no bounds
    """Reads a pickle with those of its operations that make data."""

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="latin1")
        self.content = io.BytesIO(content)
        self.overhead_left = MOST_OVERHEAD_BYTES
        # Data is in the file once; a text of it may be wider in memory.
        self.bytes_left = 2 * len(content)

    def load(self) -> Any:
        """Do what the base does, without its frames and with a count."""
        self.read, self.readline = self.content.read, self.content.readline
        self.metastack: list[list[Any]] = []
        self.stack: list[Any] = []
        self.append = self.stack.append
        read, operations, overhead = self.content.read, OPERATIONS, 0
        while (code := read(1)) != pickle.STOP:
            number, load = operations.get(code, REFUSED)
            load(self)
            overhead += number
            if overhead > self.overhead_left:
                self.count_overhead(overhead)
        return self.stack.pop()

    def load_frame(self) -> None:
        self.read(8)

    def find_class(self, module: str, name: str) -> _Name:
        build = BUILDERS.get((module, name))
        if build is None:
            raise NotDataError(f"it refers to {str(module)[:80]}.{str(name)[:80]}, which is not data")
        return _Name(name, build)

    def load_reduce(self) -> None:
        arguments, named = self.stack.pop(), self.stack.pop()
        if type(named) is not _Name or type(arguments) is not tuple:
            raise NotDataError("it calls what is no name")
        try:
            self.append(named.build(self, *arguments))
        except TypeError as error:
            raise NotDataError(f"{named.name} in it is called with what is not data: {error}") from error

    def load_build(self) -> None:
        state, built = self.stack.pop(), self.stack[-1]
        if type(state) is tuple and type(built) is np.ndarray and built.shape == (0,):
            _fill_array(self, built, state)
        elif type(state) is tuple and isinstance(built, np.dtype):
            _set_byte_order(built, state)
        else:
            raise NotDataError(f"it sets the state of a {type(built).__name__}")

    def load_bytearray8(self) -> None:
        self.append(bytearray(self.read(int.from_bytes(self.read(8), "little"))))

    def load_append(self) -> None:
        value = self.stack.pop()
        _target(self, list).append(value)

    def load_appends(self) -> None:
        values = self.pop_mark()  # type: ignore[attr-defined]
        _target(self, list).extend(values)

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _target(self, dict)[_plain_key(key)] = value

    def load_setitems(self) -> None:
        values = self.pop_mark()  # type: ignore[attr-defined]
        items = _target(self, dict)
        for key, value in zip(values[::2], values[1::2], strict=True):
            items[_plain_key(key)] = value

    def count_overhead(self, number: int) -> None:
        self.overhead_left -= number
        if self.overhead_left < 0:
            raise NotDataError(f"it takes more than {MOST_OVERHEAD_BYTES:,} bytes of memory beside its data")

    def count_bytes(self, number: int) -> None:
        self.bytes_left -= number
        if self.bytes_left < 0:
            raise NotDataError("what it builds is larger than itself")


def _target(reader: _DataReader, kind: type) -> Any:
    if type(reader.stack[-1]) is not kind:
        raise NotDataError(f"it fills a {type(reader.stack[-1]).__name__} like a {kind.__name__}")
    return reader.stack[-1]


def _plain_key(key: Any) -> Any:
    """Let keys be those that nobody can choose so that a dict takes hours to fill."""
    if type(key) in (str, bytes, bool, type(None)) or (type(key) is int and abs(key) < LARGEST_KEY):
        return key
    raise NotDataError(f"it has a {type(key).__name__} as a key")


def _fill_array(reader: _DataReader, array: Any, state: tuple[Any, ...]) -> None:
    """Make an array what its state says: (version, shape, dtype, whether columns come first, content)."""
    if len(state) != 5:  # noqa: PLR2004
        raise NotDataError("it has an array whose state is none")
    _, shape, dtype, columns_first, content = state
    size = _size_of(shape)
    if isinstance(content, str):  # as Python 2 wrote it
        content = content.encode("latin1")
    if not isinstance(dtype, np.dtype):
        raise NotDataError("it has an array without a type")
    if dtype.hasobject:
        if type(content) is not list or len(content) != size:
            raise NotDataError("it takes bytes for objects")
        reader.count_overhead(size * OPERATION_BYTES)
    elif not isinstance(content, (bytes, bytearray)) or len(content) != size * dtype.itemsize:
        raise NotDataError(f"it has an array of {shape} whose content is of another size")
    else:
        reader.count_bytes(len(content))
    array.__setstate__((1, shape, dtype, bool(columns_first), content))


def _size_of(shape: Any) -> int:
    is_shape = type(shape) is tuple and len(shape) <= MOST_DIMENSIONS
    if not is_shape or any(type(length) is not int or not 0 <= length <= MOST_BYTES for length in shape):
        raise NotDataError("it has an array whose shape is none")
    return prod(shape)


def _set_byte_order(dtype: Any, state: tuple[Any, ...]) -> None:
    """Give a type its byte order; the rest of its state has to be what the type is anyway."""
    if len(state) != 8:  # noqa: PLR2004
        raise NotDataError("it has a type whose state is none")
    _, order, *structure, size, _, _ = state
    if order not in ("<", ">", "|", "=") or structure != [None] * 3 or size not in (-1, dtype.itemsize):
        raise NotDataError("it has a type of parts")
    if not dtype.hasobject:
        given = (size, -1 if size == -1 else dtype.alignment, dtype.flags)
        dtype.__setstate__((3, order, None, None, None, *given))


def _build_type(_: _DataReader, code: Any, *options: Any) -> np.dtype[Any]:
    is_known = isinstance(code, str) and (PLAIN_TYPE.fullmatch(code) or OBJECT_TYPE.fullmatch(code))
    if not is_known or len(options) > 2:  # noqa: PLR2004
        raise NotDataError(f"it has an array of {str(code)[:80]!r}, which are neither numbers nor texts")
    dtype: np.dtype[Any] = np.dtype(code, copy=True)
    return dtype


def _build_empty_array(_: _DataReader, kind: Any, shape: Any, code: Any) -> Any:
    if type(kind) is not _Name or kind.name != "ndarray" or shape != (0,) or code not in (b"b", "b"):
        raise NotDataError("it has an array of a class of its own")
    return np.empty((0,), "b")


def _build_array(  # noqa: PLR0917 - as NumPy passes them
    reader: _DataReader, content: Any, dtype: Any, shape: Any, order: Any, axes: Any = None
) -> Any:
    array = np.frombuffer(_plain_bytes(reader, content, dtype, _size_of(shape)), dtype)
    if order == "K" and axes is not None:
        return array.reshape(shape).transpose(axes)
    return array.reshape(shape, order=order)


def _build_scalar(reader: _DataReader, dtype: Any, content: Any) -> Any:
    if isinstance(content, str):  # as Python 2 wrote it
        content = content.encode("latin1")
    return np.ndarray((), dtype, _plain_bytes(reader, content, dtype, 1))[()]


def _plain_bytes(reader: _DataReader, content: Any, dtype: Any, size: int) -> Any:
    if not isinstance(dtype, np.dtype) or dtype.hasobject:
        raise NotDataError("it takes bytes for objects")
    if not isinstance(content, (bytes, bytearray)) or len(content) != size * dtype.itemsize:
        raise NotDataError(f"it has {size} values of {dtype} in content of another size")
    reader.count_bytes(len(content))
    return content


def _not_callable(*_: Any) -> None:
    raise NotDataError("it builds an array over memory of its choice")


def _build_bytes(reader: _DataReader, text: Any, encoding: Any) -> bytes:
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise NotDataError("it encodes what is no text")
    reader.count_bytes(len(text))
    return text.encode("latin1")


def _build_no_bytes(_: _DataReader, *content: Any) -> bytes:
    if content:
        raise NotDataError("it makes bytes of what is none")
    return b""


def _build_bytearray(reader: _DataReader, content: Any = b"", encoding: Any = None) -> bytearray:
    if encoding is not None:
        content = _build_bytes(reader, content, encoding)
    if type(content) is not bytes:
        raise NotDataError("it makes room for bytes that it does not have")
    reader.count_bytes(len(content))
    return bytearray(content)


def _build_dict(reader: _DataReader, items: Any = ()) -> dict[Any, Any]:
    """Build what was an ordered dict: its items follow, or are given as pairs by Python 2."""
    reader.count_overhead(len(items) * CONTAINER_BYTES)
    return {_plain_key(key): value for key, value in items}


def _build_complex(_: _DataReader, real: Any, imaginary: Any) -> complex:
    return complex(*(_number(part) for part in (real, imaginary)))


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        raise NotDataError("it has a number that is none")
    return float(value)


def _building_time(kind: Callable[..., Any]) -> Callable[..., Any]:
    def build(_: _DataReader, *parts: Any) -> Any:
        if any(type(part) not in TIMES for part in parts):
            raise NotDataError("it has a time that is none")
        return kind(*parts)

    return build


def _building_path(kind: Callable[..., Any]) -> Callable[..., Any]:
    def build(_: _DataReader, *parts: Any) -> Any:
        if any(type(part) is not str for part in parts) or sum(map(len, parts)) > LONGEST_PATH:
            raise NotDataError("it has a path that is none")
        return kind(*parts)

    return build


BUILDERS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "dtype"): _build_type,
    ("numpy", "ndarray"): _not_callable,
    ("_codecs", "encode"): _build_bytes,
    ("collections", "OrderedDict"): _build_dict,
}
for _package in ("numpy.core", "numpy._core"):
    BUILDERS[f"{_package}.multiarray", "_reconstruct"] = _build_empty_array
    BUILDERS[f"{_package}.multiarray", "scalar"] = _build_scalar
    BUILDERS[f"{_package}.numeric", "_frombuffer"] = _build_array
for _package in ("builtins", "__builtin__"):
    BUILDERS[_package, "bytes"] = _build_no_bytes
    BUILDERS[_package, "bytearray"] = _build_bytearray
    BUILDERS[_package, "complex"] = _build_complex
for _kind in ("date", "datetime", "time", "timedelta", "timezone"):
    BUILDERS["datetime", _kind] = _building_time(getattr(dt, _kind))
for _package in ("pathlib", "pathlib._local"):
    for _kind in ("Path", "PosixPath", "PurePath", "PurePosixPath"):
        BUILDERS[_package, _kind] = _building_path(PurePosixPath)
    for _kind in ("WindowsPath", "PureWindowsPath"):
        BUILDERS[_package, _kind] = _building_path(PureWindowsPath)

# Of the operations of a pickle those that data needs, and what each takes of memory beside what is in the file.
ALLOWED = {
    OPERATION_BYTES: (
        *("PROTO", "FRAME", "POP", "POP_MARK", "DUP", "NONE", "NEWTRUE", "NEWFALSE", "GLOBAL", "STACK_GLOBAL"),
        *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINGET", "LONG_BINGET"),
        *("SHORT_BINSTRING", "BINSTRING", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"),
        *("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "EMPTY_TUPLE", "APPEND", "APPENDS", "BUILD"),
    ),
    CONTAINER_BYTES: (
        *("MARK", "EMPTY_LIST", "EMPTY_DICT", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "REDUCE"),
        *("SETITEM", "SETITEMS", "BINPUT", "LONG_BINPUT", "MEMOIZE"),
    ),
}


def _refuse(reader: _DataReader) -> None:
    if reader.content.tell() == len(reader.content.getbuffer()):
        raise EOFError("it ends too early")
    raise NotDataError("it does what data does not need")


REFUSED = (0, _refuse)


def _loader(name: str) -> Callable[[Any], None]:
    inherited = pickle._Unpickler.dispatch[getattr(pickle, name)[0]]  # noqa: SLF001
    loader: Callable[[Any], None] = getattr(_DataReader, inherited.__name__)
    return loader


OPERATIONS = {
    getattr(pickle, name): (number, _loader(name)) for number, names in ALLOWED.items() for name in names
}
