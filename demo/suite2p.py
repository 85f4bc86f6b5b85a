"""
Write the ``suite2p`` folder of a simulated movie: its neurons, and what is measured from its noisy frames.

The neurons are known, so nothing has to be found; but the traces are read from the pixels of the movie, frame by
frame and displaced as the brain moved, as suite2p reads them after its registration. Traces have the axes (neuron,
frame), images (row, column).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from demo.tissue import CALCIUM_DECAY, MARGIN, Indices, Neuron, Tissue

# Suite2p subtracts this share of the surrounding neuropil.
NEUROPIL_COEFFICIENT = 0.7
NEUROPIL_FROM, NEUROPIL_TO = 10.0, 15.0
# Frames per bin of the movie in which the correlation of neighbouring pixels is measured.
BIN = 16

type Traces = npt.NDArray[np.float32]


class Suite2pFolder:
    """
    Collects, while a movie is written, what goes into the ``suite2p`` folder beside it.

    :param tissue: What the movie shows.
    :param num_samples: Number of frames that will be added.
    """

    def __init__(self, tissue: Tissue, num_samples: int) -> None:
        self._tissue = tissue
        self._num_samples = num_samples
        self._surroundings = _surroundings(tissue)
        self._neurons = _Probe([(n.rows, n.columns, n.weights) for n in tissue.neurons], tissue.shape)
        self._neuropil = _Probe(
            [(rows, columns, np.full(rows.size, 1 / rows.size)) for rows, columns in self._surroundings],
            tissue.shape,
        )
        self._fluorescence = np.empty((len(tissue.neurons), num_samples), np.float32)
        self._neuropil_fluorescence = np.empty_like(self._fluorescence)
        self._images = _SummaryImages(tissue.shape)

    def add(self, sample: int, frame: npt.NDArray[np.int16]) -> None:
        """Measure one frame, shape (rows, columns)."""
        down, right = self._tissue.shift(sample)
        self._fluorescence[:, sample] = self._neurons.measure(frame, down, right)
        self._neuropil_fluorescence[:, sample] = self._neuropil.measure(frame, down, right)
        self._images.add(np.roll(frame, (-down, -right), axis=(0, 1)))

    def save(self, folder: Path, sampling_frequency: float, *, plane: int = 0, num_planes: int = 1) -> None:
        """Write a plane into a ``suite2p`` folder."""
        options = self._options(sampling_frequency) | {"nplanes": num_planes, "iplane": plane}
        target = folder / f"plane{plane}"
        target.mkdir(parents=True)
        corrected = self._fluorescence - NEUROPIL_COEFFICIENT * self._neuropil_fluorescence
        np.save(target / "F.npy", self._fluorescence)
        np.save(target / "Fneu.npy", self._neuropil_fluorescence)
        np.save(target / "spks.npy", _deconvolve(corrected, sampling_frequency))
        np.save(target / "iscell.npy", self._classification())
        np.save(target / "stat.npy", self._statistics(corrected), allow_pickle=True)
        np.save(target / "ops.npy", np.array(options, object), allow_pickle=True)

    def _classification(self) -> npt.NDArray[np.float64]:
        """Give the verdict on each structure (0 or 1) and the probability behind it, shape (neuron, 2)."""
        accepted = np.array([neuron.is_cell for neuron in self._tissue.neurons], float)
        sizes = np.array([neuron.rows.size for neuron in self._tissue.neurons])
        certainty = 0.4 * sizes / sizes.max()
        return np.column_stack([accepted, np.where(accepted, 0.55 + certainty, 0.45 - certainty)])

    def _statistics(self, corrected: Traces) -> npt.NDArray[np.object_]:
        statistics = np.empty(len(self._tissue.neurons), object)
        for index, (neuron, around) in enumerate(zip(self._tissue.neurons, self._surroundings, strict=True)):
            deviation = corrected[index] - corrected[index].mean()
            spread = float(deviation.std())
            statistics[index] = {
                "ypix": neuron.rows.astype(np.int32),
                "xpix": neuron.columns.astype(np.int32),
                "lam": neuron.weights,
                "med": [int(np.median(neuron.rows)), int(np.median(neuron.columns))],
                "npix": int(neuron.rows.size),
                "radius": float(np.sqrt(neuron.rows.size / np.pi)),
                "overlap": np.zeros(neuron.rows.size, bool),
                "neuropil_mask": around[0] * self._tissue.shape[1] + around[1],
                "std": spread,
                "skew": float((deviation**3).mean() / max(spread, 1e-9) ** 3),
            }
        return statistics

    def _options(self, sampling_frequency: float) -> dict[str, object]:
        num_rows, num_columns = self._tissue.shape
        shifts = np.array([self._tissue.shift(sample) for sample in range(self._num_samples)], np.int32)
        return {
            "nchannels": 1,
            "functional_chan": 1,
            "tau": CALCIUM_DECAY,
            "fs": sampling_frequency,
            "nframes": self._num_samples,
            "Ly": num_rows,
            "Lx": num_columns,
            "yrange": [0, num_rows],
            "xrange": [0, num_columns],
            "yoff": shifts[:, 0],
            "xoff": shifts[:, 1],
            "neucoeff": NEUROPIL_COEFFICIENT,
            "meanImg": self._images.mean(),
            "max_proj": self._images.largest,
            "Vcorr": self._images.correlation(),
        }


class _Probe:
    """Weighted means over groups of pixels, for frames that are displaced."""

    def __init__(
        self,
        groups: list[tuple[Indices, Indices, npt.NDArray[np.floating]]],
        shape: tuple[int, int],
    ) -> None:
        self._width = shape[1]
        self._places = np.concatenate([rows * shape[1] + columns for rows, columns, _ in groups])
        self._weights = np.concatenate([weights for *_, weights in groups]).astype(np.float32)
        self._starts = np.cumsum([0, *(rows.size for rows, *_ in groups[:-1])])

    def measure(self, frame: npt.NDArray[np.int16], down: int, right: int) -> Traces:
        pixels = frame.reshape(-1).take(self._places + (down * self._width + right))
        sums: Traces = np.add.reduceat(pixels * self._weights, self._starts)
        return sums


class _SummaryImages:
    """Mean, maximum and local correlation of registered frames; the last two of the movie binned in time."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self._sum = np.zeros(shape)
        self._num_frames = 0
        self._bin = np.zeros(shape, np.float32)
        self._num_bins = 0
        self.largest = np.zeros(shape, np.float32)
        # Sums over bins of x, x * x, and x times its neighbour below and to the right.
        self._moments = np.zeros((4, *shape))

    def add(self, frame: npt.NDArray[np.int16]) -> None:
        self._bin += frame
        self._num_frames += 1
        if self._num_frames % BIN == 0:
            self._close_bin()

    def mean(self) -> npt.NDArray[np.float32]:
        return ((self._sum + self._bin) / self._num_frames).astype(np.float32)

    def correlation(self) -> npt.NDArray[np.float32]:
        """Give the mean correlation of each pixel with its four neighbours; zeros for less than three bins."""
        if self._num_bins < 3:  # noqa: PLR2004 -- two points correlate perfectly
            return np.zeros(self._sum.shape, np.float32)
        mean, square, below, right = self._moments / self._num_bins
        spread = np.sqrt(np.maximum(square - mean**2, 1e-9))
        total = np.zeros_like(mean)
        for axis, product in ((0, below), (1, right)):
            shared = product - mean * np.roll(mean, -1, axis)
            shared /= spread * np.roll(spread, -1, axis)
            total += shared + np.roll(shared, 1, axis)
        average: npt.NDArray[np.float32] = (total / 4).astype(np.float32)
        return average

    def _close_bin(self) -> None:
        self._sum += self._bin
        image = self._bin / BIN
        np.maximum(self.largest, image, out=self.largest)
        # What the whole field does together, bleaching above all, says nothing about neighbours.
        image -= image.mean()
        below, right = np.roll(image, -1, axis=0), np.roll(image, -1, axis=1)
        self._moments += np.stack([image, image * image, image * below, image * right])
        self._num_bins += 1
        self._bin[:] = 0


def _surroundings(tissue: Tissue) -> list[tuple[Indices, Indices]]:
    """Find the pixels of the neuropil around each neuron: a ring, without any neuron's pixels."""
    free = np.zeros(tissue.shape, bool)
    free[MARGIN:-MARGIN, MARGIN:-MARGIN] = True
    for neuron in tissue.neurons:
        free[neuron.rows, neuron.columns] = False
    return [_ring(free, neuron) for neuron in tissue.neurons]


def _ring(free: npt.NDArray[np.bool_], neuron: Neuron) -> tuple[Indices, Indices]:
    reach = int(NEUROPIL_TO)
    row, column = int(np.median(neuron.rows)), int(np.median(neuron.columns))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    distance = np.hypot(y, x)
    in_ring = (distance >= NEUROPIL_FROM) & (distance <= NEUROPIL_TO)
    rows, columns = y[in_ring] + row, x[in_ring] + column
    inside = (rows >= 0) & (rows < free.shape[0]) & (columns >= 0) & (columns < free.shape[1])
    rows, columns = rows[inside], columns[inside]
    usable = free[rows, columns]
    return rows[usable], columns[usable]


def _deconvolve(traces: Traces, sampling_frequency: float) -> Traces:
    """Undo the decay of calcium: what rises above the remains of the frame before is activity, never negative."""
    above = traces - np.percentile(traces, 20, axis=1, keepdims=True).astype(np.float32)
    remains = np.float32(np.exp(-1 / (CALCIUM_DECAY * sampling_frequency)))
    activity = np.zeros_like(above)
    np.maximum(above[:, 1:] - remains * above[:, :-1], 0, out=activity[:, 1:])
    return activity
