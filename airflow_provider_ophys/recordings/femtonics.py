"""
Recordings of Femtonics' MESc software: HDF5 files with sessions, in these units, in these a movie a channel.

Texts are arrays of numbers, a character each; what was set for the scan is XML in an attribute.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np

from airflow_provider_ophys.exceptions import SourceDataError, SourceNotFoundError
from airflow_provider_ophys.models.folder_contents import matching
from airflow_provider_ophys.models.recording import Contents, FoundRecording, HeaderMetadata, Movie
from airflow_provider_ophys.recordings.hdf5_movie import Hdf5File
from airflow_provider_ophys.recordings.hdf5_references import member, open_hdf5
from airflow_provider_ophys.recordings.headers import Headers
from airflow_provider_ophys.recordings.wholeness import not_whole

EXTRACTOR = "FemtonicsImagingExtractor"
SESSION, UNIT = "MSession_", "MUnit_"
MICROMETRE = 1e-6
LONGEST_XML = 8 * 1024 * 1024


class FemtonicsRecording(Hdf5File):
    """One channel of one unit."""

    @classmethod
    def find(cls, folder: Path) -> list[FoundRecording]:
        """Find every unit of every session in ``.mesc`` files; a channel is chosen by :meth:`contents`."""
        found = []
        for file in matching(folder, "*.mesc"):
            recording = cls(EXTRACTOR, {"file_path": str(file)})
            try:
                units = recording.units
            except (SourceDataError, SourceNotFoundError):
                continue
            for session, unit in units:
                kwargs = {"file_path": str(file)}
                if len(units) > 1:
                    kwargs |= {"session_name": session, "munit_name": unit}
                found.append(FoundRecording(kind="imaging", extractor=EXTRACTOR, extractor_kwargs=kwargs))
        return found

    def check(self) -> None:
        """
        Check that the unit has as many frames as it says, and that its times are in milliseconds.

        :raises SourceDataError: If not; names session, unit and counts.
        :raises SourceChangedError: If it may still be growing.
        """
        for name, shape, _ in self.channels:
            announced = self.number("ZDim")
            if announced is not None and shape[0] < announced:
                raise not_whole(
                    self.file, f"{self.where} announces {announced:.0f} frames, and {name} has {shape[0]}"
                )

    def contents(self) -> Contents:
        """Tell of the movie of each channel, or of the one that is chosen."""
        chosen = self.arguments.get("channel_name")
        session, unit = self.unit
        movies = []
        for name, (samples, rows, columns), dtype in self.channels:
            if chosen in (None, name):
                arguments = dict(self.arguments) | {"channel_name": name}
                if len(self.units) > 1:
                    arguments |= {"session_name": session, "munit_name": unit}
                movies.append(
                    Movie(
                        extractor_kwargs=arguments,
                        channel=name,
                        num_samples=samples,
                        sample_shape=(rows, columns),
                        dtype=dtype,
                        rate=self.rate,
                        start=self.start,
                        duration=samples / self.rate if self.rate else None,
                    )
                )
        if not movies:
            known = ", ".join(name for name, _, _ in self.channels)
            raise SourceDataError(f"{self.where} has no channel {chosen!r}, only {known}. Correct channel_name.")
        return Contents(movies=movies, photon_series_type="TwoPhotonSeries")

    def metadata(self) -> HeaderMetadata:
        """Tell what the attributes of the unit say, and what was set for the scan."""
        headers, place = Headers(), f"{self.file.name}: {'/'.join(self.unit)}"
        headers.start(self.start, f"{place}.MeasurementDatePosix")
        headers.add("NWBFile", "session_id", self.session_uuid, f"{self.file.name}: Uuid")
        user = self.text("ExperimenterUsername")
        headers.add("NWBFile", "experimenter", [user] if user else None, f"{place}.ExperimenterUsername")
        session, unit = self.unit
        headers.add("NWBFile", "session_description", f"Session: {session}, MUnit: {unit}.", place)
        headers.add("device", "name", "Microscope", "the kind of recording")
        headers.add("device", "manufacturer", "Femtonics", "the kind of recording")
        for label, name in (
            ("MESc version", "CreatingMEScVersion"),
            ("Setup", "ExperimenterSetupID"),
            ("Workstation", "ExperimenterHostname"),
        ):
            headers.describe("device", label, self.text(name), f"{place}.{name}")
        headers.describe(
            "device", "MESc revision", self.number("CreatingMEScRevision"), f"{place}.CreatingMEScRevision"
        )
        headers.add("plane", "imaging_rate", self.rate, f"{place}.ZAxisConversionConversionLinearScale")
        self._add_pixels(headers, place)
        self._add_scan(headers, place)
        return headers.result()

    def _add_pixels(self, headers: Headers, place: str) -> None:
        sizes = [self.number(f"{axis}AxisConversionConversionLinearScale") for axis in "XY"]
        units = [self.text(f"{axis}AxisConversionUnitName") for axis in "XY"]
        if None not in sizes and all(unit in (None, "µm", "μm", "um") for unit in units):
            spacing = [size * MICROMETRE for size in sizes if size is not None]
            headers.add("plane", "grid_spacing", spacing, f"{place}.XAxisConversionConversionLinearScale")
            headers.add("plane", "grid_spacing_unit", "meters", f"{place}.XAxisConversionUnitName")
        for label, name in (
            ("Translation", "GeomTransTransl"),
            ("Rotation", "GeomTransRot"),
            ("Labeling origin", "LabelingOriginTransl"),
        ):
            value = self.attributes.get(name)
            if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "iuf":
                headers.describe("plane", label, [float(number) for number in value[:16]], f"{place}.{name}")

    def _add_scan(self, headers: Headers, place: str) -> None:
        chosen = self.arguments.get("channel_name")
        names = [name for name, _, _ in self.channels]
        channel = chosen if chosen in names else names[0] if len(names) == 1 else None
        headers.channel(channel, f"{place}.Channel_{names.index(channel) if channel else 0}_Name")
        source = f"{place}.MeasurementParamsXML"
        settings = self.settings
        if settings is None:
            return
        for gear in settings.iter("Gear"):
            values = {item.get("name"): item.get("value") for item in gear.iter("param")}
            if gear.get("type") == "PMT" and channel is not None and values.get("channel_name") == channel:
                headers.describe("series", "PMT voltage", values.get("reference_voltage"), source, "V")
                headers.describe("series", "PMT warm-up time", values.get("warmup_time"), source, "s")
        values = {item.get("name"): item.get("value") for item in settings.iter("param")}
        headers.describe("series", "Pixel clock", values.get("Pixelclock"), source, "s")

    @cached_property
    def units(self) -> list[tuple[str, str]]:
        """Session and unit of all that are in the file, or of those that the arguments choose."""
        _ = self.files
        chosen = (self.arguments.get("session_name"), self.arguments.get("munit_name"))
        with open_hdf5(self.file, refers=self.refers) as opened:
            found = [
                (session, unit)
                for session in opened
                if session.startswith(SESSION) and hasattr(opened[session], "keys")
                for unit in opened[session]
                if unit.startswith(UNIT) and hasattr(opened[session][unit], "keys")
            ]
        return [pair for pair in found if all(c in (None, name) for c, name in zip(chosen, pair, strict=True))]

    @cached_property
    def unit(self) -> tuple[str, str]:
        """
        Session and unit that the arguments choose.

        :raises SourceDataError: If there is none, or more than one.
        """
        if len(self.units) != 1:
            known = ", ".join("/".join(pair) for pair in self.units[:50]) or "none of that name"
            raise SourceDataError(
                f"{self.file} has {len(self.units)} units ({known}). Choose one with session_name and munit_name."
            )
        return self.units[0]

    @property
    def where(self) -> str:
        """File, session and unit, for messages."""
        return f"{self.file}: {'/'.join(self.unit)}"

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """Of the unit."""
        with open_hdf5(self.file, refers=self.refers) as opened:
            return dict(opened["/".join(self.unit)].attrs)

    @cached_property
    def channels(self) -> list[tuple[str, tuple[int, int, int], str]]:
        """Name, shape (frames, rows, columns) and type of each channel."""
        number = self.number("VecChannelsSize")
        found = []
        with open_hdf5(self.file, refers=self.refers) as opened:
            unit = opened["/".join(self.unit)]
            for index in range(min(int(2 if number is None else number), len(unit))):
                dataset = member(unit, f"Channel_{index}")
                if len(getattr(dataset, "shape", None) or ()) != 3:  # noqa: PLR2004 - frames, rows, columns
                    raise not_whole(
                        self.file, f"{'/'.join(self.unit)} announces a movie Channel_{index}, and has none"
                    )
                name = self.text(f"Channel_{index}_Name") or f"Channel_{index}"
                found.append((name, dataset.shape, dataset.dtype.name))
        if not found:
            raise SourceDataError(f"{self.where} has no channels. Choose another unit with munit_name.")
        return found

    @cached_property
    def rate(self) -> float | None:
        """Frames per second (Hz)."""
        period, unit = self.number("ZAxisConversionConversionLinearScale"), self.text("ZAxisConversionUnitName")
        if period is None or period <= 0 or (unit and not any(ms in unit.lower() for ms in ("ms", "millisec"))):
            raise SourceDataError(
                f"{self.where} has {period} {unit or ''} for the time of a frame, which should be in ms. "
                "Is it a z-stack or a line scan? Choose another unit with munit_name."
            )
        return 1000 / period

    @cached_property
    def start(self) -> datetime | None:
        """When the unit was measured."""
        seconds, nanoseconds = self.number("MeasurementDatePosix"), self.number("MeasurementDateNanoSecs") or 0
        try:
            return None if seconds is None else datetime.fromtimestamp(seconds + nanoseconds / 1e9, UTC)
        except (ValueError, OverflowError, OSError):
            return None

    @cached_property
    def session_uuid(self) -> str | None:
        """Identifier of the file."""
        with open_hdf5(self.file, refers=self.refers) as opened:
            value = np.asarray(member(opened.attrs, "Uuid"))
        if value.dtype.kind not in "iu" or value.shape != (16,):
            return None
        digits = bytes(int(number) & 0xFF for number in value).hex()
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))

    @cached_property
    def settings(self) -> ET.Element | None:
        """What was set for the scan; ``None`` if it is not there, or no plain XML."""
        value = self.attributes.get("MeasurementParamsXML")
        content = bytes(value) if isinstance(value, (bytes, np.bytes_)) else b""
        if (
            not content or len(content) > LONGEST_XML or b"<!" in content
        ):  # No document type: it may define entities.
            return None
        try:
            return ET.fromstring(content.decode("latin-1"))  # noqa: S314
        except ET.ParseError:
            return None

    def text(self, name: str) -> str | None:
        """Return a text among the attributes."""
        value = self.attributes.get(name)
        if isinstance(value, (str, bytes)):
            return value if isinstance(value, str) else value.decode("utf-8", "replace")
        if isinstance(value, np.ndarray) and value.dtype.kind in "iu" and value.size < LONGEST_XML:
            return "".join(chr(int(number)) for number in value.flat if 0 < number < 0xD800) or None  # noqa: PLR2004
        return None

    def number(self, name: str) -> float | None:
        """Return a finite number among the attributes."""
        value = np.asarray(self.attributes.get(name, ""))
        if value.size != 1 or value.dtype.kind not in "iuf":
            return None
        number = float(value.reshape(-1)[0])
        return number if np.isfinite(number) else None
