"""
What an archive costs: 1,000 small sessions, 5 % of them broken, by ``ophys_backfill`` on Airflow's own processes.

    make bench ONLY=backfill            # 1,000 sessions in batches of 20, again, and 100 in batches of 1
    make bench ONLY=backfill QUICK=1    # 20 sessions in batches of 10, and again
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks.rows import Row
from demo.recording import simulate_acquisition
from demo.stack import AirflowStack

DAGS = Path(__file__).parents[1] / "dags"
ONE_IN = 20
CONCURRENCY = 2
MOST_SECONDS = 3600


def fill_archive(root: Path, num_sessions: int) -> int:
    """Make an archive of copies of one session, every twentieth with half a movie; return how many are broken."""
    template = simulate_acquisition(root / "template", num_samples=20)
    for number in range(num_sessions):
        session = root / "archive" / f"{2016 + number % 10}" / f"session_{number:04}"
        # Links are enough for what is only read.
        shutil.copytree(template, session, copy_function=os.link)
        if number % ONE_IN == 0:
            movie = (template / "movie.tif").read_bytes()
            (session / "movie.tif").unlink()
            (session / "movie.tif").write_bytes(movie[: len(movie) // 2])
            # Long ago: a movie that was just written might still be growing, and would be tried again later.
            os.utime(session / "movie.tif", (0, 0))
    return len(range(0, num_sessions, ONE_IN))


@contextmanager
def peak_pss_mib(stack: AirflowStack) -> Iterator[list[float]]:
    """Watch what all processes of the stack hold together, shared pages counted once."""
    peak, ended = [0.0], threading.Event()

    def watch() -> None:
        while not ended.wait(1):
            peak[0] = max(peak[0], sum(map(_pss, _processes(stack))) / 2**20)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        ended.set()
        watcher.join()


def _processes(stack: AirflowStack) -> list[psutil.Process]:
    parents = [psutil.Process(pid) for pid in stack.pids.values()]
    return parents + [child for parent in parents for child in parent.children(recursive=True)]


def _pss(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0


def backfill(stack: AirflowStack, batch_size: int) -> tuple[float, dict[str, Any]]:
    """Run the DAG; return its seconds, and the report."""
    begun = time.monotonic()
    run = stack.client.trigger("ophys_backfill", conf={"batch_size": batch_size})
    run = stack.client.wait_for_run(run, timeout=MOST_SECONDS)
    seconds = time.monotonic() - begun
    (reporter,) = [task for task in stack.client.task_instances(run) if task.task_id == "report"]
    report: dict[str, Any] = json.loads(Path(stack.client.xcom(reporter)["report"]).read_text())
    return seconds, report


def measure(folder: Path, num_sessions: int, batch_size: int, *, again: bool) -> list[Row]:
    """Backfill an archive on a stack of its own, and once more if asked."""
    broken = fill_archive(folder, num_sessions)
    settings = {
        "AIRFLOW_VAR_OPHYS_BACKFILL_ROOT": str(folder / "archive"),
        "AIRFLOW_VAR_OPHYS_BACKFILL_CONCURRENCY": str(CONCURRENCY),
        "AIRFLOW_VAR_OPHYS_OUTPUT_ROOT": str(folder / "nwb"),
    }
    section = f"backfill of {num_sessions} sessions, {broken} of them broken, {batch_size} per task"
    with AirflowStack(folder / "airflow", dags_folder=DAGS, environment=settings) as stack:
        while "ophys_backfill" not in stack.client.dag_ids():
            time.sleep(1)
        with peak_pss_mib(stack) as peak:
            seconds, report = backfill(stack, batch_size)
        _check(report, converted=num_sessions - broken, reused=0, failed=broken)
        converting = sum(session.get("seconds", 0) for session in report["sessions"])
        rows = [
            Row(section, "sessions per hour", [num_sessions * 3600 / seconds]),
            Row(section, "converting, s per session", [converting / (num_sessions - broken)]),
            Row(section, "all else, slot-s per session", [(seconds * CONCURRENCY - converting) / num_sessions]),
            Row(section, "peak memory of all of Airflow (PSS), MiB", list(peak)),
        ]
        if again:
            seconds, report = backfill(stack, batch_size)
            _check(report, converted=0, reused=num_sessions - broken, failed=broken)
            rows.append(Row(section, "second run, which converts nothing, s", [seconds]))
    return rows


def _check(report: dict[str, Any], **expected: int) -> None:
    found = {state: report[state] for state in expected}
    if found != expected:
        raise SystemExit(f"The backfill reports {found}, and should report {expected}.")


def run(*, quick: bool) -> list[Row]:
    """Measure in a folder that is removed afterwards."""
    rows = []
    for num_sessions, batch_size in [(20, 10)] if quick else [(1000, 20), (100, 1)]:
        folder = Path(tempfile.mkdtemp(prefix="ophys-bench-"))
        try:
            rows += measure(folder, num_sessions, batch_size, again=batch_size > 1)
        finally:
            shutil.rmtree(folder)
    return rows
