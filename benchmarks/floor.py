"""
What the machine needs at least: each step of a conversion alone, in one thread, over part of the movie.

The steps that can run on all cores are divided by what its cores are worth together, which for the two hardware
threads of one core is less than two.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from isal import igzip_lib
from roiextractors import ScanImageImagingExtractor

CHUNK_SAMPLES, CHUNKS = 19, 20
PANEL_ROWS = 64


def seconds_of(step: Callable[[], Any]) -> tuple[float, Any]:
    """Time a step; return what it made too."""
    begun = time.perf_counter()
    made = step()
    return time.perf_counter() - begun, made


def transpose(chunk: Any, frames: Any) -> None:
    """Bring frames into NWB's order, as many rows at once as a CPU's cache holds lines of."""
    for into, frame in zip(chunk, frames, strict=True):
        for start in range(0, len(frame), PANEL_ROWS):
            panel = slice(start, start + PANEL_ROWS)
            np.copyto(into[:, panel], frame[panel].T)


def shuffle(chunk: Any) -> Any:
    """Gather the low bytes, then the high bytes of int16."""
    planes = np.empty((2, chunk.size), dtype=np.uint8)
    numbers = chunk.reshape(-1).view(np.uint16)
    np.copyto(planes[0], numbers, casting="unsafe")
    np.copyto(planes[1], numbers >> 8, casting="unsafe")
    return planes


def deflate(planes: Any) -> bytes:
    """Compress as quickly as anything does into a zlib stream."""
    return bytes(
        igzip_lib.compress(
            planes.reshape(-1), 1, flag=igzip_lib.COMP_ZLIB, mem_level=igzip_lib.MEM_LEVEL_EXTRA_LARGE
        )
    )


def effective_cores(planes: list[Any]) -> float:
    """Return how many times as much all cores compress as one does."""
    threads = len(os.sched_getaffinity(0))
    alone, _ = seconds_of(lambda: [deflate(part) for part in planes])
    with ThreadPoolExecutor(threads) as pool:
        together, _ = seconds_of(lambda: list(pool.map(deflate, planes * threads)))
    return threads * alone / together


def measure(source: Path) -> dict[str, float]:
    """Take every step for some chunks, and extrapolate to the movie."""
    movie = ScanImageImagingExtractor(file_path=source)
    num_samples = movie.get_num_samples()
    taken = {"read": 0.0, "encode": 0.0, "write": 0.0}
    shuffled = []
    starts = range(0, num_samples - CHUNK_SAMPLES, max(CHUNK_SAMPLES, num_samples // CHUNKS))
    with tempfile.NamedTemporaryFile(dir=source.parent) as file:
        for start in starts:
            seconds, frames = seconds_of(lambda at=start: movie.get_series(at, at + CHUNK_SAMPLES))
            taken["read"] += seconds
            chunk = np.empty((CHUNK_SAMPLES, frames.shape[2], frames.shape[1]), dtype=frames.dtype)
            taken["encode"] += seconds_of(lambda chunk=chunk, frames=frames: transpose(chunk, frames))[0]
            seconds, planes = seconds_of(lambda chunk=chunk: shuffle(chunk))
            taken["encode"] += seconds
            seconds, data = seconds_of(lambda planes=planes: deflate(planes))
            taken["encode"] += seconds
            taken["write"] += seconds_of(lambda data=data: file.write(data))[0]
            shuffled.append(planes)
        taken["write"] += seconds_of(file.flush)[0]
    cores = effective_cores(shuffled[:8])
    whole = num_samples / (len(starts) * CHUNK_SAMPLES)
    return {"wall_seconds": whole * sum(taken.values()) / cores, "effective_cores": cores}


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]))))
