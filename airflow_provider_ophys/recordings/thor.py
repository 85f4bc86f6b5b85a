"""ThorImage's recordings: ``Experiment.xml``, and TIFFs of which the first one's OME-XML names all."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from xml.etree.ElementTree import Element

from airflow_provider_ophys.exceptions import SourceDataError
from airflow_provider_ophys.models.recording import Contents, FoundRecording, HeaderMetadata, PhotonSeriesType
from airflow_provider_ophys.recordings.headers import Headers
from airflow_provider_ophys.recordings.ome import is_ome
from airflow_provider_ophys.recordings.ome_tiff import OmeTiffRecording
from airflow_provider_ophys.recordings.recording import require_regular, require_within
from airflow_provider_ophys.recordings.tiff_folder import tiffs_by_series
from airflow_provider_ophys.recordings.tiff_pages import peek_first_page
from airflow_provider_ophys.recordings.volumes import of_plane
from airflow_provider_ophys.recordings.xml_headers import number, read_xml

EXPERIMENT = "Experiment.xml"
UM = 1e-6


class ThorRecording(OmeTiffRecording):
    """The TIFFs that one OME-XML names, with ThorImage's settings, read by ``ThorTiffImagingExtractor``."""

    photon_series_type: PhotonSeriesType | None = "TwoPhotonSeries"

    @classmethod
    def find(cls, folder: Path) -> list[FoundRecording]:
        """Find the recordings of a folder that has ThorImage's settings."""
        if not (folder / EXPERIMENT).is_file():
            return []
        found = []
        for first, *_ in tiffs_by_series(folder):
            page = peek_first_page(first)
            if page is not None and is_ome(page.description):
                kwargs = {"file_path": str(first)}
                found.append(
                    FoundRecording(kind="imaging", extractor="ThorTiffImagingExtractor", extractor_kwargs=kwargs)
                )
        return found

    @cached_property
    def files(self) -> list[Path]:
        """ThorImage's settings, and the TIFFs in their order."""
        require_within(self.experiment_file, self.named.parent.resolve())
        require_regular(self.experiment_file)
        return [self.experiment_file, *super().files]

    @property
    def experiment_file(self) -> Path:
        """ThorImage's settings, beside the TIFFs."""
        return self.named.parent / EXPERIMENT

    @cached_property
    def experiment(self) -> Element:
        """
        What ThorImage was set to.

        :raises SourceDataError: If it is no whole XML of ThorImage.
        """
        file = self.experiment_file
        require_within(file, self.named.parent.resolve())
        root = read_xml(file)
        if root.tag != "ThorImageExperiment" or root.find("LSM") is None:
            raise SourceDataError(f"{file} is none of ThorImage's: its root is {root.tag}, or it has no LSM.")
        return root

    def value(self, element: str, attribute: str) -> str | None:
        """Return an attribute of ThorImage's settings; ``None`` if it is not there."""
        values = (found.get(attribute) for found in self.experiment.iter(element))
        return next((value for value in values if value is not None), None)

    def check(self) -> None:
        """
        Check that every page is there that the OME-XML refers to, and that ThorImage's settings are whole.

        :raises SourceDataError: Names the file, and counts.
        """
        _ = self.experiment
        super().check()

    @property
    def channels(self) -> list[str]:
        """Names of the channels, as ThorImage has them."""
        names = [wave.get("name") for wave in self.experiment.findall("Wavelengths/Wavelength")]
        return [name for name in names if name is not None] or self.ome.channels

    def rate(self) -> tuple[float | None, str]:
        """
        Return the rate of the samples.

        ThorImage says how often the scanner goes over the plane; a sample may be the mean of several such frames,
        or take one for each plane, and for the flight back to the first.
        """
        frames, source = number(self.value("LSM", "frameRate")), f"{EXPERIMENT}: LSM frameRate"
        if frames is None or not 0 < frames < float("inf"):
            return None, source
        averaged = number(self.value("LSM", "averageNum")) or 1
        if self.value("LSM", "averageMode") in ("1", "2") and averaged > 1:
            frames, source = frames / averaged, f"{source}, averageNum"
        planes = self.ome.size("Z")
        if planes > 1:
            is_fast = self.value("Streaming", "zFastEnable") == "1"
            flyback = (number(self.value("Streaming", "flybackFrames")) or 0) if is_fast else 0
            frames, source = frames / (planes + max(flyback, 0)), f"{source}, by planes"
        return frames, source

    def contents(self) -> Contents:
        """Tell of the movies of each channel, at the rate of their samples, which roiextractors does not know."""
        contents, (rate, source) = super().contents(), self.rate()
        frames = number(self.value("LSM", "frameRate"))
        if rate is None or rate == frames:
            return contents
        remark = f"The rate is {rate:g} Hz by {source}: {frames:g} Hz is that of single frames."
        return contents.model_copy(update={"remarks": [*contents.remarks, remark]})

    def start(self) -> datetime | None:
        """When the recording started, in UTC."""
        seconds = number(self.value("Date", "uTime"))
        try:
            return None if seconds is None else datetime.fromtimestamp(seconds, tz=UTC)
        except (OverflowError, OSError, ValueError):
            return None

    def metadata(self) -> HeaderMetadata:
        """Tell what ThorImage's settings say."""
        headers = Headers()
        headers.start(self.start(), f"{EXPERIMENT}: Date uTime")
        self._describe_microscope(headers)
        rate, source = self.rate()
        headers.add("plane", "imaging_rate", rate, source)
        wavelength = number(self.value("MultiPhotonLaser", "pos"))
        headers.add("plane", "excitation_lambda", wavelength or None, f"{EXPERIMENT}: MultiPhotonLaser pos")
        self.describe_pixels(headers)
        chosen = self.arguments.get("channel_name")
        names = [name for name in self.channels if name == chosen] or self.channels
        if len(names) == 1:
            headers.channel(names[0], f"{EXPERIMENT}: Wavelength name")
            letter = names[0][-1:].upper()
            gain = number(self.value("PMT", f"gain{letter}"))
            headers.add("series", "pmt_gain", gain, f"{EXPERIMENT}: PMT gain{letter}")
        return of_plane(headers.result(), self.arguments)

    def _describe_microscope(self, headers: Headers) -> None:
        headers.add("NWBFile", "experimenter", self.value("User", "name"), f"{EXPERIMENT}: User")
        headers.add("NWBFile", "notes", self.value("ExperimentNotes", "text"), f"{EXPERIMENT}: ExperimentNotes")
        headers.add("device", "manufacturer", "Thorlabs", f"{EXPERIMENT}: ThorImageExperiment")
        for section, label, element, attribute, unit in (
            ("device", "Microscope controlled by ThorImageLS", "Software", "version", ""),
            ("device", "Computer", "Computer", "name", ""),
            ("device", "Scanner", "LSM", "name", ""),
            ("device", "Objective", "Magnification", "name", ""),
            ("device", "Magnification", "Magnification", "mag", ""),
            ("device", "Laser", "MultiPhotonLaser", "name", ""),
            ("series", "Name of the experiment", "Name", "name", ""),
            ("series", "Pockels cell", "Pockels", "start", "%"),
            ("series", "Power regulator", "PowerRegulator", "start", "%"),
            ("series", "Frames averaged, if averaging was on", "LSM", "averageNum", ""),
            ("plane", "Depth of the first plane", "ZStage", "startPos", "(ThorImage's units)"),
        ):
            source = f"{EXPERIMENT}: {element} {attribute}"
            headers.describe(section, label, self.value(element, attribute), source, unit)

    def describe_pixels(self, headers: Headers) -> None:
        """Take down how large pixels and the field of view are."""
        pixel = number(self.value("LSM", "pixelSizeUM"))
        width = number(self.value("LSM", "pixelWidthUM")) or pixel
        height = number(self.value("LSM", "pixelHeightUM")) or pixel
        step = number(self.value("ZStage", "stepSizeUM")) if self.ome.size("Z") > 1 else None
        if width and height:
            spacing = [abs(length) * UM for length in (width, height, step) if length]
            headers.add("plane", "grid_spacing", spacing, f"{EXPERIMENT}: LSM pixelSizeUM")
            headers.add("plane", "grid_spacing_unit", "meters", f"{EXPERIMENT}: LSM pixelSizeUM")
        extent = number(self.value("LSM", "widthUM")), number(self.value("LSM", "heightUM"))
        if extent[0] and extent[1]:
            depth = [abs(step) * UM * (self.ome.size("Z") - 1)] if step else []
            field = [extent[0] * UM, extent[1] * UM, *depth]
            headers.add("series", "field_of_view", field, f"{EXPERIMENT}: LSM widthUM, heightUM")
