"""
Sums of integer pixels in their own type, exact and several times faster than sums of widened ones.

They are taken modulo the range of the type, less the least value; that is the true sum as long as the sum of the
differences from the least value fits into the type.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def sum_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type that holds sums of pixels: int64 if it can hold those of a million frames, else float64."""
    return np.dtype(np.float64 if dtype.kind == "f" or dtype.itemsize == np.dtype(np.int64).itemsize else np.int64)


def unsigned(values: NDArray[Any]) -> NDArray[Any]:
    """Return integers as a type in which they are added modulo its range; a byte holds too little for sums."""
    if values.dtype.itemsize == 1:
        values = values.astype(f"{values.dtype.kind}2")
    return values.view(f"u{values.dtype.itemsize}")


def is_fitting(dtype: np.dtype[Any], count: int, least: Any, most: Any) -> bool:
    """
    Tell whether the sum of so many values is known from what it is modulo the range of their type.

    :param dtype: Of what :func:`unsigned` returns.
    :param least: Smallest of the values, as ``most`` is the largest.
    """
    return bool(count * (int(most) - int(least)) < 2 ** (8 * dtype.itemsize))


def less(sums: NDArray[Any], least: int) -> NDArray[Any]:
    """Return sums that were taken modulo the range of their type, less what at least they are."""
    lowest: NDArray[Any] = np.array(least % 2 ** (8 * sums.dtype.itemsize), sums.dtype)
    return np.asarray(np.subtract(sums, lowest))


class TimeSum:
    """
    The sum of each pixel over frames.

    :param shape: Of a frame.
    :param dtype: Of its pixels.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._is_float = sum_dtype(dtype).kind == "f"
        self._sum: NDArray[Any] = np.zeros(shape, np.float64 if self._is_float else f"u{max(dtype.itemsize, 2)}")
        self._count, self._least, self._most = 0, 0, 0
        self._settled: NDArray[Any] | None = None
        self._offset = 0

    def add(self, frames: NDArray[Any], least: NDArray[Any], most: NDArray[Any]) -> None:
        """
        Add frames.

        :param least: Smallest pixel of each, as ``most`` has the largest ones.
        """
        if self._is_float:
            self._sum += np.add.reduce(frames, axis=0, dtype=np.float64)
            return
        low, high = int(least.min()), int(most.max())
        if len(frames) > 1 and not is_fitting(self._sum.dtype, len(frames), low, high):
            half = len(frames) // 2
            for part in (slice(half), slice(half, None)):
                self.add(frames[part], least[part], most[part])
            return
        if self._count:
            lowest, highest = min(self._least, low), max(self._most, high)
            if is_fitting(self._sum.dtype, self._count + len(frames), lowest, highest):
                low, high = lowest, highest
            else:
                self._settle()
        self._count, self._least, self._most = self._count + len(frames), low, high
        addends = unsigned(frames)
        one = addends[0] if len(frames) == 1 else np.add.reduce(addends, axis=0, dtype=self._sum.dtype)
        np.add(self._sum, one, out=self._sum)

    def _settle(self) -> None:
        """Keep the sum so far, and begin another."""
        if self._settled is None:
            self._settled = np.zeros(self._sum.shape, np.int64)
        self._settled += less(self._sum, self._count * self._least)
        self._offset += self._count * self._least
        self._sum[...] = 0
        self._count = 0

    def add_to(self, total: NDArray[Any]) -> int:
        """
        Add the sum of each pixel to ``total``, but for one number, which is returned.

        :param total: int64, of floats float64.
        """
        if self._is_float:
            total += self._sum
            return 0
        if self._settled is not None:
            total += self._settled
        if self._count:
            total += less(self._sum, self._count * self._least)
        return self._offset + self._count * self._least
