"""
Recordings of Scanbox: pixels in ``.sbx``, and what was set in the ``.mat`` beside it.

roiextractors takes the number of frames from the size of the file, rounds the rate down to whole frames a second,
and reads the first of several planes only.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from airflow_provider_ophys.exceptions import SourceDataError
from airflow_provider_ophys.models.folder_contents import matching
from airflow_provider_ophys.models.recording import Contents, FoundRecording, HeaderMetadata, Movie
from airflow_provider_ophys.recordings.headers import Headers
from airflow_provider_ophys.recordings.mat_file import read_mat_file
from airflow_provider_ophys.recordings.recording import Recording, require_regular, require_within
from airflow_provider_ophys.recordings.wholeness import not_whole

EXTRACTOR = "SbxImagingExtractor"
PIXELS, HEADER = ".sbx", ".mat"
PIXEL_BYTES = 2
MICROMETRE = 1e-6
# Channels by the number in the header: both, or the first or second alone.
BOTH_CHANNELS, SECOND_CHANNEL = 1, 3
NEEDED = ("channels", "scanmode", "recordsPerBuffer", "resfreq")


class SbxRecording(Recording):
    """One movie of one plane and one channel."""

    @classmethod
    def find(cls, folder: Path) -> list[FoundRecording]:
        """Find ``.sbx`` files with their header beside them."""
        files = [file for file in matching(folder, f"*{PIXELS}") if file.with_suffix(HEADER).is_file()]
        return [
            FoundRecording(kind="imaging", extractor=EXTRACTOR, extractor_kwargs={"file_path": str(file)})
            for file in files
        ]

    @cached_property
    def files(self) -> list[Path]:
        """
        The pixels and the header, of which an argument names one.

        :raises SourceNotFoundError: If one is missing.
        """
        if "file_path" not in self.paths:
            raise SourceDataError(f"file_path is missing. Give the {PIXELS} file of the recording.")
        named = self.paths["file_path"]
        if named.suffix not in (PIXELS, HEADER):
            raise SourceDataError(f"{named} is no {PIXELS} or {HEADER} file. Give one of these.")
        found = [named.with_suffix(PIXELS), named.with_suffix(HEADER)]
        for file in found:
            if file != named:
                require_within(file, named.parent.resolve())
            require_regular(file)
        return found

    def check(self) -> None:
        """
        Check that the file of pixels has whole frames, of one plane and one channel.

        :raises SourceDataError: If not; names counts.
        :raises SourceChangedError: If it may still be growing.
        """
        file, size = self.files[0], self.files[0].stat().st_size
        if self.number("channels") == BOTH_CHANNELS:
            raise SourceDataError(
                f"{file} has two channels, of which roiextractors reads neither. Split it, or convert it to TIFF."
            )
        if self.num_planes > 1:
            raise SourceDataError(
                f"{file} has {self.num_planes} planes in turn (otwave), of which roiextractors reads the first "
                "only. Split it into one recording for each plane, or convert it to TIFF."
            )
        rows, columns = self.frame_shape
        frame_bytes = rows * columns * PIXEL_BYTES
        if size % frame_bytes:
            raise not_whole(
                file, f"it has {size:,} bytes, which are {size / frame_bytes:.2f} frames of {frame_bytes:,} bytes"
            )
        height = int(np.ravel(self.info["sz"])[0])
        if height != rows:
            raise SourceDataError(
                f"{self.files[1]} says that frames have {height} rows (sz), and {rows} (recordsPerBuffer, "
                "scanmode). Correct the header, or convert the recording to TIFF."
            )

    def contents(self) -> Contents:
        """Tell the length, size and rate of the movie."""
        self.check()
        rows, columns = self.frame_shape
        samples = self.files[0].stat().st_size // (rows * columns * PIXEL_BYTES)
        movie = Movie(
            extractor_kwargs=dict(self.arguments),
            num_samples=samples,
            sample_shape=(rows, columns),
            dtype="uint16",
            rate=self.rate,
            duration=samples / self.rate,
        )
        read = f"roiextractors reads a rate of {int(self.scan_rate)} Hz from {self.files[1].name}"
        remarks = [f"{read}, which is {self.rate:g} Hz."] if self.rate != int(self.scan_rate) else []
        return Contents(movies=[movie], photon_series_type="TwoPhotonSeries", remarks=remarks)

    def metadata(self) -> HeaderMetadata:
        """Tell what was set for the microscope."""
        headers, file = Headers(), self.files[1].name
        config = self.config
        headers.add("device", "name", "Microscope", "the kind of recording")
        headers.describe("device", "Software", "Scanbox", "the kind of recording")
        headers.describe(
            "device", "Scanbox version", self.number("scanbox_version"), f"{file}: info.scanbox_version"
        )
        headers.describe("device", "Objective", _text(self.info.get("objective")), f"{file}: info.objective")
        headers.add("plane", "imaging_rate", self.rate, f"{file}: info.resfreq, info.config.lines")
        wavelength = _number(config.get("wavelength"))
        headers.add("plane", "excitation_lambda", wavelength, f"{file}: info.config.wavelength")
        spacing = [self.number("dxcal"), self.number("dycal")]
        if all(size is not None and size > 0 for size in spacing):
            metres = [size * MICROMETRE for size in spacing if size is not None]
            headers.add("plane", "grid_spacing", metres, f"{file}: info.dxcal, info.dycal")
            headers.add("plane", "grid_spacing_unit", "meters", f"{file}: info.dxcal, info.dycal")
        lines = self.number("resfreq")
        if lines:
            headers.add(
                "series", "scan_line_rate", lines * self.directions, f"{file}: info.resfreq, info.scanmode"
            )
        channel = 1 if self.number("channels") == SECOND_CHANNEL else 0
        headers.add(
            "series",
            "pmt_gain",
            _number(config.get(f"pmt{channel}_gain")),
            f"{file}: info.config.pmt{channel}_gain",
        )
        for label, name, unit in (("Magnification", "magnification", ""), ("Laser power", "laser_power", "%")):
            headers.describe("series", label, _number(config.get(name)), f"{file}: info.config.{name}", unit)
        return headers.result()

    @cached_property
    def info(self) -> Mapping[str, Any]:
        """
        The header.

        :raises SourceDataError: If it cannot be read, or lacks what a reader needs.
        """
        file = self.files[1]
        info = _fields(read_mat_file(file).get("info"))
        lacking = [name for name in NEEDED if _number(info.get(name)) is None]
        if _number(_fields(info.get("config")).get("lines")) is None:
            lacking.append("config.lines")
        size = np.asarray(info.get("sz", []))
        if size.shape != (2,) or size.dtype.kind not in "iuf" or not np.all(np.isfinite(size)):
            lacking.append("sz (rows, columns)")
        if lacking:
            raise SourceDataError(f"{file}: info lacks {', '.join(lacking)}. Copy the file again.")
        return info

    @property
    def config(self) -> Mapping[str, Any]:
        """The part of the header with what was set by the user."""
        return _fields(self.info["config"])

    def number(self, name: str) -> float | None:
        """Return a number of the header."""
        return _number(self.info.get(name))

    @cached_property
    def directions(self) -> int:
        """Lines for each swing of the resonant mirror: in one direction, or in both."""
        return 2 if self.number("scanmode") == 0 else 1

    @cached_property
    def frame_shape(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, columns = (
            int(self.number("recordsPerBuffer") or 0) * self.directions,
            int(np.ravel(self.info["sz"])[1]),
        )
        if rows <= 0 or columns <= 0 or rows * columns > 2**31:
            raise SourceDataError(
                f"{self.files[1]} says that frames have {rows} rows and {columns} columns. Copy it again."
            )
        return rows, columns

    @cached_property
    def num_planes(self) -> int:
        """Planes that are scanned in turn."""
        waves, is_volume = np.size(self.info.get("otwave", [])), self.number("volscan")
        return waves if (is_volume is not None and is_volume > 0) or (is_volume is None and waves) else 1

    @cached_property
    def scan_rate(self) -> float:
        """Frames per second (Hz) of the scanner."""
        lines, frequency = _number(self.config.get("lines")) or 0, self.number("resfreq") or 0
        folded = self.number("fold_lines") or 0
        rate = frequency / lines * self.directions if lines > 0 else 0
        if not 0 < rate < float("inf"):
            raise SourceDataError(
                f"{self.files[1]} has {frequency:g} Hz (resfreq) and {lines:g} lines, which is no rate. Copy it "
                "again."
            )
        return rate * (int(lines / folded) if folded > 0 else 1)

    @cached_property
    def rate(self) -> float:
        """Frames per second (Hz): the argument, or that of the scanner."""
        given = self.arguments.get("sampling_frequency")
        return float(given) if isinstance(given, (int, float)) and given > 0 else self.scan_rate


def _fields(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(value: Any) -> float | None:
    array = np.asarray(value) if isinstance(value, (int, float, np.generic, np.ndarray)) else np.empty(0)
    if array.size != 1 or array.dtype.kind not in "iufb":
        return None
    number = float(array.reshape(-1)[0])
    return number if np.isfinite(number) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
