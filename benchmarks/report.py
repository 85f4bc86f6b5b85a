"""What a report costs: conversions with and without one in turn, and the report of samples of a terabyte."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.inputs import two_photon_movie
from benchmarks.processes import Figures, in_turn, run_script
from benchmarks.rows import Row, rows_of

SCRIPT = Path(__file__).with_name("report_once.py")
LABELS = {
    "conversion_seconds": "conversion, CPU s",
    "report_seconds": "drawing the report, CPU s",
    "imports_seconds": "what only reports import, CPU s (once per process)",
    "peak_mib": "peak memory, MiB",
    "watching_percent": "more CPU time for statistics of every frame, %",
    "share_percent": "more CPU time for all of the report, %",
}


def run(*, quick: bool) -> list[Row]:
    """Measure all three."""
    num_samples, rounds = (200, 1) if quick else (2048, 5)
    source = two_photon_movie(num_samples)
    size = source.stat().st_size / 1e9
    rows: list[Row] = []
    for times in (1,) if quick else (1, 8):
        sides = {
            "without": partial(once, source, times, False),
            "with a report": partial(once, source, times, True),
        }
        found = in_turn(rounds if times == 1 else max(1, rounds // 2), sides, both_ways=True)
        without = median(figures["conversion_seconds"] for figures in found["without"])
        for figures in found["with a report"]:
            watched = figures["conversion_seconds"]
            figures["watching_percent"] = 100 * (watched / without - 1)
            figures["share_percent"] = 100 * ((watched + figures["report_seconds"]) / without - 1)
        rows += rows_of(f"report of {size * times:.2f} GB, HDF5", {"ours": found["with a report"]}, LABELS)
        rows += rows_of(
            f"no report of {size * times:.2f} GB, HDF5",
            {"ours": found["without"]},
            {name: LABELS[name] for name in ("conversion_seconds", "peak_mib")},
        )
    terabyte = run_script(Path(sys.executable), SCRIPT, "terabyte")
    labels = {name: LABELS[name] for name in ("report_seconds", "peak_mib")}
    return [*rows, *rows_of("report of 128 MiB of 1.05 TB (virtual), HDF5", {"ours": [terabyte]}, labels)]


def once(source: Path, times: int, report: bool) -> Figures:  # noqa: FBT001
    """Convert a movie so many times over, with or without a report, in a process of its own."""
    return run_script(Path(sys.executable), SCRIPT, source, times, int(report))
