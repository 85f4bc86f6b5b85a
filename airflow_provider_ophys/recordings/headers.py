"""Facts that stand in a recording's headers, gathered with where each stands, in the dict form of metadata."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from airflow_provider_ophys.models.metadata import DEFAULT_METADATA_KEY as KEY
from airflow_provider_ophys.models.metadata import PLACEHOLDERS, UNKNOWN_WAVELENGTH
from airflow_provider_ophys.models.metadata_sections import UNKNOWN
from airflow_provider_ophys.models.recording import HeaderMetadata

# Sections of the metadata by what they describe.
SECTIONS = {
    "device": ("Devices", KEY),
    "model": ("DeviceModels", KEY),
    "plane": ("Ophys", "ImagingPlanes", KEY),
    "series": ("Ophys", "MicroscopySeries", KEY),
}
LONGEST_TEXT = 10_000

Fact = str | float | int | Sequence[float] | Sequence[str] | None


class Headers:
    """What was found in headers so far; nothing is written down that they do not say."""

    def __init__(self) -> None:
        self._metadata: dict[str, Any] = {}
        self._sources: dict[str, str] = {}
        self._remarks: list[str] = []
        self._described: dict[str, list[str]] = {}

    def add(self, section: str, field: str, value: Fact, source: str) -> None:
        """
        Take down a fact; nothing if the headers do not have it: ``None``, an empty text, a number that is none.

        :param section: ``"NWBFile"``, ``"Subject"``, or one of :data:`SECTIONS`.
        :param field: A field that this section has.
        :param value: In NWB's unit: metres, seconds, hertz.
        :param source: Where it stands: a file's name, and the name that it has there.
        """
        clean = self._clean(value, source)
        if clean is not None:
            path = (*SECTIONS.get(section, (section,)), field)
            self._put(path, clean)
            self._sources[".".join(path)] = source

    def describe(self, section: str, label: str, value: Fact, source: str, unit: str = "") -> None:
        """
        Take down a fact for which NWB has no field: it becomes a part of the description.

        :param label: What it is: ``"Objective"``.
        :param unit: Written after the value.
        """
        clean = self._clean(value, source)
        if clean is None:
            return
        text = ", ".join(map(_spell, clean)) if isinstance(clean, list) else _spell(clean)
        parts = self._described.setdefault(section, [])
        parts.append(f"{label}: {text}{f' {unit}' if unit else ''}")
        path = (*SECTIONS.get(section, (section,)), "description")
        sources = [known for known in [self._sources.get(".".join(path))] if known]
        self._put(path, "; ".join(parts) + ".")
        self._sources[".".join(path)] = "; ".join(dict.fromkeys([*sources, source]))

    def start(self, moment: datetime | None, source: str) -> None:
        """Take down when the session started; without a zone it is remarked that it is the machine's."""
        if moment is None:
            return
        self.add("NWBFile", "session_start_time", moment.isoformat(), source)
        if moment.tzinfo is None:
            self.remark(
                f"session_start_time is {moment.isoformat()} in {source}, which names no time zone: it is that of "
                "the machine that recorded."
            )

    def channel(self, name: str | None, source: str) -> None:
        """Take down the name of the detection channel."""
        clean = self._clean(name, source)
        if clean is None:
            return
        channel = {"name": storable(str(clean)), "description": f'Channel "{clean}" of the recording.'}
        self._put((*SECTIONS["plane"], "optical_channel"), [channel | {"emission_lambda": UNKNOWN_WAVELENGTH}])
        self._sources[".".join((*SECTIONS["plane"], "optical_channel"))] = source

    def remark(self, sentence: str) -> None:
        """Say what is assumed or contradictory."""
        if sentence not in self._remarks:
            self._remarks.append(sentence)

    def result(self) -> HeaderMetadata:
        """
        Return all that was found.

        What NWB requires of a device or plane and no header says is filled in as not known, without a source; the
        series has only its facts, for naming it is not the headers' part.
        """
        planes = self._metadata.get("Ophys", {}).get("ImagingPlanes", {})
        if "Devices" in self._metadata or "DeviceModels" in self._metadata or planes:
            self._require("device", {"name": "Microscope"})
        if "DeviceModels" in self._metadata:
            self._require("model", {"name": UNKNOWN, "manufacturer": UNKNOWN})
            self._require("device", {"device_model_metadata_key": KEY})
        if planes or "Ophys" in self._metadata:
            required = ("excitation_lambda", "indicator", "location", "optical_channel")
            self._require("plane", {"name": "ImagingPlane", "device_metadata_key": KEY})
            self._require("plane", {field: PLACEHOLDERS[field] for field in required})
            self._require("device", {"name": "Microscope"})
            self._require("series", {"imaging_plane_metadata_key": KEY})
        return HeaderMetadata(metadata=self._metadata, sources=self._sources, remarks=self._remarks)

    def _clean(self, value: Fact, source: str) -> Any:
        """Return a fact as JSON has it, and remark if a text is too long to be one."""
        if isinstance(value, str) and len(value) > LONGEST_TEXT:
            self.remark(
                f"{source} has {len(value):,} characters, of which the first {LONGEST_TEXT:,} are written."
            )
            value = value[:LONGEST_TEXT]
        return _clean(value)

    def _require(self, section: str, fields: dict[str, Any]) -> None:
        place = self._place(SECTIONS[section])
        for field, value in fields.items():
            place.setdefault(field, value)

    def _put(self, path: tuple[str, ...], value: Any) -> None:
        self._place(path[:-1])[path[-1]] = value

    def _place(self, path: tuple[str, ...]) -> dict[str, Any]:
        place = self._metadata
        for name in path:
            place = place.setdefault(name, {})
        return place


def storable(name: str) -> str:
    """Return a name without what NWB does not allow in names."""
    return "".join("_" if character in "/\\:" else character for character in name).strip(". ") or UNKNOWN


def later(start: datetime | None, seconds: float) -> datetime | None:
    """Return a moment after the start; ``None`` if there is no start, or no such moment."""
    try:
        return start + timedelta(seconds=seconds) if start is not None else None
    except (OverflowError, ValueError):
        return None


def _clean(value: Fact) -> Any:
    """Return a fact as JSON has it; ``None`` for what is no fact: no text, not a number, infinitely many."""
    if isinstance(value, str):
        text = "".join(c for c in value if c in "\n\t" or (c.isprintable() and not "\ud800" <= c <= "\udfff"))
        return text.strip() or None
    if isinstance(value, (list, tuple)):
        cleaned = [_clean(item) for item in value]
        return cleaned if cleaned and None not in cleaned else None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _spell(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
