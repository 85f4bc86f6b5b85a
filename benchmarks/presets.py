"""The presets on noisy, registered, denoised and constant movies: ``"small"`` is never larger than ``"fast"``."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import tifffile

from benchmarks.conversion import convert
from benchmarks.inputs import HOME, two_photon_movie
from benchmarks.processes import in_turn
from benchmarks.rows import Row, rows_of

NAMES = {"wall_seconds": "wall, s", "size_mb": "size, MB"}


def make_movies(num_samples: int) -> dict[str, Path]:
    """Make movies of 512 x 512 as they are before and after an analysis' first steps."""
    noisy = tifffile.imread(two_photon_movie(200), key=range(num_samples))
    # Subpixel shifts mix neighbours, as motion correction does; a moving mean stands in for a denoiser.
    registered = 0.7 * noisy[:, :-1, :-1] + 0.3 * noisy[:, 1:, 1:].astype("float32")
    sums = np.cumsum(noisy, axis=0, dtype="float64")
    denoised = (sums[16:] - sums[:-16]) / 16
    movies = {
        "noisy int16": noisy,
        "registered int16": registered.round().astype("int16"),
        "registered float32": registered.astype("float32"),
        "denoised int16": denoised.round().astype("int16"),
        "constant int16": np.full_like(noisy, 7),
    }
    folder = HOME / f"presets-{num_samples}"
    folder.mkdir(parents=True, exist_ok=True)
    for name, movie in movies.items():
        np.save(folder / f"{name.replace(' ', '-')}.npy", movie)
    return {name: folder / f"{name.replace(' ', '-')}.npy" for name in movies}


def run(*, quick: bool) -> list[Row]:
    """Convert each movie with each preset, and by the reference."""
    rows: list[Row] = []
    movies = make_movies(48 if quick else 112)
    for name, source in list(movies.items())[: 1 if quick else None]:
        for backend in ("hdf5",) if quick else ("hdf5", "zarr"):
            sides = {
                preset: partial(convert, "ours", backend, source, compression=preset)
                for preset in ("fast", "small", "none")
            }
            found = in_turn(1, sides | {"theirs": partial(convert, "theirs", backend, source)})
            for preset in sides:
                section = f"{'HDF5' if backend == 'hdf5' else 'Zarr'}, {name}, {preset}"
                rows += rows_of(section, {"ours": found[preset], "theirs": found["theirs"]}, NAMES)
            if found["small"][0]["size_mb"] > found["fast"][0]["size_mb"]:
                raise SystemExit(f'"small" made more of the {name} movie than "fast" ({backend})')
    return rows
