"""
Arrays that are too big for memory, read in slabs along their first axis.

They are hdmf data chunk iterators, so anyone's ``NWBHDF5IO`` or ``NWBZarrIO`` can write an NWBFile that holds
them; our own pipeline lets pynwb only allocate them and fills them afterwards. The one place where the axes of
roiextractors (rows before columns) become those of NWB (x, the image column, before y, the row).
"""

from __future__ import annotations

import itertools
import math
import operator
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
from hdmf.data_utils import DataChunk, GenericDataChunkIterator

from airflow_provider_ophys.exceptions import (
    ConfigurationError,
    MemoryBudgetError,
    OphysError,
    SourceAccessError,
    SourceDataError,
    is_passing,
    unreadable,
)
from airflow_provider_ophys.models.backend import Layout
from airflow_provider_ophys.recordings.mapped_files import read_mapped
from airflow_provider_ophys.writing.chunks import contiguous
from airflow_provider_ophys.writing.iterator_options import SHAPES, check_iterator_options
from airflow_provider_ophys.writing.layouts import layout_chunk_shape
from airflow_provider_ophys.writing.memory import available_memory
from airflow_provider_ophys.writing.number_types import as_stored, stored_dtype

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import DTypeLike, NDArray

    Array = NDArray[Any]

DEFAULT_BUFFER_GB = 1.0
DEFAULT_CHUNK_MB = 10.0


def swap_image_axes(frames: Array) -> Array:
    """Turn (n, rows, columns[, planes]) into NWB's (n, columns, rows[, planes]), as a view."""
    return np.swapaxes(frames, 1, 2)


def _span(chosen: object, length: int) -> tuple[int, int]:
    if isinstance(chosen, slice):
        start, stop, step = chosen.indices(length)
        if step != 1:
            raise IndexError(f"a step of {step} is not supported")
        return start, max(start, stop)
    at = operator.index(chosen)  # type: ignore[arg-type]
    if not -length <= at < length:
        raise IndexError(f"index {at} is out of range for an axis of length {length}")
    return at % length, at % length + 1


class BulkDataChunkIterator(GenericDataChunkIterator):  # type: ignore[misc]
    """
    An array that is read in slabs along its first axis.

    :param options: Those of hdmf's ``GenericDataChunkIterator``: ``buffer_gb``, ``buffer_shape``, ``chunk_mb``,
        ``chunk_shape``, ``display_progress``, ``progress_bar_class``, ``progress_bar_options``. A
        chunk shape may be the name of a layout: ``"frames"`` or ``"traces"``.
    :raises ConfigurationError: If the options contradict each other or do not fit the array.
    """

    default_chunk_mb: ClassVar[float] = DEFAULT_CHUNK_MB

    def __init__(self, **options: Any) -> None:
        self.filled_later = False
        self._is_exhausted = False
        # Whether our own pipeline shows no progress at all; hdmf's display_progress=False is its default.
        self.quiet = False
        check_iterator_options(options, num_axes=len(self._get_maxshape()))
        if options.get("chunk_mb") is None and options.get("chunk_shape") is None:
            options["chunk_mb"] = self.default_chunk_mb
        if isinstance(layout := options.get("chunk_shape"), str):
            shape, dtype = self._get_maxshape(), self._get_dtype()
            options["chunk_shape"] = layout_chunk_shape(cast("Layout", layout), shape, dtype.itemsize)
        for option in SHAPES:
            if options.get(option) is not None:
                options[option] = tuple(options[option])
        if options.get("display_progress") and options.get("progress_bar_class") is None:
            # Into a task's log tqdm would write one endless line; it then disables itself.
            options["progress_bar_options"] = {"disable": None} | (options.get("progress_bar_options") or {})
        try:
            super().__init__(**options)
        except (AssertionError, TypeError) as error:
            raise ConfigurationError(f"The iterator options {options!r} do not fit the data: {error}") from error

    @abstractmethod
    def read(self, start: int, stop: int) -> Array:
        """
        Read the slab [start, stop) of the first axis, in NWB's axis order.

        May return a view that is neither contiguous nor of native byte order; its dtype is otherwise ``dtype``.
        """

    def __len__(self) -> int:
        return int(self.maxshape[0])

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.maxshape)

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return tuple(self.maxshape)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:  # noqa: FBT001
        """Read all of it, for numpy; the iterator itself stays at its beginning."""
        if copy is False:
            raise ValueError("what is read from a recording is always new")
        return np.asarray(self.read_all(), dtype=dtype)

    def __getitem__(self, selection: Any) -> Array:
        """Read a part, chosen by integers and slices without a step, as of an array; the rest is full."""
        given = selection if isinstance(selection, tuple) else (selection,)
        if len(given) > self.ndim:
            raise IndexError(f"{len(given)} indices for {self.ndim} axes")
        spans = [_span(chosen, length) for chosen, length in zip(given, self.maxshape, strict=False)]
        start, stop = spans[0]
        others = tuple(slice(*span) for span in spans[1:])
        rows = self.read(start, stop) if stop > start else np.empty((0, *self.maxshape[1:]), self.dtype)
        whole = tuple(0 if not isinstance(chosen, slice) else slice(None) for chosen in given)
        return np.asarray(rows[:, *others], dtype=self.dtype)[whole]

    def read_all(self) -> Array:
        """
        Read everything into memory.

        :raises MemoryBudgetError: If that is more than what this process may still allocate.
        """
        needed, left = math.prod(self.maxshape) * self.dtype.itemsize, available_memory()
        if needed > left:
            raise MemoryBudgetError(
                f"Reading all of it at once needs {needed / 2**30:.2f} GiB, but {left / 2**30:.2f} GiB of memory "
                "are left. Use iterator_type='v2', which reads it piece by piece."
            )
        return contiguous(self.read(0, len(self)), self.dtype)

    def __iter__(self) -> Iterator[Any]:
        """Go through the buffers from the first one on; whoever writes a file uses :meth:`__next__`."""
        axes = [range(0, whole, step) for whole, step in zip(self.maxshape, self.buffer_shape, strict=True)]
        for corner in itertools.product(*axes):
            selection = tuple(
                slice(start, min(start + step, whole))
                for start, step, whole in zip(corner, self.buffer_shape, self.maxshape, strict=True)
            )
            yield DataChunk(data=self._get_data(selection), selection=selection)

    def __next__(self) -> Any:
        """
        Return the next buffer to a writer of files.

        :raises ConfigurationError: If a writer had all of them: another's file would be full of zeros.
        """
        if self.filled_later:
            # pynwb then declares the dataset with its shape, dtype and chunks, and writes none of it.
            raise StopIteration
        if self._is_exhausted:
            raise ConfigurationError(
                f"An iterator over data of the shape {self.shape} was written to its end already, and can be "
                "written once. Add the recording to the NWBFile again, or use iterator_type=None for a movie that "
                "is to be written several times."
            )
        try:
            return super().__next__()
        except StopIteration:
            self._is_exhausted = True
            raise

    def _get_data(self, selection: tuple[slice, ...]) -> Array:
        first, *others = selection
        return contiguous(self.read(first.start, first.stop)[:, *others], self.dtype)

    def _get_default_buffer_shape(self, buffer_gb: float) -> tuple[int, ...]:
        # Whole rows of the first axis, because that is what is read.
        num_rows, *row_shape = self.maxshape
        chunk_rows = self.chunk_shape[0]
        row_bytes = math.prod(row_shape) * self.dtype.itemsize
        chunks = max(1, int(buffer_gb * 1e9 / (chunk_rows * row_bytes)))
        return (min(chunk_rows * chunks, num_rows), *row_shape)


class ImagingExtractorDataChunkIterator(BulkDataChunkIterator):
    """
    The samples of a movie, (time, columns, rows[, planes]), read from an imaging extractor.

    :param imaging_extractor: A roiextractors ``ImagingExtractor``; never read by two threads at once.
    :param buffer_gb: Most that one read may hold, in gigabytes (10^9 bytes); default 1.
    :param buffer_shape: That as a shape: a whole multiple of the chunk.
    :param chunk_mb: Size of a stored chunk in megabytes (10^6 bytes); default 10. A chunk is as many whole
        frames (of one plane) as fit, at least one.
    :param chunk_shape: That as a shape: (samples, columns, rows[, planes]); or ``"frames"``, ``"traces"``.
    :param display_progress: Show a progress bar.
    :param progress_bar_class: Instead of ``tqdm.tqdm``.
    :param progress_bar_options: Keyword arguments of the progress bar.
    :raises ConfigurationError: If options contradict each other or do not fit the movie.
    """

    def __init__(  # noqa: PLR0917 - the signature is the reference writer's
        self,
        imaging_extractor: Any,
        buffer_gb: float | None = None,
        buffer_shape: tuple[int, ...] | None = None,
        chunk_mb: float | None = None,
        chunk_shape: tuple[int, ...] | Layout | None = None,
        display_progress: bool = False,  # noqa: FBT001
        progress_bar_class: Callable[..., Any] | None = None,
        progress_bar_options: dict[str, Any] | None = None,
    ) -> None:
        self.imaging_extractor = imaging_extractor
        self._num_samples = int(imaging_extractor.get_num_samples())
        super().__init__(
            buffer_gb=buffer_gb,
            buffer_shape=buffer_shape,
            chunk_mb=chunk_mb,
            chunk_shape=chunk_shape,
            display_progress=display_progress,
            progress_bar_class=progress_bar_class,
            progress_bar_options=progress_bar_options,
        )

    def read(self, start: int, stop: int) -> Array:
        """
        Read samples [start, stop).

        :raises SourceDataError: If the extractor cannot, or returns fewer than it promised.
        :raises SourceAccessError: If what it cannot read was there before, or is there again.
        """
        source = type(self.imaging_extractor).__name__
        try:
            # Some extractors do not clamp at the end but make samples up.
            series = read_mapped(self.imaging_extractor.get_series(start, min(stop, self._num_samples)))
        except OphysError:
            raise
        except Exception as error:
            raise self._unreadable(start, stop, error) from error
        if series.shape[0] != stop - start:
            raise SourceDataError(
                f"{source} returned {series.shape[0]} samples instead of {stop - start} from sample {start} on, "
                f"of {self._num_samples} that it announced. Check that the recording is complete."
            )
        return as_stored(swap_image_axes(series), self.dtype)

    def _unreadable(self, start: int, stop: int, error: Exception) -> OphysError:
        """
        Return the error for samples that cannot be read: of the recording's disk, or of its content.

        Not every reader tells of a failing disk: some find fewer pages or no picture instead. So what the
        extractor has announced and does not find now, or can read one by one, was not to be had for a moment.
        """
        # A share that hangs would hang at each of them.
        bad = None if is_passing(error) else self._first_unreadable(start, stop)
        where = f"samples {start} to {stop - 1}" if bad is None else f"sample {bad} (counted from 0)"
        message = f"{type(self.imaging_extractor).__name__} cannot read {where}: {type(error).__name__}: {error}. "
        # Inscopix' library raises nothing more exact, and once it failed to read it never can again.
        if bad is None or isinstance(error, LookupError) or type(error) is Exception:
            return SourceAccessError(f"{message}Check the disk or network share with the recording.")
        return unreadable(f"{message}Check that the recording is complete.", error)

    def _first_unreadable(self, start: int, stop: int) -> int | None:
        """Find the sample for the message; ``None`` if each can be read by itself."""
        for sample in range(start, stop):
            try:
                self.imaging_extractor.get_series(sample, sample + 1)
            except Exception:  # noqa: BLE001 -- whatever it is, it is the sample that is looked for
                return sample
        return None

    def _get_maxshape(self) -> tuple[int, ...]:
        rows, columns, *planes = self.imaging_extractor.get_sample_shape()
        return (self._num_samples, columns, rows, *planes)

    def _get_dtype(self) -> np.dtype[Any]:
        source = type(self.imaging_extractor).__name__
        return stored_dtype(self.imaging_extractor.get_dtype(), f"The pixels that {source} gives")

    def _get_default_chunk_shape(self, chunk_mb: float) -> tuple[int, ...]:
        return whole_frames(self.maxshape, self.dtype.itemsize, chunk_mb)


def whole_frames(shape: tuple[int, ...], itemsize: int, chunk_mb: float) -> tuple[int, ...]:
    """Return a chunk of a movie: as many whole frames, of one plane, as fit into so many megabytes."""
    num_samples, columns, rows, *planes = shape
    fitting = int(chunk_mb * 1e6 / (columns * rows * itemsize))
    return (max(1, min(fitting, num_samples)), columns, rows, *(1 for _ in planes))


class ArrayDataChunkIterator(BulkDataChunkIterator):
    """
    An array that is there already, in memory or memory-mapped, such as traces of shape (time, ROIs).

    :param array: Anything with ``shape``, ``dtype`` and slicing; at least one axis, none of length 0.
    :param what: What it holds, for messages.
    :param options: As for :class:`BulkDataChunkIterator`.
    """

    def __init__(self, array: Any, *, what: str = "The values", **options: Any) -> None:
        self.array = array
        self.what = what
        super().__init__(**options)

    def read(self, start: int, stop: int) -> Array:
        """Read the slab [start, stop) of the first axis."""
        try:
            return as_stored(np.asarray(read_mapped(self.array[start:stop])), self.dtype)
        except OphysError:
            raise
        except Exception as error:
            raise unreadable(
                f"Rows {start} to {stop - 1} of an array of the shape {tuple(self.array.shape)} cannot be read: "
                f"{type(error).__name__}: {error}. Check that the recording is complete.",
                error,
            ) from error

    def _get_maxshape(self) -> tuple[int, ...]:
        return tuple(self.array.shape)

    def _get_dtype(self) -> np.dtype[Any]:
        return stored_dtype(self.array.dtype, self.what)


class MovieArrayDataChunkIterator(ArrayDataChunkIterator):
    """A movie that is in memory, (time, columns, rows[, planes]), in the chunks of one that is not."""

    def _get_default_chunk_shape(self, chunk_mb: float) -> tuple[int, ...]:
        return whole_frames(self.maxshape, self.dtype.itemsize, chunk_mb)
