"""What a report costs: beside the conversion of the same movie, short and long, and of a movie of a terabyte."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from benchmarks.inputs import two_photon_movie
from benchmarks.processes import Figures, in_turn, run_script
from benchmarks.rows import Row, rows_of

SCRIPT = Path(__file__).with_name("report_once.py")
LABELS = {
    "imports_seconds": "what only reports import, CPU s (once per process)",
    "conversion_seconds": "conversion, CPU s",
    "report_seconds": "report, CPU s",
    "share_percent": "report, % of the conversion's CPU time",
    "wall_share_percent": "report, % of the conversion's wall time",
    "peak_mib": "peak memory of the report, MiB",
}


def run(*, quick: bool) -> list[Row]:
    """Measure all three."""
    num_samples, rounds = (200, 1) if quick else (2048, 3)
    source = two_photon_movie(num_samples)
    size = source.stat().st_size / 1e9
    lengths = {f"{size * times:.2f} GB": times for times in ((1,) if quick else (1, 8))}
    found = in_turn(rounds, {name: partial(once, source, times) for name, times in lengths.items()})
    rows: list[Row] = []
    for name, figures in found.items():
        rows += rows_of(f"report of {name}, HDF5", {"ours": figures}, LABELS)
    terabyte = run_script(Path(sys.executable), SCRIPT, "terabyte")
    labels = {name: LABELS[name] for name in ("report_seconds", "peak_mib")}
    return [*rows, *rows_of("report of 1.05 TB (virtual), HDF5", {"ours": [terabyte]}, labels)]


def once(source: Path, times: int) -> Figures:
    """Convert a movie so many times over, and report on it, in a process of its own."""
    return run_script(Path(sys.executable), SCRIPT, source, times)
