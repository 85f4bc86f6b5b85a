"""What PrairieView's index says, as metadata."""

from __future__ import annotations

from datetime import datetime

from airflow_provider_ophys.models.recording import HeaderMetadata
from airflow_provider_ophys.recordings.bruker_index import BrukerIndex
from airflow_provider_ophys.recordings.headers import Headers
from airflow_provider_ophys.recordings.tiff_pages import Page
from airflow_provider_ophys.recordings.xml_headers import number

UM = 1e-6
# PrairieView writes dates as the machine's language has them; in the United States, the month comes first.
MONTH_FIRST = ("%m/%d/%Y %I:%M:%S %p", "%m/%d/%Y %H:%M:%S")
DAY_FIRST = ("%d/%m/%Y %H:%M:%S", "%d/%m/%Y %I:%M:%S %p", "%d.%m.%Y %H:%M:%S")
YEAR_FIRST = ("%Y-%m-%d %H:%M:%S", "%Y/%m/%d %H:%M:%S")
NOON = 12


def start_of_day(index: BrukerIndex) -> tuple[datetime, bool] | None:
    """Return when the recording started, and whether month and day might be the other way round."""
    text = index.attributes.get("date", "")
    for form in (*MONTH_FIRST, *DAY_FIRST, *YEAR_FIRST):
        try:
            moment = datetime.strptime(text.strip(), form)  # noqa: DTZ007 - the machine's zone, which it does not say
        except ValueError:
            continue
        return moment, form in MONTH_FIRST and moment.day <= NOON and moment.day != moment.month
    return None


def describe(index: BrukerIndex, file: str, page: Page, channel: int | None) -> HeaderMetadata:
    """
    Tell what the index says.

    :param file: Its name.
    :param page: Of a frame.
    :param channel: Number of the channel that is read; ``None`` if it may be any.
    """
    headers = Headers()
    start = start_of_day(index)
    if start:
        headers.start(start[0], f"{file}: date")
        if start[1]:
            date = index.attributes["date"]
            headers.remark(f"The date {date!r} in {file} was read with the month first, as PrairieView writes it.")
    _describe_microscope(headers, index, file)
    _describe_plane(headers, index, file, page)
    if channel is not None:
        headers.channel(index.channels[channel], f"{file}: channelName")
        gain = index.text("pmtGain", str(channel - 1))
        headers.add("series", "pmt_gain", number(gain), f"{file}: pmtGain")
    return headers.result()


def _describe_microscope(headers: Headers, index: BrukerIndex, file: str) -> None:
    headers.add("device", "manufacturer", "Bruker", f"{file}: PVScan")
    version = index.attributes.get("version")
    headers.describe("device", "Microscope controlled by PrairieView", version, f"{file}: version")
    for system in index.systems:
        whole = "Description" not in system
        headers.add("device", "serial_number", system.get("SystemID") if whole else None, f"{file}: SystemIDs")
        headers.describe("device", "System", system.get("Description"), f"{file}: SystemID")
        headers.describe("device", "Number", None if whole else system.get("SystemID"), f"{file}: SystemID")
    for label, name in (
        ("Objective", "objectiveLens"),
        ("Magnification", "objectiveLensMag"),
        ("Numerical aperture", "objectiveLensNA"),
    ):
        headers.describe("device", label, index.text(name), f"{file}: {name}")
    for label, name, unit in (
        ("Zoom", "opticalZoom", ""),
        ("Dwell time", "dwellTime", "us"),
        ("Bits per pixel", "bitDepth", ""),
    ):
        headers.describe("series", label, index.text(name), f"{file}: {name}", unit)
    for value in index.state.get("laserPower", []):
        label = f"Power of {value.description or 'the laser'}"
        headers.describe("series", label, value.value, f"{file}: laserPower", "(PrairieView's units)")
    line = number(index.text("scanLinePeriod"))
    headers.add("series", "scan_line_rate", 1 / line if line and line > 0 else None, f"{file}: scanLinePeriod")
    headers.describe("series", "Notes", index.attributes.get("notes"), f"{file}: notes")


def _describe_plane(headers: Headers, index: BrukerIndex, file: str, page: Page) -> None:
    wavelength = number(index.text("laserWavelength"))
    headers.add("plane", "excitation_lambda", wavelength, f"{file}: laserWavelength")
    headers.add("plane", "imaging_rate", index.rate, f"{file}: relativeTime of the frames")
    pixel = [number(index.text("micronsPerPixel", axis)) for axis in ("XAxis", "YAxis", "ZAxis")]
    position = [number(index.text("positionCurrent", axis)) for axis in ("XAxis", "YAxis", "ZAxis")]
    depths = _depths(index)
    x, y, z = pixel
    if index.num_planes > 1 and len(depths) > 1:
        z = abs(depths[-1] - depths[0]) / (len(depths) - 1) or z
    if x and y:
        spacing, extent = [x * UM, y * UM], [x * UM * page.columns, y * UM * page.rows]
        if index.num_planes > 1 and z:
            spacing, extent = [*spacing, z * UM], [*extent, z * UM * (index.num_planes - 1)]
        headers.add("plane", "grid_spacing", spacing, f"{file}: micronsPerPixel")
        headers.add("plane", "grid_spacing_unit", "meters", f"{file}: micronsPerPixel")
        headers.add("series", "field_of_view", extent, f"{file}: micronsPerPixel")
    if position[0] is not None and position[1] is not None:
        known = [value * UM for value in position if value is not None]
        headers.add("plane", "origin_coords", known, f"{file}: positionCurrent")
        headers.add("plane", "origin_coords_unit", "meters", f"{file}: positionCurrent")
        headers.add(
            "plane", "reference_frame", "Position of the microscope (x, y, z).", f"{file}: positionCurrent"
        )
    for value in index.state.get("positionCurrent", []):
        if value.index == "ZAxis":
            label = f"Depth by {value.description or 'the z axis'}"
            headers.describe("plane", label, value.value, f"{file}: positionCurrent", "um")
    headers.describe("plane", "Depths of the planes", depths, f"{file}: positionCurrent of the frames", "um")


def _depths(index: BrukerIndex) -> list[float]:
    """Return the depth of each plane, by the axis that moves from one to the next."""
    columns = list(zip(*(plane for plane in index.planes if plane), strict=False))
    moving = [list(column) for column in columns if len(set(column)) > 1]
    return moving[0] if moving else []
