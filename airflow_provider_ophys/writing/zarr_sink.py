"""
Chunks into the shards of a Zarr (format 3) array, encoded by our own threads.

A shard is one file: its compressed chunks one after the other, then where each of them begins and how long it is,
then a checksum of that (codec ``sharding_indexed`` of the Zarr specification). zarr-python holds a whole shard and
all that it makes of it; here a shard grows chunk by chunk, so its size costs no memory.
"""

from __future__ import annotations

import itertools
import os
import secrets
import threading
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import google_crc32c
import numpy as np

from airflow_provider_ophys.writing.chunks import copy_rows
from airflow_provider_ophys.writing.shards import ABSENT, UNFINISHED_SUFFIX, ShardGrid

if TYPE_CHECKING:
    import zarr
    from numpy.typing import NDArray

    from airflow_provider_ophys.writing.shards import Place
    from airflow_provider_ophys.writing.zarr_codecs import ZarrCodec


class ZarrSink:
    """
    Writes shards, each of which is a file of its own and appears when it is whole; a context manager.

    :param array: Allocated, with shards and the codec.
    :param folder: The array's folder.
    :param codec: What compresses its chunks.
    """

    scratch_tasks = 1
    result_tasks = 1

    def __init__(self, array: zarr.Array[Any], folder: Path, codec: ZarrCodec) -> None:
        self.grid = ShardGrid(array, folder)
        self._codec = codec
        self._shape = array.shape
        self._chunks = array.chunks
        self._dtype = np.dtype(array.dtype).newbyteorder("<")
        self._scratch = threading.local()
        self._growing: dict[Place, _Shard] = {}
        self.rows_per_task = self._chunks[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for shard in self._growing.values():
            shard.abandon()

    def encode(self, block: NDArray[Any], start: int) -> list[tuple[Place, bytes]]:
        """Encode the chunks that hold these rows; those at an edge are padded with zeros."""
        row = start // self._chunks[0]
        encoded = []
        for others in itertools.product(
            *(range(-(-length // step)) for length, step in zip(self._shape[1:], self._chunks[1:], strict=True))
        ):
            part = block[
                :, *(slice(at * step, (at + 1) * step) for at, step in zip(others, self._chunks[1:], strict=True))
            ]
            encoded.append(((row, *others), self._codec.encode(copy_rows(part, self._thread_scratch()))))
        return encoded

    def write(self, encoded: list[tuple[Place, bytes]]) -> None:
        """Add encoded chunks to their shards; rows come in order, so the shards of a band end together."""
        chunks_per_shard = self.grid.chunks_per_shard
        for place, data in encoded:
            of_shard = tuple(at // per for at, per in zip(place, chunks_per_shard, strict=True))
            in_shard = tuple(at % per for at, per in zip(place, chunks_per_shard, strict=True))
            if of_shard not in self._growing:
                self.grid.make_folder(of_shard)
                self._growing[of_shard] = _Shard(self.grid.file(of_shard), chunks_per_shard)
            self._growing[of_shard].add(in_shard, data)
        rows_done = encoded[0][0][0] + 1
        if rows_done % chunks_per_shard[0] == 0 or rows_done * self._chunks[0] >= self._shape[0]:
            for shard in self._growing.values():
                shard.finish()
            self._growing.clear()

    def _thread_scratch(self) -> NDArray[Any]:
        if not hasattr(self._scratch, "chunk"):
            self._scratch.chunk = np.zeros(self._chunks, dtype=self._dtype)
        chunk: NDArray[Any] = self._scratch.chunk
        return chunk


class _Shard:
    """
    A shard that grows in a hidden file and gets its name when it is whole and on the disk.

    The hidden file is each writer's own: should Airflow take a slow writer for dead and start another, both write
    the same shard, and either's is right.
    """

    def __init__(self, file: Path, chunks_per_shard: tuple[int, ...]) -> None:
        self._file = file
        self._unfinished = file.with_name(f".{file.name}.{secrets.token_hex(4)}{UNFINISHED_SUFFIX}")
        self._stream = self._unfinished.open("wb")
        self._index = np.full((*chunks_per_shard, 2), ABSENT, dtype="<u8")
        self._end = 0

    def add(self, place: Place, data: bytes) -> None:
        self._stream.write(data)
        self._index[place] = self._end, len(data)
        self._end += len(data)

    def finish(self) -> None:
        index = self._index.tobytes()
        self._stream.write(index + google_crc32c.value(index).to_bytes(4, "little"))
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()
        self._unfinished.replace(self._file)

    def abandon(self) -> None:
        self._stream.close()
        self._unfinished.unlink(missing_ok=True)
