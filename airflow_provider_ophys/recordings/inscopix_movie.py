"""
Movies of Inscopix' microscopes: ``.isxd`` files, read here without Inscopix' library.

Frames come first, each between two lines of the sensor if the header says so; then a JSON text, a NUL, and the
length of the text in eight bytes. Frames that were dropped or cropped are not in the file, and are read as black.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

from airflow_provider_ophys.exceptions import SourceDataError, SourceNotFoundError
from airflow_provider_ophys.models.folder_contents import matching
from airflow_provider_ophys.models.recording import Contents, FoundRecording, HeaderMetadata, Movie
from airflow_provider_ophys.recordings.bounded_files import read_part
from airflow_provider_ophys.recordings.headers import Headers, storable
from airflow_provider_ophys.recordings.json_headers import scalar
from airflow_provider_ophys.recordings.recording import Recording, require_regular
from airflow_provider_ophys.recordings.wholeness import not_whole

EXTRACTOR = "InscopixImagingExtractor"
LENGTH_BYTES, NUL_BYTES = 8, 1
LONGEST_HEADER = 16 * 1024 * 1024
# Types of pixels and of files, by the numbers in the header.
PIXELS, PIXEL_BYTES = {0: "uint16", 1: "float32", 2: "uint8"}, {0: 2, 1: 4, 2: 1}
MOVIE, IMAGE = 0, 2
# The sensor's lines before and after a frame.
LINE_BYTES = 2 * 2560 * 2
DAY_SECONDS = 86_400
MILLISECOND = 1e-3
SEXES = {"m": "M", "male": "M", "f": "F", "female": "F"}


class InscopixRecording(Recording):
    """One movie of one plane."""

    @classmethod
    def find(cls, folder: Path) -> list[FoundRecording]:
        """Find ``.isxd`` files that are movies; cell sets have the same name."""
        found = []
        for file in matching(folder, "*.isxd"):
            kwargs = {"file_path": str(file)}
            try:
                is_movie = cls(EXTRACTOR, kwargs).header.get("type") == MOVIE
            except (SourceDataError, SourceNotFoundError):
                continue
            if is_movie:
                found.append(FoundRecording(kind="imaging", extractor=EXTRACTOR, extractor_kwargs=kwargs))
        return found

    @cached_property
    def file(self) -> Path:
        """The ``.isxd`` file."""
        if "file_path" not in self.paths:
            raise SourceDataError("file_path is missing. Give the .isxd file of the movie.")
        return self.paths["file_path"]

    @cached_property
    def files(self) -> list[Path]:
        """The file."""
        require_regular(self.file)
        return [self.file]

    def check(self) -> None:
        """
        Check that all frames are in the file, that they are of one plane, and that their rate is known.

        :raises SourceDataError: If not; names counts.
        :raises SourceChangedError: If the file may still be growing.
        """
        _ = self.files
        self.check_rate()
        multiplane = _section(_section(self.header, "extraProperties"), "microscope").get("multiplane")
        if isinstance(multiplane, Mapping) and multiplane.get("enabled"):
            raise SourceDataError(
                f"{self.file} was recorded in several planes in turn, which roiextractors reads as one plane. "
                "Split it into one movie for each plane with Inscopix' software, and convert these."
            )
        samples, (rows, columns), kind = self.shape
        lines = LINE_BYTES if self.header.get("hasFrameHeaderFooter") else 0
        frame_bytes = rows * columns * PIXEL_BYTES[kind] + lines
        expected = (samples - self.num_missing) * frame_bytes
        if self.header["pixel_bytes"] < expected:
            raise not_whole(
                self.file,
                f"its header announces {samples - self.num_missing} frames of {frame_bytes:,} bytes, and it has "
                f"{self.header['pixel_bytes']:,} bytes of frames",
            )

    def check_rate(self) -> None:
        """
        Check that the header has a period, by which the library divides.

        :raises SourceDataError: If it has none above 0.
        """
        if self.rate is None:
            raise SourceDataError(
                f"The header of {self.file} has no period above 0 (timingInfo.period), so the rate of its samples "
                "is not known. It is damaged; copy it again."
            )

    def contents(self) -> Contents:
        """Tell the length, size and rate of the movie."""
        samples, shape, kind = self.shape
        rate = self.rate
        movie = Movie(
            extractor_kwargs=dict(self.arguments),
            num_samples=samples,
            sample_shape=shape,
            dtype=PIXELS[kind],
            rate=rate,
            start=self.start,
            duration=samples / rate if rate else None,
        )
        black = f"{self.file.name}: {self.num_missing} of {samples} frames were dropped or cropped, and are black."
        remarks = [black] if self.num_missing else []
        return Contents(movies=[movie], photon_series_type="OnePhotonSeries", remarks=remarks)

    def metadata(self) -> HeaderMetadata:
        """Tell what the header says of session, animal and microscope."""
        headers, file = Headers(), self.file.name
        properties = _section(self.header, "extraProperties")
        microscope, producer = _section(properties, "microscope"), _section(properties, "producer")
        headers.start(self.start, f"{file}: timingInfo.start")
        headers.add("NWBFile", "session_id", _text(properties, "name"), f"{file}: extraProperties.name")
        person = _text(_section(properties, "personnel"), "name")
        place = f"{file}: extraProperties.personnel.name"
        headers.add("NWBFile", "experimenter", [person] if person else None, place)
        self._add_animal(headers, _section(properties, "animal"), f"{file}: extraProperties.animal")
        place = f"{file}: extraProperties.microscope"
        name = _text(microscope, "type")
        headers.add("device", "name", storable(name) if name else "Microscope", f"{place}.type")
        headers.add("device", "manufacturer", "Inscopix", "the kind of recording")
        headers.add("device", "serial_number", _text(microscope, "serial"), f"{place}.serial")
        version = _text(producer, "versionBE") or _text(producer, "version")
        headers.describe(
            "device",
            "Acquisition software",
            version and version.split("-")[0],
            f"{file}: extraProperties.producer",
        )
        self._add_settings(headers, microscope, place)
        for label, field in (("diameter", "diameter"), ("length", "length"), ("type", "type")):
            value = scalar(_section(properties, "probe"), field)
            known = value if value not in (0, "", "none", "None") else None
            headers.describe("device", f"Probe {label}", known, f"{file}: extraProperties.probe.{field}")
        headers.add("plane", "imaging_rate", self.rate, f"{file}: timingInfo.period")
        headers.add(
            "series", "description", "Imaging data acquired with Inscopix' microscope.", "the kind of recording"
        )
        return headers.result()

    def _add_animal(self, headers: Headers, animal: Mapping[str, Any], place: str) -> None:
        headers.add("Subject", "subject_id", _text(animal, "id"), f"{place}.id")
        species = _text(animal, "species")
        is_latin = bool(species and re.match(r"[A-Z][a-z]+ [a-z]+", species))
        headers.add("Subject", "species" if is_latin else "strain", species, f"{place}.species")
        sex = _text(animal, "sex")
        headers.add("Subject", "sex", SEXES.get(sex.lower(), "U") if sex else None, f"{place}.sex")
        headers.add("Subject", "description", _text(animal, "description"), f"{place}.description")
        birth = _text(animal, "dob")
        try:
            headers.add(
                "Subject", "date_of_birth", birth and datetime.fromisoformat(birth).isoformat(), f"{place}.dob"
            )
        except ValueError:
            headers.remark(
                f"The animal's date of birth in {self.file.name} is {birth!r}, which is no date by ISO 8601."
            )
        weight = scalar(animal, "weight")
        headers.add("Subject", "weight", f"{weight} g" if weight else None, f"{place}.weight")

    def _add_settings(self, headers: Headers, microscope: Mapping[str, Any], place: str) -> None:
        led, exposure = _section(microscope, "led"), scalar(microscope, "exp")
        if isinstance(exposure, (int, float)) and exposure > 0:
            headers.add("series", "exposure_time", exposure * MILLISECOND, f"{place}.exp")
        for label, value, unit, field in (
            ("Exposure time", exposure, "ms", "exp"),
            ("Gain", scalar(microscope, "gain"), "", "gain"),
            ("Focus", scalar(microscope, "focus"), "", "focus"),
            ("EX LED power", scalar(led, "exPower"), "mW/mm^2", "led.exPower"),
            ("OG LED power", scalar(led, "ogPower"), "mW/mm^2", "led.ogPower"),
        ):
            headers.describe("plane", label, value, f"{place}.{field}", unit)
        efocus = scalar(_section(_section(self.header, "extraProperties"), "idps"), "efocus")
        headers.describe(
            "plane", "Electronic focus", efocus, f"{self.file.name}: extraProperties.idps.efocus", "um"
        )

    @cached_property
    def header(self) -> dict[str, Any]:
        """
        The JSON text, with ``pixel_bytes``, the number of bytes before it.

        :raises SourceDataError: If it is not there.
        """
        end = max(require_regular(self.file).st_size - LENGTH_BYTES, 0)
        length = int.from_bytes(read_part(self.file, end, LENGTH_BYTES), "little")
        start = end - NUL_BYTES - length
        if start < 0 or not 0 < length < LONGEST_HEADER:
            raise not_whole(self.file, f"its last {LENGTH_BYTES} bytes are not the length of its header")
        text = read_part(self.file, start, length)
        try:
            content = json.loads(text.decode())
        except (ValueError, RecursionError) as error:
            said = f"{type(error).__name__}: {str(error)[:200]}"
            raise not_whole(self.file, f"its header cannot be read ({said})") from error
        if not isinstance(content, dict):
            raise not_whole(self.file, "its header is no JSON object")
        return content | {"pixel_bytes": start}

    @cached_property
    def shape(self) -> tuple[int, tuple[int, int], int]:
        """Frames, (rows, columns), and the number of the pixels' type."""
        samples, image_shape = self.extent
        kind = scalar(self.header, "dataType")
        if kind not in PIXELS or self.header.get("type") not in (MOVIE, IMAGE):
            raise SourceDataError(f"{self.file} is no movie, or has pixels of an unknown type. Check the path.")
        return samples, image_shape, int(kind)

    @cached_property
    def extent(self) -> tuple[int, tuple[int, int]]:
        """Samples, and (rows, columns)."""
        samples = scalar(_section(self.header, "timingInfo"), "numTimes")
        pixels = _section(_section(self.header, "spacingInfo"), "numPixels")
        rows, columns = scalar(pixels, "y"), scalar(pixels, "x")
        if not all(isinstance(number, int) and number >= 0 for number in (samples, rows, columns)):
            raise not_whole(self.file, "its header does not say how many frames of how many pixels it has")
        return int(samples or 0), (int(rows or 0), int(columns or 0))

    @cached_property
    def num_missing(self) -> int:
        """Frames that were dropped, cropped or blank, and are not in the file: single ones, and ranges."""
        timing, missing = _section(self.header, "timingInfo"), 0
        for name in ("dropped", "cropped", "blank"):
            listed = timing.get(name)
            for item in listed if isinstance(listed, list) else []:
                match = re.fullmatch(r"\s*(\d{1,12})(?:\s*-\s*(\d{1,12}))?\s*", str(item))
                if match:
                    missing += int(match[2] or match[1]) - int(match[1]) + 1
        return min(missing, self.shape[0])

    @cached_property
    def rate(self) -> float | None:
        """Frames per second (Hz), by the header."""
        period = _ratio(_section(_section(self.header, "timingInfo"), "period"))
        rate = 1 / period if period else 0.0
        return rate if 0 < rate < math.inf else None

    @cached_property
    def start(self) -> datetime | None:
        """When the movie begins; ``None`` if the header says 1970, as the library writes if it does not know."""
        start = _section(_section(self.header, "timingInfo"), "start")
        seconds, offset = _ratio(_section(start, "secsSinceEpoch")), scalar(start, "utcOffset")
        if not seconds:
            return None
        zone = UTC
        if isinstance(offset, int) and abs(offset) < DAY_SECONDS:
            zone = timezone(timedelta(seconds=offset))
        try:
            return datetime.fromtimestamp(seconds, zone)
        except (ValueError, OverflowError, OSError):
            return None


def _section(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = content.get(name)
    return value if isinstance(value, Mapping) else {}


def _text(content: Mapping[str, Any], name: str) -> str | None:
    value = scalar(content, name)
    return str(value) if value not in (None, "") else None


def _ratio(content: Mapping[str, Any]) -> float | None:
    numerator, denominator = scalar(content, "num"), scalar(content, "den")
    if not isinstance(numerator, int) or not isinstance(denominator, int) or denominator == 0:
        return None
    try:
        return numerator / denominator
    except OverflowError:
        return None
