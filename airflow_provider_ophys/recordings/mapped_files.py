"""
Arrays that readers map into memory, read as files are read.

A map that a share no longer backs, or of a file that was cut off, kills the process without a word (SIGBUS); a
read that fails is an error. Reading costs less than the faults of a map, too.
"""

from __future__ import annotations

import math
import mmap
import operator
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.array_utils import byte_bounds

from airflow_provider_ophys.exceptions import SourceChangedError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

# Values that lie apart, such as those of one channel among others, are read with what is between them.
SHORTEST_RUN_BYTES, PIECE_BYTES = 1024, 4 * 2**20


def read_mapped(array: Array) -> Array:
    """
    Read an array that is mapped from a file, whole or a part of it; any other is returned as it is.

    :param array: Nothing of it is looked at.
    :returns: The same values, in memory; the axes lie in it as they do in the file.
    :raises SourceChangedError: If the file is shorter by now.
    :raises OSError: If it cannot be read.
    """
    behind = _map_behind(array)
    if behind is None or not array.size:
        return array
    # As numpy.memmap does: a map begins at a page, an array anywhere.
    page = int(behind.offset) - int(behind.offset) % mmap.ALLOCATIONGRANULARITY
    origin = int(np.frombuffer(_mapping(behind), np.uint8).ctypes.data) - page
    file = Path(behind.filename)
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return _Reading(file, descriptor, origin).read(array)
    finally:
        os.close(descriptor)


def _map_behind(array: Any) -> Any:
    """Return the mapped file that an array is a part of; ``None`` if it is in memory, or the file has no name."""
    while isinstance(array, np.ndarray):
        if _mapping(array) is not None:
            return array if getattr(array, "filename", None) else None
        array = array.base
    return None


def _mapping(array: Array) -> Any:
    """Return the map itself; ``None`` of an array in memory, though it came from a mapped one."""
    return getattr(array, "_mmap", None) if isinstance(array, np.memmap) else None


@dataclass(frozen=True)
class _Reading:
    """An open file, and where in memory its first byte would be mapped."""

    file: Path
    descriptor: int
    origin: int

    def read(self, array: Array) -> Array:
        # Axes from those whose values lie furthest apart to those that lie side by side.
        order = sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))
        sorted_array = array.transpose(order)
        values = np.empty(sorted_array.shape, array.dtype)
        num_outer, run_bytes = _runs(sorted_array)
        if run_bytes >= SHORTEST_RUN_BYTES:
            self._read_runs(sorted_array, values, num_outer)
        else:
            self._read_with_gaps(sorted_array, values)
        return values.transpose(np.argsort(order))

    def _read_runs(self, array: Array, values: Array, num_outer: int) -> None:
        """Read what lies side by side at once, into its place; the first axes count the runs."""
        position = array.__array_interface__["data"][0] - self.origin
        outer = array.shape[:num_outer]
        steps = array.strides[:num_outer]
        runs = values.reshape(math.prod(outer), -1).view(np.uint8)
        for run, at in zip(runs, np.ndindex(outer), strict=True):
            self._fill(run, position + sum(map(operator.mul, at, steps)))

    def _read_with_gaps(self, array: Array, values: Array) -> None:
        low, high = byte_bounds(array)
        if high - low > PIECE_BYTES and len(array) > 1:
            together = max(1, PIECE_BYTES // max(1, abs(array.strides[0])))
            for start in range(0, len(array), together):
                part = slice(start, start + together)
                self._read_with_gaps(array[part], values[part])
        elif high - low > PIECE_BYTES and array.ndim > 1:
            self._read_with_gaps(array[0], values[0])
        else:
            content = np.empty(high - low, np.uint8)
            self._fill(content, low - self.origin)
            first = int(array.__array_interface__["data"][0]) - low
            values[...] = np.ndarray(array.shape, array.dtype, content.data, first, array.strides)

    def _fill(self, content: Array, position: int) -> None:
        done = 0
        while done < len(content):
            count = os.preadv(self.descriptor, [content[done:]], position + done)
            if count == 0:
                raise SourceChangedError(
                    f"{self.file} ends at byte {position + done:,} by now, but had more when it was opened. Wait "
                    "until it is complete, or copy it again."
                )
            done += count


def _runs(array: Array) -> tuple[int, int]:
    """Tell how many of the first axes do not lie side by side with the others, and how long the others are."""
    run_bytes = array.itemsize
    for axis in reversed(range(array.ndim)):
        if array.shape[axis] > 1 and array.strides[axis] != run_bytes:
            return axis + 1, run_bytes
        run_bytes *= array.shape[axis]
    return 0, run_bytes
