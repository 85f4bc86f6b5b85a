"""One TIFF file of frames, of any writer, read by ``TiffImagingExtractor``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from airflow_provider_ophys.exceptions import SourceDataError
from airflow_provider_ophys.models.recording import Contents, FoundRecording, HeaderMetadata, Movie
from airflow_provider_ophys.recordings.multi_tiff import known_arguments, plain_series
from airflow_provider_ophys.recordings.ome import is_ome
from airflow_provider_ophys.recordings.ome_tiff import OmeTiffRecording
from airflow_provider_ophys.recordings.recording import Recording
from airflow_provider_ophys.recordings.scanimage_legacy import describe_legacy
from airflow_provider_ophys.recordings.tiff_pages import (
    MICROMANAGER,
    Page,
    check_tiff,
    peek_first_page,
    read_first_page,
    read_pages,
    text_of_first_page,
)


class TiffRecording(Recording):
    """A file whose pages, or whose frames behind one page, are the movie."""

    @classmethod
    def find(cls, folder: Path) -> list[FoundRecording]:
        """Find stacks that have one page only, as ImageJ writes those above 4 GB; the rest is read by page."""
        found = []
        for file in (file for series in plain_series(folder) for file in series):
            page = peek_first_page(file)
            if page is not None and page.description.startswith("ImageJ=") and _is_behind_one_page(file):
                rate = {name: value for name, value in known_arguments(page).items() if "sampling" in name}
                kwargs = {"file_path": str(file)} | rate
                found.append(
                    FoundRecording(kind="imaging", extractor="TiffImagingExtractor", extractor_kwargs=kwargs)
                )
        return found

    @cached_property
    def named(self) -> Path:
        """The file that the arguments name."""
        file = self.paths.get("file_path")
        if file is None:
            raise SourceDataError(f"No file is named ({self.describe()}). Give file_path.")
        return file

    @cached_property
    def of_several(self) -> OmeTiffRecording | None:
        """The recording to which the file belongs, if its OME-XML names others: its reader opens them all."""
        if not is_ome(self.first_page.description):
            return None
        names = ("file_path", "sampling_frequency")
        arguments = {name: value for name, value in self.arguments.items() if name in names}
        return OmeTiffRecording("OMETiffImagingExtractor", arguments)

    @cached_property
    def files(self) -> list[Path]:
        """The file, and those that its OME-XML names."""
        return super().files if self.of_several is None else self.of_several.files

    @cached_property
    def first_page(self) -> Page:
        """The first page of the file."""
        return read_first_page(self.named)

    @cached_property
    def num_frames(self) -> int:
        """How many frames the file has."""
        return check_tiff(self.named, by_page=False)

    def check(self) -> None:
        """
        Check that the file is whole.

        :raises SourceDataError: If it was cut off; names the frame.
        """
        if self.of_several is not None:
            self.of_several.check()
        elif self.num_frames == 1 and self.first_page.colours > 1:
            raise SourceDataError(f"{self.named} is a colour picture, and no movie. Give another file.")

    def reading(self) -> tuple[str, Mapping[str, Any]]:
        """
        Read a single frame, and what has files beside it, page by page.

        The description of a frame that was taken out of a stack misleads the reader that goes by descriptions.
        """
        if self.of_several is not None:
            return self.of_several.reading()
        rate = self.arguments.get("sampling_frequency")
        if self.num_frames == 1 or text_of_first_page(self.named, MICROMANAGER):
            return "MultiTIFFMultiPageExtractor", {"file_paths": [str(self.named)], "sampling_frequency": rate}
        return self.extractor, self.arguments

    def contents(self) -> Contents:
        """Tell of the movie."""
        if self.of_several is not None:
            return self.of_several.contents()
        own, page = known_arguments(self.first_page).get("sampling_frequency"), self.first_page
        rate = self.arguments.get("sampling_frequency", own)
        movie = Movie(
            extractor_kwargs=dict(self.arguments),
            num_samples=self.num_frames,
            sample_shape=(page.rows, page.columns),
            dtype=page.dtype,
            rate=rate,
            duration=self.num_frames / rate if rate else None,
        )
        return Contents(movies=[movie])

    def metadata(self) -> HeaderMetadata:
        """Tell what a header in the first page says: OME-XML, or an older ScanImage's settings."""
        if self.of_several is not None:
            return self.of_several.metadata()
        return describe_legacy(self.first_page, self.named.name)


def _is_behind_one_page(file: Path) -> bool:
    try:
        return read_pages(file).count == 1 and check_tiff(file, by_page=False) > 1
    except SourceDataError:
        return False
