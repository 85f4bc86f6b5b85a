"""ScanImage's settings: ``SI.name = value`` a line, values as MATLAB writes them."""

from __future__ import annotations

import json
import math
import re
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_provider_ophys.exceptions import SourceDataError
from airflow_provider_ophys.recordings.bounded_files import read_part
from airflow_provider_ophys.recordings.wholeness import not_whole

# What a BigTIFF of ScanImage has behind TIFF's own header: a mark, a version, the lengths of two texts.
HEADER = struct.Struct("<2sHHHQIIII")
BIG, MARK, VERSIONS = 43, 0x07030301, (3, 4)
# Settings have some 50 kB, and a line a few hundred bytes.
MOST_BYTES, LONGEST_LINE = 4 * 1024**2, 64 * 1024

NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+|Inf|NaN)", re.IGNORECASE)


@dataclass(frozen=True)
class Settings:
    """
    The settings of an acquisition.

    :param values: Values as they stand there, by name.
    :param roi_groups: What was scanned, as ScanImage's JSON says.
    """

    values: dict[str, str]
    roi_groups: dict[str, Any] = field(default_factory=dict)

    def text(self, name: str) -> str | None:
        """Return a value without quotes; ``None`` if it is not there."""
        value = self.values.get(name)
        return None if value is None else value.strip().strip("'")

    def texts(self, name: str) -> list[str]:
        """Return the texts of a cell array; one alone may stand without braces."""
        return re.findall(r"'([^']*)'", self.values.get(name, ""))

    def numbers(self, name: str) -> list[float]:
        """Return the numbers of a row, a column or a matrix, row by row; one alone may stand without brackets."""
        return [float(number) for number in NUMBER.findall(self.values.get(name, ""))]

    def number(self, name: str) -> float | None:
        """Return a finite number; ``None`` if the value is none."""
        numbers = self.numbers(name)
        return numbers[0] if len(numbers) == 1 and math.isfinite(numbers[0]) else None

    def positive(self, name: str) -> float | None:
        """Return a finite number above 0; ``None`` if the value is none."""
        number = self.number(name)
        return number if number is not None and number > 0 else None

    def count(self, name: str) -> int:
        """Return a whole number; 0 if the value is none, such as ``Inf``."""
        return int(self.number(name) or 0)

    def is_finite(self, name: str) -> bool:
        """Tell whether a value is a finite number."""
        return self.number(name) is not None

    def flag(self, name: str) -> bool:
        """Tell whether a value is true."""
        return self.values.get(name, "").strip().lower() in ("true", "1")


def read_settings(file: Path) -> Settings | None:
    """
    Read the settings in front of the pages of a BigTIFF; ``None`` if there are none.

    :raises SourceDataError: If they are not all in the file, or are no settings.
    """
    header = read_part(file, 0, HEADER.size)
    if len(header) < HEADER.size:
        return None
    order, tiff, _, _, _, mark, version, length, length_of_rois = HEADER.unpack(header)
    if order != b"II" or tiff != BIG or mark != MARK or version not in VERSIONS:
        return None
    if max(length, length_of_rois) > MOST_BYTES:
        raise SourceDataError(f"{file} announces settings of {length:,} bytes. It is damaged; copy it again.")
    settings = read_part(file, HEADER.size, length + length_of_rois)
    if len(settings) < length + length_of_rois:
        raise not_whole(file, f"its settings of {length + length_of_rois:,} bytes are not all in it")
    text, rois = settings[:length], settings[length:]
    return Settings(parse_settings(text.decode("utf-8", "replace"), file), _roi_groups(rois, file))


def parse_settings(text: str, file: Path) -> dict[str, str]:
    """
    Split lines into names and values, of any prefix.

    :raises SourceDataError: If a line is too long to be a setting.
    """
    values = {}
    for line in text.replace("\r", "\n").rstrip("\0").split("\n"):
        name, equals, value = line.partition("=")
        if len(line) > LONGEST_LINE:
            raise SourceDataError(
                f"{file} has a setting of {len(line):,} characters. It is damaged; copy it again."
            )
        if equals:
            values[name.strip()] = value.strip()
    return values


def _roi_groups(content: bytes, file: Path) -> dict[str, Any]:
    if not content.strip(b"\0 \n"):
        return {}
    try:
        groups = json.loads(content.rstrip(b"\0 \n").decode("utf-8", "replace")).get("RoiGroups")
    except (ValueError, AttributeError, RecursionError) as error:
        raise SourceDataError(
            f"What {file} says of its regions of interest is no JSON: {error}. It is damaged; copy it again."
        ) from error
    return groups if isinstance(groups, dict) else {}
