"""
Thousands of folders that complete while Airflow is down, on its own processes, of which some are killed.

They are handed over by an event trigger and by a scheduled sensor, in lists that can be mapped. ``CHAOS_FOLDERS``
says how many; without it the test is left out, and ``make chaos`` has 2,000.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from demo.stack import DATABASE, AirflowStack

FOLDERS = int(os.environ.get("CHAOS_FOLDERS") or "0")
MOST = max(10, FOLDERS // 8)
PATIENCE_SECONDS = 300 + FOLDERS

pytestmark = [
    pytest.mark.stack,
    pytest.mark.skipif(FOLDERS < 100, reason="takes minutes: make chaos CHAOS_FOLDERS=2000"),
]

DAG_FILE = """
import json, os, uuid
from datetime import timedelta
from pathlib import Path
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import Asset, AssetWatcher, dag, task
from airflow_provider_ophys.assets import arrived_folders
from airflow_provider_ophys.sensors.acquisition import AcquisitionFolderSensor
from airflow_provider_ophys.triggers.acquisition import AcquisitionFolderTrigger

HOME = Path(os.environ["ARRIVALS_HOME"])
RETRIES = {"retries": 5, "retry_delay": timedelta(seconds=1)}

class Handle(EmptyOperator):
    # Mapped over each folder, but done by the scheduler: how Airflow runs thousands of tasks is not the question.
    def __init__(self, *, folder, **kwargs):
        super().__init__(**kwargs)

@task
def note(folders, run_id=None, dag=None):
    file = HOME / "got" / dag.dag_id / str(uuid.uuid4())
    file.write_text(json.dumps({"run_id": run_id, "names": [folder["name"] for folder in folders]}))
    file.rename(file.with_suffix(".json"))

trigger = AcquisitionFolderTrigger(path=HOME / "event", marker_file="DONE", poke_interval=1)
EVENTS = Asset("event", watchers=[AssetWatcher(name="event", trigger=trigger)])

@dag(schedule=[EVENTS], catchup=False, max_active_runs=1, default_args=RETRIES)
def event():
    @task(inlets=[EVENTS])
    def arrivals(**context):
        return arrived_folders(EVENTS, context)

    folders = arrivals()
    note(folders)
    Handle.partial(task_id="handle").expand(folder=folders)

event()

@dag(schedule=timedelta(seconds=10), catchup=False, max_active_runs=1, default_args=RETRIES)
def schedule():
    folders = AcquisitionFolderSensor(
        task_id="wait", path=HOME / "schedule", marker_file="DONE", deferrable=True, timeout=60, soft_fail=True
    ).output
    note(folders)
    Handle.partial(task_id="handle").expand(folder=folders)

schedule()
"""

WAYS = ("event", "schedule")


def put_complete(home: Path) -> set[str]:
    names = {f"m{number:05d}" for number in range(FOLDERS)}
    for way in WAYS:
        (home / "got" / way).mkdir(parents=True)
        for name in names:
            (home / way / name).mkdir(parents=True)
            (home / way / name / "movie.tif").touch()
            (home / way / name / "DONE").touch()
    (home / "dags").mkdir()
    (home / "dags" / "arrivals.py").write_text(DAG_FILE)
    return names


class Arrivals:
    """What came out of Airflow so far, and what its processes have held at most."""

    def __init__(self, home: Path, stack: AirflowStack) -> None:
        self.home, self.stack = home, stack
        self.peak_bytes: Counter[str] = Counter()

    def notes(self, way: str) -> list[dict[str, list[str]]]:
        """What each run got; a run whose task was repeated is there more than once."""
        return [json.loads(file.read_text()) for file in (self.home / "got" / way).glob("*.json")]

    def names(self, way: str) -> set[str]:
        return {name for note in self.notes(way) for name in note["names"]}

    def wait_until(self, way: str, number: int) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(found := self.names(way)) < number:
            for name, pid in self.stack.pids.items():
                self.peak_bytes[name] = max(self.peak_bytes[name], resident_bytes(pid))
            assert time.monotonic() < deadline, f"{len(found)} of {number} by {way}; logs: {self.stack.home}"
            time.sleep(1)


def resident_bytes(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    lines = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(lines[0]) * 1024 if lines else 0


def test_none_is_lost_and_no_list_is_too_long_to_be_mapped(tmp_path: Path, migrated_database: Path) -> None:
    names = put_complete(tmp_path)
    environment = {
        "ARRIVALS_HOME": str(tmp_path),
        "AIRFLOW__CORE__MAX_MAP_LENGTH": str(MOST),
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
        # A scheduler that is started again takes over the tasks of one that was killed after so long.
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "20",
    }
    began = time.monotonic()
    with AirflowStack(
        tmp_path / "airflow", dags_folder=tmp_path / "dags", environment=environment, migrated=migrated_database
    ) as stack:
        arrivals = Arrivals(tmp_path, stack)
        for victim, share in (("triggerer", 0.1), ("scheduler", 0.3), ("triggerer", 0.5)):
            arrivals.wait_until("event", int(share * FOLDERS))
            stack.kill(victim)
            stack.launch(victim)
        for way in WAYS:
            arrivals.wait_until(way, FOLDERS)
        seconds = time.monotonic() - began

    for way in WAYS:
        assert arrivals.names(way) == names
        assert max(len(note["names"]) for note in arrivals.notes(way)) <= MOST
        by_run = {note["run_id"]: sorted(note["names"]) for note in arrivals.notes(way)}
        assert all(sorted(note["names"]) == by_run[note["run_id"]] for note in arrivals.notes(way))
        given = Counter(name for got in by_run.values() for name in got)
        twice = sum(number > 1 for number in given.values())
        # The ledger gives a folder to one run of the sensor; an event comes again at worst after a kill.
        assert max(given.values()) <= (1 if way == "schedule" else 3)
        print(f"{way}: {len(names)} folders in {len(by_run)} runs, {twice} of them in several")  # noqa: T201
    with closing(sqlite3.connect(tmp_path / "airflow" / DATABASE)) as database:
        [(ledger,)] = database.execute("SELECT sum(length(key) + length(value)) FROM asset_state_store").fetchall()
    print(f"{seconds:.0f} s; ledger {ledger / FOLDERS / len(WAYS):.0f} bytes per folder")  # noqa: T201
    print("peak MB:", {name: size // 10**6 for name, size in arrivals.peak_bytes.items()})  # noqa: T201
