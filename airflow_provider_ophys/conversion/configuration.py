"""How each dataset of an NWBFile is stored: the defaults, what the user changes of them, and what a file has."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from airflow_provider_ophys.conversion.datasets import (
    BulkDataset,
    WrittenDataset,
    named_contents,
    path_of,
    written_datasets,
)
from airflow_provider_ophys.exceptions import BackendConfigurationError
from airflow_provider_ophys.models.backend import (
    Backend,
    BackendConfiguration,
    Compression,
    DatasetConfiguration,
    HDF5BackendConfiguration,
    HDF5DatasetConfiguration,
    ZarrBackendConfiguration,
    ZarrDatasetConfiguration,
    check_shard_shape,
)
from airflow_provider_ophys.models.remarks import remark
from airflow_provider_ophys.writing.codecs import SHUFFLED_METHODS
from airflow_provider_ophys.writing.layouts import layout_chunk_shape

log = logging.getLogger(__name__)

# A shard is a file: few enough of them for any file system and bucket, small enough to be sent again. As it grows
# chunk by chunk, its size costs no memory.
SHARD_BYTES = 128 * 2**20

# Of the locations that a configuration names in vain.
SHOWN = 3


def get_default_backend_configuration(nwbfile: Any, backend: Backend) -> BackendConfiguration:
    """
    Return how the datasets of an NWBFile are stored by default.

    :param nwbfile: A ``pynwb.NWBFile`` with data that is not on disk yet, added by any software.
    :param backend: ``"hdf5"`` or ``"zarr"``.
    """
    datasets = written_datasets(nwbfile)
    if backend == "hdf5":
        return HDF5BackendConfiguration(
            dataset_configurations={
                dataset.location: complete_hdf5(dataset, HDF5DatasetConfiguration(), "fast")
                for dataset in datasets
                if is_configurable(dataset, backend)
            }
        )
    return ZarrBackendConfiguration(
        dataset_configurations={
            dataset.location: complete_zarr(dataset, ZarrDatasetConfiguration(), "fast") for dataset in datasets
        }
    )


def is_configurable(dataset: WrittenDataset, backend: Backend) -> bool:
    """Whether a dataset's storage can be chosen: hdmf itself stores records in HDF5 in one way only."""
    return backend == "zarr" or isinstance(dataset, BulkDataset) or not dataset.is_compound


def complete_hdf5(
    dataset: WrittenDataset, given: HDF5DatasetConfiguration, compression: Compression
) -> HDF5DatasetConfiguration:
    """
    Fill what a configuration leaves open.

    Texts are not compressed unless told so: what HDF5 would compress is where they are, not what they say.

    :param compression: For datasets that do not name their own.
    """
    method = given.compression_method or ("none" if dataset.is_text else compression)
    shuffle = method in SHUFFLED_METHODS and not dataset.is_text and dataset.dtype.itemsize > 1
    filters = given.filter_methods if given.filter_methods is not None else ("shuffle",) * shuffle
    chunk_shape = _given_chunk_shape(dataset, given)
    # Without filters, what is written at once is stored in one piece.
    is_chunked = method != "none" or bool(filters) or isinstance(dataset, BulkDataset)
    return given.model_copy(
        update={
            "chunk_shape": chunk_shape or (dataset.chunk_shape if is_chunked else None),
            "buffer_shape": given.buffer_shape or _buffer_shape(dataset, chunk_shape),
            "compression_method": method,
            "filter_methods": filters,
        }
    )


def complete_zarr(
    dataset: WrittenDataset, given: ZarrDatasetConfiguration, compression: Compression
) -> ZarrDatasetConfiguration:
    """Fill what a configuration leaves open; as :func:`complete_hdf5`."""
    given_shape = _given_chunk_shape(dataset, given)
    chunk_shape = given_shape or dataset.chunk_shape
    return given.model_copy(
        update={
            "chunk_shape": chunk_shape,
            "buffer_shape": given.buffer_shape or _buffer_shape(dataset, given_shape),
            "shard_shape": given.shard_shape or _default_shard_shape(dataset, chunk_shape),
            "compression_method": given.compression_method or compression,
            "filter_methods": given.filter_methods or (),
        }
    )


def _given_chunk_shape(dataset: WrittenDataset, given: DatasetConfiguration) -> tuple[int, ...] | None:
    if given.chunk_shape is None and given.chunk_layout is not None:
        return layout_chunk_shape(given.chunk_layout, dataset.shape, dataset.dtype.itemsize)
    return given.chunk_shape


def _buffer_shape(dataset: WrittenDataset, chunk_shape: tuple[int, ...] | None) -> tuple[int, ...]:
    """Return the default buffer, or more of it if a chunk of the user's does not fit into it."""
    if chunk_shape is None or len(chunk_shape) != len(dataset.shape):
        return dataset.buffer_shape
    return tuple(max(lengths) for lengths in zip(chunk_shape, dataset.buffer_shape, strict=True))


def _default_shard_shape(dataset: WrittenDataset, chunk_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Whole samples, about 128 MiB of them, uncompressed."""
    row_bytes = dataset.dtype.itemsize
    for length in dataset.shape[1:]:
        row_bytes *= length
    rows = max(1, SHARD_BYTES // (chunk_shape[0] * row_bytes)) * chunk_shape[0]
    whole = [-(-length // chunk) * chunk for length, chunk in zip(dataset.shape, chunk_shape, strict=True)]
    return (min(rows, whole[0]), *whole[1:])


def check_configuration(nwbfile: Any, datasets: list[WrittenDataset], configuration: BackendConfiguration) -> None:
    """
    Check that a configuration fits the datasets that it names.

    What is stored already, and what a configuration of a whole file says of another part of it, is passed over
    with a remark.

    :param nwbfile: What is written; a ``pynwb.NWBFile``.
    :param datasets: Of it, that are not on disk yet.
    :raises BackendConfigurationError: If it names a dataset that is not there, or something that does not fit.
    """
    by_location = {
        dataset.location: dataset for dataset in datasets if is_configurable(dataset, configuration.backend)
    }
    others = _of_other_parts(nwbfile, by_location, configuration)
    for location, wanted in configuration.dataset_configurations.items():
        if location in others:
            continue
        if location not in by_location:
            known = ", ".join(map(repr, by_location)) or "none"
            raise BackendConfigurationError(
                f"backend_configuration names {location!r}, which is not written (written: {known})."
            )
        try:
            _check_dataset(by_location[location], wanted)
        except ValueError as error:
            raise BackendConfigurationError(f"backend_configuration of {location!r}: {error}.") from error
    if others:
        shown = ", ".join(map(repr, others[:SHOWN])) + (
            f" and {len(others) - SHOWN} more" if others[SHOWN:] else ""
        )
        remark(f"backend_configuration names what is not written by this conversion and is passed over: {shown}.")


def _of_other_parts(
    nwbfile: Any, written: Mapping[str, WrittenDataset], configuration: BackendConfiguration
) -> list[str]:
    """
    Return the locations of a configuration that are not for what is written.

    Nothing tells a slip of the pen from another part of a file but that the configuration of a whole file names
    all that is written, and says of each dataset how it is encoded.
    """
    given = configuration.dataset_configurations
    unwritten = [location for location in given if location not in written]
    if not unwritten:
        return []
    there = {f"{path_of(container)}/{name}" for container, name in named_contents(nwbfile)}
    of_whole_file = written.keys() <= given.keys()
    return [
        location
        for location in unwritten
        if location in there or (of_whole_file and _says_how_to_encode(given[location]))
    ]


def _says_how_to_encode(configuration: DatasetConfiguration) -> bool:
    """Tell whether it may be of a whole file, of which each dataset is stored in some way."""
    return configuration.compression_method is not None or configuration.filter_methods is not None


def _check_dataset(dataset: WrittenDataset, wanted: DatasetConfiguration) -> None:
    _given_chunk_shape(dataset, wanted)
    for name in ("chunk_shape", "buffer_shape"):
        shape = getattr(wanted, name)
        if shape is not None and (
            len(shape) != len(dataset.shape)
            or any(length > whole for length, whole in zip(shape, dataset.shape, strict=True))
        ):
            raise ValueError(
                f"{name} {shape} does not fit its shape {dataset.shape}: give one length per axis, none longer "
                "than the axis"
            )
    if wanted.buffer_shape not in (None, dataset.shape) and not isinstance(dataset, BulkDataset):
        raise ValueError(
            f"buffer_shape {wanted.buffer_shape} is of no use: it is in memory as a whole; leave it out"
        )
    if isinstance(wanted, ZarrDatasetConfiguration) and wanted.shard_shape is not None:
        check_shard_shape(wanted.shard_shape, _given_chunk_shape(dataset, wanted) or dataset.chunk_shape)
    # HDF5's filters take bytes, of records too; those of numcodecs compute with numbers.
    is_hdf5 = isinstance(wanted, HDF5DatasetConfiguration)
    harmless = {"fletcher32", "shuffle"} if is_hdf5 and dataset.is_compound else {"fletcher32"}
    if (dataset.is_text or dataset.is_compound) and set(wanted.filter_methods or ()) - harmless:
        raise ValueError(f"filter_methods {list(wanted.filter_methods or ())} are for numbers; leave them out")
