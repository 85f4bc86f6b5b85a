"""
From extractors to NWB files: typed functions around pynwb, usable without Airflow.

The names below are what users rely on; each is imported on first use, because pynwb takes seconds to load.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_ophys.conversion.configuration import get_default_backend_configuration
    from airflow_provider_ophys.conversion.existing_configuration import get_existing_backend_configuration
    from airflow_provider_ophys.conversion.writers import write_imaging_to_nwbfile, write_segmentation_to_nwbfile
    from airflow_provider_ophys.models.backend import HDF5BackendConfiguration, ZarrBackendConfiguration
    from airflow_provider_ophys.nwb.imaging import add_imaging_to_nwbfile
    from airflow_provider_ophys.nwb.segmentation import add_segmentation_to_nwbfile
    from airflow_provider_ophys.writing.iterator import ImagingExtractorDataChunkIterator

__all__ = [
    "HDF5BackendConfiguration",
    "ImagingExtractorDataChunkIterator",
    "ZarrBackendConfiguration",
    "add_imaging_to_nwbfile",
    "add_segmentation_to_nwbfile",
    "get_default_backend_configuration",
    "get_existing_backend_configuration",
    "write_imaging_to_nwbfile",
    "write_segmentation_to_nwbfile",
]

_MODULES = {
    "HDF5BackendConfiguration": "airflow_provider_ophys.models.backend",
    "ZarrBackendConfiguration": "airflow_provider_ophys.models.backend",
    "get_default_backend_configuration": "airflow_provider_ophys.conversion.configuration",
    "get_existing_backend_configuration": "airflow_provider_ophys.conversion.existing_configuration",
    "add_imaging_to_nwbfile": "airflow_provider_ophys.nwb.imaging",
    "write_imaging_to_nwbfile": "airflow_provider_ophys.conversion.writers",
    "add_segmentation_to_nwbfile": "airflow_provider_ophys.nwb.segmentation",
    "write_segmentation_to_nwbfile": "airflow_provider_ophys.conversion.writers",
    "ImagingExtractorDataChunkIterator": "airflow_provider_ophys.writing.iterator",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
