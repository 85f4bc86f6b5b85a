"""What pynwb declares and we fill: the datasets of an NWBFile in an HDF5 file and in a Zarr store."""

from __future__ import annotations

import logging
import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, override

import h5py
from hdmf.backends.hdf5 import H5DataIO
from pynwb import NWBHDF5IO, NWBFile

from airflow_provider_ophys.conversion.configuration import complete_hdf5, complete_zarr, is_configurable
from airflow_provider_ophys.conversion.datasets import BulkDataset, WrittenDataset
from airflow_provider_ophys.exceptions import BackendConfigurationError, InvalidOutputError
from airflow_provider_ophys.models.backend import (
    HDF5PLUGIN_OPTIONS,
    Backend,
    BackendConfiguration,
    Compression,
    DatasetConfiguration,
    HDF5BackendConfiguration,
    HDF5DatasetConfiguration,
    ZarrBackendConfiguration,
    ZarrDatasetConfiguration,
    parse_backend_configuration,
)
from airflow_provider_ophys.nwb.existing import backend_of
from airflow_provider_ophys.writing.codecs import check_hdf5_filters, hdf5_codec, hdf5_filters
from airflow_provider_ophys.writing.hdf5_closing import raising_failed_closings
from airflow_provider_ophys.writing.hdf5_sink import HDF5FilterSink, HDF5Sink, open_for_filling
from airflow_provider_ophys.writing.pipeline import FillPlan, Sink, fill, plan_source
from airflow_provider_ophys.writing.shards import ShardGrid
from airflow_provider_ophys.writing.sharing import Resources
from airflow_provider_ophys.writing.zarr_codecs import zarr_codec

if TYPE_CHECKING:
    import zarr
    from hdmf.backends.io import HDMFIO

    from airflow_provider_ophys.writing.structure_store import StructureStore

log = logging.getLogger(__name__)

# What a Zarr store holds of NWB's schemas, by their names and versions, as it was first written by this process:
# making it takes as long as all the rest of a store's structure.
_SPECIFICATIONS: dict[frozenset[tuple[str, str]], dict[str, bytes]] = {}


class Storage(ABC):
    """
    Declares, fills and checks the datasets of an NWB file, whichever backend stores them.

    :param configuration: Per dataset.
    :param compression: For datasets that do not say otherwise.
    """

    def __init__(self, configuration: BackendConfiguration, compression: Compression) -> None:
        self.configuration = configuration
        self._compression = compression

    @contextmanager
    def structure(self, path: Path) -> Iterator[Any]:
        """Give what the structure of a file is written to, with :meth:`io` and :meth:`open_groups`."""
        yield path

    @abstractmethod
    def io(self, path: Any, mode: str, **options: Any) -> HDMFIO:
        """Open an NWB file with pynwb or hdmf-zarr, and its options."""

    @abstractmethod
    def open_groups(self, path: Any, mode: str) -> AbstractContextManager[Any]:
        """Open the file below pynwb, with h5py or zarr."""

    def write(self, io: HDMFIO, nwbfile: NWBFile) -> None:
        """
        Write the structure and all that is small, to what :meth:`structure` gave.

        Of an NWBFile that was read from a file, all of that is copied.
        """
        if io.mode != "w" or nwbfile.read_io is None:
            self._write_structure(io, nwbfile)
            return
        with warnings.catch_warnings():
            # hdmf-zarr gathers the metadata itself, which is not yet in the standard; structure() does it again.
            warnings.filterwarnings("ignore", "Consolidated metadata")
            io.export(src_io=nwbfile.read_io, nwbfile=nwbfile, write_args={"link_data": False})

    @abstractmethod
    def _write_structure(self, io: HDMFIO, nwbfile: NWBFile) -> None: ...

    @abstractmethod
    def declare(self, dataset: WrittenDataset) -> None:
        """
        Set chunks and filters of a dataset.

        :raises BackendConfigurationError: If a filter is not installed, or does not take such data.
        """

    def plan(self, dataset: BulkDataset, resources: Resources) -> FillPlan:
        """
        Plan how a dataset will be filled.

        :raises MemoryBudgetError: If the budget is too small.
        """
        configuration, sink = self._complete(dataset), self._sink_class(dataset)
        return plan_source(
            dataset.source,
            rows_per_task=(configuration.chunk_shape or dataset.chunk_shape)[0],
            scratch_tasks=sink.scratch_tasks,
            result_tasks=sink.result_tasks,
            resources=resources,
            most_rows=dataset.rows_of(configuration.buffer_shape),
        )

    def compresses(self, dataset: BulkDataset) -> bool:
        """Tell whether a dataset becomes smaller when it is stored."""
        return self._complete(dataset).compression_method != "none"

    def is_lossy(self, dataset: BulkDataset) -> bool:
        """Tell whether its user wants a dataset to be rounded."""
        return self._complete(dataset).is_lossy

    @abstractmethod
    def fill(self, path: Path, datasets: list[BulkDataset], resources: Resources) -> None:
        """Fill the declared datasets."""

    def _fill_one(
        self,
        dataset: BulkDataset,
        sink: Sink,
        resources: Resources,
        spans: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        fill(
            dataset.source,
            sink,
            resources,
            name=dataset.location,
            spans=spans,
            most_rows=dataset.rows_of(self._complete(dataset).buffer_shape),
            statistics=dataset.statistics,
        )

    @abstractmethod
    def check_filled(self, path: Path, dataset_paths: Sequence[str]) -> None:
        """
        Check that every chunk of datasets is there.

        :raises InvalidOutputError: If not.
        """

    @abstractmethod
    def _complete(self, dataset: WrittenDataset) -> DatasetConfiguration:
        """Return how a dataset is stored, with nothing left open."""

    @abstractmethod
    def _sink_class(self, dataset: BulkDataset) -> type[Sink]: ...


class HDF5Storage(Storage):
    """The datasets of an HDF5 file."""

    configuration: HDF5BackendConfiguration

    @override
    @contextmanager
    def structure(self, path: Path) -> Iterator[Any]:
        with raising_failed_closings():
            yield path

    @override
    def io(self, path: Path, mode: str, **options: Any) -> HDMFIO:
        return NWBHDF5IO(path, mode, **options)

    @override
    @contextmanager
    def open_groups(self, path: Path, mode: str) -> Iterator[Any]:
        with h5py.File(path, mode) as file:
            yield file

    @override
    def _write_structure(self, io: HDMFIO, nwbfile: NWBFile) -> None:
        io.write(nwbfile)

    @override
    def declare(self, dataset: WrittenDataset) -> None:
        if not is_configurable(dataset, "hdf5"):
            return
        configuration = self._complete(dataset)
        filters = hdf5_filters(configuration)
        if configuration.chunk_shape is None:
            return
        if not dataset.is_text and hdf5_codec(configuration) is None:
            try:
                check_hdf5_filters(configuration.chunk_shape, dataset.dtype, filters)
            except ValueError as error:
                raise BackendConfigurationError(
                    f"backend_configuration of {dataset.location!r}: {error}"
                ) from error
        if configuration.compression_method in ("lzf", *HDF5PLUGIN_OPTIONS):
            log.warning(
                "%s is compressed with %s: whoever reads it needs that filter too.",
                dataset.location,
                configuration.compression_method,
            )
        settings = {"chunks": configuration.chunk_shape, "allow_plugin_filters": True, **filters}
        if isinstance(dataset, BulkDataset) and dataset.is_shown_as_one_row:
            settings["maxshape"] = dataset.shape
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".* compression may not be available", UserWarning)
            dataset.wrap(H5DataIO, settings)

    @override
    def fill(self, path: Path, datasets: list[BulkDataset], resources: Resources) -> None:
        with raising_failed_closings(), open_for_filling(path) as file:
            for dataset in datasets:
                codec = hdf5_codec(self._complete(dataset))
                target = file[dataset.path]
                sink = HDF5FilterSink(target) if codec is None else HDF5Sink(target, codec)
                self._fill_one(dataset, sink, resources)

    @override
    def check_filled(self, path: Path, dataset_paths: Sequence[str]) -> None:
        with h5py.File(path, "r") as file:
            for dataset_path in dataset_paths:
                dataset = file[dataset_path]
                wanted = math.prod(
                    -(-length // step) for length, step in zip(dataset.shape, dataset.chunks, strict=True)
                )
                if (found := dataset.id.get_num_chunks()) != wanted:
                    raise _not_filled(dataset_path, f"{found} of {wanted} chunks are there")

    @override
    def _complete(self, dataset: WrittenDataset) -> HDF5DatasetConfiguration:
        given = self.configuration.dataset_configurations.get(dataset.location, HDF5DatasetConfiguration())
        return complete_hdf5(dataset, given, self._compression)

    @override
    def _sink_class(self, dataset: BulkDataset) -> type[Sink]:
        return HDF5FilterSink if hdf5_codec(self._complete(dataset)) is None else HDF5Sink


class ZarrStorage(Storage):
    """The arrays of a Zarr (format 3) store."""

    configuration: ZarrBackendConfiguration

    @override
    @contextmanager
    def structure(self, path: Path) -> Iterator[Any]:
        """
        Give what the structure of a store is written to.

        Only at the end is all of it on the disk, and are the metadata gathered, so that opening it is one read.
        """
        import zarr
        from zarr.errors import ZarrUserWarning

        from airflow_provider_ophys.writing.structure_store import StructureStore

        store = StructureStore(path)
        store.scatter_metadata()
        yield store
        with warnings.catch_warnings():
            # zarr warns that gathered metadata are not yet in the standard.
            warnings.filterwarnings("ignore", "Consolidated metadata", ZarrUserWarning)
            zarr.consolidate_metadata(store)
        store.flush()

    @override
    def io(self, path: Path | StructureStore, mode: str, **options: Any) -> HDMFIO:
        from hdmf_zarr import NWBZarrIO

        return NWBZarrIO(path, mode, **options)

    @override
    @contextmanager
    def open_groups(self, path: Path | StructureStore, mode: str) -> Iterator[Any]:
        import zarr

        yield zarr.open_group(path, mode=mode, use_consolidated=False)  # type: ignore[arg-type]

    @override
    def _write_structure(self, io: HDMFIO, nwbfile: NWBFile) -> None:
        from hdmf_zarr.backend import DEFAULT_SPEC_LOC_DIR, SPEC_LOC_ATTR

        catalog = io.manager.namespace_catalog
        schemas = frozenset((name, catalog.get_namespace(name).version) for name in catalog.namespaces)
        known = _SPECIFICATIONS.get(schemas) if io.mode == "w" else None
        io.write(nwbfile, consolidate_metadata=False, cache_spec=known is None)
        if known is not None:
            io.path.add(known)
            with self.open_groups(io.path, "r+") as root:
                root.attrs[SPEC_LOC_ATTR] = DEFAULT_SPEC_LOC_DIR
        elif io.mode == "w":
            _SPECIFICATIONS[schemas] = io.path.below(DEFAULT_SPEC_LOC_DIR)

    @override
    def declare(self, dataset: WrittenDataset) -> None:
        from hdmf_zarr import ZarrDataIO

        configuration = self._complete(dataset)
        codec = zarr_codec(configuration, dataset.dtype)
        settings = {
            "chunks": configuration.chunk_shape,
            "shards": configuration.shard_shape,
            # Not an empty list, which would be taken for no choice.
            "compressors": codec.compressors or False,
        }
        dataset.wrap(ZarrDataIO, settings | ({"filters": codec.filters} if codec.filters else {}))

    @override
    def fill(
        self, path: Path, datasets: list[BulkDataset], resources: Resources, bands: Sequence[int] | None = None
    ) -> None:
        """
        Fill the declared arrays.

        :param bands: Only these bands of shards; ``None`` for all. See :class:`ShardGrid`.
        """
        from airflow_provider_ophys.writing.zarr_sink import ZarrSink

        for dataset in datasets:
            array = self.open_array(path, dataset.path)
            codec = zarr_codec(self._complete(dataset), dataset.dtype)
            with ZarrSink(array, path / dataset.path, codec) as sink:
                spans = None if bands is None else sink.grid.spans(bands)
                self._fill_one(dataset, sink, resources, spans)

    @override
    def check_filled(self, path: Path, dataset_paths: Sequence[str]) -> None:
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

    @override
    def _complete(self, dataset: WrittenDataset) -> ZarrDatasetConfiguration:
        given = self.configuration.dataset_configurations.get(dataset.location, ZarrDatasetConfiguration())
        return complete_zarr(dataset, given, self._compression)

    @override
    def _sink_class(self, dataset: BulkDataset) -> type[Sink]:
        from airflow_provider_ophys.writing.zarr_sink import ZarrSink

        return ZarrSink


def storage_for(
    backend: Backend,
    configuration: Mapping[str, Any] | BackendConfiguration | None = None,
    compression: Compression = "fast",
) -> Storage:
    """
    Return how a file's datasets are declared and filled.

    :param backend: ``"hdf5"`` or ``"zarr"``.
    :param configuration: Per dataset.
    :param compression: For datasets that do not say otherwise.
    :raises ConfigurationError: If the configuration is wrong, or another backend's.
    """
    parsed = parse_backend_configuration(backend, configuration)
    if isinstance(parsed, HDF5BackendConfiguration):
        return HDF5Storage(parsed, compression)
    return ZarrStorage(parsed, compression)


def open_storage(path: Path) -> Storage:
    """Return the storage of an NWB file on disk, for reading it below pynwb."""
    return storage_for(backend_of(path))


def _not_filled(dataset_path: str, found: str) -> InvalidOutputError:
    return InvalidOutputError(
        f"{dataset_path} is not complete after writing: {found}. Nothing was published; try again (of a "
        "task group, the tasks that fill), and check the file system if it happens twice."
    )
