"""Headers that are XML: nothing in them may refer to anything outside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree as ET
from xml.parsers import expat

from airflow_provider_ophys.exceptions import SourceDataError, unreadable
from airflow_provider_ophys.recordings.recording import require_regular

# An index of a million frames has some 500 MB.
MOST_BYTES = 1024**3
DEEPEST = 100
PIECE_BYTES = 1024**2

Attributes = dict[str, str]


def parse_xml(text: str, where: str) -> ET.Element:
    """
    Parse a text into elements, whose names are without namespaces.

    :param where: Names it in a message.
    :raises SourceDataError: If it is no XML, has a document type, or is nested too deeply.
    """
    builder, depth = ET.TreeBuilder(), 0

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
    parser = _parser(where, "utf-8")
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, builder.data
    with _parsing(where):
        parser.Parse(text.encode("utf-8", "replace"), True)
    return builder.close()


def scan_xml(file: Path, on_start: Callable[[str, Attributes], None]) -> None:
    """
    Read an XML file from begin to end, handing over the name and the attributes of each element.

    :raises SourceNotFoundError: If there is no file.
    :raises SourceDataError: If it is no XML, has a document type, or lacks an attribute that ``on_start`` wants.
    """
    require_regular(file)
    if file.stat().st_size > MOST_BYTES:
        raise SourceDataError(f"{file} has {file.stat().st_size:,} bytes; a header has {MOST_BYTES:,} at most.")
    parser = _parser(str(file))
    parser.StartElementHandler = on_start
    with _parsing(str(file)), file.open("rb") as stream:
        while piece := stream.read(PIECE_BYTES):
            parser.Parse(piece)
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
