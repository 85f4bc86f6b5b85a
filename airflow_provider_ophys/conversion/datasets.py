"""Which datasets of an NWBFile in memory are still to be written, where they are, and what is in them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hdmf.common import VectorData
from hdmf.container import Data
from hdmf.data_utils import AbstractDataChunkIterator, DataIO, GenericDataChunkIterator
from hdmf.utils import get_data_shape
from pynwb import NWBFile
from pynwb.core import NWBContainer
from pynwb.epoch import TimeIntervals
from pynwb.image import ImageSeries

from airflow_provider_ophys.writing.frame_statistics import FrameStatistics
from airflow_provider_ophys.writing.iterator import BulkDataChunkIterator, MovieArrayDataChunkIterator
from airflow_provider_ophys.writing.mask_iterators import ListedMaskDataChunkIterator, SparseType, record_dtype
from airflow_provider_ophys.writing.number_types import KNOWN

# An image, a column or a series' timestamps is read whole as a rule, and by readers with a cache of a megabyte.
SMALL_CHUNK_BYTES = 2**20

# Attributes of an NWBFile that hold what users add -> where that is in a file.
SECTIONS = {
    "acquisition": "acquisition",
    "processing": "processing",
    "stimulus": "stimulus/presentation",
    "stimulus_template": "stimulus/templates",
    "analysis": "analysis",
    "scratch": "scratch",
    "intervals": "intervals",
}

# Of the data of a series of images: with or without planes.
MOVIE_AXES = (3, 4)

SPARSE_MASKS: Mapping[str, SparseType] = {"pixel_mask": "pixel", "voxel_mask": "voxel"}


@dataclass(eq=False)
class WrittenDataset:
    """
    A dataset that is not on disk yet.

    :param container: The pynwb object that holds it.
    :param location: Where it is, as configurations name it, for example ``acquisition/S/data``.
    :param field: Which of the container's datasets it is: ``"data"`` or ``"timestamps"``.
    :param shape: Of the whole dataset.
    :param dtype: Of its elements; of text, ``object``.
    """

    container: Any
    location: str
    field: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def chunk_shape(self) -> tuple[int, ...]:
        """Default chunk: that of the iterator, or as many rows as make a megabyte."""
        content = content_of(self.container, self.field)
        if isinstance(content, GenericDataChunkIterator):
            return tuple(content.chunk_shape)
        row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        rows = max(1, min(self.shape[0], SMALL_CHUNK_BYTES // row_bytes))
        return (rows, *self.shape[1:])

    @property
    def buffer_shape(self) -> tuple[int, ...]:
        """Default buffer: that of the iterator; what is in memory is there as a whole."""
        content = content_of(self.container, self.field)
        return tuple(content.buffer_shape) if isinstance(content, GenericDataChunkIterator) else self.shape

    @property
    def is_text(self) -> bool:
        """Whether its elements are texts, which HDF5 and Zarr store with a length each."""
        return self.dtype.kind == "O"

    @property
    def is_compound(self) -> bool:
        """Whether its elements are records, such as those of pixel masks."""
        return self.dtype.names is not None

    def wrap(self, data_io_class: type, settings: Mapping[str, Any]) -> None:
        """Have pynwb write the dataset with these settings, until :meth:`unwrap`."""
        self._replace(data_io_class(data=content_of(self.container, self.field), **settings))

    def unwrap(self) -> None:
        """Undo :meth:`wrap`: an NWBFile in memory is its owner's, who may write it again elsewhere."""
        content = content_of(self.container, self.field)
        if isinstance(content, DataIO):
            self._replace(content.data)

    def _replace(self, content: Any) -> None:
        def new_content(data: object) -> Any:  # noqa: ARG001 - hdmf gives what there was, by this name
            return content

        if isinstance(self.container, Data):
            self.container.set_data_io(new_content, {})
        else:
            self.container.set_data_io(self.field, new_content, {})


class BulkDataset(WrittenDataset):
    """
    A dataset that is declared when the file's structure is written, and filled afterwards.

    :param container: The pynwb object that holds it; ``None`` once the structure is on disk.
    :param location: Where it is, as configurations name it, for example ``acquisition/S/data``.
    :param path: Where it is in the file.
    :param source: What it is filled from.

    Of what has ``statistics``, these are taken while it is filled.
    """

    def __init__(self, container: Any, location: str, path: str, source: BulkDataChunkIterator) -> None:
        super().__init__(container, location, "data", tuple(source.maxshape), source.dtype)
        self.path = path
        self.source = source
        self.statistics: FrameStatistics | None = None
        self._content: Any = None

    @property
    def num_bytes(self) -> int:
        """Uncompressed size."""
        return math.prod(self.shape) * int(self.dtype.itemsize)

    @property
    def is_shown_as_one_row(self) -> bool:
        """Whether pynwb, which goes through records row by row, writes one row, and the dataset grows later."""
        return self.is_compound

    @property
    def chunk_shape(self) -> tuple[int, ...]:
        """Default chunk: the source's."""
        return tuple(self.source.chunk_shape)

    @property
    def buffer_shape(self) -> tuple[int, ...]:
        """Default buffer: the source's."""
        return tuple(self.source.buffer_shape)

    def rows_of(self, buffer_shape: tuple[int, ...] | None) -> int:
        """Return how many whole rows a buffer of that shape has room for."""
        return max(1, math.prod(buffer_shape or self.buffer_shape) // math.prod(self.shape[1:]))

    def wrap(self, data_io_class: type, settings: Mapping[str, Any]) -> None:
        """Have pynwb declare the dataset with these settings and leave its content to us, until :meth:`unwrap`."""
        self.source.filled_later = True
        self._content = content_of(self.container, self.field)
        self._replace(data_io_class(data=self.source, **settings))

    def unwrap(self) -> None:
        """Undo :meth:`wrap`; the next writer, be it pynwb, gets the content too."""
        self.source.filled_later = False
        if self._content is not None:
            self._replace(self._content)
            self._content = None


def content_of(container: Any, name: str) -> Any:
    """Return a dataset of a pynwb object: an array, a list, an iterator, one of these in a DataIO, or ``None``."""
    return container.data if isinstance(container, Data) else container.fields.get(name)


def written_datasets(nwbfile: NWBFile) -> list[WrittenDataset]:
    """
    Find the datasets of an NWBFile that are not on disk yet, and whose storage its owner has not chosen.

    These are the data and the timestamps of series, the columns of tables, and images; none without elements,
    none of references, and no iterator whose length only the end will tell.
    """
    found = (_written_dataset(container, name) for container, name in named_contents(nwbfile))
    return sorted((dataset for dataset in found if dataset is not None), key=lambda dataset: dataset.location)


def named_contents(nwbfile: NWBFile) -> Iterator[tuple[Any, str]]:
    """Go through what configurations may name, on disk or not: an object and the name of one of its datasets."""
    for container in nwbfile.all_children():
        names = ("data",) if isinstance(container, Data) else ("data", "timestamps")
        for name in names if isinstance(container, (Data, NWBContainer)) else ():
            if content_of(container, name) is not None:
                yield container, name


def path_of(container: Any) -> str:
    """Return where an object is in the file, by the names of what it is in."""
    names = []
    while not isinstance(container, NWBFile):
        names.append(container.name)
        child, container = container, container.parent
        if container is None:
            raise ValueError(f"{child.name!r} is in no NWBFile.")
    sections = [
        path for name, path in SECTIONS.items() if (getattr(container, name) or {}).get(child.name) is child
    ]
    if (
        isinstance(child, TimeIntervals) and not sections
    ):  # trials, epochs and invalid times are fields of their own
        sections = ["intervals"]
    return "/".join([*sections[:1], *reversed(names)])


def _written_dataset(container: Any, name: str) -> WrittenDataset | None:
    content = content_of(container, name)
    if not isinstance(content, (np.ndarray, list, tuple, AbstractDataChunkIterator)):
        return None  # nothing, what is in a file already, or what its owner put into a DataIO
    if isinstance(content, (list, tuple)) and container.name in SPARSE_MASKS:
        return _listed_masks(container, content)
    shape = content.maxshape if isinstance(content, AbstractDataChunkIterator) else get_data_shape(content)
    dtype = _dtype_of(content)
    if dtype is None or not shape or not all(shape):
        return None
    path = path_of(container)
    location = f"{path}/{name}"
    is_movie = isinstance(container, ImageSeries) and name == "data" and len(shape) in MOVIE_AXES
    if is_movie and isinstance(content, np.ndarray) and dtype.name in KNOWN:
        return BulkDataset(container, location, location, MovieArrayDataChunkIterator(content))
    if isinstance(content, BulkDataChunkIterator) and name == "data":
        in_file = path if isinstance(container, VectorData) else location
        return BulkDataset(container, location, in_file, content)
    return WrittenDataset(container, location, name, tuple(shape), dtype)


def _listed_masks(container: Any, members: Sequence[Any]) -> BulkDataset | None:
    """Return the dataset of masks that a user added ROI by ROI; ``None`` if they are not what NWB's masks are."""
    sparse_type = SPARSE_MASKS[container.name]
    num_fields = len(record_dtype(sparse_type).names or ())
    if not members or any(not hasattr(member, "__len__") or len(member) != num_fields for member in members):
        return None
    path = path_of(container)
    return BulkDataset(container, f"{path}/data", path, ListedMaskDataChunkIterator(members, sparse_type))


def _dtype_of(content: Any) -> np.dtype[Any] | None:
    """Return the type of the elements, ``object`` for texts, and ``None`` if they are references or a mixture."""
    if not hasattr(content, "dtype"):
        try:
            content = np.asarray(content)
        except ValueError:  # of different lengths
            return None
    dtype = np.dtype(content.dtype)
    if dtype.names is not None:
        return dtype if all(dtype[name].kind in "biufc" for name in dtype.names) else None
    if dtype.kind == "U" or (dtype.kind == "O" and isinstance(content, np.ndarray) and _is_all_text(content)):
        return np.dtype(object)
    return dtype if dtype.kind in "biufc" else None


def _is_all_text(array: np.ndarray[Any, Any]) -> bool:
    return all(isinstance(value, str) for value in array.flat)
