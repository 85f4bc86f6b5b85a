"""
What statistics of every frame cost at least: all pixels looked at once, by a loop that numba compiles.

It takes no more than a report is asked for: each frame's mean, least, most, zeros and saturated pixels; the images
of the mean, the maximum and the standard deviation; and from frames binned to 64 x 64 the correlation of each with
the one before, and how far it has moved. numba is no dependency of this project, so it comes for this run only::

    .venv/bin/uv run --no-project --with numba --with numpy python benchmarks/statistics_floor.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
from numba import njit

FRAMES, SIDE, BINS = 100, 512, 64
BIN = SIDE // BINS
MEAN_PIXEL, SATURATED = 300, 400
ROUNDS, REPEATS = 7, 10


@njit(nogil=True, fastmath=True)
def look(movie, least, most, zeros, tops, bins, total, squares, maximum, sums):  # noqa: ANN001, ANN201, PLR0917
    """Look at each pixel once, in stripes of a bin's height, so that a stripe's sums stay in the CPU's cache."""
    for stripe in range(BINS):
        for time_ in range(len(movie)):
            sums[:] = 0
            low, high = np.int16(32767), np.int16(-32768)
            no_light, at_top = np.int32(0), np.int32(0)
            for row in range(stripe * BIN, (stripe + 1) * BIN):
                pixels, row_total, row_squares, row_maximum = (
                    movie[time_, row],
                    total[row],
                    squares[row],
                    maximum[row],
                )
                for column in range(SIDE):
                    pixel = pixels[column]
                    low, high = min(low, pixel), max(high, pixel)
                    no_light += np.int32(pixel == 0)
                    at_top += np.int32(pixel >= SATURATED)
                    sums[column] += np.int32(pixel)
                    row_total[column] += np.int32(pixel)
                    row_maximum[column] = max(row_maximum[column], pixel)
                    difference = np.float32(pixel) - np.float32(MEAN_PIXEL)
                    row_squares[column] += difference * difference
            least[time_], most[time_] = min(least[time_], low), max(most[time_], high)
            zeros[time_] += no_light
            tops[time_] += at_top
            for column in range(BINS):
                bins[time_, stripe, column] = sums[column * BIN : (column + 1) * BIN].sum()


def compare(bins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the correlation of each frame with the one before, and by how many bins it has moved."""
    patterns = bins - bins.mean(axis=(1, 2), keepdims=True)
    patterns /= np.linalg.norm(patterns, axis=(1, 2), keepdims=True)
    spectra = np.fft.rfft2(patterns)
    crossed = spectra[1:] * spectra[:-1].conj()
    crossed /= np.abs(crossed) + np.float32(1e-9)
    peaks = np.fft.irfft2(crossed).reshape(len(bins) - 1, -1).argmax(axis=1)
    return np.einsum("tyx,tyx->t", patterns[1:], patterns[:-1]), peaks


def seconds_per_gb(step: Callable[[], object], size: int) -> str:
    """Repeat a step; return the median of its CPU time, and its range."""
    found = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        for _ in range(REPEATS):
            step()
        found.append((time.process_time() - begun) / REPEATS / size * 1e9)
    return f"{statistics.median(found):.3f} ({min(found):.3f}-{max(found):.3f}) CPU-s per GB"


def main() -> None:
    """Look at a movie in one thread, check what was found, and say what it takes."""
    movie = np.random.default_rng(0).poisson(MEAN_PIXEL, (FRAMES, SIDE, SIDE)).astype("int16")
    per_frame = [
        np.full(FRAMES, 32767, "int16"),
        np.full(FRAMES, -32768, "int16"),
        *np.zeros((2, FRAMES), "int32"),
    ]
    bins = np.zeros((FRAMES, BINS, BINS), "float32")
    images = [np.zeros((SIDE, SIDE), "int32"), np.zeros((SIDE, SIDE), "float32"), np.zeros((SIDE, SIDE), "int16")]
    arguments = (movie, *per_frame, bins, *images, np.zeros(SIDE, "int32"))
    look(*arguments)
    np.testing.assert_array_equal(per_frame[0], movie.min(axis=(1, 2)))
    np.testing.assert_array_equal(per_frame[3], (movie >= SATURATED).sum(axis=(1, 2)))
    np.testing.assert_array_equal(bins, movie.reshape(FRAMES, BINS, BIN, BINS, BIN).sum(axis=(2, 4)))
    np.testing.assert_array_equal(images[0], movie.sum(axis=0))
    np.testing.assert_allclose(images[1], ((movie - float(MEAN_PIXEL)) ** 2).sum(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(images[2], movie.max(axis=0))
    print(f"every pixel:           {seconds_per_gb(lambda: look(*arguments), movie.nbytes)}")
    print(f"correlation, movement: {seconds_per_gb(lambda: compare(bins), movie.nbytes)}")


if __name__ == "__main__":
    main()
