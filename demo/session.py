"""
The two files that describe an acquisition: ``session.yaml`` says which extractors read it, ``metadata.yaml`` is
the metadata of its NWB file.

For a simulated acquisition all is known. For a folder of the user's own that has no ``session.yaml``, both are
guessed from the files, and every guess is said.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

# The key under which device, plane, series and segmentation refer to each other.
KEY = "two_photon"
SESSION = "session.yaml"
METADATA = "metadata.yaml"
UNKNOWN_WAVELENGTH = "nan"
TIFF_SUFFIXES = {".tif", ".tiff"}


class UnknownRecordingError(ValueError):
    """A folder in which no recording could be recognised."""


@dataclass
class GuessedSession:
    """The descriptions made for a folder that had none, by file name, and what had to be assumed."""

    files: dict[str, str]
    assumptions: list[str] = field(default_factory=list)


def simulated_session(seed: int) -> dict[str, str]:
    """Describe a simulated acquisition: the texts of its files, by name."""
    metadata = {
        "NWBFile": {
            "session_start_time": "2026-01-15T10:30:00-08:00",
            "session_description": "Simulated two-photon imaging of spontaneous activity in visual cortex.",
            "identifier": f"simulated-two-photon-{seed}",
            "experimenter": ["Doe, Jane"],
            "institution": "Institute of Simulated Neuroscience",
            "lab": "Imaging",
            "keywords": ["two-photon", "calcium imaging", "simulation"],
            "experiment_description": "Shows how a recording becomes an archived NWB file.",
        },
        "Subject": {
            "subject_id": f"simulated-mouse-{seed}",
            "species": "Mus musculus",
            "sex": "F",
            "age": "P90D",
            "description": "A simulated mouse.",
        },
        **_ophys_metadata(
            device={
                "name": "Microscope",
                "description": "Simulated resonant-scanning two-photon microscope.",
                "manufacturer": "simulated",
            },
            indicator="GCaMP6f",
            location="VISp",
            excitation_lambda=920.0,
            emission_lambda=510.0,
        ),
    }
    return _to_yaml(
        metadata,
        imaging=_source("ScanImageImagingExtractor", file_path="movie.tif"),
        segmentation=_source("Suite2pSegmentationExtractor", folder_path="suite2p"),
    )


def guess_session(folder: Path, *, sampling_frequency: float | None = None) -> GuessedSession:
    """
    Describe a folder: its first TIFF movie (ScanImage before others) and its suite2p output, if any.

    :param folder: The acquisition's folder; only read.
    :param sampling_frequency: Frames per second, for a TIFF that is not ScanImage's, and only for that.
    :raises UnknownRecordingError: When there is no TIFF movie, or its rate is not known or known twice.
    """
    assumptions: list[str] = []
    movie, imaging = _guess_imaging(folder, sampling_frequency, assumptions)
    segmentation = _guess_segmentation(folder, assumptions)
    started = datetime.fromtimestamp(movie.stat().st_mtime, UTC).astimezone()
    assumptions.append(f"the session started when {movie.name} was last changed: {started:%Y-%m-%d %H:%M %Z}")
    assumptions.append("indicator, location and wavelengths are not known")
    metadata = {
        "NWBFile": {
            "session_start_time": started.isoformat(),
            "session_description": f"Converted from the folder {folder.name}.",
        },
        **_ophys_metadata(
            device={"name": "Microscope"},
            indicator="unknown",
            location="unknown",
            excitation_lambda=UNKNOWN_WAVELENGTH,
            emission_lambda=UNKNOWN_WAVELENGTH,
        ),
    }
    return GuessedSession(_to_yaml(metadata, imaging=imaging, segmentation=segmentation), assumptions)


def _guess_imaging(
    folder: Path, sampling_frequency: float | None, assumptions: list[str]
) -> tuple[Path, dict[str, Any]]:
    from natsort import natsorted

    files = [file for file in folder.rglob("*") if file.suffix.lower() in TIFF_SUFFIXES and file.is_file()]
    if not files:
        raise UnknownRecordingError(
            f"{folder} holds no TIFF movie (*.tif, *.tiff). For another format, write a session.yaml into the "
            "folder that names its extractor; docs/session-yaml.md shows one."
        )
    # Natural order: the first of movie_1 ... movie_10 is movie_1. Higher folders come first.
    ordered = natsorted(files, key=lambda file: (len(file.parts), str(file)))
    for file in ordered:
        if channels := _scanimage_channels(file):
            if sampling_frequency is not None:
                raise UnknownRecordingError(
                    f"{file} is ScanImage's and says how fast it was recorded: leave out --sampling-frequency."
                )
            source = _source("ScanImageImagingExtractor", file_path=str(file.relative_to(folder)))
            if len(channels) > 1:
                source["extractor_kwargs"]["channel_name"] = channels[0]
                assumptions.append(f"of the channels {', '.join(channels)} the first is meant")
            assumptions.append(f"the movie is {file.relative_to(folder)}, read as ScanImage")
            return file, source
    movie = ordered[0]
    if sampling_frequency is None:
        raise UnknownRecordingError(
            f"{movie} is not ScanImage's, so it does not say how fast it was recorded: add "
            "--sampling-frequency HZ."
        )
    assumptions.append(f"the movie is {movie.relative_to(folder)}, at {sampling_frequency:g} frames per second")
    source = _source(
        "TiffImagingExtractor",
        file_path=str(movie.relative_to(folder)),
        sampling_frequency=sampling_frequency,
    )
    return movie, source


def _scanimage_channels(path: Path) -> list[str]:
    """List the channels of a ScanImage file; none when it is another TIFF."""
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        settings = (tiff.scanimage_metadata or {}).get("FrameData", {})
    if "SI.hChannels.channelSave" not in settings:
        return []
    saved, names = settings["SI.hChannels.channelSave"], settings["SI.hChannels.channelName"]
    return [names[number - 1] for number in (saved if isinstance(saved, list) else [saved])]


def _guess_segmentation(folder: Path, assumptions: list[str]) -> dict[str, Any] | None:
    planes = sorted(file.parent for file in folder.rglob("plane*/stat.npy"))
    if not planes:
        assumptions.append("there is no segmentation: no suite2p folder (plane0/stat.npy) was found")
        return None
    suite2p = planes[0].parent.relative_to(folder)
    assumptions.append(f"the segmentation is suite2p's in {suite2p}, {planes[0].name}")
    return _source("Suite2pSegmentationExtractor", folder_path=str(suite2p), plane_name=planes[0].name)


def _source(extractor: str, **extractor_kwargs: str | float) -> dict[str, Any]:
    return {"extractor": extractor, "extractor_kwargs": extractor_kwargs}


def _ophys_metadata(
    *,
    device: dict[str, str],
    indicator: str,
    location: str,
    excitation_lambda: float | str,
    emission_lambda: float | str,
) -> dict[str, Any]:
    """Describe one plane, its movie and its segmentation; wavelengths in nanometres, "nan" when not known."""
    channel = {
        "name": "Green",
        "description": "Fluorescence of the indicator.",
        "emission_lambda": emission_lambda,
    }
    plane = {
        "name": "ImagingPlane",
        "description": "The plane that was scanned.",
        "device_metadata_key": KEY,
        "excitation_lambda": excitation_lambda,
        "indicator": indicator,
        "location": location,
        "optical_channel": [channel],
    }
    series = {
        "name": "TwoPhotonSeries",
        "description": "Fluorescence as it was recorded, not corrected for motion.",
        "unit": "n.a.",
        "imaging_plane_metadata_key": KEY,
    }
    segmentation = {
        "name": "PlaneSegmentation",
        "description": "Structures that suite2p found.",
        "imaging_plane_metadata_key": KEY,
    }
    return {
        "Devices": {KEY: device},
        "Ophys": {
            "ImagingPlanes": {KEY: plane},
            "MicroscopySeries": {KEY: series},
            "PlaneSegmentations": {KEY: segmentation},
        },
    }


def _to_yaml(
    metadata: dict[str, Any], *, imaging: dict[str, Any], segmentation: dict[str, Any] | None
) -> dict[str, str]:
    session = {"imaging": imaging}
    if segmentation is not None:
        session["segmentation"] = segmentation
    return {
        METADATA: yaml.safe_dump(metadata, sort_keys=False),
        SESSION: yaml.safe_dump(session, sort_keys=False),
    }
