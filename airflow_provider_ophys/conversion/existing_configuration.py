"""How the datasets of an NWB file on disk are stored, read from the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py

from airflow_provider_ophys.conversion.datasets import content_of, named_contents, path_of
from airflow_provider_ophys.conversion.storages import open_storage
from airflow_provider_ophys.models.backend import (
    BackendConfiguration,
    DatasetConfiguration,
    HDF5BackendConfiguration,
    HDF5DatasetConfiguration,
    ZarrBackendConfiguration,
    ZarrDatasetConfiguration,
)
from airflow_provider_ophys.nwb.existing import backend_of
from airflow_provider_ophys.writing.codecs import hdf5_filters_of
from airflow_provider_ophys.writing.zarr_codecs import zarr_codecs_of


def get_existing_backend_configuration(nwbfile_path: str | Path) -> BackendConfiguration:
    """
    Read how the datasets of an NWB file on disk are stored, to write others in the same way.

    Of datasets without elements nothing is told. A codec or filter that this package does not write is left out,
    and a line in the log says so.

    :param nwbfile_path: File (HDF5) or folder (Zarr, format 3).
    :raises SourceNotFoundError: If there is nothing at the path.
    :raises SourceDataError: If it is neither.
    """
    path = Path(nwbfile_path)
    found: dict[str, Any] = {}
    with open_storage(path).io(path, "r") as io:
        for container, name in named_contents(io.read()):
            stored = content_of(container, name)
            stored = getattr(stored, "dataset", stored)  # hdmf wraps texts and records
            is_dataset = getattr(stored, "chunks", None) is not None or isinstance(stored, h5py.Dataset)
            if is_dataset and all(stored.shape):
                found[f"{path_of(container)}/{name}"] = _configuration_of(stored)
    model = HDF5BackendConfiguration if backend_of(path) == "hdf5" else ZarrBackendConfiguration
    return model(dataset_configurations=dict(sorted(found.items())))


def _configuration_of(stored: Any) -> DatasetConfiguration:
    if isinstance(stored, h5py.Dataset):
        method, options, filters = hdf5_filters_of(stored)
        return HDF5DatasetConfiguration(
            chunk_shape=stored.chunks,
            compression_method=method,
            compression_options=options,
            filter_methods=filters,
        )
    method, options, filters, filter_options = zarr_codecs_of(stored)
    return ZarrDatasetConfiguration(
        chunk_shape=stored.chunks,
        shard_shape=stored.shards,
        compression_method=method,
        compression_options=options,
        filter_methods=filters,
        filter_options=filter_options,
    )
