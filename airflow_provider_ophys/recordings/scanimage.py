"""
ScanImage's acquisitions: BigTIFF files with the settings in front of the pages.

A long acquisition is several files, numbered in their names; each page's description counts the frames.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from airflow_provider_ophys.exceptions import SourceDataError
from airflow_provider_ophys.models.recording import Contents, FoundRecording, HeaderMetadata, Movie
from airflow_provider_ophys.recordings.headers import Headers
from airflow_provider_ophys.recordings.recording import Recording, require_regular, require_within
from airflow_provider_ophys.recordings.scanimage_headers import (
    describe_channel,
    describe_microscope,
    describe_plane,
    frame_number,
    start_of,
)
from airflow_provider_ophys.recordings.scanimage_settings import Settings, read_settings
from airflow_provider_ophys.recordings.tiff_folder import tiffs_by_series
from airflow_provider_ophys.recordings.tiff_pages import Pages, read_first_page, read_pages
from airflow_provider_ophys.recordings.wholeness import not_whole

# "m1_00002_00003.tif": acquisition 2, file 3.
FILE_OF_ACQUISITION = re.compile(r"(.+_\d+_)\d+")
LAST_NUMBER = re.compile(r"(.+_)\d+")


class ScanImageRecording(Recording):
    """
    One acquisition, read by ``ScanImageImagingExtractor``.

    It finds the other files of an acquisition by itself; they are found here by the same rule, and handed to it.
    """

    @classmethod
    def find(cls, folder: Path) -> list[FoundRecording]:
        """Find acquisitions whose first file lies directly in a folder."""
        found, taken = [], set[Path]()
        for series in tiffs_by_series(folder):
            if read_settings(series[0]) is None:
                continue
            for file in series:
                if file in taken or read_settings(file) is None:
                    continue
                files = cls("ScanImageImagingExtractor", {"file_path": str(file)}).files
                taken.update(files)
                found.append(_found(files[0]))
        return found

    @cached_property
    def settings(self) -> Settings:
        """
        What ScanImage was set to.

        :raises SourceDataError: If the file is none of ScanImage's.
        """
        settings = read_settings(self._named[0])
        if settings is None:
            read_first_page(self._named[0])  # says so if it is no TIFF file at all
            raise SourceDataError(
                f"{self._named[0]} has no settings of ScanImage in front of its pages. Files of ScanImage before "
                "2016, and those that other software wrote anew, are read with MultiTIFFMultiPageExtractor."
            )
        return settings

    @cached_property
    def files(self) -> list[Path]:
        """The files of the acquisition, by number; those that the arguments name if they name several."""
        if self.arguments.get("file_paths") is not None:
            return self._named
        named = self._named[0]
        pattern = self._pattern(named)
        if pattern is None:
            return [named]
        root, files = named.parent.resolve(), []
        for file in named.parent.iterdir():
            number = re.fullmatch(pattern, file.name)
            if number:
                if file != named:
                    require_within(file, root)
                require_regular(file)
                files.append((int(number[1]), file.name, file))
        return [file for _, _, file in sorted(files)]

    @cached_property
    def _named(self) -> list[Path]:
        named = [path for place, path in self.paths.items() if place.startswith("file_path")]
        if not named:
            raise SourceDataError(
                f"No file is named ({self.describe()}). Give file_path, the first file of the acquisition."
            )
        for file in named:
            require_regular(file)
        return named

    def _pattern(self, named: Path) -> str | None:
        """Return the names of the acquisition's files, as a pattern; ``None`` if it has one file only."""
        is_split = self.settings.text("SI.acqState") == "grab" and self.settings.is_finite(
            "SI.hScan2D.logFramesPerFile"
        )
        is_numbered = self.settings.text("SI.acqState") == "loop" or (
            self.settings.text("SI.hStackManager.stackMode") == "slow" and self.num_planes > 1
        )
        rule = FILE_OF_ACQUISITION if is_split else LAST_NUMBER if is_numbered else None
        prefix = rule.fullmatch(named.stem) if rule else None
        return rf"{re.escape(prefix[1])}(\d+){re.escape(named.suffix)}" if prefix else None

    @cached_property
    def channels(self) -> list[tuple[int, str]]:
        """Numbers, from 1, and names of the channels that were saved."""
        numbers = [int(number) for number in self.settings.numbers("SI.hChannels.channelSave")]
        names = self.settings.texts("SI.hChannels.channelName")
        if not numbers or not all(1 <= number <= len(names) for number in numbers):
            raise SourceDataError(
                f"{self._named[0]} says that the channels {numbers} were saved, of {len(names)} that have a name "
                "(SI.hChannels). Its settings are damaged; copy it again."
            )
        return [(number, names[number - 1]) for number in numbers]

    @cached_property
    def num_planes(self) -> int:
        """How many planes a volume has; 1 if there are no volumes."""
        if not self.settings.flag("SI.hStackManager.enable"):
            return 1
        return max(self.settings.count("SI.hStackManager.numSlices"), 1)

    @cached_property
    def frames_per_slice(self) -> int:
        """How many frames are taken of each plane before the next; 1 where there are no volumes."""
        return max(self.settings.count("SI.hStackManager.framesPerSlice"), 1) if self.num_planes > 1 else 1

    @cached_property
    def frames_per_cycle(self) -> int:
        """How many frames of each channel make one sample, with those of the flight back to the first plane."""
        if self.num_planes == 1:
            return 1
        flyback = self.settings.count("SI.hStackManager.numFramesPerVolumeWithFlyback") - self.settings.count(
            "SI.hStackManager.numFramesPerVolume"
        )
        return self.num_planes * self.frames_per_slice + max(flyback, 0)

    @cached_property
    def pages(self) -> dict[Path, Pages]:
        """
        The pages of each file.

        :raises SourceDataError: If one was cut off; names the frame.
        """
        return {file: read_pages(file) for file in self.files}

    def check(self) -> None:
        """
        Check that no page and no file of the acquisition is missing.

        Which files there have to be is only known of those that are found by name, not of a choice of them.

        :raises SourceDataError: Names the file, and the frames that are missing.
        """
        _ = self.channels
        pages = self.pages
        shapes = {file: (page.first.rows, page.first.columns, page.first.dtype) for file, page in pages.items()}
        for file, shape in shapes.items():
            if shape != shapes[self.files[0]]:
                raise SourceDataError(
                    f"{file} has pages of {shape}, but {self.files[0].name} of {shapes[self.files[0]]} (rows, "
                    "columns, type). They are not of one acquisition; give the files that are as file_paths."
                )
        if self.arguments.get("file_paths") is None:
            self._check_series()

    def _check_series(self) -> None:
        """Check that the frames that the files number follow each other from the first to the last announced."""
        is_grab = self.settings.text("SI.acqState") == "grab"
        expected = 1
        for file, pages in self.pages.items() if is_grab else ():
            first, last = frame_number(pages.first.description), frame_number(pages.last.description)
            if first is None or last is None or last - first + 1 != pages.count / len(self.channels):
                break  # Frames were averaged, dropped or not stored, so their numbers do not tell.
            if first != expected:
                raise not_whole(
                    file.parent,
                    f"{file.name} begins with frame {first}, where frame {expected} was to come, so a file "
                    "before it is not there",
                    remedy="Copy all files of the acquisition.",
                )
            expected = last + 1
        numbers = [int(number[0]) for file in self.files if (number := re.findall(r"(\d+)$", file.stem))]
        missing = sorted(set(range(numbers[0], numbers[-1])) - set(numbers)) if numbers else []
        if missing and len(self.files) > 1:
            raise not_whole(
                self.files[0].parent,
                f"of the files {self.files[0].name} to {self.files[-1].name}, number {missing[0]} is not there",
                remedy="Copy all files of the acquisition.",
            )
        self._check_last_file(is_grab=is_grab)

    def _check_last_file(self, *, is_grab: bool) -> None:
        """
        Check that files at the end are not missing.

        An acquisition may have been stopped before the volumes that were asked for; but then its last file is not
        full.
        """
        per_file = self.settings.count("SI.hScan2D.logFramesPerFile")
        volumes = self.settings.count("SI.hStackManager.numVolumes") if self.num_planes > 1 else 0
        announced = volumes * self.frames_per_cycle
        frames = sum(pages.count for pages in self.pages.values()) // len(self.channels)
        last = self.pages[self.files[-1]].count // len(self.channels)
        if is_grab and len(self.files) > 1 and frames < announced and last == per_file > 0:
            raise not_whole(
                self.files[-1].parent,
                f"{volumes} volumes of {self.frames_per_cycle} frames were to be recorded, but the "
                f"{len(self.files)} files that are there, all of them full, have {frames} of {announced} frames",
                remedy="Copy all files of the acquisition.",
            )

    def reading(self) -> tuple[str, Mapping[str, Any]]:
        """Hand over the files that were checked, whatever their names."""
        others = {name: value for name, value in self.arguments.items() if name != "file_path"}
        return self.extractor, others | {"file_paths": [str(file) for file in self.files]}

    def contents(self) -> Contents:
        """Tell of the movies of each channel, and of each plane of the volumes."""
        chosen = self.arguments.get("channel_name")
        names = [name for _, name in self.channels]
        if len(names) > 1 and chosen in names:
            names = [str(chosen)]
        movies = [self._movie(name if len(self.channels) > 1 else None, name) for name in names]
        return Contents(
            movies=movies, photon_series_type="TwoPhotonSeries", remarks=[*self._rate()[1], *self._remarks()]
        )

    def _movie(self, choice: str | None, channel: str) -> Movie:
        first = self.pages[self.files[0]].first
        cycles = sum(pages.count for pages in self.pages.values()) // (self.frames_per_cycle * len(self.channels))
        rate, _ = self._rate()
        arguments = dict(self.arguments) | ({"channel_name": choice} if choice else {})
        is_interleaved = self.frames_per_slice > 1 and self.arguments.get("slice_sample") is None
        if is_interleaved:
            arguments["interleave_slice_samples"] = True
        plane = arguments.get("plane_index") if self.num_planes > 1 else None
        is_volume = self.num_planes > 1 and plane is None
        planes = [arguments | {"plane_index": index} for index in range(self.num_planes)] if is_volume else []
        return Movie(
            extractor_kwargs=arguments,
            channel=channel,
            plane=plane,
            num_samples=cycles * (self.frames_per_slice if is_interleaved else 1),
            sample_shape=(first.rows, first.columns, *((self.num_planes,) if is_volume else ())),
            dtype=first.dtype,
            # The frames of a slice follow each other at another pace than the slices.
            rate=None if is_interleaved else rate,
            start=start_of(first.description),
            duration=cycles / rate if rate else None,
            planes=planes,
        )

    def _rate(self) -> tuple[float | None, list[str]]:
        """Return the rate of the samples (Hz), and what is to be said of it."""
        if self.num_planes > 1:
            return self.settings.positive("SI.hRoiManager.scanVolumeRate"), []
        rate = self.settings.positive("SI.hRoiManager.scanFrameRate")
        averaged = self.settings.count("SI.hScan2D.logAverageFactor")
        if rate is None or averaged <= 1:
            return rate, []
        remark = (
            f"Each frame of {self.files[0].name} is the mean of {averaged} (SI.hScan2D.logAverageFactor), so its "
            f"rate is {rate / averaged:g} Hz, not SI.hRoiManager.scanFrameRate, {rate:g} Hz."
        )
        return rate / averaged, [remark]

    def _remarks(self) -> list[str]:
        remarks = []
        total = sum(pages.count for pages in self.pages.values())
        rest = total % (self.frames_per_cycle * len(self.channels))
        if rest:
            remarks.append(
                f"The last {rest} pages of {self.files[-1].name} are no whole volume of all channels, and are not "
                "read."
            )
        if self.frames_per_slice > 1 and self.arguments.get("slice_sample") is None:
            remarks.append(
                f"{self.frames_per_slice} frames were taken of each plane before the next; they are samples of "
                "their own. Give slice_sample to read one of them only."
            )
        return remarks

    def metadata(self) -> HeaderMetadata:
        """Tell what the settings say of the microscope, the plane and the channel."""
        page = read_first_page(self.files[0])
        headers, file = Headers(), self.files[0].name
        headers.start(start_of(page.description), f"{file}: epoch")
        describe_microscope(headers, self.settings, file)
        rate, remarks = self._rate()
        for sentence in remarks:
            headers.remark(sentence)
        rate_name = "scanVolumeRate" if self.num_planes > 1 else "scanFrameRate"
        headers.add("plane", "imaging_rate", rate, f"{file}: SI.hRoiManager.{rate_name}")
        is_volume = self.num_planes > 1 and self.arguments.get("plane_index") is None
        describe_plane(headers, self.settings, file, (page.columns, page.rows), planes=self.num_planes * is_volume)
        chosen = self.arguments.get("channel_name")
        saved = [(number, name) for number, name in self.channels if chosen in (name, None)] or self.channels
        if len(saved) == 1:
            describe_channel(headers, self.settings, file, saved[0])
        return headers.result()


def _found(file: Path) -> FoundRecording:
    return FoundRecording(
        kind="imaging", extractor="ScanImageImagingExtractor", extractor_kwargs={"file_path": str(file)}
    )
