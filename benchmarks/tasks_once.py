"""
One task, forked from a process that is as Airflow's worker; prints what it spent, as JSON. Also its DAG file.

Called with the folder of a recording, ``imaging`` or ``segmentation``, and ``preload`` or nothing.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from airflow.sdk import DAG

from airflow_provider_ophys.operators.imaging import WriteImagingOperator
from airflow_provider_ophys.operators.segmentation import WriteSegmentationOperator

START = {"NWBFile": {"session_start_time": "2026-11-22T09:30:00+00:00"}}
RECORDINGS = {
    "imaging": (WriteImagingOperator, "ScanImage", {"file_path": "movie.tif"}),
    "segmentation": (WriteSegmentationOperator, "Suite2p", {"folder_path": "suite2p"}),
}

if folder := os.environ.get("OPHYS_BENCH_FOLDER"):
    # Airflow reads this file for the DAG.
    with DAG("bench"):
        for kind, (operator, extractor, paths) in RECORDINGS.items():
            operator(
                task_id=kind,
                extractor=extractor,
                extractor_kwargs={name: str(Path(folder) / path) for name, path in paths.items()},
                nwbfile_path=os.environ["OPHYS_BENCH_OUTPUT"],
                metadata=START,
                report=True,
            )


def main() -> None:
    """Be the worker, and fork the task."""
    # What a worker has imported before it forks a task.
    import_module("airflow.sdk.execution_time.supervisor")
    import_module("airflow.sdk.execution_time.task_runner")
    preload = import_module("airflow_provider_ophys.preload")
    begun = time.monotonic()
    if sys.argv[3:] == ["preload"]:
        preload.preload()
    figures = {"preload_seconds": time.monotonic() - begun, "parent_mib": _resident_mib()}
    with tempfile.TemporaryDirectory(prefix="ophys-bench-") as output:
        os.environ["OPHYS_BENCH_FOLDER"] = sys.argv[1]
        os.environ["OPHYS_BENCH_OUTPUT"] = str(Path(output) / "bench.nwb")
        figures |= _forked(lambda: _task(sys.argv[2], preload.MODULES))
    print(json.dumps(figures))


def _resident_mib() -> float:
    rollup = dict(line.split(":") for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:])
    return int(rollup["Rss"].split()[0]) / 1024


def _forked(work: Any) -> dict[str, float]:
    """Work in a fork; return its figures with those of all of it."""
    receiving, sending = os.pipe()
    begun = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(receiving)
        status = 1
        try:
            os.write(sending, json.dumps(work()).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(sending)
    _, status, usage = os.wait4(child, 0)
    wall = time.monotonic() - begun
    if status:
        raise SystemExit("The task failed; see above.")
    with os.fdopen(receiving) as pipe:
        figures: dict[str, float] = json.loads(pipe.read())
    spent = figures["conversion_seconds"] + figures["report_seconds"]
    return figures | {
        "wall_seconds": wall,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "conversion_percent": 100 * spent / wall,
    }


def _task(task_id: str, modules: tuple[str, ...]) -> dict[str, float]:
    """Do what a task does, and tell how long each step took."""
    seconds = {"begun": time.monotonic()}
    dag_bag = import_module("airflow.dag_processing.dagbag").DagBag(Path(__file__), bundle_name="bench")
    task = dag_bag.dags["bench"].get_task(task_id)
    seconds["read"] = time.monotonic()
    for module in modules:
        import_module(module)
    seconds["imported"] = time.monotonic()
    with_report = task._with_report  # noqa: SLF001 -- where the conversion is over

    def timed(*arguments: Any) -> Any:
        seconds["converted"] = time.monotonic()
        return with_report(*arguments)

    task._with_report = timed  # noqa: SLF001
    task.execute({"outlet_events": {}})
    return {
        "dag_seconds": seconds["read"] - seconds["begun"],
        "import_seconds": seconds["imported"] - seconds["read"],
        "conversion_seconds": seconds["converted"] - seconds["imported"],
        "report_seconds": time.monotonic() - seconds["converted"],
    }


if __name__ == "__main__":
    main()
