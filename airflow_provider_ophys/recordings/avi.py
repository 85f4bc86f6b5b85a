"""
How many frames an AVI file has, and whether all of them are there.

Readers take the number that the header announces. Of a file that was cut off, or never closed, there are fewer;
which shows in its index and in the sizes of its chunks. (Layout: RIFF, and OpenDML for files of more than 1 GB.)
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from airflow_provider_ophys.exceptions import SourceDataError
from airflow_provider_ophys.recordings.recording import require_regular
from airflow_provider_ophys.recordings.wholeness import not_whole

# A day at 30 frames a second has 2.6 million.
MOST_FRAMES = 4_000_000
LISTS = (b"RIFF", b"LIST")
INDEX_ENTRY = np.dtype([("chunk", "S4"), ("flags", "<u4"), ("offset", "<u4"), ("size", "<u4")])


@dataclass(frozen=True)
class AviMovie:
    """
    The movie in an AVI file.

    :param num_frames: Frames.
    :param rows: Of a frame.
    :param columns: Of a frame.
    """

    num_frames: int
    rows: int
    columns: int


@dataclass(frozen=True)
class _Chunk:
    """A chunk: its name (of a list, what it is a list of), and where its content begins and ends."""

    name: bytes
    start: int
    stop: int


@dataclass
class _Stream:
    number: int
    announced: int
    rows: int = 0
    columns: int = 0


def read_avi(file: Path) -> AviMovie:
    """
    Read the headers of an AVI file, and count its frames.

    :param file: The file.
    :raises SourceNotFoundError: If it does not exist.
    :raises SourceDataError: If it is no AVI file, has no movie, or was cut off; names counts.
    :raises SourceChangedError: If it may still be growing.
    """
    require_regular(file)
    with file.open("rb", buffering=0) as opened:
        descriptor, size = opened.fileno(), file.stat().st_size
        header = os.pread(descriptor, 12, 0)
        if header[:4] != b"RIFF" or header[8:] != b"AVI ":
            raise SourceDataError(f"{file} is no AVI file. Check the path, and that it was copied completely.")
        if not struct.unpack_from("<I", header, 4)[0]:
            raise not_whole(file, "its header has no length, so it was never closed")
        # Files of more than 1 GB go on in further parts, called AVIX.
        parts = [part for part in _chunks(file, descriptor, 0, size) if part.name in (b"AVI ", b"AVIX")]
        stream = _video_stream(file, descriptor, parts[0])
        found = sum(_count_frames(file, descriptor, part, stream) for part in parts)
    if found != stream.announced:
        raise not_whole(file, f"its header announces {stream.announced} frames, and there are {found}")
    return AviMovie(found, stream.rows, stream.columns)


def _chunks(file: Path, descriptor: int, start: int, stop: int) -> Iterator[_Chunk]:
    """Yield the chunks between two places in the file."""
    count = 0
    while start + 8 <= stop:
        header = os.pread(descriptor, 12, start)
        if len(header) < 8:  # noqa: PLR2004 - name and size
            raise not_whole(file, f"it ends at byte {start:,}, where a chunk begins")
        name, size = header[:4], struct.unpack_from("<I", header, 4)[0]
        content, end = start + 8, start + 8 + size
        if name in LISTS:
            name, content = header[8:12], start + 12
        if end > stop:
            raise not_whole(
                file, f"its part {name!r} at byte {start:,} ends at byte {end:,}, beyond byte {stop:,}"
            )
        yield _Chunk(name, content, end)
        start = end + size % 2
        count += 1
        if count > MOST_FRAMES:
            raise SourceDataError(f"{file} has more than {MOST_FRAMES:,} parts. Check that it is a movie.")


def _video_stream(file: Path, descriptor: int, riff: _Chunk) -> _Stream:
    """Return what the headers say of the first stream of pictures."""
    for header in _lists(file, descriptor, riff, b"hdrl"):
        for number, part in enumerate(_lists(file, descriptor, header, b"strl")):
            fields = {chunk.name: chunk for chunk in _chunks(file, descriptor, part.start, part.stop)}
            kind, form = (
                os.pread(descriptor, 40, fields[name].start) if name in fields else b""
                for name in (b"strh", b"strf")
            )
            if kind[:4] == b"vids" and len(kind) >= 36 and len(form) >= 12:  # noqa: PLR2004 - up to the fields read
                (announced,) = struct.unpack_from("<I", kind, 32)
                columns, rows = struct.unpack_from("<ii", form, 4)
                return _Stream(number, announced, abs(rows), abs(columns))
    raise SourceDataError(f"{file} has no movie in it. Check the path, and that it was copied completely.")


def _lists(file: Path, descriptor: int, within: _Chunk, name: bytes) -> Iterator[_Chunk]:
    for chunk in _chunks(file, descriptor, within.start, within.stop):
        if chunk.name == name:
            yield chunk


def _count_frames(file: Path, descriptor: int, riff: _Chunk, stream: _Stream) -> int:
    """Count the frames of a part of the file, by its index if it has one."""
    names = [b"%02d%s" % (stream.number, kind) for kind in (b"dc", b"db")]
    parts = {chunk.name: chunk for chunk in _chunks(file, descriptor, riff.start, riff.stop)}
    if b"idx1" in parts:
        index = parts[b"idx1"]
        if (index.stop - index.start) // INDEX_ENTRY.itemsize > 2 * MOST_FRAMES:
            raise SourceDataError(f"{file} has an index of more than {2 * MOST_FRAMES:,} entries. Copy it again.")
        content = os.pread(descriptor, index.stop - index.start, index.start)
        entries = np.frombuffer(content, INDEX_ENTRY, len(content) // INDEX_ENTRY.itemsize)
        return int(np.count_nonzero(np.isin(entries["chunk"], names) & (entries["size"] > 0)))
    if b"movi" not in parts:
        return 0
    return sum(
        chunk.name in names and chunk.stop > chunk.start
        for chunk in _movie_chunks(file, descriptor, parts[b"movi"])
    )


def _movie_chunks(file: Path, descriptor: int, movie: _Chunk) -> Iterator[_Chunk]:
    for chunk in _chunks(file, descriptor, movie.start, movie.stop):
        if chunk.name == b"rec ":
            yield from _chunks(file, descriptor, chunk.start, chunk.stop)
        else:
            yield chunk
