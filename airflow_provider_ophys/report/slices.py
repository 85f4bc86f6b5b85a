"""The structure of the tissue in each stretch of time, by which motion is seen that is slower than frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from airflow_provider_ophys.writing.frame_statistics import FrameStatistics

# What is brighter over more than so much of the field is light and not structure.
SMOOTH_SHARE = 1 / 6


def seen_slices(
    statistics: FrameStatistics, indices: NDArray[np.int64], is_usable: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """
    Tell in which stretches of time most frames show the tissue.

    :param indices: Of the frames that were looked at.
    :param is_usable: Which of them show it.
    """
    slices = indices * len(statistics.slices) // len(statistics.frames)
    usable = np.bincount(slices[is_usable], minlength=len(statistics.slices))
    return np.asarray(usable > statistics.slice_counts / 2)


def structure(statistics: FrameStatistics, seen: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the mean picture of stretches of time without smooth light, (stretches, rows, columns) of bins."""
    images = statistics.slices[seen].mean(axis=1) / statistics.slice_counts[seen, None, None]
    return (images - _blurred(images, max(3, int(min(images.shape[1:]) * SMOOTH_SHARE)))).astype(np.float32)


def _blurred(images: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Return the mean around each pixel, over a square; at the border the outermost pixels go on."""
    half = width // 2
    for axis in (1, 2):
        padding = [(half + 1, half) if axis == other else (0, 0) for other in range(3)]
        total = np.cumsum(np.pad(images, padding, mode="edge"), axis=axis)
        ahead = np.take(total, np.arange(2 * half + 1, total.shape[axis]), axis=axis)
        behind = np.take(total, np.arange(total.shape[axis] - 2 * half - 1), axis=axis)
        images = (ahead - behind) / (2 * half + 1)
    return images
