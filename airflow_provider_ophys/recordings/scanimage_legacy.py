"""ScanImage before 2016: settings in the description of each page, ``state.`` or ``scanimage.SI`` a line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from airflow_provider_ophys.exceptions import SourceDataError
from airflow_provider_ophys.models.recording import Contents, HeaderMetadata, Movie
from airflow_provider_ophys.recordings.headers import Headers
from airflow_provider_ophys.recordings.recording import Recording
from airflow_provider_ophys.recordings.scanimage_headers import describe_microscope, describe_plane, start_of
from airflow_provider_ophys.recordings.scanimage_settings import Settings, parse_settings
from airflow_provider_ophys.recordings.tiff_pages import Page, Pages, read_pages

OLDEST, OLDER = "state.acq.frameRate", "SI.hRoiManager.scanFrameRate"
TIMES = ("%m/%d/%Y %H:%M:%S.%f", "%m/%d/%Y %H:%M:%S", "%d-%b-%Y %H:%M:%S")


class ScanImageLegacyRecording(Recording):
    """
    One file, all pages of which ``ScanImageLegacyImagingExtractor`` takes for samples.

    It is read by ``MultiTIFFMultiPageExtractor``: the library that the other needs tells of no file that cannot be
    read, and a file of one page it does not read.
    """

    @cached_property
    def pages(self) -> Pages:
        """The pages of the file."""
        if not self.files:
            raise SourceDataError(f"No file is named ({self.describe()}). Give file_path.")
        return read_pages(self.files[0])

    def check(self) -> None:
        """
        Check that the file is whole, and that its pages are those of one channel and plane.

        :raises SourceDataError: Names the file, and the frame at which it was cut off.
        """
        settings = legacy_settings(self.pages.first.description)
        arguments = legacy_arguments(settings) if settings else {}
        if "dimension_order" in arguments:
            raise SourceDataError(
                f"{self.files[0]} has {arguments.get('num_channels', 1)} channels and "
                f"{arguments.get('num_planes', 1)} planes in turn, which ScanImageLegacyImagingExtractor mixes "
                f"up. Read it with MultiTIFFMultiPageExtractor, file_paths and {arguments}."
            )

    def reading(self) -> tuple[str, Mapping[str, Any]]:
        """Read the same pages by another extractor."""
        rate = self.arguments.get("sampling_frequency")
        return "MultiTIFFMultiPageExtractor", {"file_paths": [str(self.files[0])], "sampling_frequency": rate}

    def contents(self) -> Contents:
        """Tell of the movie."""
        page, settings = self.pages.first, legacy_settings(self.pages.first.description)
        own = legacy_arguments(settings).get("sampling_frequency") if settings else None
        rate = self.arguments.get("sampling_frequency", own)
        movie = Movie(
            extractor_kwargs=dict(self.arguments),
            num_samples=self.pages.count,
            sample_shape=(page.rows, page.columns),
            dtype=page.dtype,
            rate=rate,
            start=_start(settings, page) if settings else None,
            duration=self.pages.count / rate if rate else None,
        )
        return Contents(movies=[movie], photon_series_type="TwoPhotonSeries")

    def metadata(self) -> HeaderMetadata:
        """Tell what the description of the first page says."""
        return describe_legacy(self.pages.first, self.files[0].name)


def legacy_settings(description: str) -> Settings | None:
    """Return the settings in a page's description; ``None`` if it has none."""
    if OLDEST not in description and OLDER not in description:
        return None
    values = parse_settings(description, Path("The description of the first page"))
    return Settings({name.removeprefix("scanimage."): value for name, value in values.items()})


def legacy_arguments(settings: Settings) -> dict[str, Any]:
    """Return the arguments with which ``MultiTIFFMultiPageExtractor`` reads the channels and planes apart."""
    if OLDEST in settings.values:
        channels = settings.count("state.acq.numberOfChannelsSave")
        planes, rate = settings.count("state.acq.numberOfZSlices"), settings.positive(OLDEST)
    else:
        channels = len(settings.numbers("SI.hChannels.channelSave"))
        is_stack = settings.flag("SI.hStackManager.enable")
        planes = settings.count("SI.hStackManager.numSlices") if is_stack else 1
        name = "scanVolumeRate" if planes > 1 else "scanFrameRate"
        rate = settings.positive(f"SI.hRoiManager.{name}")
    found: dict[str, Any] = {"sampling_frequency": rate} if rate else {}
    if channels > 1 or planes > 1:
        found |= {"num_channels": max(channels, 1), "num_planes": max(planes, 1), "dimension_order": "CZT"}
    return found


def describe_legacy(page: Page, file: str) -> HeaderMetadata:
    """
    Tell what a page's description says.

    :param file: Its name.
    """
    headers, settings = Headers(), legacy_settings(page.description)
    if settings is None:
        return headers.result()
    headers.start(_start(settings, page), f"{file}: time of the trigger")
    rate = legacy_arguments(settings).get("sampling_frequency")
    if OLDEST not in settings.values:
        describe_microscope(headers, settings, file)
        describe_plane(headers, settings, file, (page.columns, page.rows), planes=1)
        headers.add("plane", "imaging_rate", rate, f"{file}: {OLDER}")
        return headers.result()
    headers.add("plane", "imaging_rate", rate, f"{file}: {OLDEST}")
    version, name = settings.text("state.software.version"), "state.software.version"
    headers.describe("device", "Microscope controlled by ScanImage", version, f"{file}: {name}")
    zoom, name = settings.number("state.acq.zoomFactor"), "state.acq.zoomFactor"
    headers.describe("series", "Zoom", zoom, f"{file}: {name}")
    line = settings.positive("state.acq.msPerLine")
    headers.add("series", "scan_line_rate", 1000 / line if line else None, f"{file}: state.acq.msPerLine")
    return headers.result()


def _start(settings: Settings, page: Page) -> datetime | None:
    text = settings.text("state.internal.triggerTimeString")
    for form in TIMES if text else ():
        try:
            return datetime.strptime(re.sub(r"\s+", " ", text or ""), form)  # noqa: DTZ007 - the machine's zone
        except ValueError:
            continue
    return start_of(page.description)
