"""Whole shards into a Zarr (format 3) array."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import zarr
    from numpy.typing import NDArray


class ZarrSink:
    """
    Writes whole shards (or chunks, where there are no shards), each of which is a file of its own.

    :param array: Allocated; opened with ``write_empty_chunks``, so that a file that is not there always means
        that it was not written.
    """

    def __init__(self, array: zarr.Array[Any]) -> None:
        self._array = array
        self.rows_per_task = (array.shards or array.chunks)[0]
        # The shard in the order of the store, and what zarr makes of it: encoded chunks, put together.
        self.scratch_tasks = 2

    def encode(self, block: NDArray[Any], start: int) -> None:
        """Encode and store the rows at once: different shards do not share a file, so threads do not meet."""
        self._array[start : start + block.shape[0]] = np.ascontiguousarray(block, dtype=self._array.dtype)

    def write(self, encoded: None) -> None:
        """Do nothing: what is encoded is stored already."""
