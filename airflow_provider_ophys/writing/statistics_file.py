"""The statistics of movies as a file, plain NumPy arrays: beside a report, and between the tasks of a group."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from airflow_provider_ophys.writing.frame_statistics import FrameStatistics

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What is in the arrays, and in which order; a file of another version is as good as none.
VERSION = 2


def save_statistics(path: Path, statistics: Mapping[str, FrameStatistics]) -> None:
    """
    Write a file with the statistics of movies; it appears whole or not at all.

    :param statistics: By a name that tells the movie from others, such as the ``object_id`` of its series.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for number, found in enumerate(statistics.values()):
        arrays |= {f"{number}/{name}": array for name, array in found.to_arrays().items()}
    movies = [
        {"key": key, "shape": found.shape, "dtype": found.dtype.str, "pixel_step": found.pixel_step}
        for key, found in statistics.items()
    ]
    header = json.dumps({"version": VERSION, "movies": movies})
    part = path.with_name(f".{path.name}.{uuid4().hex[:8]}.part")
    try:
        with part.open("wb") as stream:
            np.savez(stream, header=np.array(header), **arrays)  # type: ignore[arg-type]
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def load_statistics(path: Path) -> dict[str, FrameStatistics]:
    """
    Read what :func:`save_statistics` wrote; nothing, if it is not there, not whole, or of another version.

    :param path: Of the file.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            header = json.loads(str(stored["header"]))
            if header["version"] != VERSION:
                return {}
            found = {}
            for number, movie in enumerate(header["movies"]):
                prefix = f"{number}/"
                arrays = {name[len(prefix) :]: stored[name] for name in stored.files if name.startswith(prefix)}
                found[movie["key"]] = FrameStatistics.from_arrays(
                    tuple(movie["shape"]), np.dtype(movie["dtype"]), movie["pixel_step"], arrays
                )
            return found
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return {}
