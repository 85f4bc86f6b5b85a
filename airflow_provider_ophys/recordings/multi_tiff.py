"""TIFF files of many pages, of which the user says what is in them: channels, planes, rate."""

from __future__ import annotations

import re
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from airflow_provider_ophys.exceptions import SourceDataError
from airflow_provider_ophys.models.recording import Contents, FoundRecording, HeaderMetadata, Movie
from airflow_provider_ophys.recordings.ome import is_ome
from airflow_provider_ophys.recordings.recording import Recording
from airflow_provider_ophys.recordings.scanimage_legacy import describe_legacy, legacy_arguments, legacy_settings
from airflow_provider_ophys.recordings.scanimage_settings import read_settings
from airflow_provider_ophys.recordings.tiff_folder import tiffs_by_series
from airflow_provider_ophys.recordings.tiff_pages import (
    Page,
    check_tiff,
    iterate_pages,
    peek_first_page,
    read_first_page,
)
from airflow_provider_ophys.recordings.volumes import by_plane

EXTRACTOR = "MultiTIFFMultiPageExtractor"
MOST_PAGES_LOOKED_AT = 2


class MultiTiffRecording(Recording):
    """Files in the order of time, read by ``MultiTIFFMultiPageExtractor`` page by page."""

    @classmethod
    def find(cls, folder: Path) -> list[FoundRecording]:
        """
        Find movies in TIFFs of no maker: stacks, and series of single pictures.

        A single picture, and a colour picture, is no movie. The rate is told where a header has it.
        """
        found = []
        for series in plain_series(folder):
            first = read_first_page(series[0])
            if first.colours > 1:
                continue
            if _is_stack(series[0]):
                pages = [(file, peek_first_page(file)) for file in series]
                found += [_found([file], page) for file, page in pages if page is not None]
            elif len(series) > 1:
                found.append(_found(series, first))
        return found

    @cached_property
    def first_page(self) -> Page:
        """
        The first page of the first file.

        :raises SourceDataError: If there is none.
        """
        self._check_named()
        return read_first_page(self.files[0])

    @cached_property
    def num_pages(self) -> dict[Path, int]:
        """
        How many pages each file has.

        :raises SourceDataError: If one is cut off, or has frames that are no pages.
        """
        return {file: check_tiff(file, by_page=True) for file in self.files}

    def check(self) -> None:
        """
        Check that every file is whole, and that no sample lacks a page.

        :raises SourceDataError: Names the file, or the counts.
        """
        self._check_named()
        total, per_sample = sum(self.num_pages.values()), self._pages_per_sample()
        if per_sample > 1 and total % per_sample:
            raise SourceDataError(
                f"The {len(self.files)} files from {self.files[0]} have {total} pages, which are no whole number "
                f"of samples of {per_sample} pages (num_channels x num_planes). Check both, and the files."
            )

    def _check_named(self) -> None:
        if not self.files:
            raise SourceDataError(f"No file is named ({self.describe()}). Give file_paths, in the order of time.")

    def _pages_per_sample(self) -> int:
        numbers = (self.arguments.get(name) for name in ("num_channels", "num_planes"))
        channels, planes = (number if isinstance(number, int) and number > 0 else 1 for number in numbers)
        return channels * planes

    def contents(self) -> Contents:
        """Tell of the movies of each channel."""
        arguments, own = self.arguments, self._own_rate()
        channels, planes = (arguments.get(name) or 1 for name in ("num_channels", "num_planes"))
        given = arguments.get("sampling_frequency")
        rate = own if given is None else given
        num_samples = sum(self.num_pages.values()) // self._pages_per_sample()
        chosen, page = arguments.get("channel_name"), self.first_page
        movies = [
            Movie(
                extractor_kwargs=dict(arguments) | ({"channel_name": name} if channels > 1 else {}),
                channel=name if channels > 1 else None,
                num_samples=num_samples,
                sample_shape=(page.rows, page.columns, *((planes,) if planes > 1 else ())),
                dtype=page.dtype,
                rate=rate,
                duration=num_samples / rate if rate else None,
            )
            for name in map(str, range(channels))
            if channels == 1 or chosen in (name, None)
        ]
        remarks = []
        if given and own and abs(given / own - 1) > 1e-3:  # noqa: PLR2004
            file = self.files[0].name
            remarks.append(f"The rate is {given} Hz, as sampling_frequency says; {file} says {own:g} Hz.")
        return Contents(movies=by_plane(movies, arguments), remarks=remarks)

    def _own_rate(self) -> float | None:
        return known_arguments(self.first_page).get("sampling_frequency")

    def metadata(self) -> HeaderMetadata:
        """Tell what an older ScanImage says in the first page."""
        return describe_legacy(self.first_page, self.files[0].name)


def plain_series(folder: Path) -> list[list[Path]]:
    """Return the series of TIFFs in a folder that are of no maker's format."""
    if any((folder / name).is_file() for name in (f"{folder.name}.xml", "Experiment.xml")):
        return []
    return [series for series in tiffs_by_series(folder) if _is_plain(series[0])]


def _is_plain(file: Path) -> bool:
    """Tell that a file is of no maker; no TIFF, or an empty one, is somebody else's, or nobody's."""
    first = peek_first_page(file)
    return first is not None and not (is_ome(first.description) or first.private or read_settings(file))


def known_arguments(page: Page) -> dict[str, Any]:
    """
    Return the arguments of the extractor that stand in a description: ImageJ's, or an older ScanImage's.

    ImageJ counts channels fastest, then planes, then times.
    """
    settings = legacy_settings(page.description)
    if settings is not None:
        return legacy_arguments(settings)
    if not page.description.startswith("ImageJ="):
        return {}
    values = dict(re.findall(r"^(\w+)=([^\n]{1,40})$", page.description, re.MULTILINE))
    found: dict[str, Any] = {}
    for name, argument in (("channels", "num_channels"), ("slices", "num_planes")):
        count = values.get(name, "1")
        # A movie that was loaded as a stack has its frames as slices.
        is_movie = name == "slices" and "frames" not in values
        if count.isdigit() and 1 < int(count) < 2**16 and not is_movie:
            found |= {argument: int(count), "dimension_order": "CZT"}
    try:
        interval = float(values.get("finterval", "0"))
    except ValueError:
        interval = 0.0
    return found | ({"sampling_frequency": 1 / interval} if 0 < interval < float("inf") else {})


def _is_stack(file: Path) -> bool:
    try:
        return sum(1 for _ in islice(iterate_pages(file), MOST_PAGES_LOOKED_AT)) > 1
    except SourceDataError:
        return True  # The second page was cut off: opening it tells.


def _found(files: list[Path], page: Page) -> FoundRecording:
    arguments = {"file_paths": [str(file) for file in files]} | known_arguments(page)
    return FoundRecording(kind="imaging", extractor=EXTRACTOR, extractor_kwargs=arguments)
