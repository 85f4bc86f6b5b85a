"""What the samples of a movie say: images over time, and facts of each sample."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from airflow_provider_ophys.report.sampling import Sample, read_blocks
from airflow_provider_ophys.writing.sharing import Resources

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Enough for a histogram whose bins are to be seen, and for the light of the darkest pixels of one sample.
HISTOGRAM_PIXELS = 500_000
FLOOR_PIXELS = 4096
FLOOR_SHARE = 0.25


@dataclass(frozen=True)
class MovieSurvey:
    """
    What was found in the samples that were looked at.

    :param sample: Which samples these are.
    :param mean: Of each pixel over time, (columns, rows[, planes]), in the movie's unit; so are all below.
    :param maximum: Of each pixel over time.
    :param deviation: Standard deviation of each pixel over time.
    :param pixel_step: Only every so many columns and rows are in the three images.
    :param intensity: Mean of each sample.
    :param floor: Mean of the darkest quarter of each sample's pixels: what no cell brightens.
    :param brightest: Largest pixel of each sample.
    :param num_brightest: How many of its pixels have that value.
    :param is_blank: Whether all pixels of a sample are equal.
    :param is_repeat: Whether a sample equals the one before it, pixel by pixel.
    :param pixels: Up to half a million pixel values from everywhere, for histograms.
    :param pixels_per_sample: How many pixels a sample has.
    """

    sample: Sample
    mean: NDArray[np.float64]
    maximum: NDArray[Any]
    deviation: NDArray[np.float64]
    pixel_step: int
    intensity: NDArray[np.float64]
    floor: NDArray[np.float64]
    brightest: NDArray[Any]
    num_brightest: NDArray[np.int64]
    is_blank: NDArray[np.bool_]
    is_repeat: NDArray[np.bool_]
    pixels: NDArray[Any]
    pixels_per_sample: int

    @cached_property
    def dark(self) -> float:
        """What is dark: the value that one percent of the pixels are below."""
        return float(np.nanpercentile(self.pixels, 1))


class _Images:
    """Sums over time of each pixel; differences from the first sample keep them precise."""

    def __init__(self, first: NDArray[Any]) -> None:
        # What has more digits than a float32 is summed as float64.
        self._dtype = np.float32 if first.dtype.itemsize <= np.dtype(np.float32).itemsize else np.float64
        self._reference = first.astype(self._dtype)
        self._sum = np.zeros(first.shape, dtype=np.float64)
        self._squares = np.zeros(first.shape, dtype=np.float64)
        self.maximum = first.copy()
        self._count = 0

    def add(self, block: NDArray[Any]) -> None:
        difference = np.subtract(block, self._reference, dtype=self._dtype)
        self._sum += difference.sum(axis=0)
        self._squares += np.einsum("t...,t...->...", difference, difference)
        np.maximum(self.maximum, block.max(axis=0), out=self.maximum)
        self._count += len(block)

    @property
    def mean(self) -> NDArray[np.float64]:
        return self._reference.astype(np.float64) + self._sum / self._count

    @property
    def deviation(self) -> NDArray[np.float64]:
        variance = self._squares / self._count - (self._sum / self._count) ** 2
        return np.sqrt(np.maximum(variance, 0))


def survey_movie(data: Any, sample: Sample, resources: Resources) -> MovieSurvey:
    """
    Look at samples of a movie, each once.

    :param data: Array-like on disk, (time, columns, rows[, planes]).
    :param sample: Which samples.
    :param resources: The images take at most half of the memory, if need be with fewer pixels.
    :raises ConversionStoppedError: If it is stopped.
    """
    step = _pixel_step(data.shape[1:], np.dtype(data.dtype), resources.budget_bytes // 2)
    indices = sample.indices
    facts = _SampleFacts(np.dtype(data.dtype), len(indices))
    images: _Images | None = None
    for first, block in read_blocks(data, sample):
        resources.check_stop()
        shown = block[:, ::step, ::step]
        images = images or _Images(shown[0])
        images.add(shown)
        facts.add(first, block)
    if images is None:
        raise ValueError("a sample has at least one run")
    return MovieSurvey(
        sample=sample,
        mean=images.mean,
        maximum=images.maximum,
        deviation=images.deviation,
        pixel_step=step,
        pixels=np.concatenate(facts.pixels),
        pixels_per_sample=int(np.prod(data.shape[1:])),
        **facts.columns,
    )


def _pixel_step(shape: tuple[int, ...], dtype: np.dtype[Any], limit: int) -> int:
    bytes_per_pixel = dtype.itemsize + 3 * np.dtype(np.float64).itemsize
    step = 1
    while int(np.prod([-(-shape[0] // step), -(-shape[1] // step), *shape[2:]])) * bytes_per_pixel > limit:
        step += 1
    return step


class _SampleFacts:
    """Facts of each sample, in columns."""

    def __init__(self, dtype: np.dtype[Any], num_samples: int) -> None:
        self._num_samples = num_samples
        self._filled = 0
        self._last: tuple[int, NDArray[Any]] | None = None
        self.pixels: list[NDArray[Any]] = []
        self.columns: dict[str, Any] = {
            "intensity": np.empty(num_samples),
            "floor": np.empty(num_samples),
            "brightest": np.empty(num_samples, dtype),
            "num_brightest": np.empty(num_samples, np.int64),
            "is_blank": np.empty(num_samples, bool),
            "is_repeat": np.empty(num_samples, bool),
        }

    def add(self, first: int, block: NDArray[Any]) -> None:
        flat = block.reshape(len(block), -1)
        brightest = flat.max(axis=1)
        found = {
            "intensity": flat.mean(axis=1, dtype=np.float64),
            "floor": _floor(flat),
            "brightest": brightest,
            "num_brightest": np.count_nonzero(flat == brightest[:, None], axis=1),
            "is_blank": flat.min(axis=1) == brightest,
            "is_repeat": self._repeats(first, flat),
        }
        for name, values in found.items():
            self.columns[name][self._filled : self._filled + len(block)] = values
        self._filled += len(block)
        self.pixels.append(_some(flat, max(1, HISTOGRAM_PIXELS // self._num_samples)).reshape(-1).copy())

    def _repeats(self, first: int, flat: NDArray[Any]) -> NDArray[np.bool_]:
        repeats = np.zeros(len(flat), dtype=bool)
        repeats[1:] = (flat[1:] == flat[:-1]).all(axis=1)
        if self._last is not None and self._last[0] == first - 1:
            repeats[0] = bool((flat[0] == self._last[1]).all())
        self._last = first + len(flat) - 1, flat[-1].copy()
        return repeats


def _floor(flat: NDArray[Any]) -> NDArray[np.float64]:
    some = _some(flat, FLOOR_PIXELS)
    count = max(1, int(some.shape[1] * FLOOR_SHARE))
    darkest = np.partition(some, count - 1, axis=1)[:, :count]
    return np.asarray(darkest.mean(axis=1, dtype=np.float64))


def _some(flat: NDArray[Any], count: int) -> NDArray[Any]:
    """Return about so many pixels of each sample, from everywhere: an odd step misses no column."""
    return flat[:, :: (flat.shape[1] // count) | 1]
