"""Headers that are XML: nothing in them may refer to anything outside."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree as ET
from xml.parsers import expat

from airflow_provider_ophys.exceptions import SourceDataError, unreadable
from airflow_provider_ophys.models.documents import open_regular
from airflow_provider_ophys.recordings.bounded_files import read_at, read_bounded
from airflow_provider_ophys.recordings.recording import require_regular

# An index of a million frames has some 500 MB; it is read element by element.
MOST_BYTES, LONGEST_ELEMENT_BYTES = 1024**3, 4 * 1024**2
# What is kept in memory: OME-XML of 100,000 frames has some 30 MB, and three elements with 13 attributes for each.
LONGEST_XML, MOST_PARTS = 48 * 1024**2, 2_200_000
DEEPEST = 100
PIECE_BYTES = 1024**2

Attributes = dict[str, str]


def parse_xml(text: str, where: str) -> ET.Element:
    """
    Parse a text into elements, whose names are without namespaces.

    :param where: Names it in a message.
    :raises SourceDataError: If it is no XML, has a document type, is nested too deeply, or too large.
    """
    builder, depth = ET.TreeBuilder(), 0
    parts = text.count("<") + text.count("=")
    if len(text) > LONGEST_XML or parts > MOST_PARTS:
        raise SourceDataError(
            f"{where} has {len(text):,} characters, and {parts:,} elements and attributes; {LONGEST_XML:,} and "
            f"{MOST_PARTS:,} are the most. Check what it is, and copy it again."
        )

    def start(name: str, attributes: Attributes) -> None:
        nonlocal depth
        depth += 1
        if depth > DEEPEST:
            raise SourceDataError(f"{where} is nested more than {DEEPEST} deep. It is damaged; copy it again.")
        builder.start(name.rpartition(":")[2], attributes)

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(name.rpartition(":")[2])

    # Whatever encoding the text names, it is decoded already.
    parser, content = _parser(where, "utf-8"), memoryview(text.encode("utf-8", "replace"))
    parser.EndElementHandler, parser.CharacterDataHandler = end, builder.data
    with _parsing(where):
        pieces = (content[at : at + PIECE_BYTES] for at in range(0, len(content), PIECE_BYTES))
        _feed(parser, pieces, start, where)
    return builder.close()


def read_xml(file: Path) -> ET.Element:
    """
    Parse a file into elements, whose names are without namespaces.

    :raises SourceNotFoundError: If it does not exist.
    :raises SourceDataError: As :func:`parse_xml` does, or if it is no regular file.
    :raises SourceAccessError: If its disk or share fails.
    """
    return parse_xml(read_bounded(file, LONGEST_XML).decode("utf-8-sig", "replace"), str(file))


def scan_xml(file: Path, on_start: Callable[[str, Attributes], None]) -> None:
    """
    Read an XML file from begin to end, handing over the name and the attributes of each element.

    :raises SourceNotFoundError: If there is no file.
    :raises SourceDataError: If it is no XML, has a document type, or lacks an attribute that ``on_start`` wants.
    """
    require_regular(file)
    if file.stat().st_size > MOST_BYTES:
        raise SourceDataError(f"{file} has {file.stat().st_size:,} bytes; a header has {MOST_BYTES:,} at most.")
    with _parsing(str(file)), open_regular(file) as stream:
        num_bytes = os.fstat(stream.fileno()).st_size
        places = range(0, num_bytes, PIECE_BYTES)
        pieces = (read_at(stream.fileno(), at, min(PIECE_BYTES, num_bytes - at)) for at in places)
        _feed(_parser(str(file)), pieces, on_start, str(file))


def _feed(
    parser: expat.XMLParserType,
    pieces: Iterable[bytes | memoryview],
    on_start: Callable[[str, Attributes], None],
    where: str,
) -> None:
    """
    Parse pieces of an XML, in which elements follow each other.

    A long name, value, comment or text is looked at from its beginning with each piece that comes, by readers too.

    :raises SourceDataError: If no element begins for too long.
    """
    done = last = 0

    def start(name: str, attributes: Attributes) -> None:
        nonlocal last
        last = done
        on_start(name, attributes)

    parser.StartElementHandler = start
    for piece in pieces:
        parser.Parse(piece)
        done += len(piece)
        if done - last > LONGEST_ELEMENT_BYTES:
            raise SourceDataError(
                f"{where} has an element of more than {LONGEST_ELEMENT_BYTES:,} bytes. It is damaged; copy it "
                "again."
            )
    parser.Parse(b"", True)


def _parser(where: str, encoding: str | None = None) -> expat.XMLParserType:
    def refuse(*_: object) -> None:
        raise SourceDataError(f"{where} has a document type, which no microscope writes. Remove it.")

    parser = expat.ParserCreate(encoding)
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = refuse
    return parser


@contextmanager
def _parsing(where: str) -> Iterator[None]:
    try:
        yield
    except expat.ExpatError as error:
        raise SourceDataError(
            f"{where} is no whole XML: {error}. It was cut off or damaged; copy it again."
        ) from error
    except OSError as error:
        raise unreadable(f"{where} cannot be read: {error}.", error) from error
    except KeyError as error:
        raise SourceDataError(f"{where} lacks {error} in an element. It is damaged; copy it again.") from error
    except (ValueError, OverflowError, LookupError) as error:
        if isinstance(error, SourceDataError):
            raise
        raise SourceDataError(f"{where} has a value that makes no sense: {error}.") from error


def number(text: str | None) -> float | None:
    """Return a text as a number; ``None`` if it is none."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
