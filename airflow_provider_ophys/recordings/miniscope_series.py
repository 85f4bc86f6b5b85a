"""Several recordings of one Miniscope, each in a folder of its own: ``15_03_28/Miniscope/0.avi``."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from airflow_provider_ophys.exceptions import SourceDataError
from airflow_provider_ophys.models.folder_contents import is_there, matching
from airflow_provider_ophys.models.recording import FoundRecording
from airflow_provider_ophys.recordings.json_headers import read_json_object
from airflow_provider_ophys.recordings.miniscope import MiniscopeRecording, natural_order
from airflow_provider_ophys.recordings.miniscope_files import HEADER, STAMPS, start_of
from airflow_provider_ophys.recordings.recording import require_within

if TYPE_CHECKING:
    from numpy.typing import NDArray


class MiniscopeMultiRecording(MiniscopeRecording):
    """What ``MiniscopeMultiRecordingImagingExtractor`` makes one movie of."""

    @classmethod
    def find(cls, folder: Path) -> list[FoundRecording]:  # noqa: ARG003
        """Find none: each of the recordings is found by itself."""
        return []

    @cached_property
    def files(self) -> list[Path]:
        """Movies, stamps, and the headers of the devices, recording by recording; those of the recordings."""
        found = [*(file for part in self.recordings for file in part.files), *self.start_files]
        for file in found:
            require_within(file, self.folder.resolve())
        return list(dict.fromkeys(found))

    def check(self) -> None:
        """
        Check each of the recordings, and that each has a start if any has one: roiextractors pairs them by order.

        :raises SourceDataError: Names file and counts.
        :raises SourceChangedError: If a recording may still be growing.
        """
        _ = self.files
        for part in self.recordings:
            if part.stamps_file is None:
                raise SourceDataError(
                    f"{part.folder} lacks {STAMPS}, which the Miniscope DAQ software always writes. Copy it."
                )
            part.check()
        starts = [file.parent for file in self.start_files]
        folders = [part.folder.parent for part in self.recordings]
        if starts and starts != folders:
            names = sorted(folder.name for folder in set(starts) ^ set(folders))
            raise SourceDataError(
                f"{self.folder} has {len(folders)} recordings of {self.device} and {len(starts)} {HEADER} with a "
                f"start, which do not belong together: {', '.join(names)[:500]}. Move what is no recording away."
            )

    @cached_property
    def folder(self) -> Path:
        """The folder above those of the recordings."""
        if "folder_path" not in self.paths:
            raise SourceDataError("folder_path is missing. Give the folder above those of the recordings.")
        return self.paths["folder_path"]

    @cached_property
    def device(self) -> str:
        """Name of the device's folder in each recording."""
        name = str(self.arguments.get("miniscope_device_name", "Miniscope"))
        if re.search(r"[*?\[/\0]|^\.\.?$|^$", name):
            raise SourceDataError(f"miniscope_device_name is {name!r}. Give the name of a folder.")
        return name

    @cached_property
    def recordings(self) -> list[MiniscopeRecording]:
        """Each recording by itself, in the order in which they are read."""
        folders = [each / self.device for each in matching(self.folder, "*")]
        movies = sorted((file for each in folders for file in matching(each, "*.avi")), key=natural_order)
        if not movies:
            raise SourceDataError(
                f"{self.folder} has no recordings */{self.device}/0.avi in it. Give the folder above those of the "
                "recordings, and the device's name in miniscope_device_name."
            )
        with_movies = dict.fromkeys(movie.parent for movie in movies)
        return [MiniscopeRecording(self.extractor, {"folder_path": str(folder)}) for folder in with_movies]

    @cached_property
    def start_files(self) -> list[Path]:
        """Headers of recordings that have a start."""
        named = [each / HEADER for each in matching(self.folder, "*")]
        files = sorted((file for file in named if is_there(file)), key=natural_order)
        return [file for file in files if {"recordingStartTime", "year"} & read_json_object(file).keys()]

    @cached_property
    def movies(self) -> list[Path]:
        """The movies of all recordings."""
        return [file for part in self.recordings for file in part.movies]

    @cached_property
    def stamps_file(self) -> Path | None:
        """Of the first recording, by which the rate is measured."""
        return self.recordings[0].stamps_file

    @cached_property
    def stamps(self) -> NDArray[np.float64]:
        """Seconds from the start of the first recording."""
        starts = [start_of(file) for file in self.start_files]
        stamps = [part.stamps for part in self.recordings]
        first = starts[0] if starts else None
        if first is not None and len(starts) == len(stamps):
            # Their local times, which roiextractors takes too.
            offsets = [
                (start.replace(tzinfo=None) - first.replace(tzinfo=None)).total_seconds() if start else 0.0
                for start in starts
            ]
            stamps = [part + offset for part, offset in zip(stamps, offsets, strict=True)]
        return np.concatenate(stamps)

    @cached_property
    def rate(self) -> float | None:
        """Of the first recording."""
        return self.recordings[0].rate

    @cached_property
    def device_header(self) -> Path | None:
        """Of the first recording."""
        return self.recordings[0].device_header

    @cached_property
    def session_header(self) -> Path | None:
        """Of the first recording."""
        return self.recordings[0].session_header
