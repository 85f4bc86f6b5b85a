"""Never slower: small, large, many, wide, constant and incompressible movies, at both writers' defaults."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.conversion import convert
from benchmarks.inputs import HOME, two_photon_movie
from benchmarks.processes import in_turn
from benchmarks.rows import Row, rows_of

NAMES = {"wall_seconds": "wall, s", "cpu_seconds": "CPU, s", "size_mb": "size, MB"}


def make_movies(num_samples: int) -> dict[str, tuple[Path, dict[str, int]]]:
    """Make the movies; return where each is, and the options of its conversion."""
    folder = HOME / f"odd-{num_samples}"
    folder.mkdir(parents=True, exist_ok=True)
    shape = (num_samples, 256, 256)
    random = np.random.default_rng(0)
    smooth = random.normal(size=(1, 256, 256)).cumsum(axis=1).cumsum(axis=2)
    drift = np.linspace(1, 1.1, num_samples)[:, None, None]
    movies = {
        "10 frames": random.poisson(200, (10, 256, 256)).astype("int16"),
        "20 files of 10 small frames": random.poisson(200, (10, 64, 64)).astype("int16"),
        "float64 noise": random.normal(200, 20, shape),
        "denoised float32": (smooth * drift).astype("float32"),
        "incompressible uint8": random.integers(0, 256, shape, dtype="uint8"),
        "constant uint16": np.full(shape, 7, dtype="uint16"),
        "frames of 2048 x 2048": random.poisson(200, (num_samples // 8, 2048, 2048)).astype("uint16"),
    }
    made = {}
    for name, movie in movies.items():
        file = folder / f"{name.replace(' ', '-')}.npy"
        np.save(file, movie)
        made[name] = (file, {"calls": 20} if name.startswith("20 files") else {})
    return made


def run(*, quick: bool) -> list[Row]:
    """Measure each case with HDF5, the first with Zarr too, and Zarr with one encoding thread."""
    num_samples, rounds = (64, 1) if quick else (256, 2)
    movies = make_movies(num_samples)
    cases = [("hdf5", name) for name in movies] + [("zarr", name) for name in list(movies)[:4]]
    if quick:
        cases = [("hdf5", "20 files of 10 small frames"), ("zarr", "10 frames")]
    rows = []
    for backend, name in cases:
        source, options = movies[name]
        sides = {who: partial(convert, who, backend, source, **options) for who in ("ours", "theirs")}
        section = f"{'HDF5' if backend == 'hdf5' else 'Zarr'}, {name}"
        rows += rows_of(section, in_turn(rounds, sides), NAMES, {"wall_seconds": 1})
    if quick:
        return rows
    noisy = two_photon_movie(200)
    sides = {
        "ours": partial(convert, "ours", "zarr", noisy, threads=1),
        "theirs": partial(convert, "theirs", "zarr", noisy),
    }
    return rows + rows_of("Zarr, 0.1 GB, one encoding thread", in_turn(rounds, sides), NAMES, {"wall_seconds": 1})
