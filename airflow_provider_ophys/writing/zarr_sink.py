"""
Whole shards into a Zarr (format 3) array, encoded by our own threads.

A shard is one file: its compressed chunks one after the other, then where each of them begins and how long it is,
then a checksum of that (codec ``sharding_indexed`` of the Zarr specification). zarr-python can write them too, at
twice the time and several times the memory, because it makes a task of every step of every chunk.
"""

from __future__ import annotations

import itertools
import math
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np

from airflow_provider_ophys.writing.chunks import copy_rows

if TYPE_CHECKING:
    import zarr
    from numpy.typing import NDArray

    from airflow_provider_ophys.writing.codecs import ZarrCodec

# Stands in the index for a chunk that is not there.
ABSENT = 2**64 - 1


class ZarrSink:
    """
    Writes whole shards, each of which is a file of its own and appears when it is whole.

    :param array: Allocated with shards and the codec.
    :param folder: The array's folder.
    :param codec: What compresses its inner chunks.
    """

    def __init__(self, array: zarr.Array[Any], folder: Path, codec: ZarrCodec) -> None:
        shards = array.shards or array.chunks
        self._folder = folder
        self._codec = codec
        self._shape = array.shape
        self._shards = shards
        self._chunks = array.chunks
        self._dtype = np.dtype(array.dtype).newbyteorder("<")
        self._chunks_per_shard = tuple(shard // chunk for shard, chunk in zip(shards, array.chunks, strict=True))
        self._file_of = array.metadata.encode_chunk_key
        self._scratch = threading.local()
        self.rows_per_task = shards[0]
        # One chunk in the order of the store, and the compressed ones, which together may be a shard.
        self.scratch_tasks = 2 if math.prod(self._chunks_per_shard) == 1 else 1
        self.result_tasks = 0

    def encode(self, block: NDArray[Any], start: int) -> None:
        """Encode and store the shards that hold these rows: different shards do not share a file."""
        for offsets in itertools.product(
            *(range(0, length, step) for length, step in zip(self._shape[1:], self._shards[1:], strict=True))
        ):
            part = block[
                :, *(slice(offset, offset + step) for offset, step in zip(offsets, self._shards[1:], strict=True))
            ]
            position = zip((start, *offsets), self._shards, strict=True)
            self._store(tuple(offset // step for offset, step in position), self._encode_shard(part))

    def write(self, encoded: None) -> None:
        """Do nothing: what is encoded is stored already."""

    def _encode_shard(self, part: NDArray[Any]) -> list[bytes]:
        index = np.full((*self._chunks_per_shard, 2), ABSENT, dtype="<u8")
        pieces: list[bytes] = []
        end = 0
        for place in np.ndindex(self._chunks_per_shard):
            chunk = part[
                tuple(slice(at * step, (at + 1) * step) for at, step in zip(place, self._chunks, strict=True))
            ]
            if 0 in chunk.shape:  # beyond the array's edge
                continue
            pieces.append(self._codec.encode(copy_rows(chunk, self._thread_scratch())))
            index[place] = end, len(pieces[-1])
            end += len(pieces[-1])
        footer = index.tobytes()
        return [*pieces, footer, google_crc32c.value(footer).to_bytes(4, "little")]

    def _store(self, place: tuple[int, ...], pieces: list[bytes]) -> None:
        file = self._folder / self._file_of(place)
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_name(f".{file.name}.part")
        with unfinished.open("wb") as stream:
            stream.writelines(pieces)
        unfinished.replace(file)

    def _thread_scratch(self) -> NDArray[Any]:
        if not hasattr(self._scratch, "chunk"):
            self._scratch.chunk = np.zeros(self._chunks, dtype=self._dtype)
        chunk: NDArray[Any] = self._scratch.chunk
        return chunk
