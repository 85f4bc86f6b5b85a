"""
Which samples of a movie are read: all of them, or runs of whole stored chunks, spread evenly over the recording.

A chunk is read and decoded as a whole or not at all, so half of one costs as much as all of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from airflow_provider_ophys.exceptions import MemoryBudgetError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Neighbours tell what a single sample cannot: whether it repeats the one before.
RUN_SAMPLES = 16
FEWEST_RUNS = 8

# What is worked on at once, small enough for a CPU's cache.
BLOCK_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Sample:
    """
    The samples of a movie that are read.

    :param num_samples: Of the movie.
    :param runs: Ascending stretches of consecutive samples; each is read at once.
    """

    num_samples: int
    runs: tuple[range, ...]

    def __len__(self) -> int:
        return sum(map(len, self.runs))


def plan_sample(
    data: Any, *, memory_limit: int, sample_limit: int | None = None, missing: Sequence[range] | None = None
) -> Sample:
    """
    Choose the samples of a movie that are read.

    :param data: Array-like on disk, (time, columns, rows[, planes]), with ``chunks`` if it has them.
    :param memory_limit: Bytes that may be in flight; one run takes at most a quarter of it.
    :param sample_limit: Most bytes to read, uncompressed; default: all.
    :param missing: Where no limit is given: what is to be read; default: all.
    :raises MemoryBudgetError: If a single sample is more than a quarter of the memory limit.
    """
    num_samples = int(data.shape[0])
    sample_bytes = math.prod(data.shape[1:]) * np.dtype(data.dtype).itemsize
    if sample_bytes > memory_limit // 4:
        raise MemoryBudgetError(
            f"One sample of the movie has {sample_bytes} bytes, more than a quarter of the memory budget "
            f"({memory_limit}). Give more memory."
        )
    most_samples = num_samples if sample_limit is None else max(1, sample_limit // max(sample_bytes, 1))
    chunk = int(data.chunks[0]) if getattr(data, "chunks", None) else 1
    length = chunk * math.ceil(RUN_SAMPLES / chunk)
    if most_samples // length < FEWEST_RUNS:
        length = chunk
    at_once = max(1, memory_limit // 4 // max(sample_bytes, 1))
    if num_samples <= most_samples:
        step = min(at_once, length * max(1, BLOCK_BYTES // max(length * sample_bytes, 1)))
        spans = [range(num_samples)] if missing is None else missing
        return Sample(num_samples, tuple(run for span in spans for run in _cut(span.start, span.stop, step)))
    starts = range(0, num_samples, length)
    wanted = min(max(1, most_samples // length), len(starts))
    chosen = np.unique(np.linspace(0, len(starts) - 1, wanted).round().astype(int))
    runs = (range(starts[place], min(starts[place] + length, num_samples)) for place in chosen)
    return Sample(num_samples, tuple(run[:at_once] for run in runs))


def _cut(start: int, stop: int, step: int) -> Iterator[range]:
    return (range(first, min(first + step, stop)) for first in range(start, stop, step))


def read_blocks(data: Any, sample: Sample) -> Iterator[tuple[int, NDArray[Any]]]:
    """
    Read the chosen samples, run by run, and hand them out in blocks that a CPU's cache holds.

    :returns: The first sample of each block, and its pixels as stored.
    """
    for run in sample.runs:
        pixels = np.asarray(data[run.start : run.stop])
        step = max(1, BLOCK_BYTES // max(pixels[0].nbytes, 1))
        for part in _cut(0, len(pixels), step):
            yield run.start + part.start, pixels[part.start : part.stop]
