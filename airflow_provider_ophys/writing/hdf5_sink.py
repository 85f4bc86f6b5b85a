"""Chunks into an HDF5 dataset, encoded by our own threads where we know its filters."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from airflow_provider_ophys.writing.chunks import contiguous, copy_rows, gather_bytes, slab_rows
from airflow_provider_ophys.writing.write_back import WriteBack

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from airflow_provider_ophys.writing.codecs import HDF5Codec

Chunks = list[tuple[tuple[int, ...], bytes]]


@contextmanager
def open_for_filling(path: Path) -> Iterator[h5py.File]:
    """
    Open an HDF5 file to fill its datasets.

    HDF5 keeps no chunks back: it would compress up to 8 MiB of them as it closes, when a task that was told to end
    has no time left. Whole chunks only are written, so that keeping them saves nothing.

    After an error it is closed as well as can be: where the disk is full, closing fails too, and it is the first
    error that tells why.
    """
    file = h5py.File(path, "r+", rdcc_nbytes=0)
    try:
        with WriteBack(path):
            yield file
    except BaseException:
        with suppress(OSError, RuntimeError):
            file.close()
        raise
    file.close()


class HDF5Sink:
    """
    Stores encoded chunks directly; HDF5 neither compresses nor copies them.

    :param dataset: Chunked, allocated with the codec's filters, of native byte order.
    :param codec: What its filters are.
    """

    # The chunk in the file's order, and the same with its bytes shuffled.
    scratch_tasks = 2
    result_tasks = 1

    def __init__(self, dataset: h5py.Dataset, codec: HDF5Codec) -> None:
        self._dataset = dataset
        self._codec = codec
        self._shape = tuple(dataset.shape)
        self._chunks = tuple(dataset.chunks)
        self._dtype = dataset.dtype
        self._scratch = threading.local()
        self.rows_per_task = self._chunks[0]

    def encode(self, block: NDArray[Any], start: int) -> Chunks:
        """Encode the chunks that hold these rows; those at an edge are padded with zeros, as HDF5 does."""
        encoded: Chunks = []
        for offsets in itertools.product(
            *(range(0, length, step) for length, step in zip(self._shape[1:], self._chunks[1:], strict=True))
        ):
            part = block[
                :,
                *(slice(offset, offset + step) for offset, step in zip(offsets, self._chunks[1:], strict=True)),
            ]
            encoded.append(((start, *offsets), self._encode_chunk(part)))
        return encoded

    def _encode_chunk(self, part: NDArray[Any]) -> bytes:
        buffer, slab = self._thread_scratch()
        if self._codec.shuffle:
            planes = buffer.reshape(self._dtype.itemsize, -1)
            gather_bytes(part, planes.reshape(-1, *self._chunks), slab)
        else:
            planes = buffer.reshape(1, -1)
            copy_rows(part, buffer.view(self._dtype).reshape(self._chunks))
        return planes.tobytes() if self._codec.deflate is None else self._codec.deflate(planes)

    def write(self, encoded: Chunks) -> None:
        """Store encoded chunks at their offsets."""
        for offsets, data in encoded:
            self._dataset.id.write_direct_chunk(offsets, data)

    def _thread_scratch(self) -> tuple[NDArray[np.uint8], NDArray[Any]]:
        if not hasattr(self._scratch, "buffer"):
            self._scratch.buffer = np.zeros(math.prod(self._chunks) * self._dtype.itemsize, dtype=np.uint8)
            rows = slab_rows(self._chunks, self._dtype)
            self._scratch.slab = np.zeros((rows, *self._chunks[1:]), dtype=self._dtype)
        return self._scratch.buffer, self._scratch.slab


class HDF5FilterSink:
    """
    Hands slabs to HDF5, which applies filters that we do not encode ourselves, one chunk after the other.

    :param dataset: Chunked and allocated.
    """

    # What HDF5's own filters need is about a chunk.
    scratch_tasks = 1
    result_tasks = 1

    def __init__(self, dataset: h5py.Dataset) -> None:
        self._dataset = dataset
        self.rows_per_task = dataset.chunks[0]

    def encode(self, block: NDArray[Any], start: int) -> tuple[int, NDArray[Any]]:
        """Bring the rows into the order in memory that HDF5 wants."""
        return start, contiguous(block, self._dataset.dtype)

    def write(self, encoded: tuple[int, NDArray[Any]]) -> None:
        """Write the rows."""
        start, rows = encoded
        self._dataset[start : start + rows.shape[0]] = rows
