"""
On Airflow's own processes: each folder that arrives is handed over, also when the triggerer is killed at the worst
moment. The DAGs of this test only note what they got, so that it is quick.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote

import psycopg2
import pytest
from thorough import THOROUGH

from airflow_provider_ophys.compat import HAS_STATE_STORES
from demo.postgres_server import PostgresServer
from demo.stack import AirflowStack

pytestmark = pytest.mark.stack

# Longer than a busy machine keeps the test from the next file of a folder that grows.
SETTLE = 2.5
MANY = 20
# Waiting ends as soon as there is what is waited for; a busy machine takes minutes to start a triggerer.
PATIENCE = 400.0

DAG_FILE = """
import json, uuid
from datetime import timedelta
from pathlib import Path
from airflow.sdk import Asset, AssetWatcher, dag, task
from airflow_provider_ophys.assets import arrived_folders
from airflow_provider_ophys.sensors.acquisition import AcquisitionFolderSensor
from airflow_provider_ophys.triggers.acquisition import AcquisitionFolderTrigger

HOME = Path("{home}")

def note(watcher, folders, run_id):
    file = HOME / "got" / watcher / str(uuid.uuid4())
    file.write_text(json.dumps({{"run_id": run_id, "folders": folders}}))
    file.rename(file.with_suffix(".json"))

def on_arrival(watcher, **options):
    trigger = AcquisitionFolderTrigger(path=HOME / watcher, poke_interval=0.5, **options)
    asset = Asset(watcher, watchers=[AssetWatcher(name=watcher, trigger=trigger)])

    # Airflow's state store cannot compare and set: two runs at the same moment may both take a folder.
    @dag(dag_id=watcher, schedule=[asset], catchup=False, max_active_runs=1)
    def arrivals():
        @task(inlets=[asset])
        def record(**context):
            note(watcher, arrived_folders(asset, context), context["run_id"])

        record()

    return arrivals()

quiet = on_arrival("quiet", settle_seconds={settle})
marked = on_arrival("marked", marker_file="DONE")

@dag(dag_id="sensed", schedule=None, catchup=False)
def sensed():
    @task
    def record(folders, run_id=None):
        note("sensed", folders, run_id)

    # A scheduler that hears late that a task was deferred may take it for failed (apache/airflow#67287).
    record(AcquisitionFolderSensor(
        task_id="wait", path=HOME / "sensed", settle_seconds={settle}, poke_interval=0.5, deferrable=True,
        retries=3, retry_delay=timedelta(seconds=1),
    ).output)

sensed()
"""


@dataclass(frozen=True)
class Watched:
    """One watched folder, and what came out of Airflow for it."""

    name: str
    home: Path
    stack: AirflowStack
    database: PostgresServer

    def put(self, *names: str, files: tuple[str, ...] = ("movie.tif",), size: int = 1000) -> set[str]:
        """Make folders that are whole from the first moment, all at once; return their names."""
        for name in names:
            staged = self.home / "staged" / name
            staged.mkdir(parents=True)
            for file in files:
                (staged / file).write_bytes(b"x" * size)
        for name in names:
            (self.home / "staged" / name).rename(self.home / self.name / name)
        return set(names)

    @property
    def notes(self) -> list[dict]:
        """What each run was given."""
        return [json.loads(file.read_text()) for file in (self.home / "got" / self.name).glob("*.json")]

    def got(self, names: set[str]) -> Counter[str]:
        """How often runs were given each of these folders."""
        given = Counter(folder["name"] for note in self.notes for folder in note["folders"])
        return Counter({name: given[name] for name in names if given[name]})

    def wait_for(self, names: set[str]) -> Counter[str]:
        self.stack_until(lambda: set(self.got(names)) == names, f"{sorted(names)} in {self.name}")
        return self.got(names)

    def stack_until(self, done: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not done():
            self.stack.check_alive()
            assert time.monotonic() < deadline, f"waited in vain for {what}; logs are in {self.stack.home}"
            time.sleep(0.02)

    def events(self, names: set[str]) -> int:
        """For how many of these folders there is an event in Airflow's database."""
        rows = self._rows(
            "SELECT e.extra::text FROM asset_event e JOIN asset a ON a.id = e.asset_id WHERE a.name = %s"
        )
        return len({json.loads(extra)["payload"]["name"] for (extra,) in rows} & names)

    def entries(self, names: set[str]) -> set[str]:
        """Which of these folders are in the ledger."""
        if not HAS_STATE_STORES:
            # In Variables, whose descriptions begin with the ledger's key and name what is watched.
            rows = self._rows(
                "SELECT description FROM variable"
                " WHERE key LIKE 'ophys:%%:acquisition:%%' AND strpos(description, %s) > 0"
            )
            return {unquote(text.split()[0].split(":")[2]) for (text,) in rows} & names
        rows = self._rows(
            "SELECT s.value::text FROM asset_state_store s JOIN asset a ON a.id = s.asset_id WHERE a.name = %s"
            " AND s.key LIKE 'acquisition:%%'"
        )
        return {json.loads(value)["name"] for (value,) in rows} & names

    def _rows(self, query: str) -> list[tuple[str]]:
        with closing(psycopg2.connect(f"postgresql://{self.database.address}")) as connection:
            cursor = connection.cursor()
            cursor.execute(query, [self.name])
            return cursor.fetchall()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, stack: AirflowStack) -> Path:
    """The folder of all that is watched, and of what the DAGs of this module, which are found soon, note."""
    home = tmp_path_factory.mktemp("arrivals")
    for name in ("quiet", "marked", "sensed"):
        (home / name).mkdir()
        (home / "got" / name).mkdir(parents=True)
    (stack.dags_folder / "arrivals.py").write_text(DAG_FILE.format(home=home, settle=SETTLE))
    return home


@pytest.fixture(scope="module")
def quiet(home: Path, stack: AirflowStack, database: PostgresServer) -> Watched:
    """A folder whose acquisitions are complete when they are quiet; it is being watched."""
    watched = Watched("quiet", home, stack, database)
    watched.wait_for(watched.put("first"))
    return watched


@pytest.fixture(scope="module")
def marked(quiet: Watched) -> Watched:
    """A folder whose acquisitions are complete with their marker; two in it never are."""
    watched = replace(quiet, name="marked")
    watched.put("never", "never either", files=("movie.tif", "DONE.part"))
    return watched


# --- while all is well ----------------------------------------------------------------------------------


def test_two_folders_at_the_same_moment_are_handed_over_once_each(quiet: Watched) -> None:
    names = quiet.put("left", "right")
    assert quiet.wait_for(names) == dict.fromkeys(names, 1)
    facts = {"num_files": 1, "size_bytes": 1000}
    given = [folder for note in quiet.notes for folder in note["folders"] if folder["name"] == "left"]
    assert given == [{"path": str(quiet.home / "quiet" / "left"), "name": "left", **facts}]


def test_a_growing_folder_is_handed_over_when_it_has_stopped_growing(quiet: Watched) -> None:
    for name in map("growing {}".format, itertools.count()):
        quiet.put(name)
        if grows_without_a_rest(quiet, name):
            break
    assert quiet.wait_for({name}) == {name: 1}
    (facts,) = [folder for note in quiet.notes for folder in note["folders"] if folder["name"] == name]
    assert facts["num_files"] == 31


def grows_without_a_rest(quiet: Watched, name: str) -> bool:
    """Add files more often than a folder takes to settle; tell whether this machine was not too busy for that."""
    changed = time.monotonic()
    for number in range(30):
        time.sleep(SETTLE / 10)
        is_early = bool(quiet.got({name}))
        (quiet.home / "quiet" / name / f"{number}.tif").touch()
        if time.monotonic() - changed > SETTLE / 2:
            return False
        assert not is_early
        changed = time.monotonic()
    return True


def test_a_marker_completes_a_folder_and_without_one_it_waits(marked: Watched) -> None:
    names = marked.put("unmarked", "with its marker", files=("movie.tif",))
    (marked.home / "marked" / "with its marker" / "DONE").touch()
    marked.wait_for({"with its marker"})
    assert not marked.got({"unmarked", "never", "never either"})
    (marked.home / "marked" / "unmarked" / "DONE").touch()
    assert marked.wait_for(names) == dict.fromkeys(names, 1)


# --- when the triggerer is killed -----------------------------------------------------------------------


def before_the_event(watched: Watched, names: set[str]) -> set[str]:
    # Nobody answers the trigger, so the ledger's answer never comes, and nobody stores an event.
    os.kill(watched.stack.pids["triggerer"], signal.SIGSTOP)
    watched.put(*names)
    time.sleep(SETTLE + 1.5)
    assert watched.events(names) == 0
    return set()


def after_some_events(watched: Watched, names: set[str]) -> set[str]:
    watched.put(*names)
    watched.stack_until(lambda: watched.events(names) > 0, "an event")
    return set()


def after_the_events_and_before_the_ledger(watched: Watched, names: set[str]) -> set[str]:
    watched.put(*names)
    watched.stack_until(lambda: watched.events(names) == len(names), "the events")
    # None as a rule, but nobody says that this test is quick enough.
    return watched.entries(names)


def after_the_ledger(watched: Watched, names: set[str]) -> set[str]:
    watched.put(*names)
    watched.stack_until(lambda: watched.entries(names) == names, "the ledger")
    return names


MOMENTS = [before_the_event, after_the_events_and_before_the_ledger]
if THOROUGH:
    MOMENTS += [after_some_events, after_the_ledger]


@pytest.mark.parametrize("moment", MOMENTS)
def test_nothing_is_lost_when_the_triggerer_is_killed(
    quiet: Watched, moment: Callable[[Watched, set[str]], set[str]]
) -> None:
    names = {f"{moment.__name__} {number}" for number in range(MANY)}
    only_once = moment(quiet, names)
    quiet.stack.kill("triggerer")
    meanwhile = quiet.put(f"{moment.__name__}, while it was down")
    quiet.stack.launch("triggerer")

    got = quiet.wait_for(names | meanwhile)
    assert {name: got[name] for name in only_once | meanwhile} == dict.fromkeys(only_once | meanwhile, 1)
    # At worst, what was on its way is handed over again, with the same facts.
    assert set(got.values()) <= {1, 2}
    assert {folder["size_bytes"] for note in quiet.notes for folder in note["folders"]} == {1000}


def test_several_events_in_one_run_are_all_handled(quiet: Watched) -> None:
    names = quiet.put(*(f"together {number}" for number in range(MANY)))
    assert quiet.wait_for(names) == dict.fromkeys(names, 1)
    runs = {note["run_id"] for note in quiet.notes if {folder["name"] for folder in note["folders"]} & names}
    assert len(runs) < MANY


def test_a_deferred_sensor_waits_through_a_killed_triggerer(quiet: Watched) -> None:
    sensed = replace(quiet, name="sensed")
    run = quiet.stack.client.trigger("sensed")

    def deferred() -> bool:
        return [task.state for task in quiet.stack.client.task_instances(run) if task.task_id == "wait"] == [
            "deferred"
        ]

    sensed.stack_until(deferred, "the sensor to be deferred")
    quiet.stack.kill("triggerer")
    names = sensed.put("one", "two")
    quiet.stack.launch("triggerer")
    assert quiet.stack.client.wait_for_run(run, timeout=PATIENCE).state == "success"
    # The look that ends the waiting may find only one of them complete; the other is for the next run.
    first = set(sensed.got(names))
    assert first
    if first != names:
        quiet.stack.client.trigger("sensed")
    assert sensed.wait_for(names) == dict.fromkeys(names, 1)


def test_what_was_never_complete_was_never_handed_over(marked: Watched) -> None:
    assert not marked.got({"never", "never either"})
