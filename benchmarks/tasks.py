"""
What a task spends, step by step: reading the DAG file, imports, conversion and report.

Each task is forked from a process that has what Airflow's workers have, and does as Airflow's task runner does.
The reference is the same task where nothing is preloaded, as with ``[ophys] preload = False``, in turn with ours.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from benchmarks.inputs import two_photon_movie
from benchmarks.processes import Figures, in_turn, run_script
from benchmarks.rows import Row, rows_of

SCRIPT = Path(__file__).with_name("tasks_once.py")
LABELS = {
    "wall_seconds": "all of the task, wall s",
    "dag_seconds": "reading the DAG file, wall s",
    "import_seconds": "imports, wall s",
    "conversion_seconds": "conversion, wall s",
    "report_seconds": "report, wall s",
    "cpu_seconds": "all of the task, CPU s",
    "conversion_percent": "conversion and report, % of the task",
}
PARENT = {"parent_mib": "memory of the process that forks, MiB", "preload_seconds": "preloading, once, wall s"}


def run(*, quick: bool) -> list[Row]:
    """Measure a task of each kind, with and without preloading."""
    num_samples, rounds = (200, 1) if quick else (2048, 5)
    folder = two_photon_movie(num_samples).parent
    rows: list[Row] = []
    for kind in ("imaging", "segmentation"):
        sides = {"ours": partial(once, folder, kind, "preload"), "theirs": partial(once, folder, kind, "")}
        found = in_turn(rounds, sides, both_ways=True)
        rows += rows_of(f"a task: {kind} of {num_samples} frames", found, LABELS, reference="not preloaded")
    return [*rows, *rows_of("the process that forks tasks", found, PARENT, reference="not preloaded")]


def once(folder: Path, kind: str, preload: str) -> Figures:
    """Fork one task in a process of its own."""
    return run_script(Path(sys.executable), SCRIPT, folder, kind, preload)
