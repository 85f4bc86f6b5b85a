"""
Whether a TIFF file is whole: its chain of pages ends, and the pixels of each page are in the file.

Readers follow the chain as far as they get. Of a file that was cut off, or is still being written, they see the
pages before the cut and take them for all. (Layout: TIFF 6.0, section 2; BigTIFF has wider fields.)
"""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from airflow_provider_ophys.exceptions import SourceDataError
from airflow_provider_ophys.recordings.wholeness import not_whole

CLASSIC, BIG = 42, 43
IMAGE_DESCRIPTION = 270
# Strips or tiles: where each begins, and how long it is.
OFFSETS, LENGTHS = (273, 324), (279, 325)
WANTED = frozenset({IMAGE_DESCRIPTION, *OFFSETS, *LENGTHS})

FORMATS = {1: "B", 2: "B", 3: "H", 4: "I", 16: "Q"}


@dataclass(frozen=True)
class _Layout:
    """How wide the fields of a kind of TIFF are, as struct formats with the file's byte order."""

    count: struct.Struct
    entry: struct.Struct
    offset: struct.Struct
    order: str

    @classmethod
    def of(cls, order: str, version: int) -> _Layout:
        count, entry, offset = ("Q", "HHQ8s", "Q") if version == BIG else ("H", "HHI4s", "I")
        return cls(
            struct.Struct(order + count), struct.Struct(order + entry), struct.Struct(order + offset), order
        )


def is_tiff_name(name: str) -> bool:
    """Tell whether a file is a TIFF by its name, also of those that are named otherwise: ``.btf``, ``.tf8``."""
    return name.lower().endswith((".tif", ".tiff", ".btf", ".tf8"))


def check_tiff(file: Path, *, by_page: bool) -> None:
    """
    Check that a TIFF file is whole.

    :param file: The file.
    :param by_page: Whether its reader takes each page for a frame; it then misses those that have no page.
    :raises SourceDataError: If it is no TIFF file, or was cut off; names the frame.
    """
    with file.open("rb") as stream:
        header = stream.read(16)
        order = {b"II": "<", b"MM": ">"}.get(header[:2])
        version = struct.unpack(f"{order}H", header[2:4])[0] if order and len(header) >= 8 else 0  # noqa: PLR2004
        if order is None or version not in (CLASSIC, BIG) or (version == BIG and len(header) < 16):  # noqa: PLR2004
            raise SourceDataError(
                f"{file} is no TIFF file: it begins with {header[:4]!r}. Check the path, and that it was copied "
                "completely."
            )
        layout = _Layout.of(order, version)
        (first,) = layout.offset.unpack_from(header, 8 if version == BIG else 4)
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            _check_pages(file, content, layout, first, by_page=by_page)


def _check_pages(file: Path, content: mmap.mmap, layout: _Layout, first: int, *, by_page: bool) -> None:
    pages = 0
    seen: set[int] = set()
    frames, frame_start, frame_bytes = 1, 0, 0
    offset = first
    while offset:
        try:
            fields, following = _read_page(content, layout, offset)
            start, stop = _extent(fields)
        except struct.error:
            stop = len(content) + 1
        if stop > len(content) or offset in seen:
            raise not_whole(
                file,
                f"frame {pages} (counted from 0) is, in part, beyond the end of the file at "
                f"{len(content):,} bytes",
            )
        if pages == 0:
            frames, frame_start, frame_bytes = _announced_frames(fields), start, stop - start
        seen.add(offset)
        pages += 1
        offset = following
    if pages == 0:
        raise SourceDataError(f"{file} has no frames: it is a TIFF file without any page.")
    if pages == 1 < frames:
        _check_contiguous(file, len(content), frames, frame_start + frames * frame_bytes, by_page=by_page)


def _check_contiguous(file: Path, size: int, frames: int, stop: int, *, by_page: bool) -> None:
    """Check a stack that has one page only, followed by the pixels of all frames, as ImageJ writes big ones."""
    if stop > size:
        raise not_whole(
            file, f"its description announces {frames} frames, which end at byte {stop:,}, but it has {size:,}"
        )
    if by_page:
        raise SourceDataError(
            f"{file} keeps {frames} frames behind a single TIFF page, of which this extractor sees only the "
            "first. Read it with TiffImagingExtractor."
        )


def _read_page(content: mmap.mmap, layout: _Layout, offset: int) -> tuple[dict[int, tuple[int, ...]], int]:
    """Return the values of the wanted fields of a page, and the offset of the next page."""
    (count,) = layout.count.unpack_from(content, offset)
    begin = offset + layout.count.size
    end = begin + count * layout.entry.size
    (following,) = layout.offset.unpack_from(content, end)
    fields = {
        tag: _values(content, layout, kind, number, inline)
        for tag, kind, number, inline in layout.entry.iter_unpack(content[begin:end])
        if tag in WANTED
    }
    return fields, following


def _values(content: mmap.mmap, layout: _Layout, kind: int, number: int, inline: bytes) -> tuple[int, ...]:
    form = f"{layout.order}{number}{FORMATS.get(kind, 'B')}"
    if struct.calcsize(form) <= len(inline):
        return struct.unpack_from(form, inline)
    return struct.unpack_from(form, content, layout.offset.unpack(inline)[0])


def _extent(fields: dict[int, tuple[int, ...]]) -> tuple[int, int]:
    """Return where a page's pixels begin, and where they end."""
    parts = list(_parts(fields))
    return min((start for start, _ in parts), default=0), max((start + size for start, size in parts), default=0)


def _parts(fields: dict[int, tuple[int, ...]]) -> Iterator[tuple[int, int]]:
    for offsets, lengths in zip(OFFSETS, LENGTHS, strict=True):
        if offsets in fields and lengths in fields:
            yield from zip(fields[offsets], fields[lengths], strict=False)


def _announced_frames(fields: dict[int, tuple[int, ...]]) -> int:
    """Return how many frames the description of ImageJ or tifffile announces, 1 if it says nothing."""
    description = bytes(fields.get(IMAGE_DESCRIPTION, ())).decode("utf-8", "replace")
    imagej = re.match(r"ImageJ=.*?^images=(\d+)", description, re.DOTALL | re.MULTILINE)
    if imagej:
        return int(imagej[1])
    shaped = re.match(r'\{"shape": \[(\d+), \d+, \d+\]', description)
    return int(shaped[1]) if shaped else 1
