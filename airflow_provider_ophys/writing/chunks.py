"""The memory order of a stored chunk, and that of HDF5's shuffle filter."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# (time, columns, rows), of frames that are in memory row by row.
IMAGE_STACK_AXES = 3
# Rows of a multiple of so many bytes share few places in the CPU's cache: if a frame is transposed as a whole,
# each line of it is fetched for one pixel and lost before the next.
CONFLICTING_BYTES = 256
# So many of those are transposed at once: all that is done here took twice as long for frames of 512 x 512 pixels
# of two bytes, and six times as long for 2048 x 2048. Other frames are as quick as a whole, or quicker.
PANEL_ROWS = 64

# What is transposed and then split into its bytes at once: about as much as a CPU keeps at hand.
SLAB_BYTES = 512 * 1024


def copy_rows(part: NDArray[Any], chunk: NDArray[Any]) -> NDArray[Any]:
    """
    Bring a part into the memory order of a stored chunk; what it does not fill becomes zero.

    :param part: Any strides and byte order; no axis longer than the chunk's.
    :param chunk: C-contiguous; overwritten and returned.
    """
    if part.shape != chunk.shape:
        chunk[...] = 0
    _copy(part, chunk[tuple(slice(0, length) for length in part.shape)])
    return chunk


def contiguous(part: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """
    Return a part in C order and of a type; itself, if it is that already.

    :param part: Any strides and byte order.
    """
    array = np.asarray(part)
    if array.flags.c_contiguous and array.dtype == dtype:
        return array
    return copy_rows(array, np.empty(array.shape, dtype))


def slab_rows(chunk_shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Return how many rows of a chunk :func:`gather_bytes` should be given at once."""
    row_bytes = dtype.itemsize * int(np.prod(chunk_shape[1:]))
    return max(1, min(chunk_shape[0], SLAB_BYTES // row_bytes))


def gather_bytes(part: NDArray[Any], planes: NDArray[np.uint8], slab: NDArray[Any]) -> None:
    """
    Do what HDF5's shuffle filter does to the stored chunk: all first bytes, then all second bytes, and so on.

    :param part: Any strides and byte order; no axis longer than the chunk's. What it does not fill becomes zero.
    :param planes: (bytes of an element, then the chunk's shape), C-contiguous; overwritten.
    :param slab: (rows, then the chunk's shape without its first axis), of the machine's byte order; overwritten.
    """
    num_rows = part.shape[0]
    planes[:, num_rows:] = 0
    for start in range(0, num_rows, slab.shape[0]):
        rows = part[start : start + slab.shape[0]]
        here = slab[: rows.shape[0]]
        _split_bytes(copy_rows(rows, here), planes[:, start : start + rows.shape[0]])


def _copy(part: NDArray[Any], target: NDArray[Any]) -> None:
    is_transposed = part.ndim == IMAGE_STACK_AXES and abs(part.strides[1]) < abs(part.strides[2])
    if not is_transposed or part.strides[2] % CONFLICTING_BYTES:
        np.copyto(target, part)
        return
    for start in range(0, part.shape[2], PANEL_ROWS):
        rows = slice(start, start + PANEL_ROWS)
        np.copyto(target[..., rows], part[..., rows])


def _split_bytes(values: NDArray[Any], planes: NDArray[np.uint8]) -> None:
    itemsize = values.itemsize
    if itemsize in (2, 4, 8):
        # Numbers that are cut to their low byte and shifted: several at once in the CPU, unlike strided bytes.
        numbers = values.view(f"u{itemsize}")
        for index, plane in enumerate(planes if sys.byteorder == "little" else planes[::-1]):
            if index:
                np.right_shift(numbers, 8, out=numbers)
            np.copyto(plane, numbers, casting="unsafe")
        return
    apart = values.view(np.uint8).reshape(*values.shape, itemsize)
    for index, plane in enumerate(planes):
        np.copyto(plane, apart[..., index])
