"""
What all frames of a movie say, taken while they are written: nobody has to read them again.

The frames come in blocks, in any order and from any thread, and the shares of several processes are merged: what
is kept is a row of facts for each frame, and sums.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np

from airflow_provider_ophys.writing.chunks import contiguous
from airflow_provider_ophys.writing.frame_facts import (
    MOST_LAGS,
    STAYS_AT,
    BlockFacts,
    band_powers,
    lag_products,
    likeness_gained,
    look_at_block,
    shifts_between,
)
from airflow_provider_ophys.writing.frame_scan import bin_size, binned_shape, scan
from airflow_provider_ophys.writing.pixel_images import (
    COMPARED_BYTES,
    COMPARED_FRAMES,
    SUMS_BYTES,
    WAITING_FRAMES,
    PixelImages,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

VOLUME_AXES = 4
# Of frames that seem to have moved by less, in pixels, nothing is to be undone.
LEAST_MOVE = 1.0
MOST_IMAGE_BYTES = 64 * 2**20
# Some pixel values for a histogram; room for more of them where frames are left out between.
HISTOGRAM_PIXELS, MOST_PIXELS = 500_000, 8_000_000
GOLDEN_SECTION = 0.6180339887
MOST_SLICES, FEWEST_SLICES = 64, 8
# Of a movie with more frames, bands are looked for in every second, third ... block.
BANDED_FRAMES = 1024


# What of FrameStatistics is kept in files as it is.
_ARRAYS = ("frames", "slices", "slice_counts", "pixels", "lags", "lag_counts")


def frame_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the record that is kept of each frame of each plane."""
    return np.dtype(
        [
            ("mean", "f8"),
            ("floor", "f4"),
            ("least", dtype),
            ("most", dtype),
            ("zeros", "u4"),
            ("tops", "u4"),
            # With the frame before: NaN for the first, and where that was not looked at.
            ("correlation", "f4"),
            ("shift_x", "f4"),
            ("shift_y", "f4"),
            # By how much more it is like that one, once this movement is undone.
            ("gained", "f4"),
            ("is_seen", "?"),
            ("is_repeat", "?"),
        ]
    )


class FrameStatistics:
    """
    Statistics of a movie.

    :param shape: (samples, columns, rows[, planes]), as NWB stores it.
    :param dtype: Of the pixels.
    :param step: Every how many columns and rows the images have; see :func:`pixel_step`.
    :param num_seen: How many frames will be added, if not all.

    Its arrays have an axis for planes, of length 1 if there is one:

    - ``frames`` (samples, planes), records of :func:`frame_dtype`;
    - ``slices`` (stretches of time, planes, rows, columns): sums of binned frames, ``slice_counts`` of each;
    - ``pixels`` (samples, n): some pixels of each frame, the planes in turn;
    - ``lags`` (planes, n), sums of the correlations of frames 1, 2, ... apart, and ``lag_counts``, of how many;
    - ``bands``: two arrays (planes, frequencies), see :func:`.frame_facts.band_powers`, of some blocks;
    - ``tops``: how many pixels have each of the values from ``tops_from`` on.
    """

    def __init__(
        self, shape: tuple[int, ...], dtype: np.dtype[Any], step: int = 1, num_seen: int | None = None
    ) -> None:
        self.shape, self.dtype = tuple(map(int, shape)), np.dtype(dtype).newbyteorder("=")
        num_samples, columns, rows, *planes = self.shape
        self.frame_shape, self.num_planes = (rows, columns), planes[0] if planes else 1
        self.pixel_step = step
        num_seen = num_seen or num_samples
        frame_bytes = rows * columns * self.num_planes * self.dtype.itemsize
        self.compared_step = max(1, num_seen // max(COMPARED_FRAMES, COMPARED_BYTES // frame_bytes))
        self.banded_step = max(1, num_seen // BANDED_FRAMES)
        reduced = (-(-rows // self.pixel_step), -(-columns // self.pixel_step))
        self.images = [PixelImages(reduced, self.dtype) for _ in range(self.num_planes)]
        self.frames = np.zeros((num_samples, self.num_planes), frame_dtype(self.dtype))
        for name in ("correlation", "shift_x", "shift_y", "gained"):
            self.frames[name] = np.nan
        count = min(num_samples, max(FEWEST_SLICES, MOST_SLICES // self.num_planes))
        self.slices = np.zeros((count, self.num_planes, *binned_shape(self.frame_shape)))
        self.slice_counts = np.zeros(count, dtype=np.int64)
        self.pixels = np.zeros((num_samples, _pixels_per_frame(num_samples, num_seen)), self.dtype)
        self.lags = np.zeros((self.num_planes, MOST_LAGS))
        self.lag_counts = np.zeros(MOST_LAGS, dtype=np.int64)
        self.bands = [np.zeros((self.num_planes, bins // 2 + 1)) for bins in binned_shape(self.frame_shape)]
        self.tops: dict[float, int] = {}
        self.tops_from = -np.inf
        self._edges: dict[tuple[int, int], _Edge] = {}
        self._has_failed = False
        self._lock = threading.Lock()

    def add(self, block: NDArray[Any], start: int) -> None:
        """
        Add consecutive frames; may be called from several threads.

        What goes wrong is logged once and the frames stay missing: nothing that is written depends on it.

        :param block: (frames, columns, rows[, planes]), with any strides.
        :param start: Of its first frame.
        """
        try:
            self._add(block, start)
        except Exception:
            if not self._has_failed:
                log.warning("No statistics could be taken of frames from %d on.", start, exc_info=True)
            self._has_failed = True

    def _add(self, block: NDArray[Any], start: int) -> None:
        for plane in range(self.num_planes):
            frames = block[..., plane] if block.ndim == VOLUME_AXES else block
            # A recording has its rows in memory one after the other, and NWB's order is a view of that.
            frames = contiguous(frames.swapaxes(1, 2), self.dtype)
            if self.dtype.kind == "f" and not np.isfinite(frames).all():
                frames = np.nan_to_num(frames, nan=0.0, posinf=0.0, neginf=0.0)
            self._add_plane(frames, start, plane)

    def _add_plane(self, frames: NDArray[Any], start: int, plane: int) -> None:
        facts = look_at_block(frames)
        stop = start + len(frames)
        self._note(facts, start, plane)
        self._keep_pixels(frames, start, plane)
        self._compare(frames, facts, start, plane)
        lags = lag_products(facts.patterns)
        # What flickers does so from the first frame to the last: of a long movie some blocks tell it.
        is_banded = start // len(frames) % self.banded_step == 0
        bands = band_powers(facts.scan.binned) if is_banded else None
        shown, scanned = frames, facts.scan
        if self.pixel_step > 1:
            shown = np.ascontiguousarray(frames[:, :: self.pixel_step, :: self.pixel_step])
            scanned = scan(shown)
        compared = slice(-start % self.compared_step, None, self.compared_step)
        slices = np.arange(start, stop) * len(self.slices) // self.shape[0]
        with self._lock:
            self.images[plane].add(shown, scanned, compared)
            for place in np.unique(slices):
                self.slices[place, plane] += facts.scan.binned[slices == place].sum(axis=0)
            if plane == 0:
                np.add.at(self.slice_counts, slices, 1)
                self.lag_counts += np.maximum(len(frames) - np.arange(1, MOST_LAGS + 1), 0)
            self.lags[plane] += lags
            if bands is not None:
                for mine, found in zip(self.bands, bands, strict=True):
                    mine[plane] += found
            self._add_tops(facts.tops.by_value, facts.tops.threshold)
            self.frames["is_seen"][start:stop, plane] = True

    def _keep_pixels(self, frames: NDArray[Any], start: int, plane: int) -> None:
        """Keep some pixels of each frame, from everywhere: others in each, and of one plane in each."""
        times = np.arange(start, start + len(frames))[(plane - start) % self.num_planes :: self.num_planes]
        flat = frames.reshape(len(frames), -1)
        count = self.pixels.shape[1]
        steps = np.arange(count) + (times[:, None] * GOLDEN_SECTION) % 1
        places = np.minimum((steps * (flat.shape[1] / count)).astype(np.int64), flat.shape[1] - 1)
        self.pixels[times] = flat[times[:, None] - start, places]

    def _note(self, facts: BlockFacts, start: int, plane: int) -> None:
        rows = self.frames[start : start + len(facts.zeros), plane]
        rows["mean"], rows["floor"] = facts.scan.means, facts.floors
        rows["least"], rows["most"] = facts.scan.least, facts.scan.most
        rows["zeros"], rows["tops"] = facts.zeros, facts.tops.per_frame

    def _compare(self, frames: NDArray[Any], facts: BlockFacts, start: int, plane: int) -> None:
        """Compare each frame with the one before; that of the first is in another block, which may come later."""
        rows = self.frames[start : start + len(frames), plane]
        if len(frames) > 1:
            patterns, spectra = facts.patterns, facts.spectra
            rows["correlation"][1:] = np.einsum("tp,tp->t", patterns[1:], patterns[:-1])
            self._move(rows[1:], spectra[1:], spectra[:-1])
            same = (rows["mean"][1:] == rows["mean"][:-1]) & (rows["most"][1:] == rows["most"][:-1])
            for place in np.flatnonzero(same):
                rows["is_repeat"][place + 1] = np.array_equal(frames[place + 1], frames[place])
        for at, boundary, is_later in ((0, start, True), (-1, start + len(frames), False)):
            checksum = google_crc32c.value(frames[at].tobytes())
            self._join(
                boundary,
                plane,
                _Edge(is_later, checksum, float(facts.scan.means[at]), facts.patterns[at], facts.spectra[at]),
            )

    def _join(self, boundary: int, plane: int, edge: _Edge) -> None:
        """Compare the frames on both sides of a boundary between blocks, once both are known."""
        with self._lock:
            other = self._edges.pop((boundary, plane), None)
            if other is None or other.is_later == edge.is_later:
                self._edges[boundary, plane] = edge
                return
        later, earlier = (edge, other) if edge.is_later else (other, edge)
        row = self.frames[boundary : boundary + 1, plane]
        row["correlation"] = float(later.pattern @ earlier.pattern)
        self._move(row, later.spectrum[None], earlier.spectrum[None])
        row["is_repeat"] = later.checksum == earlier.checksum and later.mean == earlier.mean

    def _move(self, rows: NDArray[Any], later: NDArray[np.complex64], earlier: NDArray[np.complex64]) -> None:
        """Note by how much frames have moved, by their spectra and those of the frames before."""
        bins = np.array(self.slices.shape[2:])
        down, across = np.maximum(bins // 2, 1).tolist()
        shifts = shifts_between(later, earlier, (down, across), stays_at=STAYS_AT)
        moved = shifts * bin_size(self.frame_shape) * np.where(bins > 1, 2, 1)
        is_far = np.hypot(*moved.T) > LEAST_MOVE
        rows["shift_y"], rows["shift_x"] = moved.T
        rows["gained"] = 0.0
        if is_far.any():
            rows["gained"][is_far] = likeness_gained(
                later[is_far], earlier[is_far], (down, across), shifts[is_far]
            )

    def _add_tops(self, counts: dict[float, int], threshold: float) -> None:
        """Add counts of the brightest pixels; below the highest of the thresholds not all are known."""
        self.tops_from = max(self.tops_from, threshold)
        for value, count in counts.items():
            self.tops[value] = self.tops.get(value, 0) + count
        self.tops = {value: count for value, count in self.tops.items() if value >= self.tops_from}

    def merge(self, other: FrameStatistics) -> bool:
        """
        Add what another process found in other frames of the same movie.

        :returns: Whether it was added; what has frames that this has already is not.
        """
        if (self.frames["is_seen"] & other.frames["is_seen"]).any():
            return False
        seen = other.frames["is_seen"]
        self.frames[seen] = other.frames[seen]
        self.pixels[seen.any(axis=1)] = other.pixels[seen.any(axis=1)]
        for mine, its in zip(self.images, other.images, strict=True):
            mine.merge(its)
        for name in ("slices", "slice_counts", "lags", "lag_counts"):
            getattr(self, name)[...] += getattr(other, name)
        for band, another in zip(self.bands, other.bands, strict=True):
            np.add(band, another, out=band)
        self._add_tops(other.tops, other.tops_from)
        for (boundary, plane), edge in other._edges.items():
            self._join(boundary, plane, edge)
        return True

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return all that is known as plain arrays."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        arrays |= {f"bands/{axis}": band for axis, band in enumerate(self.bands)}
        for plane, images in enumerate(self.images):
            arrays |= {f"images/{plane}/{name}": array for name, array in images.to_arrays().items()}
        arrays["tops"] = np.array(sorted(self.tops.items()), dtype=np.float64).reshape(-1, 2)
        arrays["tops_from"] = np.array(self.tops_from)
        return arrays | self._edges_to_arrays()

    def _edges_to_arrays(self) -> dict[str, NDArray[Any]]:
        edges = list(self._edges.items())
        places = [[*place, edge.is_later, edge.checksum] for place, edge in edges]
        return {
            "edges/places": np.array(places, dtype=np.int64),
            "edges/means": np.array([edge.mean for _, edge in edges]),
            "edges/patterns": np.array([edge.pattern for _, edge in edges], dtype=np.float32),
            "edges/spectra": np.array([edge.spectrum for _, edge in edges], dtype=np.complex64),
        }

    @classmethod
    def from_arrays(
        cls, shape: tuple[int, ...], dtype: np.dtype[Any], step: int, arrays: Mapping[str, NDArray[Any]]
    ) -> FrameStatistics:
        """
        Return what :meth:`to_arrays` gave.

        :raises ValueError: If the arrays are not those of such a movie.
        :raises KeyError: If one is missing.
        """
        found = cls(shape, dtype, step=step)
        for name in _ARRAYS:
            getattr(found, name)[...] = arrays[name]
        for axis, band in enumerate(found.bands):
            band[...] = arrays[f"bands/{axis}"]
        for plane, images in enumerate(found.images):
            prefix = f"images/{plane}/"
            names = [name for name in arrays if name.startswith(prefix)]
            images.take({name.removeprefix(prefix): arrays[name] for name in names})
        found.tops = {float(value): int(count) for value, count in arrays["tops"]}
        found.tops_from = float(arrays["tops_from"])
        places = arrays["edges/places"].tolist()
        edges = zip(arrays["edges/means"], arrays["edges/patterns"], arrays["edges/spectra"], strict=True)
        for (boundary, plane, is_later, checksum), (mean, pattern, spectrum) in zip(places, edges, strict=True):
            found._edges[boundary, plane] = _Edge(bool(is_later), checksum, float(mean), pattern, spectrum)
        return found

    @property
    def missing(self) -> list[range]:
        """The stretches of frames that were not added."""
        seen = np.concatenate([[True], self.frames["is_seen"].all(axis=1), [True]])
        edges = np.flatnonzero(np.diff(seen))
        return [range(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]

    @property
    def num_bytes(self) -> int:
        """How much memory this takes, however many frames are added."""
        return statistics_bytes(self.shape, self.dtype, self.pixel_step)


@dataclass(frozen=True)
class _Edge:
    """The frame at the border of a block, on its later or earlier side."""

    is_later: bool
    checksum: int
    mean: float
    pattern: NDArray[np.float32]
    spectrum: NDArray[np.complex64]


def _pixels_per_frame(num_samples: int, num_seen: int) -> int:
    return max(1, min(HISTOGRAM_PIXELS // num_seen, MOST_PIXELS // num_samples))


def pixel_step(shape: tuple[int, ...], dtype: np.dtype[Any], image_bytes: int) -> int:
    """Choose every how many columns and rows the images have, so that they fit."""
    step = 1
    while _image_bytes(shape, dtype, step) > image_bytes:
        step += 1
    return step


def statistics_bytes(shape: tuple[int, ...], dtype: np.dtype[Any], step: int) -> int:
    """
    Return how much memory the statistics of a movie take.

    :param shape: (samples, columns, rows[, planes]).
    :param step: Every how many columns and rows the images have.
    """
    num_samples, planes = shape[0], shape[3] if len(shape) == VOLUME_AXES else 1
    rows = num_samples * planes * frame_dtype(dtype).itemsize + max(num_samples, HISTOGRAM_PIXELS) * dtype.itemsize
    slices = max(MOST_SLICES, FEWEST_SLICES * planes) * 64 * 64 * 8
    return rows + slices + _image_bytes(shape, dtype, step)


def _image_bytes(shape: tuple[int, ...], dtype: np.dtype[Any], step: int) -> int:
    _, columns, rows, *planes = shape
    pixels = -(-columns // step) * -(-rows // step) * (planes[0] if planes else 1)
    return int(pixels * (SUMS_BYTES + 2 * max(dtype.itemsize, 4) + WAITING_FRAMES * dtype.itemsize))
