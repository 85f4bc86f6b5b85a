"""What stands in the files that the Miniscope DAQ software writes beside its movies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from airflow_provider_ophys.exceptions import SourceDataError, SourceNotFoundError, unreadable
from airflow_provider_ophys.recordings.json_headers import read_json_object, scalar
from airflow_provider_ophys.recordings.recording import require_regular
from airflow_provider_ophys.recordings.wholeness import not_whole

if TYPE_CHECKING:
    from numpy.typing import NDArray

STAMPS, HEADER = "timeStamps.csv", "metaData.json"
STAMPS_COLUMN = "Time Stamp (ms)"
MOST_STAMPS_BYTES, MOST_STAMPS = 64 * 1024 * 1024, 4_000_000
# From so many of the first stamps, as roiextractors does; without intervals that deviate by this many deviations.
STAMPS_FOR_RATE, OUTLIER = 10_000, 3.0
START_PARTS = ("year", "month", "day", "hour", "minute", "second")
QUARTER, FARTHEST_ZONE = timedelta(minutes=15), timedelta(hours=15)


def read_stamps(file: Path) -> NDArray[np.float64]:
    """
    Read the stamps of the frames.

    :param file: ``timeStamps.csv``.
    :returns: Seconds from the start of the recording.
    :raises SourceDataError: If there is no such column, or a stamp is no number.
    """
    require_regular(file)
    if file.stat().st_size > MOST_STAMPS_BYTES:
        raise SourceDataError(f"{file} has {file.stat().st_size:,} bytes, too many for stamps. Check what it is.")
    try:
        with file.open(encoding="utf-8-sig") as stream:
            columns = [name.strip().strip('"') for name in stream.readline(1000).split(",")]
            column = columns.index(STAMPS_COLUMN) if STAMPS_COLUMN in columns else None
            rows = _Rows(stream) if column is not None else None
            first = next(rows, None) if rows else None
            stamps = np.empty(0)
            if rows and first is not None:
                stamps = np.loadtxt(chain([first], rows), delimiter=",", usecols=column, ndmin=1, comments=None)
    except (OSError, ValueError) as error:
        raise unreadable(f"{file} cannot be read: {str(error)[:200]}. Copy it again.", error) from error
    if column is None:
        raise SourceDataError(
            f"{file} has no column {STAMPS_COLUMN!r}, only {', '.join(columns)[:200]!r}. Take it from the "
            "Miniscope DAQ software again."
        )
    if rows and rows.last and not rows.last.endswith("\n") and rows.last.count(",") < len(columns) - 1:
        raise not_whole(file, f"its last line is {rows.last[:100]!r}, of which a part is missing")
    return np.asarray(stamps, dtype=np.float64) / 1000


class _Rows:
    """The lines of a table, one at a time: a hundred times as many as of a day take little memory."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines, self.last, self.count = iter(lines), "", 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        for line in self._lines:
            if not line.isspace():
                self.last, self.count = line, self.count + 1
                if self.count > MOST_STAMPS:
                    raise ValueError(f"it has more than {MOST_STAMPS:,} lines")
                return line
        raise StopIteration


def measured_rate(stamps: NDArray[np.float64]) -> float | None:
    """
    Return samples per second (Hz) by the mean interval of stamps, without those of dropped frames.

    :param stamps: Seconds; of fewer than two there is no rate.
    """
    intervals = np.diff(stamps[:STAMPS_FOR_RATE])
    if not intervals.size or not np.all(np.isfinite(intervals)):
        return None
    usual = intervals[np.abs(intervals - intervals.mean()) < OUTLIER * intervals.std()]
    # Intervals that are all alike do not deviate at all.
    mean = float((usual if usual.size else intervals).mean())
    return 1 / mean if mean > 0 else None


def start_of(header: Path) -> datetime | None:
    """
    Return when a session started, by its header: with a zone, if it tells that.

    The header has the parts of the machine's local time, and the milliseconds since 1970 in UTC; both together
    tell the zone.
    """
    content = read_json_object(header)
    parts = content.get("recordingStartTime", content)
    try:
        year, month, day, hour, minute, second = (int(parts[name]) for name in START_PARTS)
        microsecond = int(parts["msec"]) * 1000
        local = datetime(year, month, day, hour, minute, second, microsecond)  # noqa: DTZ001
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    try:
        absolute = datetime.fromtimestamp(float(parts["msecSinceEpoch"]) / 1000, UTC)
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        return local
    offset = QUARTER * round((local - absolute.replace(tzinfo=None)) / QUARTER)
    if abs(offset) > FARTHEST_ZONE:
        return local
    zoned = local.replace(tzinfo=timezone(offset))
    return zoned if abs(zoned - absolute) < timedelta(seconds=1) else local


def is_miniscope(folder: Path) -> bool:
    """Tell the folder of a Miniscope from that of a behaviour camera, by the headers."""
    try:
        device, session = (
            read_json_object(file) if file.is_file() else {} for file in (folder / HEADER, folder.parent / HEADER)
        )
    except (SourceDataError, SourceNotFoundError):
        return False
    named = session.get("miniscopes")
    if isinstance(named, list) and folder.name in {str(name).replace(" ", "_") for name in named}:
        return True
    kind = str(scalar(device, "deviceType") or folder.name)
    return "miniscope" in kind.lower() and (folder / STAMPS).is_file()


def region_of_interest(device: dict[str, Any]) -> str | None:
    """Return which part of the sensor is in the movie, by the device's header."""
    region = device.get("ROI")
    if not isinstance(region, dict):
        return None
    width, height, left, top = (scalar(region, name) for name in ("width", "height", "leftEdge", "topEdge"))
    return f"{width} x {height} pixels from column {left}, row {top}"
