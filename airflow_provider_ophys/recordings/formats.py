"""Which module knows the recordings of which extractor."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import import_module
from typing import Any, cast

from airflow_provider_ophys.models.recording import Kind
from airflow_provider_ophys.recordings.recording import Recording

# Name of a roiextractors class -> module here, and its class. Of several with one short name, the first is meant.
FORMATS: dict[Kind, dict[str, str]] = {
    "imaging": {
        "TiffImagingExtractor": "tiff:TiffRecording",
        "MultiTIFFMultiPageExtractor": "multi_tiff:MultiTiffRecording",
        "OMETiffImagingExtractor": "ome_tiff:OmeTiffRecording",
        "MicroManagerTiffImagingExtractor": "micromanager:MicroManagerRecording",
        "ThorTiffImagingExtractor": "thor:ThorRecording",
        "BrukerTiffImagingExtractor": "bruker:BrukerRecording",
        "BrukerTiffMultiPlaneImagingExtractor": "bruker:BrukerRecording",
        "BrukerTiffSinglePlaneImagingExtractor": "bruker:BrukerRecording",
        "ScanImageImagingExtractor": "scanimage:ScanImageRecording",
        "ScanImageLegacyImagingExtractor": "scanimage_legacy:ScanImageLegacyRecording",
        "PlanarStackImagingExtractor": "planar_stack:PlanarStackRecording",
        "MiniscopeImagingExtractor": "miniscope:MiniscopeRecording",
        "MiniscopeMultiRecordingImagingExtractor": "miniscope_series:MiniscopeMultiRecording",
        "FemtonicsImagingExtractor": "femtonics:FemtonicsRecording",
        "Hdf5ImagingExtractor": "hdf5_movie:Hdf5Recording",
        "NwbImagingExtractor": "nwb_movie:NwbRecording",
        "InscopixImagingExtractor": "inscopix_movie:InscopixRecording",
        "SbxImagingExtractor": "sbx:SbxRecording",
        "NumpyImagingExtractor": "numpy_movie:NumpyRecording",
        "NumpyMemmapImagingExtractor": "numpy_movie:MemmapRecording",
        "MemmapImagingExtractor": "numpy_movie:AbstractMemmapRecording",
    },
    "segmentation": {
        "Suite2pSegmentationExtractor": "suite2p:Suite2pRecording",
        "CaimanSegmentationExtractor": "caiman:CaimanRecording",
        "CnmfeSegmentationExtractor": "schnitzer:CnmfeRecording",
        "ExtractSegmentationExtractor": "schnitzer:ExtractRecording",
        "MinianSegmentationExtractor": "minian:MinianRecording",
        "InscopixSegmentationExtractor": "inscopix_cells:InscopixCellsRecording",
        "NwbSegmentationExtractor": "nwb_cells:NwbCellsRecording",
        "SimaSegmentationExtractor": "sima:SimaRecording",
    },
}


def short_name(name: str) -> str:
    """``"ScanImageImagingExtractor"``, ``"scan_image"`` and ``"ScanImage"`` have the same short name."""
    return re.sub(
        r"[^a-z0-9]", "", re.sub(r"(imaging|segmentation)?(extractor)?$", "", name.lower().replace("_", ""))
    )


def is_meant(name: str, full_name: str) -> bool:
    """
    Tell whether a name is a short form of a class's, as ``"Thor"`` is of ``ThorTiffImagingExtractor``.

    :param name: As the user wrote it.
    :param full_name: Of a class.
    """
    wanted, short = short_name(name), short_name(full_name)
    return bool(wanted) and wanted in (short, short.removesuffix("tiff"), short.removesuffix("multipage"))


def format_of(kind: Kind, extractor: str) -> type[Recording]:
    """
    Return the class that knows an extractor's recordings; the general one where none does.

    :param kind: ``"imaging"`` or ``"segmentation"``.
    :param extractor: Name of a roiextractors class, or a short form of it.
    """
    known = FORMATS[kind]
    name = extractor if extractor in known else None
    if name is None:
        name = next((full for full in known if is_meant(extractor, full)), None)
    if name is None:
        return Recording
    module, _, class_name = known[name].partition(":")
    found = getattr(import_module(f"airflow_provider_ophys.recordings.{module}"), class_name)
    return cast("type[Recording]", found)


def recording_of(
    kind: Kind, extractor: str, arguments: Mapping[str, Any], *, allow_pickle: bool = False
) -> Recording:
    """
    Return a recording, of which nothing is looked at yet.

    :param kind: ``"imaging"`` or ``"segmentation"``.
    :param extractor: Name of a roiextractors class, or a short form of it.
    :param arguments: Its keyword arguments.
    :param allow_pickle: Whether pickles in it may run what they want.
    """
    return format_of(kind, extractor)(extractor, arguments, allow_pickle=allow_pickle)
