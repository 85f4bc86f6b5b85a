"""Converting a movie from ScanImage, to HDF5 and to Zarr: time, memory, size and files, side by side."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.inputs import HOME, pythons, two_photon_movie
from benchmarks.processes import Figures, in_turn, remove, run_script
from benchmarks.rows import Row, rows_of

SCRIPT = Path(__file__).with_name("convert.py")

# What is measured: key, name and the least ratio that is wanted.
HDF5 = [
    ("wall_seconds", "wall, s", 10),
    ("cpu_seconds", "CPU, s", 6),
    ("peak_mib", "peak memory over imports, MiB", 12),
    ("size_mb", "size, MB", 1 / 0.95),
    ("process_wall_seconds", "whole process, cold, wall, s", 5),
    ("process_cpu_seconds", "whole process, cold, CPU, s", None),
    ("process_peak_mib", "whole process, peak memory, MiB", None),
]
ONE_THREAD = [
    ("wall_seconds", "wall, s", 7),
    ("cpu_seconds", "CPU, s", None),
    ("peak_mib", "peak memory, MiB", None),
]
SMALL = [("wall_seconds", "wall, s", None), ("cpu_seconds", "CPU, s", None), ("size_mb", "size, MB", 1 / 0.91)]
ZARR = [
    ("wall_seconds", "wall, s", 7),
    ("cpu_seconds", "CPU, s", None),
    ("peak_mib", "peak memory over imports, MiB", None),
    ("size_mb", "size, MB", 1),
    ("movie_files", "files of the movie", 8),
    ("files", "files in all", None),
]


def convert(who: str, backend: str, source: Path, *, under: Sequence[object] = (), **options: Any) -> Figures:
    """Convert in a new process with the options of ``convert.py``, and remove what it wrote."""
    folder = Path(tempfile.mkdtemp(prefix="output-", dir=HOME))
    output = folder / f"{who}.nwb{'.zarr' if backend == 'zarr' else ''}"
    try:
        return run_script(pythons()[who], SCRIPT, who, backend, source, output, json.dumps(options), under=under)
    finally:
        remove(folder)


def _rows(
    section: str, ours: list[Figures], theirs: list[Figures], wanted: list[tuple[str, str, float | None]]
) -> list[Row]:
    return rows_of(
        section,
        {"ours": ours, "theirs": theirs},
        {key: name for key, name, _ in wanted},
        {key: target for key, _, target in wanted if target is not None},
    )


def run(*, quick: bool) -> list[Row]:
    """Measure both backends, and the variants of HDF5."""
    num_samples, rounds = (200, 1) if quick else (2048, 3)
    source = two_photon_movie(num_samples)
    size = f"{source.stat().st_size / 1e9:.2f} GB"
    hdf5 = partial(convert, backend="hdf5", source=source)
    found = in_turn(
        rounds,
        {
            "ours": partial(hdf5, "ours"),
            "theirs": partial(hdf5, "theirs"),
            "ours, 1 thread": partial(hdf5, "ours", threads=1),
            "ours, small": partial(hdf5, "ours", compression="small"),
            "ours, preloaded": partial(hdf5, "ours", fork=True),
        },
    )
    theirs = found["theirs"]
    # In a preloaded worker the fork is the whole task process.
    warm = [
        figures | {"process_wall_seconds": figures["wall_seconds"], "process_cpu_seconds": figures["cpu_seconds"]}
        for figures in found["ours, preloaded"]
    ]
    whole = [("process_wall_seconds", "whole process, wall, s", 9), ("process_cpu_seconds", "CPU, s", None)]
    zarr = partial(convert, backend="zarr", source=source)
    both = in_turn(rounds, {"ours": partial(zarr, "ours"), "theirs": partial(zarr, "theirs")})
    return [
        *_rows(f"HDF5, {size}", found["ours"], theirs, HDF5),
        *_rows(f"HDF5, {size}, one encoding thread", found["ours, 1 thread"], theirs, ONE_THREAD),
        *_rows(f'HDF5, {size}, compression="small"', found["ours, small"], theirs, SMALL),
        *_rows(f"HDF5, {size}, preloaded worker", warm, theirs, whole),
        *_rows(f"Zarr, {size}", both["ours"], both["theirs"], ZARR),
    ]
