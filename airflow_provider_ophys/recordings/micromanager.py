"""Micro-Manager's stacks: OME-TIFFs of many pages, a summary in the first, and times with each page."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from airflow_provider_ophys.exceptions import SourceDataError
from airflow_provider_ophys.models.recording import Contents, FoundRecording, HeaderMetadata
from airflow_provider_ophys.recordings.bounded_files import read_part
from airflow_provider_ophys.recordings.headers import Headers
from airflow_provider_ophys.recordings.ome_tiff import OmeTiffRecording
from airflow_provider_ophys.recordings.tiff_folder import tiffs_by_series
from airflow_provider_ophys.recordings.tiff_pages import MICROMANAGER, peek_first_page, text_of_first_page
from airflow_provider_ophys.recordings.xml_headers import number

ENDING = ".ome.tif"
# Where the summary stands in a file: a mark and a length, then the text.
SUMMARY_AT, SUMMARY_HEAD, SUMMARY_MARK, MOST_BYTES = 32, struct.Struct("<II"), 2355492, 16 * 1024**2
UM = 1e-6
TIMES = ("%Y-%m-%d %H:%M:%S.%f %z", "%Y-%m-%d %H:%M:%S %z", "%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%d %H:%M:%S")


class MicroManagerRecording(OmeTiffRecording):
    """
    A folder with one stack, read as its OME-XML describes it.

    roiextractors' ``MicroManagerTiffImagingExtractor`` takes the speed of the viewer for the rate, and frames that
    it cannot read for black ones; ``MultiTIFFMultiPageExtractor`` does neither.
    """

    @classmethod
    def find(cls, folder: Path) -> list[FoundRecording]:
        """Find the stack of which this is the folder."""
        firsts = [peek_first_page(series[0]) for series in tiffs_by_series(folder) if _is_stack(series[0])]
        if not any(page is not None and page.private for page in firsts):
            return []
        kwargs = {"folder_path": str(folder)}
        name = "MicroManagerTiffImagingExtractor"
        return [FoundRecording(kind="imaging", extractor=name, extractor_kwargs=kwargs)]

    @cached_property
    def named(self) -> Path:
        """The first file of the stack in the folder."""
        folder = self.paths.get("folder_path")
        if folder is None or not folder.is_dir():
            raise SourceDataError(f"No folder is named ({self.describe()}). Give folder_path, of the stack.")
        for series in tiffs_by_series(folder):
            for file in series:
                page = peek_first_page(file) if _is_stack(file) else None
                if page is not None and page.private:
                    return file
        raise SourceDataError(f"{folder} has no {ENDING} file of Micro-Manager. Check the path.")

    def reading(self) -> tuple[str, Mapping[str, Any]]:
        """Read the files that the OME-XML names by their pages, at the recording's own rate."""
        for axis, many in (("C", "channels"), ("Z", "planes")):
            if self.ome.size(axis) > 1:
                raise SourceDataError(
                    f"{self.named} has {self.ome.size(axis)} {many}, which MicroManagerTiffImagingExtractor does "
                    "not read. Use OMETiffImagingExtractor with file_path and channel_name."
                )
        rate, _ = self.rate()
        arguments = {"file_paths": [str(file) for file in self.tiffs], "sampling_frequency": rate}
        return "MultiTIFFMultiPageExtractor", arguments

    @cached_property
    def summary(self) -> dict[str, Any]:
        """
        What Micro-Manager says of the whole recording.

        :raises SourceDataError: If it is not in the first file.
        """
        head = read_part(self.named, SUMMARY_AT, SUMMARY_HEAD.size)
        mark, length = SUMMARY_HEAD.unpack(head) if len(head) == SUMMARY_HEAD.size else (0, 0)
        is_there = mark == SUMMARY_MARK and length < MOST_BYTES
        text = read_part(self.named, SUMMARY_AT + SUMMARY_HEAD.size, length) if is_there else b""
        return _object(text.decode("utf-8", "replace"))

    @cached_property
    def first_frame(self) -> dict[str, Any]:
        """What Micro-Manager says of the first frame."""
        return _object(text_of_first_page(self.tiffs[0], MICROMANAGER))

    def rate(self) -> tuple[float | None, str]:
        """Return the rate of the frames (Hz), by their times, or else by the interval that was asked for."""
        last = self.pages[self.tiffs[-1]].last
        begin, end = (number(str(of.get("ElapsedTime-ms"))) for of in (self.first_frame, _object(last.private)))
        intervals = self._total() - 1
        if begin is not None and end is not None and intervals > 0 and 0 < end - begin < float("inf"):
            return 1000 * intervals / (end - begin), f"{self.named.name}: ElapsedTime-ms of the frames"
        interval = number(str(self.summary.get("Interval_ms")))
        source = f"{self.named.name}: Interval_ms"
        return (1000 / interval if interval and 0 < interval < float("inf") else None), source

    def contents(self) -> Contents:
        """Tell of the movie."""
        contents = super().contents()
        interval, (rate, source) = number(str(self.summary.get("Interval_ms"))), self.rate()
        if rate and interval and "Elapsed" in source and abs(interval * rate / 1000 - 1) > 0.01:  # noqa: PLR2004
            remark = f"The rate is {rate:g} Hz by the frames' times; Interval_ms says {1000 / interval:g} Hz."
            return contents.model_copy(update={"remarks": [*contents.remarks, remark]})
        return contents

    def start(self) -> datetime | None:
        """When the recording started."""
        text = str(self.summary.get("StartTime") or self.summary.get("Time") or "")
        for form in TIMES:
            try:
                return datetime.strptime(text, form)  # noqa: DTZ007 - the zone is told where the text has one
            except ValueError:
                continue
        return None

    def metadata(self) -> HeaderMetadata:
        """Tell what Micro-Manager says of the camera and the frames."""
        headers, file, frame = Headers(), self.named.name, self.first_frame
        headers.start(self.start(), f"{file}: StartTime")
        headers.add("NWBFile", "experimenter", _text(self.summary.get("UserName")), f"{file}: UserName")
        camera = _text(frame.get("Core-Camera") or frame.get("Camera"))
        controlled = "Microscope controlled by Micro-Manager"
        version = _text(self.summary.get("MicroManagerVersion"))
        headers.describe("device", controlled, version, f"{file}: MicroManagerVersion")
        headers.describe("device", "Camera", camera, f"{file}: Core-Camera")
        for label, name in (("Computer", "ComputerName"), ("Profile", "ProfileName")):
            headers.describe("device", label, _text(self.summary.get(name)), f"{file}: {name}")
        rate, source = self.rate()
        headers.add("plane", "imaging_rate", rate, source)
        self.describe_pixels(headers)
        exposure = number(str(frame.get("Exposure-ms")))
        headers.describe("series", "Exposure", exposure, f"{file}: Exposure-ms", "ms")
        binning = re.match(r"\d+", str(frame.get("Binning") or frame.get(f"{frame.get('Camera')}-Binning") or ""))
        headers.describe("series", "Binning", binning[0] if binning else None, f"{file}: Binning")
        names = self.summary.get("ChNames")
        if isinstance(names, list) and len(names) == 1 and isinstance(names[0], str):
            headers.channel(names[0], f"{file}: ChNames")
        return headers.result()

    def describe_pixels(self, headers: Headers) -> None:
        """Take down how large pixels and frames are."""
        size = number(str(self.summary.get("PixelSize_um") or self.first_frame.get("PixelSizeUm")))
        if not size or size < 0:
            super().describe_pixels(headers)
            return
        source = f"{self.named.name}: PixelSize_um"
        headers.add("plane", "grid_spacing", [size * UM, size * UM], source)
        headers.add("plane", "grid_spacing_unit", "meters", source)
        extent = [size * UM * self.ome.size(axis) for axis in "XY"]
        headers.add("series", "field_of_view", extent, source)


def _is_stack(file: Path) -> bool:
    return file.name.endswith(ENDING)


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return str(value) if isinstance(value, (str, int, float)) else None
