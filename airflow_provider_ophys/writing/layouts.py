"""Chunk shapes by name, for those who read a movie in one way: by frames, or by pixels over time."""

from __future__ import annotations

import math
from typing import get_args

from airflow_provider_ophys.exceptions import BackendConfigurationError
from airflow_provider_ophys.models.backend import Layout

# Pipelines read ranges of frames: small enough that one frame costs little, big enough that a disk reads at speed.
FRAMES_BYTES = 4 * 2**20

# Pixels over time, from a bucket: as long in time as one request in 30 ms is worth, and a corner of the image.
TRACES_SHAPE = (64, 128, 128)

MOVIE_AXES = 3


def layout_chunk_shape(layout: Layout, shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """
    Return the chunk shape that a name stands for.

    ``"frames"`` is as many whole frames (of one plane) as 4 MiB hold, at least one; ``"traces"`` is 64 samples of
    128 x 128 pixels.

    :param shape: Of the dataset: (samples, columns, rows[, planes]).
    :param itemsize: Bytes of an element.
    :raises BackendConfigurationError: If there is no such layout, or the dataset is no movie.
    """
    if layout not in get_args(Layout):
        known = ", ".join(map(repr, get_args(Layout)))
        raise BackendConfigurationError(f"chunk_shape {layout!r} is no layout; write {known} or a shape.")
    if len(shape) < MOVIE_AXES:
        raise BackendConfigurationError(
            f"chunk_shape {layout!r} is for movies; an array of the shape {shape} needs a shape of its own."
        )
    samples, *frame, planes = (*shape, 1) if len(shape) == MOVIE_AXES else shape
    if layout == "frames":
        fitting = FRAMES_BYTES // (math.prod(frame) * itemsize)
        chunk = (max(1, min(fitting, samples)), *frame, 1)
    else:
        chunk = (*(min(pair) for pair in zip(TRACES_SHAPE, (samples, *frame), strict=True)), min(1, planes))
    return chunk[: len(shape)]
