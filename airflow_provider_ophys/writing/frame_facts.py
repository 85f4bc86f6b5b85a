"""What the frames of a block say, each by itself and beside the one before it: arrays in, arrays out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from airflow_provider_ophys.writing.frame_scan import Scan, scan

if TYPE_CHECKING:
    from numpy.typing import NDArray

FLOOR_SHARE = 0.25
# How far apart in time frames are compared for a pattern that repeats.
MOST_LAGS = 8
# Of the range of pixel values: as near to the brightest pixel of a frame as what counts as saturated with it.
TOP_SHARE = 1 / 64
# A phase correlation divides by amplitudes: less than this share of the largest is noise.
LEAST_AMPLITUDE = 1e-3
MOST_CHANGE = 4.0
STAYS_AT = 0.7
# What is larger than a third of the field is light and not structure.
FEWEST_CYCLES = 3.0
# No movement, and its neighbours.
_NEAR = np.array([-1, 0, 1])


@dataclass(frozen=True)
class Tops:
    """
    The brightest pixels of a block.

    :param threshold: All pixels that are at least so bright are counted; see ``TOP_SHARE``.
    :param by_value: How many have each of the values.
    :param per_frame: How many are in each frame.
    """

    threshold: float
    by_value: dict[float, int]
    per_frame: NDArray[np.int64]


@dataclass(frozen=True)
class BlockFacts:
    """
    Facts of consecutive frames of one plane.

    :param scan: What one pass over the pixels found.
    :param zeros: How many pixels of each frame are 0.
    :param tops: The brightest pixels.
    :param floors: Mean of the darkest quarter of the binned frame.
    :param patterns: The binned frames at half their resolution, with mean 0 and length 1: (frames, pixels).
    :param spectra: Fourier transforms of these.
    """

    scan: Scan
    zeros: NDArray[np.int64]
    tops: Tops
    floors: NDArray[np.float64]
    patterns: NDArray[np.float32]
    spectra: NDArray[np.complex64]

    @property
    def pattern_shape(self) -> tuple[int, int]:
        """Of the patterns, in pixels."""
        down, across = self.scan.binned.shape[1:]
        return max(1, down // 2), max(1, across // 2)


def look_at_block(block: NDArray[Any]) -> BlockFacts:
    """
    Look at the frames of a block.

    :param block: (frames, rows, columns), C-contiguous, of native byte order and finite.
    """
    flat, scanned = block.reshape(len(block), -1), scan(block)
    coarse = coarsen(scanned.binned)
    patterns, spectra = _patterns(coarse)
    return BlockFacts(
        scan=scanned,
        zeros=_count_zeros(flat, scanned),
        tops=_tops(flat, scanned.maximum.reshape(-1), scanned.least.min()),
        floors=_floors(coarse),
        patterns=patterns,
        spectra=spectra,
    )


def top_width(least: Any, most: Any) -> Any:
    """Return how far below the largest value pixels count as being at the top."""
    return max(int(most) - int(least), 0) * TOP_SHARE if isinstance(most, np.integer) else 0


def lag_products(patterns: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the sum of the correlations of all pairs of frames that are 1, 2, ... frames apart."""
    products = np.zeros(MOST_LAGS)
    for lag in range(1, min(MOST_LAGS + 1, len(patterns))):
        products[lag - 1] = np.einsum("tp,tp->", patterns[lag:], patterns[:-lag])
    return products


def shifts_between(
    later: NDArray[np.complex64], earlier: NDArray[np.complex64], shape: tuple[int, int], *, stays_at: float = 1.0
) -> Any:
    """
    Return by how many of their pixels patterns have moved, by phase correlation: (frames, 2), rows first.

    :param later: Spectra of frames, as is ``earlier``.
    :param shape: Of the patterns, in pixels.
    :param stays_at: What is so high at no movement, as a share of the highest peak, has not moved: a cell that
        fires makes a peak elsewhere, and leaves this one.
    """
    cross = later * earlier.conj()
    amplitude = np.abs(cross)
    cross /= amplitude + LEAST_AMPLITUDE * amplitude.max(axis=(1, 2), keepdims=True) + np.finfo(np.float32).tiny
    peaks = np.fft.irfft2(cross, s=shape, axes=(1, 2))
    at = peaks.reshape(len(peaks), -1).argmax(axis=1)
    places = np.stack(np.unravel_index(at, shape), axis=1)
    frames = np.arange(len(peaks))
    near = peaks[:, (_NEAR % shape[0])[:, None], _NEAR % shape[1]].reshape(len(peaks), -1)
    stays = near.max(axis=1) >= stays_at * peaks[frames, *places.T]
    places[stays] = _NEAR[np.stack(np.unravel_index(near[stays].argmax(axis=1), (3, 3)), axis=1)] % shape
    moved = np.empty((len(peaks), 2))
    for axis, length in enumerate(shape):
        around = [
            peaks[frames, *((places + offset) % shape).T]
            for offset in (np.eye(2, dtype=int)[axis] * step for step in (-1, 0, 1))
        ]
        curvature = 2 * around[1] - around[0] - around[2]
        within = np.divide(around[2] - around[0], 2 * curvature, out=np.zeros(len(peaks)), where=curvature > 0)
        wrapped = (places[:, axis] + length // 2) % length - length // 2
        moved[:, axis] = wrapped + np.clip(within, -0.5, 0.5) if length > 2 else 0.0  # noqa: PLR2004 - neighbours
    return moved


def likeness_gained(
    later: NDArray[np.complex64],
    earlier: NDArray[np.complex64],
    shape: tuple[int, int],
    moved: NDArray[np.float64],
) -> NDArray[np.float64]:
    """
    Return by how much the fine structure of patterns is more alike once their movement is undone.

    Between -2 and 2; what only changes in one place, such as a cell that fires, is less alike then.

    :param later: Spectra of frames, as is ``earlier``.
    :param shape: Of the patterns, in pixels.
    :param moved: By how many pixels they have moved, as :func:`shifts_between` says.
    """
    down, across = np.fft.fftfreq(shape[0]), np.fft.rfftfreq(shape[1])
    cycles = np.hypot((down * shape[0])[:, None], (across * shape[1])[None, :])
    # Half of the frequencies of a real picture are not in its spectrum.
    weights = np.where(cycles >= FEWEST_CYCLES, 2.0, 0.0).astype(np.float32)
    weights[:, 0] /= 2
    cross = later * earlier.conj() * weights
    here = cross.real.sum(axis=(1, 2))
    rows = np.exp(2j * np.pi * moved[:, :1] * down)
    columns = np.exp(2j * np.pi * moved[:, 1:] * across)
    there = np.einsum("ty,ty->t", rows, (cross @ columns[:, :, None])[:, :, 0]).real
    power = [np.einsum("tyx,tyx,yx->t", one, one.conj(), weights).real for one in (later, earlier)]
    size = np.sqrt(power[0] * power[1])
    return np.asarray(np.divide(there - here, size, out=np.zeros(len(size)), where=size > 0))


def _patterns(coarse: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.complex64]]:
    patterns = normalized(coarse)
    window = _window(coarse.shape[1:])
    return patterns, np.fft.rfft2(patterns.reshape(coarse.shape) * window, axes=(1, 2)).astype(np.complex64)


def coarsen(binned: NDArray[Any]) -> NDArray[np.float32]:
    """Return means of two by two bins, where there are two."""
    _, down, across = binned.shape
    if down > 1:
        binned = (binned[:, : down // 2 * 2 : 2] + binned[:, 1 : down // 2 * 2 : 2]) / 2
    if across > 1:
        binned = (binned[:, :, : across // 2 * 2 : 2] + binned[:, :, 1 : across // 2 * 2 : 2]) / 2
    return np.ascontiguousarray(binned, dtype=np.float32)


def normalized(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (images, pixels) with mean 0 and length 1, so that a product is a correlation."""
    flat = images.reshape(len(images), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    length = np.sqrt(np.einsum("tp,tp->t", flat, flat))[:, None]
    return np.asarray(np.divide(flat, length, out=np.zeros_like(flat), where=length > 0), dtype=np.float32)


@lru_cache(maxsize=8)
def _window(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return weights that fall towards the borders, where a shifted frame shows something else."""
    down, across = (np.hanning(length + 2)[1:-1] for length in shape)
    return np.outer(down, across).astype(np.float32)


def _floors(coarse: NDArray[np.float32]) -> NDArray[np.float64]:
    flat = coarse.reshape(len(coarse), -1)
    count = max(1, int(flat.shape[1] * FLOOR_SHARE))
    darkest = np.partition(flat, count - 1, axis=1)[:, :count]
    return np.asarray(darkest.mean(axis=1, dtype=np.float64))


def _count_zeros(flat: NDArray[Any], scanned: Scan) -> NDArray[np.int64]:
    zeros = np.zeros(len(flat), dtype=np.int64)
    for frame in np.flatnonzero((scanned.least <= 0) & (scanned.most >= 0)):
        zeros[frame] = flat.shape[1] - np.count_nonzero(flat[frame])
    return zeros


def _tops(flat: NDArray[Any], maximum: NDArray[Any], least: Any) -> Tops:
    """Find what is near the block's largest value, among those pixels only that ever come near it."""
    threshold = maximum.max() - top_width(least, maximum.max())
    bright = np.flatnonzero(maximum >= threshold)
    per_frame, counts = np.zeros(len(flat), dtype=np.int64), dict[float, int]()
    # Of a movie that is saturated as a whole these are all pixels: frame by frame they are never many at once.
    together = max(1, flat.shape[1] // max(len(bright), 1))
    for start in range(0, len(flat), together):
        some = flat[start : start + together, bright]
        is_top = some >= threshold
        per_frame[start : start + together] = np.count_nonzero(is_top, axis=1)
        for value, count in zip(*np.unique(some[is_top], return_counts=True), strict=True):
            counts[float(value)] = counts.get(float(value), 0) + int(count)
    return Tops(float(threshold), counts, per_frame)


def band_powers(binned: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """
    Return how much rows, and columns, are brighter or darker than in the mean of the block, by spatial frequency.

    What flickers while a frame is scanned makes bands along its rows.
    """
    change = binned - _median(binned)
    size = np.einsum("tyx,tyx->t", change, change)
    # A frame that is unlike all others, because a part of it is lost, says nothing about bands.
    change = change[size <= MOST_CHANGE * np.median(size)]
    rows, columns = (np.abs(np.fft.rfft(change.mean(axis=axis), axis=1)) ** 2 for axis in (2, 1))
    return rows.sum(axis=0, dtype=np.float64), columns.sum(axis=0, dtype=np.float64)


def _median(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the median over the first axis, at a quarter of what numpy's own takes along that axis."""
    of_each_pixel = np.ascontiguousarray(np.moveaxis(images, 0, -1))
    of_each_pixel.sort(axis=-1)
    upper = len(images) // 2
    lower = upper - (len(images) % 2 == 0)
    return np.asarray((of_each_pixel[..., lower] + of_each_pixel[..., upper]) / 2)
