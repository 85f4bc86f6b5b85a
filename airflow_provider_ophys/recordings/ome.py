"""OME-XML: what the first page of an OME-TIFF, or a companion file, says of the files and pages of a recording."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from xml.etree.ElementTree import Element

from airflow_provider_ophys.exceptions import SourceDataError
from airflow_provider_ophys.recordings.recording import require_within
from airflow_provider_ophys.recordings.tiff_pages import read_first_page
from airflow_provider_ophys.recordings.xml_headers import number, parse_xml, read_xml

ORDERS = {f"XY{order}" for order in ("ZCT", "ZTC", "CZT", "CTZ", "TCZ", "TZC")}
SECONDS = {"s": 1.0, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9, "min": 60.0, "h": 3600.0}
METRES = {"m": 1.0, "cm": 1e-2, "mm": 1e-3, "µm": 1e-6, "um": 1e-6, "nm": 1e-9}

Position = tuple[int, int, int, int]


@dataclass
class OmePixels:
    """
    One image of an OME-XML.

    :param root: The whole XML.
    :param pixels: The element of this image.
    :param source: File in which the XML is.
    :param files: Files -> first time, plane, channel and page that is in each.
    :param pages: Files -> pages that each must have.
    """

    root: Element
    pixels: Element
    source: Path
    files: dict[Path, Position] = field(default_factory=dict)
    pages: dict[Path, int] = field(default_factory=dict)

    def size(self, axis: str) -> int:
        """Return the size along an axis: ``"X"``, ``"Y"``, ``"Z"``, ``"C"`` or ``"T"``."""
        return whole(self.pixels.get(f"Size{axis}"), f"Size{axis}", self.source)

    @property
    def order(self) -> str:
        """The order of the pages, the fastest first: ``"CZT"``."""
        return self.pixels.get("DimensionOrder", "").removeprefix("XY")

    @property
    def channels(self) -> list[str]:
        """Names of the channels; their numbers, from 0, if not all have one."""
        names = [channel.get("Name") for channel in self.pixels.iter("Channel")]
        known = [name for name in names if name is not None]
        return known if known and len(known) == len(names) else [str(index) for index in range(self.size("C"))]

    @property
    def time_increment(self) -> float | None:
        """Seconds from one time to the next; ``None`` if the XML does not say."""
        increment = number(self.pixels.get("TimeIncrement"))
        unit = SECONDS.get(self.pixels.get("TimeIncrementUnit", "s").replace("μ", "µ"))
        return increment * unit if increment and increment > 0 and unit else None

    @property
    def start(self) -> datetime | None:
        """When the image was acquired, as far as the XML says."""
        for name in ("AcquisitionDate", "AcquiredDate"):
            for element in self.root.iter(name):
                try:
                    return datetime.fromisoformat((element.text or "").strip())
                except ValueError:
                    continue
        return None

    def spacing(self, axis: str) -> float | None:
        """Return the distance of two pixels along an axis, in metres."""
        length = number(self.pixels.get(f"PhysicalSize{axis}"))
        unit = METRES.get(self.pixels.get(f"PhysicalSize{axis}Unit", "µm").replace("μ", "µ"))
        return length * unit if length and length > 0 and unit else None


def is_ome(description: str) -> bool:
    """Tell whether a page's description is OME-XML, as far as its beginning shows."""
    return "<OME" in description[:2000] or "<ome:OME" in description[:2000]


def read_ome(file: Path) -> OmePixels:
    """
    Read the OME-XML of a file, or of the companion file that it names.

    :raises SourceDataError: If it has none, or names files that lie elsewhere.
    """
    description = read_first_page(file).description
    if not is_ome(description):
        raise SourceDataError(f"{file} has no OME-XML in its first page. Give the first file of the recording.")
    root = parse_xml(_without_comment(description), f"The OME-XML of {file}")
    pixels, source = next(root.iter("Pixels"), None), file
    pointer = next(root.iter("BinaryOnly"), None)
    if pixels is None and pointer is not None:
        source = file.parent / pointer.get("MetadataFile", "")
        require_within(source, file.parent.resolve())
        root = read_xml(source)
        pixels = _pixels_with(root, file.name)
    if pixels is None:
        raise SourceDataError(f"The OME-XML of {file} describes no pixels. Check that it was copied completely.")
    if pixels.get("DimensionOrder") not in ORDERS:
        raise SourceDataError(f"The OME-XML of {source} gives no order of its pages (DimensionOrder).")
    return _with_files(OmePixels(root, pixels, source), file)


def whole(text: str | None, name: str, source: Path) -> int:
    """
    Return a text as a whole number above 0; 1 if there is none.

    :raises SourceDataError: If it is something else.
    """
    value = number("1" if text is None else text)
    if value is None or not 0 < value < 2**31 or value != int(value):
        raise SourceDataError(f"The OME-XML of {source} has {name}={text!r}, which is no whole number above 0.")
    return int(value)


def _with_files(ome: OmePixels, file: Path) -> OmePixels:
    """Note which pages of which files the XML refers to; it must not refer to what lies elsewhere."""
    root = file.parent.resolve()
    for data in ome.pixels.iter("TiffData"):
        identity = next(data.iter("UUID"), None)
        name = identity.get("FileName") if identity is not None else None
        path = file if name is None else file.parent / name
        if path not in ome.files and name is not None:
            require_within(path, root)
        place = [_index(data, name, ome.source) for name in ("FirstT", "FirstZ", "FirstC", "IFD")]
        position = (place[0], place[1], place[2], place[3])
        ome.files[path] = min(ome.files.get(path, position), position)
        # Without a count, the page is one; without page and count, all pages of the file.
        count = data.get("PlaneCount", "1" if data.get("IFD") is not None else None)
        pages = position[3] + whole(count, "PlaneCount", ome.source)
        ome.pages[path] = max(ome.pages.get(path, 0), pages)
    if not ome.files:
        ome.files[file] = (0, 0, 0, 0)
        ome.pages[file] = ome.size("Z") * ome.size("C") * ome.size("T")
    return ome


def _index(data: Element, name: str, source: Path) -> int:
    return whole(data.get(name), name, source) if data.get(name) not in (None, "0") else 0


def _without_comment(text: str) -> str:
    """Early OME-TIFFs have the XML in a comment."""
    begins_with_comment = text.lstrip().startswith("<!--")
    return text.replace("<!--", "").replace("-->", "").strip() if begins_with_comment else text.strip()


def _pixels_with(root: Element, name: str) -> Element | None:
    """Return the image to which a file belongs."""
    images = list(root.iter("Pixels"))
    named = [image for image in images if any(uuid.get("FileName") == name for uuid in image.iter("UUID"))]
    return images[0] if len(images) == 1 else named[0] if named else None
