"""
MATLAB's files of version 5, read with every length checked.

SciPy, which roiextractors reads them with, ends the process on some damaged ones. So a file is walked through here
first, all of it, and what does not fit is refused.
"""

from __future__ import annotations

import struct
import zlib
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from airflow_provider_ophys.recordings.bounded_files import read_bounded
from airflow_provider_ophys.recordings.wholeness import not_whole

HEADER_BYTES, MOST_BYTES, DEEPEST = 128, 64 * 1024 * 1024, 30
MATRIX, COMPRESSED = 14, 15
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16"}
CELL, STRUCT, OBJECT, CHAR, FUNCTION, OPAQUE = 1, 2, 3, 4, 16, 17
NUMERIC = range(6, 16)
COMPLEX_FLAG = 0x08


class MatError(ValueError):
    """A file does not fit together."""


def read_mat_file(file: Path) -> dict[str, Any]:
    """
    Read a MATLAB file of version 5.

    :param file: At most 64 MiB, also when its parts are decompressed.
    :returns: By variable: numbers as arrays, texts as str, a struct as a dict; ``None`` for all else.
    :raises SourceNotFoundError: If it does not exist.
    :raises SourceDataError: If it is no such file, damaged, or too large.
    :raises SourceChangedError: If it may still be growing.
    """
    content = read_bounded(file, MOST_BYTES)
    try:
        return _variables(content)
    except (MatError, struct.error, zlib.error, UnicodeDecodeError) as error:
        said = str(error)[:200]
        raise not_whole(file, f"it cannot be read as a MATLAB file of version 5 ({said})") from error


def _variables(content: bytes) -> dict[str, Any]:
    order = {b"IM": "<", b"MI": ">"}.get(content[126:HEADER_BYTES])
    if order is None or struct.unpack(f"{order}H", content[124:126])[0] != 0x0100:  # noqa: PLR2004
        raise MatError("its header is another")
    variables, offset, left = {}, HEADER_BYTES, MOST_BYTES
    while offset < len(content):
        kind, data, offset = _element(content, offset, order)
        if kind == COMPRESSED:
            decompressor = zlib.decompressobj()
            data = decompressor.decompress(data, max(left, 1))
            left -= len(data)
            if not decompressor.eof:
                raise MatError("a part is longer than it may be, or was cut off")
            kind, data, _ = _element(data, 0, order)
        if kind != MATRIX:
            raise MatError(f"a variable is of the type {kind}")
        name, value = _Matrix(data, order, 0).read()
        variables[name] = value
    return variables


def _element(content: bytes, offset: int, order: str) -> tuple[int, bytes, int]:
    """Return type and content of an element, and where the next one is."""
    (first,) = struct.unpack_from(f"{order}I", content, offset)
    if first >> 16:
        kind, size, start, end = first & 0xFFFF, first >> 16, offset + 4, offset + 8
        if size > 4:  # noqa: PLR2004 - so many fit
            raise MatError(f"a small element at byte {offset} has {size} bytes")
    else:
        (size,) = struct.unpack_from(f"{order}I", content, offset + 4)
        kind, start = first, offset + 8
        end = start + size + (0 if kind == COMPRESSED else -size % 8)
    if start + size > len(content):
        raise MatError(f"an element at byte {offset} has {size:,} bytes, and {len(content) - start:,} are there")
    return kind, content[start : start + size], end


class _Matrix:
    """An array of MATLAB, read from its elements one after the other."""

    def __init__(self, content: bytes, order: str, depth: int) -> None:
        if depth > DEEPEST:
            raise MatError(f"arrays are in each other more than {DEEPEST} deep")
        self.content, self.order, self.depth, self.offset = content, order, depth, 0

    def read(self) -> tuple[str, Any]:
        """Return name and value."""
        if not self.content:
            return "", np.empty(0)
        flags = self.numbers(6, 2)
        array_class, array_flags = int(flags[0]) & 0xFF, int(flags[0]) >> 8 & 0xFF
        if array_class == OPAQUE:
            name, _, _ = (self.text() for _ in range(3))
            self.nested()
            return name, None
        shape = tuple(int(length) for length in self.numbers(5))
        if len(shape) < 2 or min(shape) < 0 or prod(shape) > MOST_BYTES:  # noqa: PLR2004
            raise MatError(f"an array has the shape {shape}")
        return self.text(), self.value(array_class, shape, is_complex=bool(array_flags & COMPLEX_FLAG))

    def value(self, array_class: int, shape: tuple[int, ...], *, is_complex: bool) -> Any:
        if array_class in NUMERIC:
            return self.array(shape, is_complex=is_complex)
        if array_class == CHAR:
            return self.characters(shape)
        if array_class in (STRUCT, OBJECT):
            return self.fields(shape, is_object=array_class == OBJECT)
        if array_class in (CELL, FUNCTION):
            for _ in range(prod(shape) if array_class == CELL else 1):
                self.nested()
            return None
        raise MatError(f"an array is of the class {array_class}")

    def next(self) -> tuple[int, bytes]:
        kind, data, self.offset = _element(self.content, self.offset, self.order)
        return kind, data

    def numbers(self, kind: int, count: int | None = None) -> Any:
        found, data = self.next()
        if found != kind or len(data) % np.dtype(NUMBERS[kind]).itemsize:
            raise MatError(f"numbers of the type {kind} are of the type {found}, {len(data)} bytes")
        numbers = np.frombuffer(data, self.order + NUMBERS[kind])
        if count is not None and len(numbers) != count:
            raise MatError(f"there are {len(numbers)} numbers instead of {count}")
        return numbers

    def text(self) -> str:
        kind, data = self.next()
        if kind not in (1, 16):
            raise MatError(f"a name is of the type {kind}")
        return data.decode("utf-8" if kind != 1 else "latin-1")

    def array(self, shape: tuple[int, ...], *, is_complex: bool) -> Any:
        parts = []
        for _ in range(2 if is_complex else 1):
            kind, data = self.next()
            if kind not in NUMBERS or len(data) != prod(shape) * np.dtype(NUMBERS[kind]).itemsize:
                raise MatError(f"an array of {shape} has {len(data):,} bytes of the type {kind}")
            parts.append(np.frombuffer(data, self.order + NUMBERS[kind]).reshape(shape, order="F"))
        return None if is_complex else parts[0].squeeze()

    def characters(self, shape: tuple[int, ...]) -> str | None:
        kind, data = self.next()
        width = 2 if kind in (4, 17) else 1
        if kind not in TEXTS or (len(data) != prod(shape) * width and kind not in (16, 17)):
            raise MatError(f"a text of {shape} has {len(data):,} bytes of the type {kind}")
        coding = TEXTS[kind] + {"<": "-le", ">": "-be"}[self.order] if TEXTS[kind] == "utf-16" else TEXTS[kind]
        text = data.decode(coding)
        if len(text) != prod(shape):
            raise MatError(f"a text of {shape} has {len(text)} characters")
        return text if shape[0] in (0, 1) else None

    def fields(self, shape: tuple[int, ...], *, is_object: bool) -> dict[str, Any] | None:
        if is_object:
            self.text()
        (width,) = self.numbers(5, 1)
        kind, data = self.next()
        if kind != 1 or width <= 0 or len(data) % int(width):
            raise MatError(f"names of fields have {len(data)} bytes of the type {kind}, {width} each")
        names = [
            data[at : at + int(width)].split(b"\0")[0].decode("latin-1") for at in range(0, len(data), int(width))
        ]
        values = [self.nested() for _ in range(prod(shape)) for _ in names]
        return dict(zip(names, values, strict=True)) if prod(shape) == 1 and not is_object else None

    def nested(self) -> Any:
        kind, data = self.next()
        if kind != MATRIX:
            raise MatError(f"an array in another is of the type {kind}")
        return _Matrix(data, self.order, self.depth + 1).read()[1]
