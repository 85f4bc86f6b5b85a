"""Which datasets of an NWBFile are big, how each is stored, and how it is declared and then filled."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
from hdmf.backends.hdf5 import H5DataIO
from hdmf.common import VectorData
from pynwb import NWBHDF5IO, NWBFile, TimeSeries

from airflow_provider_ophys.exceptions import BackendConfigurationError, InvalidOutputError
from airflow_provider_ophys.models.backend import (
    Backend,
    BackendConfiguration,
    Compression,
    HDF5BackendConfiguration,
    HDF5DatasetConfiguration,
    ZarrBackendConfiguration,
    ZarrDatasetConfiguration,
)
from airflow_provider_ophys.writing.codecs import ZarrCodec, hdf5_codec, zarr_codec
from airflow_provider_ophys.writing.hdf5_sink import HDF5FilterSink, HDF5Sink, open_for_filling
from airflow_provider_ophys.writing.iterator import BulkDataChunkIterator
from airflow_provider_ophys.writing.pipeline import FillPlan, fill, plan_source
from airflow_provider_ophys.writing.shards import ShardGrid
from airflow_provider_ophys.writing.sharing import Resources

if TYPE_CHECKING:
    import zarr
    from hdmf.backends.io import HDMFIO

# A shard is a file: few enough of them for any file system and bucket, small enough to be sent again. As it grows
# chunk by chunk, its size costs no memory.
SHARD_BYTES = 128 * 2**20


ZARR_METADATA = "zarr.json"


@dataclass(frozen=True)
class BulkDataset:
    """
    A dataset that is declared when the file's structure is written, and filled afterwards.

    :param container: The pynwb object that holds it; ``None`` once the structure is on disk.
    :param location: Where it is, as configurations name it, for example ``acquisition/S/data``.
    :param path: Where it is in the file.
    :param source: What it is filled from.
    """

    container: Any
    location: str
    path: str
    source: BulkDataChunkIterator

    @property
    def num_bytes(self) -> int:
        """Uncompressed size."""
        return math.prod(self.source.maxshape) * int(self.source.dtype.itemsize)

    @property
    def is_shown_as_one_row(self) -> bool:
        """Whether pynwb, which goes through records row by row, writes one row, and the dataset grows later."""
        return self.source.dtype.names is not None

    def set_data_io(self, data_io_class: type, settings: Mapping[str, Any]) -> None:
        """Have pynwb declare the dataset with these settings, and leave its content to us."""
        self.source.filled_later = True
        if isinstance(self.container, TimeSeries):
            self.container.set_data_io("data", data_io_class, dict(settings))
        else:
            self.container.set_data_io(data_io_class, dict(settings))


def bulk_datasets(nwbfile: NWBFile) -> list[BulkDataset]:
    """Find the datasets of an NWBFile that are to be filled from a source."""
    found = []
    for container in nwbfile.all_children():
        if isinstance(container, (TimeSeries, VectorData)):
            source = container.fields.get("data") if isinstance(container, TimeSeries) else container.data
            if isinstance(source, BulkDataChunkIterator):
                path = path_of(container)
                in_file = f"{path}/data" if isinstance(container, TimeSeries) else path
                found.append(BulkDataset(container, f"{path}/data", in_file, source))
    return sorted(found, key=lambda dataset: dataset.location)


def path_of(container: Any) -> str:
    """Return where an object of the acquisition or of a processing module is in the file."""
    names = []
    while not isinstance(container, NWBFile):
        names.append(container.name)
        child, container = container, container.parent
    section = "acquisition" if container.acquisition.get(child.name) is child else "processing"
    return "/".join([section, *reversed(names)])


def get_default_backend_configuration(nwbfile: NWBFile, backend: Backend) -> BackendConfiguration:
    """
    Return how the big datasets of an NWBFile are stored when nobody says otherwise.

    :param nwbfile: In memory, with series or tables from ``add_*_to_nwbfile`` that are not written yet.
    :param backend: ``"hdf5"`` or ``"zarr"``.
    """
    datasets = bulk_datasets(nwbfile)
    if backend == "hdf5":
        return HDF5BackendConfiguration(
            dataset_configurations={
                dataset.location: HDF5DatasetConfiguration(
                    chunk_shape=dataset.source.chunk_shape, compression_method="fast"
                )
                for dataset in datasets
            }
        )
    return ZarrBackendConfiguration(
        dataset_configurations={
            dataset.location: ZarrDatasetConfiguration(
                chunk_shape=dataset.source.chunk_shape,
                shard_shape=_default_shard_shape(dataset.source, dataset.source.chunk_shape),
                compression_method="fast",
            )
            for dataset in datasets
        }
    )


def check_configuration(datasets: list[BulkDataset], configuration: BackendConfiguration) -> None:
    """
    Check that a configuration fits the datasets that it names.

    :raises BackendConfigurationError: If it names a dataset that is not there, or a shape that does not fit.
    """
    by_location = {dataset.location: dataset for dataset in datasets}
    for location, wanted in configuration.dataset_configurations.items():
        if location not in by_location:
            known = ", ".join(map(repr, by_location)) or "none"
            raise BackendConfigurationError(
                f"backend_configuration names {location!r}, which is not written (written: {known})."
            )
        shape = by_location[location].source.maxshape
        if wanted.chunk_shape is not None and (
            len(wanted.chunk_shape) != len(shape)
            or any(chunk > length for chunk, length in zip(wanted.chunk_shape, shape, strict=True))
        ):
            raise BackendConfigurationError(
                f"chunk_shape {wanted.chunk_shape} of {location!r} does not fit its shape {tuple(shape)}: "
                "give one length per axis, none longer than the axis."
            )


class HDF5Storage:
    """
    Declares and fills the datasets of an HDF5 file.

    :param configuration: Per dataset.
    :param compression: For datasets that do not say otherwise.
    """

    def __init__(self, configuration: HDF5BackendConfiguration, compression: Compression) -> None:
        self.configuration = configuration
        self._compression = compression

    def io(self, path: Path, mode: str, **options: Any) -> HDMFIO:
        """Open an NWB file with pynwb, and its options."""
        return NWBHDF5IO(path, mode, **options)

    def write(self, io: HDMFIO, nwbfile: NWBFile) -> None:
        """Write the structure and everything that is small."""
        io.write(nwbfile)

    def declare(self, dataset: BulkDataset) -> None:
        """Set shape, chunks and filters of a dataset."""
        method, level, chunk_shape = self._settings(dataset)
        codec = hdf5_codec(method, level, dataset.source.dtype.itemsize)
        filters = {"compression": method} if codec is None else codec.filters
        growing = {"maxshape": dataset.source.maxshape} if dataset.is_shown_as_one_row else {}
        dataset.set_data_io(H5DataIO, {"chunks": chunk_shape, **filters, **growing})

    def plan(self, dataset: BulkDataset, resources: Resources) -> FillPlan:
        """
        Plan how a dataset will be filled.

        :raises MemoryBudgetError: If the budget is too small.
        """
        method, level, chunk_shape = self._settings(dataset)
        sink = HDF5FilterSink if hdf5_codec(method, level, dataset.source.dtype.itemsize) is None else HDF5Sink
        return plan_source(
            dataset.source,
            rows_per_task=chunk_shape[0],
            scratch_tasks=sink.scratch_tasks,
            result_tasks=sink.result_tasks,
            resources=resources,
        )

    def compresses(self, dataset: BulkDataset) -> bool:
        """Tell whether a dataset becomes smaller when it is stored."""
        return self._settings(dataset)[0] != "none"

    def fill(self, path: Path, datasets: list[BulkDataset], resources: Resources) -> None:
        """Fill the declared datasets."""
        with open_for_filling(path) as file:
            for dataset in datasets:
                target = file[dataset.path]
                method, level, _ = self._settings(dataset)
                codec = hdf5_codec(method, level, target.dtype.itemsize)
                sink = HDF5FilterSink(target) if codec is None else HDF5Sink(target, codec)
                fill(dataset.source, sink, resources, name=dataset.location)

    def check_filled(self, path: Path, dataset_paths: Sequence[str]) -> None:
        """
        Check that every chunk of datasets is there.

        :raises InvalidOutputError: If not.
        """
        with h5py.File(path, "r") as file:
            for dataset_path in dataset_paths:
                dataset = file[dataset_path]
                wanted = math.prod(
                    -(-length // step) for length, step in zip(dataset.shape, dataset.chunks, strict=True)
                )
                if (found := dataset.id.get_num_chunks()) != wanted:
                    raise _not_filled(dataset_path, f"{found} of {wanted} chunks are there")

    @contextmanager
    def open_groups(self, path: Path, mode: str) -> Iterator[Any]:
        """Open the file below pynwb."""
        with h5py.File(path, mode) as file:
            yield file

    def _settings(self, dataset: BulkDataset) -> tuple[str, int | None, tuple[int, ...]]:
        given = self.configuration.dataset_configurations.get(dataset.location, HDF5DatasetConfiguration())
        return (
            given.compression_method or self._compression,
            given.compression_options.get("level"),
            given.chunk_shape or dataset.source.chunk_shape,
        )


class ZarrStorage:
    """
    Declares and fills the arrays of a Zarr (format 3) store.

    :param configuration: Per dataset.
    :param compression: For datasets that do not say otherwise.
    """

    def __init__(self, configuration: ZarrBackendConfiguration, compression: Compression) -> None:
        self.configuration = configuration
        self._compression = compression

    def io(self, path: Path, mode: str, **options: Any) -> HDMFIO:
        """Open an NWB store with hdmf-zarr, and its options."""
        from hdmf_zarr import NWBZarrIO

        if mode == "r+":
            _drop_gathered_metadata(path)
        return NWBZarrIO(str(path), mode, **options)

    def write(self, io: HDMFIO, nwbfile: NWBFile) -> None:
        """Write the structure and everything that is small."""
        with _quiet_consolidation():
            io.write(nwbfile)

    def declare(self, dataset: BulkDataset) -> None:
        """Set shape, chunks, shards and compressors of an array."""
        from hdmf_zarr import ZarrDataIO

        given = self._given(dataset)
        chunk_shape = given.chunk_shape or dataset.source.chunk_shape
        dataset.set_data_io(
            ZarrDataIO,
            {
                "chunks": chunk_shape,
                "shards": given.shard_shape or _default_shard_shape(dataset.source, chunk_shape),
                "compressors": self._codec(dataset).declared,
            },
        )

    def plan(self, dataset: BulkDataset, resources: Resources) -> FillPlan:
        """
        Plan how an array will be filled.

        :raises MemoryBudgetError: If the budget is too small.
        """
        from airflow_provider_ophys.writing.zarr_sink import ZarrSink

        return plan_source(
            dataset.source,
            rows_per_task=(self._given(dataset).chunk_shape or dataset.source.chunk_shape)[0],
            scratch_tasks=ZarrSink.scratch_tasks,
            result_tasks=ZarrSink.result_tasks,
            resources=resources,
        )

    def compresses(self, dataset: BulkDataset) -> bool:
        """Tell whether an array becomes smaller when it is stored."""
        return (self._given(dataset).compression_method or self._compression) != "none"

    def fill(
        self, path: Path, datasets: list[BulkDataset], resources: Resources, bands: Sequence[int] | None = None
    ) -> None:
        """
        Fill those shards of the declared arrays that are missing.

        :param bands: Only these bands of shards; ``None`` for all. See :class:`ShardGrid`.
        """
        from airflow_provider_ophys.writing.zarr_sink import ZarrSink

        for dataset in datasets:
            array = self.open_array(path, dataset.path)
            with ZarrSink(array, path / dataset.path, self._codec(dataset)) as sink:
                missing = sink.grid.missing_bands(range(sink.grid.num_bands) if bands is None else bands)
                fill(dataset.source, sink, resources, name=dataset.location, spans=sink.grid.spans(missing))

    def check_filled(self, path: Path, dataset_paths: Sequence[str]) -> None:
        """
        Check that every shard of arrays is there and whole.

        :raises InvalidOutputError: If not.
        """
        for dataset_path in dataset_paths:
            grid = self.grid(path, dataset_path)
            if missing := grid.missing_bands(range(grid.num_bands)):
                listed = ", ".join(map(str, missing[:10])) + (" ..." if len(missing) > 10 else "")  # noqa: PLR2004
                raise _not_filled(
                    dataset_path, f"{len(missing)} of {grid.num_bands} bands of shards are not there: {listed}"
                )

    def open_array(self, path: Path, dataset_path: str) -> zarr.Array[Any]:
        """Open an allocated array below hdmf-zarr."""
        import zarr

        return zarr.open_group(path, mode="r", use_consolidated=False).get_array(dataset_path)

    def grid(self, path: Path, dataset_path: str) -> ShardGrid:
        """Tell where the shards of an allocated array are."""
        return ShardGrid(self.open_array(path, dataset_path), path / dataset_path)

    def _codec(self, dataset: BulkDataset) -> ZarrCodec:
        given = self._given(dataset)
        return zarr_codec(
            given.compression_method or self._compression,
            given.compression_options.get("level"),
            int(dataset.source.dtype.itemsize),
        )

    def _given(self, dataset: BulkDataset) -> ZarrDatasetConfiguration:
        return self.configuration.dataset_configurations.get(dataset.location, ZarrDatasetConfiguration())

    @contextmanager
    def open_groups(self, path: Path, mode: str) -> Iterator[Any]:
        """Open the store below hdmf-zarr; after a change the consolidated metadata is made anew."""
        import zarr

        yield zarr.open_group(path, mode=mode, use_consolidated=False)  # type: ignore[arg-type]
        if mode != "r":
            with _quiet_consolidation():
                zarr.consolidate_metadata(path)


def _drop_gathered_metadata(store: Path) -> None:
    """
    Have every group read its own metadata, before something is added; they are gathered again afterwards.

    zarr takes gathered metadata for all that there is, keeps them with each group that it then touches, and finds
    nothing that was added below such a group, not even when it gathers them anew.
    """
    for file in store.rglob(ZARR_METADATA):
        metadata = json.loads(file.read_text(encoding="utf-8"))
        if metadata.pop("consolidated_metadata", None) is not None:
            file.write_text(json.dumps(metadata, indent=2), encoding="utf-8")


Storage = HDF5Storage | ZarrStorage


@contextmanager
def _quiet_consolidation() -> Iterator[None]:
    """Gathered metadata make opening a store one read; zarr warns each time that they are not yet a standard."""
    from zarr.errors import ZarrUserWarning

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Consolidated metadata", ZarrUserWarning)
        yield


def _not_filled(dataset_path: str, found: str) -> InvalidOutputError:
    return InvalidOutputError(
        f"{dataset_path} is not complete after writing: {found}. Nothing was published; try again (of a "
        "task group, the tasks that fill), and check the file system if it happens twice."
    )


def _default_shard_shape(source: BulkDataChunkIterator, chunk_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Whole samples, about 128 MiB of them, uncompressed."""
    shape = source.maxshape
    row_bytes = math.prod(shape[1:]) * int(source.dtype.itemsize)
    rows = max(1, SHARD_BYTES // (chunk_shape[0] * row_bytes)) * chunk_shape[0]
    whole = [-(-length // chunk) * chunk for length, chunk in zip(shape, chunk_shape, strict=True)]
    return (min(rows, whole[0]), *whole[1:])
