"""Converting one movie at both writers' defaults, to HDF5 and to Zarr: time, memory, size and files."""

from __future__ import annotations

from pathlib import Path

from benchmarks.inputs import HOME, pythons, two_photon_movie
from benchmarks.processes import Figures, in_turn, remove, run_script
from benchmarks.rows import Row, rows_of

SCRIPT = Path(__file__).with_name("convert.py")

NAMES = {
    "wall_seconds": "wall, s",
    "cpu_seconds": "CPU, s",
    "peak_mib": "peak memory over imports, MiB",
    "size_mb": "size, MB",
    "files": "files",
}
TARGETS = {
    "hdf5": {"wall_seconds": 10, "cpu_seconds": 6, "peak_mib": 12, "size_mb": 1 / 0.95},
    "zarr": {"wall_seconds": 7, "files": 8, "size_mb": 1.0},
}


def convert(python: Path, who: str, backend: str, source: Path) -> Figures:
    """Convert in a new process, and remove what it wrote."""
    output = HOME / f"{who}.nwb{'.zarr' if backend == 'zarr' else ''}"
    try:
        return run_script(python, SCRIPT, who, backend, source, output)
    finally:
        remove(output)


def run(*, quick: bool) -> list[Row]:
    """Measure both backends."""
    num_samples, rounds = (200, 1) if quick else (2048, 3)
    source = two_photon_movie(num_samples)
    size = f"{source.stat().st_size / 1e9:.2f} GB"
    rows = []
    for backend, name in (("hdf5", "HDF5"), ("zarr", "Zarr")):
        sides = {
            who: lambda who=who, python=python: convert(python, who, backend, source)  # noqa: B023 - run at once
            for who, python in pythons().items()
        }
        rows += rows_of(f"{name}, {size}", in_turn(rounds, sides), NAMES, TARGETS[backend])
    return rows
