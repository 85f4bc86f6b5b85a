"""What the frames of a movie say: taken while it was converted, or read from the file where they were not."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from airflow_provider_ophys.exceptions import MemoryBudgetError
from airflow_provider_ophys.report.sampling import plan_sample, read_blocks
from airflow_provider_ophys.writing.frame_statistics import (
    MOST_IMAGE_BYTES,
    FrameStatistics,
    pixel_step,
    statistics_bytes,
)
from airflow_provider_ophys.writing.sharing import Resources

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.float64]

# Of the memory budget, what the images and what all statistics may take; reading takes a quarter.
IMAGES_SHARE, STATISTICS_SHARE = 1 / 8, 1 / 2


@dataclass(frozen=True)
class MovieSurvey:
    """
    What was found in the frames that were looked at; images are (columns, rows[, planes]).

    :param statistics: Of the frames.
    :param num_read: How many of them had to be read from the file.
    """

    statistics: FrameStatistics
    num_read: int

    @cached_property
    def indices(self) -> NDArray[np.int64]:
        """Which frames were looked at, ascending."""
        return np.flatnonzero(self.statistics.frames["is_seen"].all(axis=1))

    @property
    def is_whole(self) -> bool:
        """Whether every frame was looked at."""
        return len(self.indices) == len(self.statistics.frames)

    @cached_property
    def frames(self) -> NDArray[Any]:
        """The facts of each frame that was looked at, (frames, planes)."""
        return self.statistics.frames[self.indices]

    @cached_property
    def mean(self) -> Image:
        """Of each pixel over time, in the movie's unit; so are all below."""
        return self._image("mean")

    @cached_property
    def maximum(self) -> NDArray[Any]:
        """Of each pixel over time."""
        return self._image("maximum")

    @cached_property
    def deviation(self) -> Image:
        """Standard deviation of each pixel over time."""
        return self._image("deviation")

    @cached_property
    def likeness(self) -> Image:
        """Correlation of each pixel with its neighbours."""
        return self._image("likeness")

    def _image(self, name: str) -> NDArray[Any]:
        planes = [getattr(images, name).T for images in self.statistics.images]
        return np.stack(planes, axis=-1) if len(self.statistics.shape) > 3 else planes[0]  # noqa: PLR2004

    @property
    def pixel_step(self) -> int:
        """Only every so many columns and rows are in the images."""
        return self.statistics.pixel_step

    @cached_property
    def intensity(self) -> NDArray[np.float64]:
        """Mean of each frame."""
        return np.asarray(self.frames["mean"].mean(axis=1))

    @cached_property
    def floor(self) -> NDArray[np.float64]:
        """Mean of the darkest quarter of each frame: what no cell brightens."""
        return np.asarray(self.frames["floor"].mean(axis=1, dtype=np.float64))

    @cached_property
    def brightest(self) -> NDArray[Any]:
        """Largest pixel of each frame."""
        return np.asarray(self.frames["most"].max(axis=1))

    @cached_property
    def is_blank(self) -> NDArray[np.bool_]:
        """Whether all pixels of a frame are equal."""
        return np.asarray(self.frames["least"].min(axis=1) == self.brightest)

    @cached_property
    def is_repeat(self) -> NDArray[np.bool_]:
        """Whether a frame equals the one before it, pixel by pixel."""
        return np.asarray(self.frames["is_repeat"].all(axis=1))

    @cached_property
    def pixels(self) -> NDArray[Any]:
        """Up to half a million pixel values from everywhere, for histograms."""
        return self.statistics.pixels[self.indices].reshape(-1)

    @cached_property
    def pixels_per_sample(self) -> int:
        """How many pixels a frame has."""
        return int(np.prod(self.statistics.shape[1:]))

    @cached_property
    def dark(self) -> float:
        """What is dark: the value that one percent of the pixels are below."""
        return float(np.nanpercentile(self.pixels, 1))


def survey_movie(
    data: Any,
    resources: Resources,
    *,
    sample_limit: int | None = None,
    known: FrameStatistics | None = None,
) -> MovieSurvey:
    """
    Look at the frames of a movie, each once; what is known of them already is not read again.

    :param data: Array-like on disk, (time, columns, rows[, planes]).
    :param resources: What it may use of this machine.
    :param sample_limit: Most bytes to read, uncompressed; default: every frame.
    :param known: What was found while the movie was written.
    :raises ConversionStoppedError: If it is stopped.
    :raises MemoryBudgetError: If there is too little memory for it.
    """
    shape, dtype = tuple(map(int, data.shape)), np.dtype(data.dtype)
    if known is not None and (known.shape != shape or known.dtype != dtype):
        known = None
    # A task that was killed while it wrote has left gaps.
    missing = None if known is None else known.missing
    sample = plan_sample(
        data,
        memory_limit=resources.budget_bytes,
        sample_limit=sample_limit if known is None else None,
        missing=missing,
    )
    statistics = known or _empty(shape, dtype, resources.budget_bytes, len(sample))
    for first, block in read_blocks(data, sample):
        resources.check_stop()
        statistics.add(block, first)
    return MovieSurvey(statistics, len(sample))


def _empty(shape: tuple[int, ...], dtype: np.dtype[Any], budget_bytes: int, num_seen: int) -> FrameStatistics:
    step = pixel_step(shape, dtype, min(MOST_IMAGE_BYTES, int(budget_bytes * IMAGES_SHARE)))
    needed = statistics_bytes(shape, dtype, step)
    if needed > budget_bytes * STATISTICS_SHARE:
        raise MemoryBudgetError(
            f"The report of {shape[0]} frames needs {needed / STATISTICS_SHARE / 2**20:.0f} MiB of memory, and "
            f"has {budget_bytes / 2**20:.0f} MiB. Give more."
        )
    return FrameStatistics(shape, dtype, step, num_seen)
