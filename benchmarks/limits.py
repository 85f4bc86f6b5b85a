"""How near the machine's own limits: its speed, a process of 384 MiB, and a movie four times as long."""

from __future__ import annotations

import statistics
import sys
from functools import partial
from pathlib import Path

from benchmarks.conversion import convert
from benchmarks.inputs import two_photon_movie
from benchmarks.limited import can_limit
from benchmarks.processes import Figures, in_turn, run_script
from benchmarks.rows import Row, rows_of

FLOOR = Path(__file__).with_name("floor.py")
LIMITED = Path(__file__).with_name("limited.py")
LIMIT_MIB = 384
BACKENDS = ("hdf5", "zarr")


def run(*, quick: bool) -> list[Row]:
    """Measure all three; a small movie is too short to tell something of length."""
    num_samples, rounds = (200, 1) if quick else (2048, 3)
    source = two_photon_movie(num_samples)
    size = f"{source.stat().st_size / 1e9:.2f} GB"
    return [
        *share_of_floor(source, size, rounds),
        *in_little_memory(source, size),
        *([] if quick else at_length(source, size, rounds=2)),
    ]


def share_of_floor(source: Path, size: str, rounds: int) -> list[Row]:
    """Compare with what reading, transposing, shuffling, compressing and writing must take."""

    def floor() -> Figures:
        return run_script(Path(sys.executable), FLOOR, source)

    found = in_turn(rounds, {"ours": partial(convert, "ours", "hdf5", source), "floor": floor})
    ours = statistics.median(figures["wall_seconds"] for figures in found["ours"])
    share = [100 * figures["wall_seconds"] / ours for figures in found["floor"]]
    rows = rows_of(
        f"the machine's floor, {size}",
        {"ours": found["floor"]},
        {
            "wall_seconds": "read + transpose + shuffle + deflate on all cores + write, s",
            "effective_cores": "cores that two threads are worth",
        },
    )
    return [*rows, Row(rows[0].section, "share of it that a whole conversion reaches, %", share)]


def in_little_memory(source: Path, size: str) -> list[Row]:
    """Convert in a process that the kernel would kill above the limit, and compare every frame."""
    rows = []
    how = "control group" if can_limit() else "limited address space"
    for backend in BACKENDS:
        figures = convert("ours", backend, source, under=(sys.executable, LIMITED, LIMIT_MIB), check=True)
        section = f"{backend}, {size} in a process of {LIMIT_MIB} MiB ({how}), every frame compared"
        rows += rows_of(section, {"ours": [figures]}, {"wall_seconds": "wall, s", "peak_mib": "peak memory, MiB"})
    return rows


def at_length(source: Path, size: str, *, rounds: int) -> list[Row]:
    """Convert the movie once and four times over."""
    lengths = {
        "once": partial(convert, "ours", "hdf5", source, repeat=1),
        "four times": partial(convert, "ours", "hdf5", source, repeat=4),
    }
    found = in_turn(rounds, lengths)
    section = f"{size}, four times as long"
    times = [
        four["wall_seconds"] / one["wall_seconds"]
        for one, four in zip(found["once"], found["four times"], strict=True)
    ]
    peaks = {name: [figures["peak_mib"] for figures in runs] for name, runs in found.items()}
    return [
        Row(section, "times the wall time", times),
        Row(section, "peak memory, MiB", peaks["four times"]),
        Row(section, "peak memory of the short one, MiB", peaks["once"]),
    ]
