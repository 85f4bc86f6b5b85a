"""Movies in arrays of NumPy: with and without an axis of channels, and pixels alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from recording_makers import COLUMNS, ROWS, Made, makes, random_frames

RATE = 10.0


def saved(folder: Path, array: np.ndarray, truth: np.ndarray) -> Made:
    folder.mkdir()
    np.save(folder / "movie.npy", array)
    arguments = {"timeseries": str(folder / "movie.npy"), "sampling_frequency": RATE}
    return Made(
        folder,
        "NumpyImagingExtractor",
        arguments,
        [folder / "movie.npy"],
        truth,
        rate=RATE,
        unknown=("sampling_frequency",),
    )


@makes("NumPy with channels")
def with_channels(folder: Path) -> Made:
    movie = random_frames(5)
    return saved(folder, movie[..., None], movie)


@makes("NumPy without channels")
def without_channels(folder: Path) -> Made:
    movie = random_frames(5)
    return saved(folder, movie, movie)


@makes("pixels alone")
def pixels(folder: Path) -> Made:
    folder.mkdir()
    movie = random_frames(5, "int16")
    (folder / "movie.raw").write_bytes(b"header" + movie.transpose(2, 0, 1).tobytes())
    structure = {"num_rows": ROWS, "num_columns": COLUMNS, "num_channels": 1}
    structure |= {"columns_axis": 0, "frame_axis": 1, "rows_axis": 2, "channels_axis": 3}
    arguments = {
        "file_path": str(folder / "movie.raw"),
        "video_structure": structure,
        "sampling_frequency": RATE,
        "dtype": "int16",
        "offset": 6,
    }
    return Made(
        folder, "NumpyMemmapImagingExtractor", arguments, [folder / "movie.raw"], movie, rate=RATE, is_found=False
    )
