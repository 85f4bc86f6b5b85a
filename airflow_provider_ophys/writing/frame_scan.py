"""The one pass over every pixel of a block: extremes, sums over time, and frames binned to few pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from airflow_provider_ophys.writing.exact_sums import TimeSum, is_fitting, less, sum_dtype, unsigned

if TYPE_CHECKING:
    from numpy.typing import NDArray

# A frame is binned to so many pixels across at most.
MOST_BINS = 64
# Frames are looked at several at once. NumPy gives up the interpreter's lock for each call, and two threads that
# make many short ones take 1.6 times the CPU time of one; with so many bytes a call it is 1.2 times.
AT_ONCE_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Scan:
    """
    What the pixels of consecutive frames of one plane are.

    :param least: Smallest pixel of each frame.
    :param most: Largest pixel of each frame.
    :param maximum: Of each pixel over the frames, (rows, columns).
    :param total: Sum of each pixel over the frames.
    :param means: Of each frame.
    :param binned: Mean of each bin, (frames, rows, columns) of bins.
    """

    least: NDArray[Any]
    most: NDArray[Any]
    maximum: NDArray[Any]
    total: TimeSum
    means: NDArray[np.float64]
    binned: NDArray[np.float32]


def bin_size(shape: tuple[int, int]) -> int:
    """Return how many pixels a bin has across."""
    return max(1, -(-max(shape) // MOST_BINS))


def binned_shape(shape: tuple[int, int]) -> tuple[int, int]:
    """Return how many bins a frame has; pixels that fill none are left out."""
    size = bin_size(shape)
    return max(1, shape[0] // size), max(1, shape[1] // size)


def scan(block: NDArray[Any]) -> Scan:
    """
    Look at every pixel of a block.

    :param block: (frames, rows, columns), C-contiguous, of native byte order and finite.
    """
    count, *shape = block.shape
    least, most = np.empty(count, block.dtype), np.empty(count, block.dtype)
    maximum, total = block[0].copy(), TimeSum(tuple(shape), block.dtype)
    means, binned = np.empty(count), np.empty((count, *binned_shape((shape[0], shape[1]))), np.float32)
    at_once = max(1, AT_ONCE_BYTES // max(block[0].nbytes, 1))
    for start in range(0, count, at_once):
        here = slice(start, start + at_once)
        frames = block[here]
        flat = frames.reshape(len(frames), -1)
        np.minimum.reduce(flat, axis=1, out=least[here])
        np.maximum.reduce(flat, axis=1, out=most[here])
        highest = frames[0] if len(frames) == 1 else np.maximum.reduce(frames, axis=0)
        np.maximum(maximum, highest, out=maximum)
        total.add(frames, least[here], most[here])
        means[here], binned[here] = _bin(frames, least[here].min(), most[here].max())
    return Scan(least, most, maximum, total, means, binned)


def _bin(frames: NDArray[Any], least: Any, most: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean of each frame, and of each of its bins."""
    count, num_rows, num_columns = frames.shape
    down, across = binned_shape((num_rows, num_columns))
    size = bin_size((num_rows, num_columns))
    height, width = min(size, num_rows), min(size, num_columns)
    wide = sum_dtype(frames.dtype)
    # As three axes, and not as four, numpy adds up twice as fast.
    whole = frames[:, : down * height].reshape(count * down, height, num_columns)
    rows, offset = _sum_rows(whole, least, most, wide)
    rows = rows.reshape(count, down, num_columns)
    columns = rows[:, :, : across * width].reshape(count, down, across, width)
    bins: NDArray[Any] = columns[..., 0].astype(np.uint32 if rows.dtype.itemsize <= 2 else wide)  # noqa: PLR2004 - two bytes
    for place in range(1, width):
        bins += columns[..., place]
    totals: NDArray[Any] = bins.sum(axis=(1, 2), dtype=wide)
    totals += rows[:, :, across * width :].sum(axis=(1, 2), dtype=wide)
    totals += offset * height * down * num_columns
    totals += frames[:, down * height :].sum(axis=(1, 2), dtype=wide)
    return totals / (num_rows * num_columns), bins / (height * width) + offset


def _sum_rows(whole: NDArray[Any], least: Any, most: Any, wide: np.dtype[Any]) -> tuple[NDArray[Any], int]:
    """Add up the rows of each bin, all less a number, which is returned too."""
    height = whole.shape[1]
    if wide.kind != "f":
        addends = unsigned(whole)
        if is_fitting(addends.dtype, height, least, most):
            sums = np.add.reduce(addends, axis=1, dtype=addends.dtype)
            return less(sums, height * int(least)), int(least)
    return np.add.reduce(whole, axis=1, dtype=wide), 0
