"""What ScanImage's settings and frame descriptions say, as metadata."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from airflow_provider_ophys.recordings.headers import Headers
from airflow_provider_ophys.recordings.scanimage_settings import Settings

# Numbers of more digits are no frame's.
FRAME_NUMBER = re.compile(r"^frameNumberAcquisition\s*=\s*(\d{1,12})\s*$", re.MULTILINE)
EPOCH = re.compile(r"^epoch\s*=\s*\[([^\]\n]*)\]", re.MULTILINE)
FRAME_TIME = re.compile(r"^frameTimestamps?_sec\s*=\s*([-+.\deE]{1,30})", re.MULTILINE)
UM = 1e-6


def frame_number(description: str) -> int | None:
    """Return the number of a frame within its acquisition, from 1, as its page's description says."""
    number = FRAME_NUMBER.search(description)
    return int(number[1]) if number else None


def start_of(description: str) -> datetime | None:
    """Return when a page's frame was taken: the start of the acquisition, and the frame's time since then."""
    epoch, since = EPOCH.search(description), FRAME_TIME.search(description)
    if epoch is None:
        return None
    try:
        *parts, seconds = [float(part) for part in epoch[1].replace(",", " ").split()]
        year, month, day, hour, minute = (int(part) for part in parts)
        start = datetime(year, month, day, hour, minute)  # noqa: DTZ001 - the machine's zone, which it does not say
        return start + timedelta(seconds=seconds + (float(since[1]) if since else 0.0))
    except (ValueError, OverflowError):
        return None


def describe_microscope(headers: Headers, settings: Settings, file: str) -> None:
    """Take down what the microscope was, and what it was set to."""
    version = [settings.text(f"SI.VERSION_{part}") for part in ("MAJOR", "MINOR", "UPDATE")]
    headers.describe(
        "device",
        "Microscope controlled by ScanImage",
        ".".join(part for part in version if part),
        f"{file}: SI.VERSION_MAJOR",
    )
    for label, name, unit in (
        ("Imaging system", "SI.imagingSystem", ""),
        ("Scanner", "SI.hScan2D.scannerType", ""),
        ("Scanner frequency", "SI.hScan2D.scannerFrequency", "Hz"),
        ("Objective resolution", "SI.objectiveResolution", "um per degree of scan angle"),
    ):
        headers.describe("device", label, settings.text(name), f"{file}: {name}", unit)
    powers, name = settings.numbers("SI.hBeams.powers"), "SI.hBeams.powers"
    headers.describe("series", "Beam power", powers, f"{file}: {name}", "% of the most")
    for label, name in (
        ("Zoom", "SI.hRoiManager.scanZoomFactor"),
        ("Frames averaged for each that is stored", "SI.hScan2D.logAverageFactor"),
    ):
        headers.describe("series", label, settings.number(name), f"{file}: {name}")
    period = settings.positive("SI.hRoiManager.linePeriod")
    if period:
        headers.add("series", "scan_line_rate", 1 / period, f"{file}: SI.hRoiManager.linePeriod")
    else:
        rate, name = settings.positive("SI.hScan2D.scannerFrequency"), "SI.hScan2D.scannerFrequency"
        headers.add("series", "scan_line_rate", rate, f"{file}: {name}")


def describe_plane(
    headers: Headers, settings: Settings, file: str, columns_and_rows: tuple[int, int], *, planes: int
) -> None:
    """
    Take down how large the plane is and where it lies.

    :param columns_and_rows: Of the stored frames.
    :param planes: Of a volume; fewer than 2 for a plane.
    """
    size, source = _field_of_view(settings)
    step = settings.number("SI.hStackManager.stackZStepSize") if planes > 1 else None
    if size and all(columns_and_rows):
        spacing = [length * UM / pixels for length, pixels in zip(size, columns_and_rows, strict=True)]
        extent = [length * UM for length in size]
        if step:
            spacing, extent = [*spacing, abs(step) * UM], [*extent, abs(step) * UM * (planes - 1)]
            source += " and SI.hStackManager.stackZStepSize"
        headers.add("plane", "grid_spacing", spacing, f"{file}: {source}")
        headers.add("plane", "grid_spacing_unit", "meters", f"{file}: {source}")
        headers.add("series", "field_of_view", extent, f"{file}: {source}")
    for name in ("SI.hMotors.samplePosition", "SI.hMotors.motorPosition"):
        position = settings.numbers(name)
        if len(position) >= 3:  # noqa: PLR2004 - x, y, z
            headers.add("plane", "origin_coords", [value * UM for value in position[:3]], f"{file}: {name}")
            headers.add("plane", "origin_coords_unit", "meters", f"{file}: {name}")
            frame = "Position of the sample stage (x, y, z), at which the centre of the field of view lies."
            headers.add("plane", "reference_frame", frame, f"{file}: {name}")
            break
    depths = settings.numbers("SI.hStackManager.zs")
    if planes > 1 or any(depths):
        headers.describe("plane", "Depths of the planes", depths, f"{file}: SI.hStackManager.zs", "um")


def describe_channel(headers: Headers, settings: Settings, file: str, channel: tuple[int, str]) -> None:
    """
    Take down what detected a channel.

    :param channel: Its number, from 1, and its name.
    """
    number, name = channel
    headers.channel(name, f"{file}: SI.hChannels.channelName")
    gains, names = settings.numbers("SI.hPmts.gains"), settings.texts("SI.hPmts.names")
    if number <= len(gains):
        headers.add("series", "pmt_gain", gains[number - 1], f"{file}: SI.hPmts.gains")
    if number <= len(names):
        headers.describe("series", "Detector", names[number - 1], f"{file}: SI.hPmts.names")


def _field_of_view(settings: Settings) -> tuple[tuple[float, float] | None, str]:
    """Return width and height of what was scanned, in um, and where that stands."""
    corners = settings.numbers("SI.hRoiManager.imagingFovUm")
    if len(corners) == 8:  # noqa: PLR2004 - four corners
        size = max(corners[::2]) - min(corners[::2]), max(corners[1::2]) - min(corners[1::2])
        return (size if min(size) > 0 else None), "SI.hRoiManager.imagingFovUm"
    field, resolution = _scan_field(settings), settings.positive("SI.objectiveResolution")
    if field is None or resolution is None:
        return None, ""
    return (field[0] * resolution, field[1] * resolution), "sizeXY of the scan field and SI.objectiveResolution"


def _scan_field(settings: Settings) -> tuple[float, float] | None:
    """Return width and height of the only field that was scanned, in degrees of scan angle."""
    group = settings.roi_groups.get("imagingRoiGroup")
    rois = group.get("rois") if isinstance(group, dict) else None
    field = rois.get("scanfields") if isinstance(rois, dict) else None
    size = field.get("sizeXY") if isinstance(field, dict) else None
    if isinstance(size, list) and len(size) == 2 and all(isinstance(v, (int, float)) and v > 0 for v in size):  # noqa: PLR2004
        return float(size[0]), float(size[1])
    return None
