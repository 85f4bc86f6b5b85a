"""
The pages of a TIFF file: what the first one says, how many there are, and whether all are in the file.

Readers follow the chain of pages as far as they get. Of a file that was cut off, is still being written, or lies
on a share that fails, they see the pages before that and take them for all; so they are counted here. (Layout:
TIFF 6.0, section 2; BigTIFF has wider fields.) Files are read, not mapped: a map that a share no longer backs
kills the process.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from airflow_provider_ophys.exceptions import SourceDataError, unreadable
from airflow_provider_ophys.recordings.bounded_files import read_at
from airflow_provider_ophys.recordings.recording import require_regular
from airflow_provider_ophys.recordings.wholeness import not_whole

CLASSIC, BIG = 42, 43
COLUMNS, ROWS, BITS, IMAGE_DESCRIPTION, CHANNELS, SAMPLE_FORMAT = 256, 257, 258, 270, 277, 339
# Strips or tiles: where each begins, and how long it is.
OFFSETS, LENGTHS = (273, 324), (279, 325)
STRIP_ROWS, TILE_COLUMNS, TILE_ROWS = 278, 322, 323
MICROMANAGER = 51123
TEXTS = frozenset({IMAGE_DESCRIPTION, MICROMANAGER})
EXTENTS = frozenset({*OFFSETS, *LENGTHS})
WANTED = TEXTS | EXTENTS | {COLUMNS, ROWS, BITS, CHANNELS, SAMPLE_FORMAT, STRIP_ROWS, TILE_COLUMNS, TILE_ROWS}

FORMATS = {1: "B", 2: "B", 3: "H", 4: "I", 16: "Q"}
# Of a value of each type of field.
BYTES = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
KINDS = {1: "uint", 2: "int", 3: "float"}

# A page with its description is read at once where it can be.
WINDOW_BYTES = 4096
# Real pages have some twenty fields, a strip or a few hundred, and the longest description, OME-XML of 100,000
# frames, some 30 MB.
MOST_FIELDS = 4096
LONGEST_FIELD_BYTES, LONGEST_EXTENTS_BYTES, FEW_VALUES = 48 * 1024**2, 8 * 1024**2, 1024**2


@dataclass(frozen=True)
class Page:
    """
    One page.

    :param rows: Rows of pixels.
    :param columns: Columns of pixels.
    :param dtype: NumPy's name of the pixels' type.
    :param colours: Values per pixel: 3 of an RGB picture.
    :param description: Text of the image description.
    :param start: Where its pixels begin in the file.
    :param stop: Where its pixels end in the file.
    :param private: Text of Micro-Manager's own field.
    """

    rows: int
    columns: int
    dtype: str
    colours: int
    description: str
    start: int
    stop: int
    private: str


@dataclass(frozen=True)
class Pages:
    """The first and the last page of a file, and how many there are."""

    first: Page
    last: Page
    count: int


def is_tiff_name(name: str) -> bool:
    """Tell whether a file is a TIFF by its name, also of those that are named otherwise: ``.btf``, ``.tf8``."""
    return name.lower().endswith((".tif", ".tiff", ".btf", ".tf8"))


def read_first_page(file: Path) -> Page:
    """
    Read the first page of a file, and nothing of the others.

    :raises SourceDataError: If it is no TIFF file, or its first page is not all in it.
    """
    return next(iterate_pages(file))


def peek_first_page(file: Path) -> Page | None:
    """Read the first page of a file that may be none of a recording; ``None`` if it has no whole one."""
    try:
        return read_first_page(file)
    except SourceDataError:
        return None


def text_of_first_page(file: Path, tag: int) -> str:
    """
    Read a field of the first page as text; ``""`` if it is not there.

    :raises SourceDataError: If it is no TIFF file, or its first page is not all in it.
    """
    with _TiffFile.open(file) as tiff:
        try:
            fields, _ = tiff.read_fields(tiff.first, frozenset({tag}))
        except struct.error as error:
            raise not_whole(file, "its first page is, in part, beyond the end of the file") from error
    return _text(fields.get(tag, b""))


def read_pages(file: Path) -> Pages:
    """
    Follow the pages of a file to the end.

    :raises SourceDataError: If it is no TIFF file, has no pages, or was cut off; names the frame.
    """
    pages = iterate_pages(file)
    first = last = next(pages)
    count = 1
    for count, last in enumerate(pages, 2):  # noqa: B007 - the last of them is what is wanted
        pass
    return Pages(first, last, count)


def iterate_pages(file: Path) -> Iterator[Page]:
    """
    Yield the pages of a file, at least one; the description is that of each page.

    :raises SourceDataError: If it is no TIFF file, has no pages, or was cut off; names the frame.
    """
    with _TiffFile.open(file) as tiff:
        offset, seen = tiff.first, set[int]()
        while offset:
            try:
                fields, following = tiff.read_fields(offset, WANTED)
                page = _page(fields)
                _check_parts(file, len(seen), page, fields)
                is_whole = page.stop <= tiff.size and offset not in seen
            except struct.error:
                is_whole = False
            if not is_whole:
                raise not_whole(
                    file,
                    f"frame {len(seen)} (counted from 0) is, in part, beyond the end of the file at "
                    f"{tiff.size:,} bytes",
                )
            seen.add(offset)
            yield page
            offset = following
    if not seen:
        raise SourceDataError(f"{file} has no frames: it is a TIFF file without any page.")


def check_tiff(file: Path, *, by_page: bool) -> int:
    """
    Check that a TIFF file is whole, and return how many frames a reader finds in it.

    :param file: The file.
    :param by_page: Whether its reader takes each page for a frame; it then misses those that have no page.
    :raises SourceDataError: If it is no TIFF file, or was cut off; names the frame.
    """
    pages = read_pages(file)
    frames, size = _frames_behind(pages, file.stat().st_size), pages.first.stop - pages.first.start
    if frames == pages.count:
        return pages.count
    stop = pages.first.start + frames * size
    if stop > file.stat().st_size:
        raise not_whole(
            file,
            f"its description announces {frames} frames, which end at byte {stop:,}, but it has "
            f"{file.stat().st_size:,}",
        )
    if by_page:
        raise SourceDataError(
            f"{file} keeps {frames} frames behind a single TIFF page, of which this extractor sees only the "
            "first. Read it with TiffImagingExtractor."
        )
    return frames


def _frames_behind(pages: Pages, size: int) -> int:
    """
    Return how many frames a stack has that has one page only, as ImageJ writes big ones.

    Pages that were taken out of such a stack keep its description, and there is not even a second frame in them; a
    colour picture's description may have the rows where a stack's has the frames.
    """
    first = pages.first
    announced = _announced_frames(first.description) if pages.count == 1 and first.colours == 1 else 1
    has_a_second = size >= first.stop + (first.stop - first.start)
    return announced if announced > 1 and has_a_second else pages.count


def _announced_frames(description: str) -> int:
    """Return how many frames the description of ImageJ or tifffile announces, 1 if it says nothing."""
    imagej = re.match(r"ImageJ=.*?^images=(\d{1,9})", description, re.DOTALL | re.MULTILINE)
    shaped = re.match(r'\{"shape": \[(\d{1,9}), \d+, \d+\]', description)
    announced = imagej or shaped
    return int(announced[1]) if announced else 1


def _page(fields: dict[int, bytes | tuple[int, ...]]) -> Page:
    parts = list(_parts(fields))
    bits, kind = _number(fields, BITS, 1), KINDS.get(_number(fields, SAMPLE_FORMAT, 1), "uint")
    return Page(
        rows=_number(fields, ROWS, 0),
        columns=_number(fields, COLUMNS, 0),
        dtype="bool" if bits == 1 else f"{kind}{bits}",
        colours=_number(fields, CHANNELS, 1),
        description=_text(fields.get(IMAGE_DESCRIPTION, b"")),
        start=min((start for start, _ in parts), default=0),
        stop=max((start + size for start, size in parts), default=0),
        private=_text(fields.get(MICROMANAGER, b"")),
    )


def _number(fields: dict[int, bytes | tuple[int, ...]], tag: int, default: int) -> int:
    values = fields.get(tag)
    return int(values[0]) if values else default


def _text(value: object) -> str:
    return bytes(value).decode("utf-8", "replace").rstrip("\0") if isinstance(value, (bytes, tuple)) else ""


def _parts(fields: dict[int, bytes | tuple[int, ...]]) -> Iterator[tuple[int, int]]:
    for offsets, lengths in zip(OFFSETS, LENGTHS, strict=True):
        if offsets in fields and lengths in fields:
            yield from zip(fields[offsets], fields[lengths], strict=False)


def _check_parts(file: Path, frame: int, page: Page, fields: dict[int, bytes | tuple[int, ...]]) -> None:
    """
    Check that a page has as many strips or tiles as its pixels fill: readers make zeros of the others.

    :param frame: Number of the page, from 0.
    :raises SourceDataError: If it has fewer.
    """
    if TILE_COLUMNS in fields:
        down, across = _number(fields, TILE_ROWS, 1), _number(fields, TILE_COLUMNS, 1)
        wanted = -(-page.rows // max(down, 1)) * -(-page.columns // max(across, 1))
    else:
        wanted = -(-page.rows // max(_number(fields, STRIP_ROWS, page.rows), 1))
    # Their lengths are left out by some writers.
    found = max(len(fields.get(tag, ())) for tag in OFFSETS)
    if found < wanted:
        raise not_whole(
            file,
            f"frame {frame} (counted from 0), of {page.rows} x {page.columns} pixels, has {found} of its "
            f"{wanted} strips or tiles",
        )


@dataclass
class _TiffFile:
    """
    An open file: how wide its fields are, as struct formats with its byte order, and where its first page is.

    What is read is kept for what comes after it: the fields of a page, its description.
    """

    file: Path
    descriptor: int
    size: int
    order: str = "<"
    first: int = 0
    window: bytes = b""
    window_start: int = 0
    read_bytes: int = 0

    @classmethod
    def open(cls, file: Path) -> Self:
        require_regular(file)
        try:
            descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise unreadable(f"{file} cannot be opened: {error}. Check its permissions.", error) from error
        opened = cls(file, descriptor, os.fstat(descriptor).st_size)
        try:
            opened._read_header()
        except BaseException:
            os.close(descriptor)
            raise
        return opened

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)

    def _read_header(self) -> None:
        header = self.read(0, min(self.size, 16))
        order = {b"II": "<", b"MM": ">"}.get(header[:2])
        version = struct.unpack(f"{order}H", header[2:4])[0] if order and len(header) >= 8 else 0  # noqa: PLR2004
        if order is None or version not in (CLASSIC, BIG) or (version == BIG and len(header) < 16):  # noqa: PLR2004
            raise SourceDataError(
                f"{self.file} is no TIFF file: it begins with {header[:4]!r}. Check the path, and that it was "
                "copied completely."
            )
        self.order, is_big = order, version == BIG
        count, entry, offset = ("Q", "HHQ8s", "Q") if is_big else ("H", "HHI4s", "I")
        self.count, self.entry = struct.Struct(order + count), struct.Struct(order + entry)
        self.offset = struct.Struct(order + offset)
        (self.first,) = self.offset.unpack_from(header, 8 if is_big else 4)

    def read(self, offset: int, size: int) -> bytes:
        """
        Read bytes.

        :raises struct.error: If they are not all in the file.
        :raises SourceAccessError: If the disk or share fails.
        """
        if offset < 0 or offset + size > self.size:
            raise struct.error("beyond the end of the file")
        begin = offset - self.window_start
        if begin < 0 or begin + size > len(self.window):
            try:
                wanted = min(max(size, WINDOW_BYTES), self.size - offset)
                self.window = read_at(self.descriptor, offset, wanted)
            except OSError as error:
                raise unreadable(f"{self.file} cannot be read: {error}.", error) from error
            self.window_start, begin = offset, 0
        return self.window[begin : begin + size]

    def read_fields(self, offset: int, wanted: frozenset[int]) -> tuple[dict[int, bytes | tuple[int, ...]], int]:
        """Return the values of the wanted fields of a page, and the offset of the next page."""
        (count,) = self.count.unpack(self.read(offset, self.count.size))
        if count > MOST_FIELDS:
            raise struct.error("too many fields")
        size = count * self.entry.size
        entries = self.read(offset + self.count.size, size + self.offset.size)
        (following,) = self.offset.unpack_from(entries, size)
        fields: dict[int, bytes | tuple[int, ...]] = {}
        for tag, kind, number, inline in self.entry.iter_unpack(entries[:size]):
            # Also of those that only a reader wants.
            if number > FEW_VALUES:
                self._check_length(tag, number * BYTES.get(kind, 1))
            if tag in wanted:
                fields[tag] = self._values(kind, number, inline, is_text=tag in TEXTS)
        return fields, following

    def _check_length(self, tag: int, num_bytes: int) -> None:
        longest = LONGEST_EXTENTS_BYTES if tag in EXTENTS else LONGEST_FIELD_BYTES
        if num_bytes > longest:
            raise SourceDataError(
                f"{self.file} has a field (tag {tag}) of {num_bytes:,} bytes in a page, where {longest:,} are the "
                "most. It is damaged; copy it again."
            )

    def _values(self, kind: int, number: int, inline: bytes, *, is_text: bool) -> bytes | tuple[int, ...]:
        form = f"{self.order}{number}{FORMATS.get(kind, 'B')}"
        size = struct.calcsize(form)
        content = inline[:size] if size <= len(inline) else self.read(self.offset.unpack(inline)[0], size)
        self.read_bytes += size
        if self.read_bytes > self.size + LONGEST_FIELD_BYTES:
            raise SourceDataError(
                f"{self.file} has more in the fields of its pages than in all of it: many pages have the same "
                "long text. It is damaged; copy it again."
            )
        return content if is_text else struct.unpack(form, content)
