"""OME-TIFF: one file or several, of which the OME-XML in the first page names all."""

from __future__ import annotations

from datetime import datetime
from functools import cached_property
from pathlib import Path

from airflow_provider_ophys.exceptions import SourceDataError
from airflow_provider_ophys.models.recording import (
    Contents,
    FoundRecording,
    HeaderMetadata,
    Movie,
    PhotonSeriesType,
)
from airflow_provider_ophys.recordings.bruker_index import FRAME_NAME
from airflow_provider_ophys.recordings.headers import Headers
from airflow_provider_ophys.recordings.ome import OmePixels, is_ome, read_ome
from airflow_provider_ophys.recordings.recording import Recording, require_regular
from airflow_provider_ophys.recordings.tiff_folder import tiffs_by_series
from airflow_provider_ophys.recordings.tiff_pages import (
    Page,
    Pages,
    peek_first_page,
    read_pages,
)
from airflow_provider_ophys.recordings.volumes import by_plane, of_plane
from airflow_provider_ophys.recordings.wholeness import not_whole

# An index or settings beside the files, by which they are known to be of another format.
OTHER_MAKERS = ("Experiment.xml", "DisplaySettings.json")


class OmeTiffRecording(Recording):
    """The files that one OME-XML names, read by ``OMETiffImagingExtractor``."""

    photon_series_type: PhotonSeriesType | None = None

    @classmethod
    def find(cls, folder: Path) -> list[FoundRecording]:
        """Find recordings whose first file lies directly in a folder, and which are of no maker's own format."""
        if (folder / f"{folder.resolve().name}.xml").is_file() or any(
            (folder / name).is_file() for name in OTHER_MAKERS
        ):
            return []
        found, taken = [], set[Path]()
        for file in (file for series in tiffs_by_series(folder) for file in series):
            page = None if file in taken or FRAME_NAME.fullmatch(file.name) else peek_first_page(file)
            if page is None or not is_ome(page.description) or page.private:
                continue
            recording = cls("OMETiffImagingExtractor", {"file_path": str(file)})
            taken.update(recording.files)
            first = str(recording.tiffs[0])
            found.append(
                FoundRecording(
                    kind="imaging", extractor="OMETiffImagingExtractor", extractor_kwargs={"file_path": first}
                )
            )
        return found

    @cached_property
    def named(self) -> Path:
        """The file that the arguments name."""
        file = self.paths.get("file_path")
        if file is None:
            raise SourceDataError(f"No file is named ({self.describe()}). Give file_path, the first file.")
        require_regular(file)
        return file

    @cached_property
    def ome(self) -> OmePixels:
        """What the OME-XML says."""
        return read_ome(self.named)

    @cached_property
    def tiffs(self) -> list[Path]:
        """The TIFFs, in the order of what is in them."""
        places = {"T": 0, "Z": 1, "C": 2}
        axes = [places[axis] for axis in reversed(self.ome.order)]
        known = self.ome.files
        return sorted(known, key=lambda file: (*(known[file][axis] for axis in axes), known[file][3]))

    @cached_property
    def files(self) -> list[Path]:
        """The TIFFs, in their order, and the file that has the XML."""
        for file in self.tiffs:
            require_regular(file)
        return list(dict.fromkeys([*self.tiffs, self.ome.source, self.named]))

    @cached_property
    def pages(self) -> dict[Path, Pages]:
        """The pages of each TIFF."""
        return {file: read_pages(file) for file in self.tiffs}

    @property
    def channels(self) -> list[str]:
        """Names of the channels, as the extractor wants them."""
        return self.ome.channels

    def check(self) -> None:
        """
        Check that every page is there that the OME-XML refers to, of one kind, and that no volume lacks a plane.

        :raises SourceDataError: Names the file, and counts.
        """
        _ = self.files
        first = _kind(self.pages[self.tiffs[0]].first)
        for file, pages in self.pages.items():
            for page in (pages.first, pages.last):
                if _kind(page) != first:
                    raise SourceDataError(
                        f"{file} has frames of {_kind(page)}, and {self.tiffs[0]} of {first}. Check that both are "
                        "of this recording, and were copied completely."
                    )
            announced = self.ome.pages[file]
            if pages.count < announced:
                raise not_whole(file, f"it has {pages.count} pages, but the OME-XML refers to {announced} of it")
        total, per_sample = self._total(), self.ome.size("Z") * self.ome.size("C")
        if total % per_sample:
            raise SourceDataError(
                f"{self.named} and the files with it have {total} pages, which are no whole number of samples of "
                f"{self.ome.size('Z')} planes and {self.ome.size('C')} channels. Check that none is missing."
            )

    def _total(self) -> int:
        return sum(pages.count for pages in self.pages.values())

    def rate(self) -> tuple[float | None, str]:
        """Return the rate of the samples (Hz), and where it stands."""
        increment = self.ome.time_increment
        return (1 / increment if increment else None), f"{self.ome.source.name}: TimeIncrement"

    def contents(self) -> Contents:
        """Tell of the movies of each channel."""
        names, chosen = self.channels, self.arguments.get("channel_name")
        (own, source), remarks = self.rate(), []
        given = self.arguments.get("sampling_frequency")
        if given is not None and own is not None and abs(given / own - 1) > 1e-3:  # noqa: PLR2004
            remarks.append(f"The rate is {given} Hz, as sampling_frequency says; {source} says {own:g} Hz.")
        rate = own if given is None else given
        first, planes = self.pages[self.tiffs[0]].first, self.ome.size("Z")
        num_samples = self._total() // (planes * self.ome.size("C"))
        movies = [
            Movie(
                extractor_kwargs=dict(self.arguments) | ({"channel_name": name} if len(names) > 1 else {}),
                channel=name if len(names) > 1 or name != "0" else None,
                num_samples=num_samples,
                sample_shape=(first.rows, first.columns, *((planes,) if planes > 1 else ())),
                dtype=first.dtype,
                rate=rate,
                start=self.start(),
                duration=num_samples / rate if rate else None,
            )
            for name in names
            if chosen in (name, None) or len(names) == 1
        ]
        movies = by_plane(movies, self.arguments)
        return Contents(movies=movies, photon_series_type=self.photon_series_type, remarks=remarks)

    def start(self) -> datetime | None:
        """When the first sample was taken."""
        return self.ome.start

    def metadata(self) -> HeaderMetadata:
        """Tell what the OME-XML says of the plane and the channel."""
        headers = Headers()
        headers.start(self.start(), f"{self.ome.source.name}: AcquisitionDate")
        rate, source = self.rate()
        headers.add("plane", "imaging_rate", rate, source)
        self.describe_pixels(headers)
        chosen = self.arguments.get("channel_name")
        names = [name for name in self.channels if chosen == name] or self.channels
        if len(names) == 1 and names != ["0"]:
            headers.channel(names[0], f"{self.ome.source.name}: Channel")
        for element in self.ome.root.iter("Microscope"):
            text = " ".join(filter(None, (element.get("Manufacturer"), element.get("Model"))))
            headers.describe("device", "Microscope", text, f"{self.ome.source.name}: Microscope")
        for element in self.ome.root.iter("Objective"):
            lens = element.get("Model") or element.get("NominalMagnification")
            headers.describe("device", "Objective", lens, f"{self.ome.source.name}: Objective")
        return of_plane(headers.result(), self.arguments)

    def describe_pixels(self, headers: Headers) -> None:
        """Take down how large pixels and frames are."""
        axes = "XYZ" if self.ome.size("Z") > 1 else "XY"
        spacing = [self.ome.spacing(axis) for axis in axes]
        known = [length for length in spacing if length is not None]
        if len(known) < len(axes):
            known = known[:2] if spacing[0] and spacing[1] else []
        source = f"{self.ome.source.name}: PhysicalSizeX, PhysicalSizeY"
        if known:
            extent = [length * self.ome.size(axis) for length, axis in zip(known[:2], "XY", strict=True)]
            headers.add("plane", "grid_spacing", known, source)
            headers.add("plane", "grid_spacing_unit", "meters", source)
            headers.add("series", "field_of_view", extent, source)


def _kind(page: Page) -> str:
    return f"{page.rows} x {page.columns} pixels ({page.dtype})"
