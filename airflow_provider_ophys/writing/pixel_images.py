"""Images of a movie's pixels over time, from blocks in any order: mean, maximum, deviation and correlation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from airflow_provider_ophys.writing.exact_sums import sum_dtype
from airflow_provider_ophys.writing.frame_scan import Scan

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Products of neighbours cost more than all the rest. Of a movie with more frames, and more bytes, than these they
# are taken of every second, third ... frame.
COMPARED_FRAMES, COMPARED_BYTES = 256, 64 * 2**20
# So many values are squared at once, and of so many frames: what they take as float32 stays in a CPU's cache.
SQUARED_PIXELS, SQUARED_FRAMES = 65_536, 32
WAITING_FRAMES = 8

# Per pixel: the sums over time of values and of squares, four sums of products, and what the largest value and the
# reference take.
SUMS_BYTES = 6 * np.dtype(np.float64).itemsize


class PixelImages:
    """
    Sums of each pixel over time, of one plane; what is added by several threads must be added under one lock.

    Squares are of differences from the first frames that are not blank: they stay precise on a large offset.

    :param shape: (rows, columns).
    :param dtype: Of the pixels.
    """

    def __init__(self, shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
        self.count = 0
        self.compared_count = 0
        self.offset = 0
        self.total: NDArray[Any] = np.zeros(shape, dtype=sum_dtype(dtype))
        self.maximum: NDArray[Any] = np.zeros(shape, dtype=dtype)
        self.reference: NDArray[Any] = np.zeros(shape, dtype=np.float32 if dtype.itemsize <= 4 else np.float64)  # noqa: PLR2004
        self.has_reference = False
        self.squares = np.zeros(shape)
        # Of the frames that are compared: differences, their squares, and products with the right and lower one.
        self.sums = np.zeros((4, *shape))
        self._waiting: list[NDArray[Any]] = []

    def add(self, block: NDArray[Any], scanned: Scan, compared: slice) -> None:
        """
        Add frames.

        :param block: (frames, rows, columns).
        :param scanned: What is in it.
        :param compared: Those whose neighbouring pixels are compared.
        """
        if not self.has_reference and scanned.least.min() != scanned.most.max():
            self.rebase(np.add.reduce(block, axis=0, dtype=np.float64) / len(block))
            self.has_reference = True
        if self.count:
            np.maximum(self.maximum, scanned.maximum, out=self.maximum)
        else:
            self.maximum[...] = scanned.maximum
        self.count += len(block)
        self.offset += scanned.total.add_to(self.total)
        for start in range(0, len(block), SQUARED_FRAMES):
            self._square(block[start : start + SQUARED_FRAMES])
        chosen = block[compared]
        if len(chosen) >= WAITING_FRAMES:
            self._compare(chosen)
        elif len(chosen):
            self._waiting.append(chosen.copy())
            if sum(map(len, self._waiting)) >= WAITING_FRAMES:
                self.settle()

    def settle(self) -> None:
        """Compare the pixels of frames that wait for others, since many at once take less time."""
        if self._waiting:
            self._compare(np.concatenate(self._waiting))
            self._waiting.clear()

    def _square(self, frames: NDArray[Any]) -> None:
        for part, difference in self._differences(frames):
            squares = np.multiply(difference, difference, out=difference)
            self.squares[part] += np.add.reduce(squares, axis=0)

    def _compare(self, frames: NDArray[Any]) -> None:
        # One row more, to multiply the last one with.
        for part, difference in self._differences(frames, rows_beyond=1):
            linear, square, right, down = self.sums[:, part]
            here, below = difference[:, : len(linear)], difference[:, 1:]
            linear += np.add.reduce(here, axis=0)
            square += np.add.reduce(here * here, axis=0)
            right[:, :-1] += np.add.reduce(here[:, :, :-1] * here[:, :, 1:], axis=0)
            down[: below.shape[1]] += np.add.reduce(difference[:, : below.shape[1]] * below, axis=0)
        self.compared_count += len(frames)

    def _differences(self, frames: NDArray[Any], rows_beyond: int = 0) -> Iterator[tuple[slice, NDArray[Any]]]:
        """Give, for some rows after the others, by how much they and so many beyond differ from the reference."""
        step = max(1, SQUARED_PIXELS // (len(frames) * frames.shape[2]))
        for start in range(0, frames.shape[1], step):
            seen = slice(start, start + step + rows_beyond)
            difference = frames[:, seen].astype(self.reference.dtype)
            difference -= self.reference[seen]
            yield slice(start, start + step), difference

    def rebase(self, reference: NDArray[Any]) -> None:
        """Make the sums of squares those of the differences from another reference."""
        new = reference.astype(self.reference.dtype)
        moved = self.reference.astype(np.float64) - new
        self.squares += moved * self.count * (2 * (self.mean - self.reference) + moved)
        linear, square, right, down = self.sums
        count = self.compared_count
        right[:, :-1] += _crossed(
            linear, moved, count, (slice(None), slice(None, -1)), (slice(None), slice(1, None))
        )
        down[:-1] += _crossed(linear, moved, count, (slice(None, -1),), (slice(1, None),))
        square += moved * (2 * linear + count * moved)
        linear += count * moved
        self.reference = new

    def merge(self, other: PixelImages) -> None:
        """Add what was found in other frames of the same movie."""
        if not other.count:
            return
        self.settle()
        other.settle()
        if other.has_reference and self.has_reference:
            other.rebase(self.reference)
        elif other.has_reference:
            self.rebase(other.reference)
            self.has_reference = True
        else:
            other.rebase(self.reference)
        self.squares += other.squares
        self.sums += other.sums
        self.total = self.total + other.total
        self.offset += other.offset
        self.maximum = np.maximum(self.maximum, other.maximum) if self.count else other.maximum
        self.count += other.count
        self.compared_count += other.compared_count

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return all that is known as plain arrays."""
        self.settle()
        counts = np.array([self.count, self.compared_count, self.offset, self.has_reference], dtype=np.int64)
        return {
            "counts": counts,
            "total": self.total,
            "maximum": self.maximum,
            "reference": self.reference,
            "squares": self.squares,
            "sums": self.sums,
        }

    def take(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """
        Become what :meth:`to_arrays` gave.

        :raises ValueError: If the arrays are of another shape.
        :raises KeyError: If one is missing.
        """
        self.count, self.compared_count, self.offset, has_reference = map(int, arrays["counts"])
        self.has_reference = bool(has_reference)
        for name in ("total", "maximum", "reference", "squares", "sums"):
            getattr(self, name)[...] = arrays[name]

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean over time, from every frame."""
        return np.asarray((self.total + self.offset) / max(self.count, 1), dtype=np.float64)

    @property
    def deviation(self) -> NDArray[np.float64]:
        """Standard deviation over time, from every frame."""
        variance = self.squares / max(self.count, 1) - (self.mean - self.reference) ** 2
        return np.asarray(np.sqrt(np.maximum(variance, 0)))

    @property
    def likeness(self) -> NDArray[np.float64]:
        """Mean correlation of each pixel with its four neighbours over time, from the frames that are compared."""
        self.settle()
        linear, square, right, down = self.sums / max(self.compared_count, 1)
        deviation = np.sqrt(np.maximum(square - linear**2, 0))
        found, pairs = np.zeros(linear.shape), np.zeros(linear.shape)
        for product, this, that in (
            (right, np.s_[:, :-1], np.s_[:, 1:]),
            (down, np.s_[:-1, :], np.s_[1:, :]),
        ):
            covariance = product[this] - linear[this] * linear[that]
            scale = deviation[this] * deviation[that]
            correlation = np.divide(covariance, scale, out=np.zeros_like(scale), where=scale > 0)
            for side in (this, that):
                found[side] += correlation
                pairs[side] += 1
        return found / np.maximum(pairs, 1)


def _crossed(
    linear: NDArray[np.float64],
    moved: NDArray[np.float64],
    count: int,
    this: tuple[slice, ...],
    that: tuple[slice, ...],
) -> NDArray[np.float64]:
    """Return what the sum of the products of two neighbours grows by when their references move."""
    return moved[this] * linear[that] + moved[that] * linear[this] + count * moved[this] * moved[that]
