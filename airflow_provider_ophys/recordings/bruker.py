"""
Bruker's recordings: a folder with PrairieView's index, ``NAME.xml``, and OME-named TIFFs of one or many pages.

What is read is what the index names, not what lies in the folder: references, snapshots and notes are no part
of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from airflow_provider_ophys.exceptions import SourceDataError, SourceNotFoundError
from airflow_provider_ophys.models.recording import Contents, FoundRecording, HeaderMetadata, Movie
from airflow_provider_ophys.recordings.bounded_files import read_part
from airflow_provider_ophys.recordings.bruker_headers import describe, start_of_day
from airflow_provider_ophys.recordings.bruker_index import FRAME_NAME, BrukerIndex, read_index
from airflow_provider_ophys.recordings.bruker_streams import stream_movies
from airflow_provider_ophys.recordings.recording import Recording, require_regular, require_within
from airflow_provider_ophys.recordings.tiff_pages import Page, read_first_page, read_pages
from airflow_provider_ophys.recordings.volumes import by_plane, of_plane
from airflow_provider_ophys.recordings.wholeness import not_whole

EXTRACTOR = "BrukerTiffImagingExtractor"


class BrukerRecording(Recording):
    """A folder, read by ``BrukerTiffImagingExtractor`` or the two that come before it."""

    @classmethod
    def find(cls, folder: Path) -> list[FoundRecording]:
        """Find the recording whose folder this is, also if its index is missing, which is told then."""
        # The index has the name of the folder, which a link to it need not have.
        folder = folder.resolve() if folder.is_symlink() else folder
        index = folder / f"{folder.name}.xml"
        is_index = index.is_file() and b"<PVScan" in _beginning(index)
        if not is_index and not any(FRAME_NAME.fullmatch(name) for name in _names(folder)):
            return []
        kwargs = {"folder_path": str(folder)}
        return [FoundRecording(kind="imaging", extractor=EXTRACTOR, extractor_kwargs=kwargs)]

    @cached_property
    def folder(self) -> Path:
        """The folder; its name is that of the index."""
        folder = self.paths.get("folder_path")
        if folder is None or not folder.is_dir():
            raise SourceDataError(f"No folder is named ({self.describe()}). Give folder_path, of the recording.")
        return folder

    @cached_property
    def index_file(self) -> Path:
        """The XML, which has the folder's name."""
        file = self.folder / f"{self.folder.resolve().name}.xml"
        require_within(file, self.folder.resolve())
        return file

    @cached_property
    def index(self) -> BrukerIndex:
        """
        What PrairieView's XML says.

        :raises SourceNotFoundError: If there is none of the folder's name.
        """
        if not self.index_file.exists():
            others = [name for name in _names(self.folder) if name.endswith(".xml")]
            indices = [name for name in others if b"<PVScan" in _beginning(self.folder / name)]
            remedy = f"Call the folder {indices[0].removesuffix('.xml')!r} again" if indices else "Copy it too"
            raise SourceNotFoundError(
                f"{self.index_file} does not exist, in which PrairieView says what its TIFFs hold. {remedy}."
            )
        return read_index(self.index_file)

    @cached_property
    def files(self) -> list[Path]:
        """The index, and the TIFFs that it names, by frame and channel."""
        return [self.index_file, *(self.folder / name for name in self.names)]

    @cached_property
    def names(self) -> list[str]:
        """Names of the TIFFs, by frame and channel."""
        named = self.index.files
        missing = [name for name in named if name not in self.entries]
        for name in missing:
            require_within(self.folder / name, self.folder.resolve())
        if missing:
            raise not_whole(
                self.folder,
                f"{len(missing)} of the {len(named)} files that {self.index_file.name} names are not there, the "
                f"first is {missing[0]}",
                remedy="Copy all files of the recording.",
            )
        return sorted(named, key=lambda name: named[name])

    @cached_property
    def entries(self) -> dict[str, os.stat_result]:
        """
        The files in the folder, by name, looked at once.

        :raises SourceDataError: If one that the index names is no regular file, or leads out of the folder.
        """
        entries = {}
        for entry in os.scandir(self.folder):
            if entry.name not in self.index.files:
                continue
            if entry.is_symlink():
                require_within(Path(entry.path), self.folder.resolve())
            entries[entry.name] = require_regular(Path(entry.path))
        return entries

    @cached_property
    def first_page(self) -> Page:
        """The first page of the first TIFF."""
        return read_first_page(self.folder / self.names[0])

    def check(self) -> None:
        """
        Check that every file that the index names is there with all of its pages, and every volume has all planes.

        Of files of one size one is read; one that was cut off has another.

        :raises SourceDataError: Names the file, and counts.
        """
        looked_at = set()
        for name in self.names:
            size, pages = self.entries[name].st_size, self.index.files[name][2]
            if (size, pages) in looked_at:
                continue
            looked_at.add((size, pages))
            file = self.folder / name
            found = read_pages(file)
            if found.count < pages:
                raise not_whole(file, f"it has {found.count} pages, but the index names {pages} of it")
            if (found.first.rows, found.first.columns) != (self.first_page.rows, self.first_page.columns):
                raise SourceDataError(
                    f"{file} has frames of {found.first.rows} x {found.first.columns} pixels, but "
                    f"{self.names[0]} of {self.first_page.rows} x {self.first_page.columns}. They are not of "
                    "one recording; copy it again."
                )
        self._check_volumes()

    def _check_volumes(self) -> None:
        planes = self.index.num_planes
        for cycle, length in enumerate(self.index.lengths, 1):
            if self.index.is_volumetric and length != planes:
                raise SourceDataError(
                    f"Cycle {cycle} of {len(self.index.lengths)} in {self.index_file} has {length} planes, but "
                    f"the first has {planes}: the recording was stopped within a volume. Remove this Sequence."
                )
        channels: dict[int, int] = {}
        for _, channel, pages in self.index.files.values():
            channels[channel] = channels.get(channel, 0) + pages
        if len(set(channels.values())) > 1:
            counts = ", ".join(f"{self.index.channels[channel]}: {count}" for channel, count in channels.items())
            raise SourceDataError(
                f"{self.index_file} does not name equally many frames of each channel ({counts}). Copy it again."
            )

    def reading(self) -> tuple[str, Mapping[str, Any]]:
        """
        Read what the older extractors read page by page, at its own rate.

        They take frames that cannot be read for black ones, and rates of planes for those of volumes.
        """
        if not self._is_older:
            return self.extractor, self.arguments
        movies = self._movies()
        if len(movies) != 1:
            return self.extractor, self.arguments  # which reads all planes in turn, or tells what there is
        movie = movies[0]
        numbers = [number for number, name in self.index.channels.items() if name == movie.channel]
        stream = movie.extractor_kwargs.get("stream_name", "")
        names = [name for name in self.names if self.index.files[name][1] in numbers]
        if movie.plane is not None:
            names = [name for name in names if stream in name]
        planes = self.index.num_planes if self._is_multi_plane else 1
        return "MultiTIFFMultiPageExtractor", {
            "file_paths": [str(self.folder / name) for name in names],
            "sampling_frequency": movie.rate,
            "dimension_order": "CZT",
            "num_planes": planes,
        }

    def num_samples(self) -> int | None:
        """Count the samples, if the arguments of an older extractor choose one movie."""
        return None if self._is_older and len(self._movies()) != 1 else super().num_samples()

    @property
    def _is_older(self) -> bool:
        return "plane" in self.extractor.lower()

    @property
    def _is_multi_plane(self) -> bool:
        return "multi" in self.extractor.lower()

    def contents(self) -> Contents:
        """Tell of the movies of each channel."""
        return Contents(movies=self._movies(), photon_series_type="TwoPhotonSeries")

    def _movies(self) -> list[Movie]:
        index, page, rate = self.index, self.first_page, self.index.rate
        start = start_of_day(index)
        facts: dict[str, Any] = {
            "num_samples": index.num_samples,
            "sample_shape": (page.rows, page.columns, *((index.num_planes,) if index.num_planes > 1 else ())),
            "dtype": page.dtype,
            "rate": rate,
            "start": start[0] if start else None,
            "duration": float(index.times[-1] - index.times[0] + 1 / rate) if rate else None,
        }
        if self._is_older:
            return stream_movies(self.extractor, self.arguments, index, facts)
        names = [index.channels[number] for number in sorted(index.channels)]
        chosen = [name for name in names if self.arguments.get("channel_name") in (name, None)] or names
        choice = [{"channel_name": name} if len(names) > 1 else {} for name in chosen]
        movies = [
            Movie(extractor_kwargs=dict(self.arguments) | kwargs, channel=name, **facts)
            for name, kwargs in zip(chosen, choice, strict=True)
        ]
        return by_plane(movies, self.arguments)

    def metadata(self) -> HeaderMetadata:
        """Tell what the index says of the microscope, the plane and the channel."""
        movies = self._movies()
        chosen = movies[0].channel if len({movie.channel for movie in movies}) == 1 else None
        numbers = [number for number, name in self.index.channels.items() if name == chosen]
        headers = describe(self.index, self.index_file.name, self.first_page, numbers[0] if numbers else None)
        return of_plane(headers, self.arguments)


def _names(folder: Path) -> Iterator[str]:
    with os.scandir(folder) as entries:
        yield from (entry.name for entry in entries)


def _beginning(file: Path) -> bytes:
    try:
        return read_part(file, 0, 1000)
    except (SourceDataError, SourceNotFoundError):
        return b""
