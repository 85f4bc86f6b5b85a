"""
Which shards of a Zarr array are there, found from the storage itself.

A shard is a file that gets its name when it is whole (:mod:`.zarr_sink`), so writers on any number of hosts need
not tell each other what is done. The shards that begin at the same row make a band: they are filled together,
since recordings are read by rows.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np

if TYPE_CHECKING:
    import zarr
    from numpy.typing import NDArray

    Place = tuple[int, ...]

# Stands in a shard's index for a chunk that is not there.
ABSENT = 2**64 - 1
INDEX_ENTRY_BYTES, CHECKSUM_BYTES = 16, 4

# What the hidden file of an unfinished shard ends with.
UNFINISHED_SUFFIX = ".part"

# Looking at a shard is a round trip to a file server and next to no work.
LOOKING_THREADS = 16


class ShardGrid:
    """
    The shards of an array on disk.

    :param array: Allocated, with shards whose index comes last, as the Zarr specification has it by default.
    :param folder: The array's folder.
    """

    def __init__(self, array: zarr.Array[Any], folder: Path) -> None:
        shard_shape = array.shards or array.chunks
        self._folder = folder
        self._shape = array.shape
        self._chunks = array.chunks
        self._file_of = array.metadata.encode_chunk_key
        self._grid = tuple(-(-length // step) for length, step in zip(array.shape, shard_shape, strict=True))
        self.chunks_per_shard = tuple(
            shard // chunk for shard, chunk in zip(shard_shape, array.chunks, strict=True)
        )
        self.rows_per_band = shard_shape[0]

    @property
    def num_bands(self) -> int:
        """How many bands there are."""
        return self._grid[0]

    @property
    def num_shards(self) -> int:
        """How many shards there are."""
        return math.prod(self._grid)

    def file(self, place: Place) -> Path:
        """Return the file of the shard at a place in the grid of shards."""
        return self._folder / self._file_of(place)

    def make_folder(self, place: Place) -> None:
        """
        Make the folder of a shard's file.

        :raises FileNotFoundError: If the array's folder is not there; a writer that Airflow has given up for dead
            must not bring back what was published or removed meanwhile.
        """
        _, *folders = reversed(self.file(place).relative_to(self._folder).parents)
        for folder in folders:
            (self._folder / folder).mkdir(exist_ok=True)

    def missing_bands(self, bands: Iterable[int]) -> list[int]:
        """Return those of the bands of which a shard is missing or not whole."""
        wanted = list(bands)
        with ThreadPoolExecutor(LOOKING_THREADS, thread_name_prefix="ophys-look") as pool:
            whole = pool.map(lambda band: all(map(self._is_whole, self._places(band))), wanted)
            return [band for band, there in zip(wanted, whole, strict=True) if not there]

    def spans(self, bands: Iterable[int]) -> list[tuple[int, int]]:
        """Return the rows [start, stop) of ascending bands, neighbours in one piece."""
        pieces: list[tuple[int, int]] = []
        for band in bands:
            start = band * self.rows_per_band
            stop = min(start + self.rows_per_band, self._shape[0])
            if pieces and pieces[-1][1] == start:
                start, _ = pieces.pop()
            pieces.append((start, stop))
        return pieces

    def _places(self, band: int) -> Iterable[Place]:
        return ((band, *others) for others in itertools.product(*map(range, self._grid[1:])))

    def _is_whole(self, place: Place) -> bool:
        """
        Tell whether a shard is there with all its chunks, by its index and the index's checksum.

        A shard is renamed when it is on the disk, so a broken one is the file system's doing: cut short, or
        altered.
        """
        index_bytes = math.prod(self.chunks_per_shard) * INDEX_ENTRY_BYTES
        try:
            with self.file(place).open("rb") as stream:
                size = stream.seek(0, 2)
                if size < index_bytes + CHECKSUM_BYTES:
                    return False
                stream.seek(size - index_bytes - CHECKSUM_BYTES)
                index, checksum = stream.read(index_bytes), stream.read(CHECKSUM_BYTES)
        except FileNotFoundError:
            return False
        if google_crc32c.value(index).to_bytes(CHECKSUM_BYTES, "little") != checksum:
            return False
        entries = np.frombuffer(index, dtype="<u8").reshape(*self.chunks_per_shard, 2)
        return self._holds_all_chunks(place, entries, size - index_bytes - CHECKSUM_BYTES)

    def _holds_all_chunks(self, place: Place, entries: NDArray[Any], content_bytes: int) -> bool:
        """Tell whether the chunks within the array's shape, and no others, fill the shard without a gap."""
        within = tuple(
            slice(0, -(-(length - at * per * chunk) // chunk))
            for length, at, per, chunk in zip(self._shape, place, self.chunks_per_shard, self._chunks, strict=True)
        )
        wanted = np.zeros(self.chunks_per_shard, dtype=bool)
        wanted[within] = True
        present = entries[..., 0] != ABSENT
        return bool(np.array_equal(present, wanted) and entries[present, 1].sum() == content_bytes)


def remove_unfinished(folder: Path) -> None:
    """Remove what killed writers left below an array's folder; only for when nobody writes any more."""
    for file in folder.rglob(f".*{UNFINISHED_SUFFIX}"):
        file.unlink(missing_ok=True)
