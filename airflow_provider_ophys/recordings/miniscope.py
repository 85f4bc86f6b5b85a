"""
Recordings of the Miniscope DAQ software: movies ``0.avi``, ``1.avi`` ..., ``timeStamps.csv``, ``metaData.json``.

A device has a folder in the session's, and each of the two a ``metaData.json``: the settings of the device, and
animal, experimenter and start of the session. roiextractors takes as many stamps as there are frames, so movies
and stamps that do not belong together pass there without a word.
"""

from __future__ import annotations

import re
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from airflow_provider_ophys.exceptions import SourceDataError
from airflow_provider_ophys.models.folder_contents import matching
from airflow_provider_ophys.models.recording import Contents, FoundRecording, HeaderMetadata, Movie
from airflow_provider_ophys.recordings.avi import AviMovie, read_avi
from airflow_provider_ophys.recordings.headers import Headers, later, storable
from airflow_provider_ophys.recordings.json_headers import read_json_object, scalar
from airflow_provider_ophys.recordings.miniscope_files import (
    HEADER,
    STAMPS,
    is_miniscope,
    measured_rate,
    read_stamps,
    region_of_interest,
    start_of,
)
from airflow_provider_ophys.recordings.recording import Recording, require_regular, require_within
from airflow_provider_ophys.recordings.wholeness import not_whole

if TYPE_CHECKING:
    from numpy.typing import NDArray


class MiniscopeRecording(Recording):
    """The movies of one device in one session."""

    @classmethod
    def find(cls, folder: Path) -> list[FoundRecording]:
        """Find the recording whose device folder this is; those of behaviour cameras look alike, and are none."""
        if not (folder / "0.avi").is_file() or not is_miniscope(folder):
            return []
        kwargs = {"folder_path": str(folder)}
        return [FoundRecording(kind="imaging", extractor="MiniscopeImagingExtractor", extractor_kwargs=kwargs)]

    @cached_property
    def files(self) -> list[Path]:
        """Movies in their order, stamps, and the headers of the device and the session."""
        beside = (self.stamps_file, self.device_header, self.session_header)
        named = self.paths.get("configuration_file_path")
        return list(dict.fromkeys([*self.movies, *(file for file in (*beside, named) if file is not None)]))

    def check(self) -> None:
        """
        Check that every movie is whole, and that there is one stamp for each frame.

        :raises SourceDataError: Names file and counts.
        :raises SourceChangedError: If the recording may still be growing.
        """
        for file in self.files:
            require_regular(file)
        frames = sum(movie.num_frames for movie in self.avi_headers)
        if self.stamps_file is None:
            if self.arguments.get("sampling_frequency") is None:
                raise SourceDataError(
                    f"{self.folder} lacks {STAMPS}, which the Miniscope DAQ software always writes. Copy it, or "
                    "give sampling_frequency (Hz) in extractor_kwargs."
                )
        elif len(self.stamps) != frames:
            latest = max((*self.movies, self.stamps_file), key=lambda file: file.stat().st_mtime)
            raise not_whole(
                latest,
                f"{self.stamps_file} has {len(self.stamps)} stamps, but the {len(self.movies)} movies from "
                f"{self.movies[0].name} to {self.movies[-1].name} have {frames} frames{self._missing(frames)}",
                remedy="Copy the folder again: without a stamp for each frame, times are those of other frames.",
            )

    def contents(self) -> Contents:
        """Tell the length of the movie, and its rate by the stamps."""
        sizes = {(movie.rows, movie.columns) for movie in self.avi_headers}
        if len(sizes) > 1:
            listed = ", ".join(f"{rows} x {columns}" for rows, columns in sorted(sizes))
            raise SourceDataError(
                f"The movies in {self.folder} have frames of different sizes: {listed} (rows x columns). Give "
                "those of one recording."
            )
        start, duration = self.start, None
        if self.rate is not None and len(self.stamps) and np.all(np.isfinite(self.stamps)):
            start = later(start, float(self.stamps[0]))
            duration = float(self.stamps[-1] - self.stamps[0]) + 1 / self.rate
        movie = Movie(
            extractor_kwargs=dict(self.arguments),
            num_samples=sum(movie.num_frames for movie in self.avi_headers),
            sample_shape=sizes.pop(),
            dtype="uint8",
            rate=self.rate,
            start=start,
            duration=duration,
        )
        return Contents(movies=[movie], photon_series_type="OnePhotonSeries")

    def metadata(self) -> HeaderMetadata:
        """Tell what the headers of the device and the session say."""
        headers = Headers()
        self._add_session(headers)
        device = read_json_object(self.device_header) if self.device_header else {}
        name = str(scalar(device, "deviceName") or "Miniscope")
        headers.add("device", "name", storable(name), f"{HEADER}: deviceName")
        model = scalar(device, "deviceType")
        headers.add("model", "name", storable(str(model)) if model else None, f"{HEADER}: deviceType")
        for label, field in (
            ("Gain", "gain"),
            ("LED power setting", "led0"),
            ("Excitation setting", "excitation"),
            ("Exposure setting", "msCamExposure"),
            ("Electrowetting lens setting", "ewl"),
            ("Compression", "compression"),
            ("Frames per file", "framesPerFile"),
            ("Frame rate setting", "frameRate"),
        ):
            headers.describe("device", label, scalar(device, field), f"{HEADER}: {field}")
        headers.describe("device", "Region of interest", region_of_interest(device), f"{HEADER}: ROI")
        headers.add("plane", "imaging_rate", self.rate, f"{STAMPS}: mean interval")
        headers.add("series", "description", "Imaging data acquired with a Miniscope.", "the kind of recording")
        return headers.result()

    def _add_session(self, headers: Headers) -> None:
        if self.session_header is None:
            return
        session, place = read_json_object(self.session_header), f"{self.session_header.parent.name}/{HEADER}"
        headers.start(self.start, f"{place}: recordingStartTime")
        researcher = scalar(session, "researcherName")
        headers.add(
            "NWBFile", "experimenter", [str(researcher)] if researcher else None, f"{place}: researcherName"
        )
        headers.add(
            "NWBFile", "experiment_description", scalar(session, "experimentName"), f"{place}: experimentName"
        )
        animal = scalar(session, "animalName")
        headers.add("Subject", "subject_id", str(animal) if animal else None, f"{place}: animalName")

    @cached_property
    def folder(self) -> Path:
        """The device's."""
        return self.paths.get("folder_path") or self.movies[0].parent

    @cached_property
    def movies(self) -> list[Path]:
        """
        The movies in their order.

        :raises SourceDataError: If one is missing in between, or leads out of the folder.
        """
        folder = self.paths.get("folder_path")
        if folder is None:
            named = [path for place, path in self.paths.items() if place.startswith("file_paths")]
            if not named:
                raise SourceDataError("Neither folder_path nor file_paths names a movie. Give one of them.")
            return named
        found = sorted(matching(folder, "*.avi"), key=natural_order)
        if not found:
            raise SourceDataError(f"{folder} has no movies 0.avi, 1.avi ... in it. Give the device's folder.")
        expected = [folder / f"{number}.avi" for number in range(len(found))]
        if found != expected:
            missing = next(file for file in expected if file not in found)
            raise not_whole(
                folder,
                f"it has {len(found)} movies, but no {missing.name}",
                remedy=f"Copy {missing.name}, or move movies that are not the Miniscope's elsewhere.",
            )
        for file in found:
            require_within(file, folder.resolve())
        return found

    @cached_property
    def avi_headers(self) -> list[AviMovie]:
        """What the movies' own headers say."""
        return [read_avi(file) for file in self.movies]

    @cached_property
    def stamps_file(self) -> Path | None:
        """``timeStamps.csv``, or the file that an argument names."""
        named = self.paths.get("timestamps_path") if "folder_path" not in self.paths else None
        return named or _beside(self.folder, STAMPS)

    @cached_property
    def stamps(self) -> NDArray[np.float64]:
        """Seconds from the start of the recording; none without a file."""
        return np.empty(0) if self.stamps_file is None else read_stamps(self.stamps_file)

    @cached_property
    def rate(self) -> float | None:
        """Samples per second (Hz): the argument, or by the stamps."""
        given = scalar(self.arguments, "sampling_frequency")
        return measured_rate(self.stamps) if given is None else float(given)

    @cached_property
    def device_header(self) -> Path | None:
        """``metaData.json`` of the device."""
        return _beside(self.folder, HEADER)

    @cached_property
    def session_header(self) -> Path | None:
        """``metaData.json`` of the session, in the folder above, if it is one."""
        file = _beside(self.folder.absolute().parent, HEADER)
        if file is None:
            return None
        try:
            is_session = bool({"recordingStartTime", "animalName", "year"} & read_json_object(file).keys())
        except SourceDataError:
            is_session = True  # What is wrong with it, metadata() tells.
        return file if is_session else None

    @cached_property
    def start(self) -> datetime | None:
        """When the session started; ``None`` also if its header cannot be read, which :meth:`metadata` tells."""
        try:
            return start_of(self.session_header) if self.session_header else None
        except SourceDataError:
            return None

    def _missing(self, frames: int) -> str:
        """Name the last movie that there must have been, if all that are there are of full length."""
        per_file = scalar(read_json_object(self.device_header), "framesPerFile") if self.device_header else None
        lengths = {movie.num_frames for movie in self.avi_headers}
        if not isinstance(per_file, int) or lengths != {per_file} or len(self.stamps) <= frames:
            return ""
        return f", {per_file} in each; so the last must have been {-(-len(self.stamps) // per_file) - 1}.avi"


def _beside(folder: Path, name: str) -> Path | None:
    """Return a file that a folder may have; it must lie in it."""
    file = folder / name
    if not file.exists():
        return None
    require_within(file, folder.resolve())
    require_regular(file)
    return file


def natural_order(path: Path) -> list[tuple[int, str]]:
    """Sort ``2.avi`` before ``10.avi``, as roiextractors does."""
    parts = re.split(r"([0-9]+)", str(path))
    return [(int(part), "") if number % 2 else (-1, part) for number, part in enumerate(parts)]
