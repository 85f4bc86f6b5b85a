"""
Other people's Airflow: two schedulers, sensors beside a trigger, zombies, ended tasks, clocks that are set.

All on Airflow's own processes with a PostgreSQL metadata database. ``CHAOS_AIRFLOWS`` has to be set, as
``make chaos`` does it; it takes a quarter of an hour on two cores.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from airflow_trials import (
    Looks,
    all_finished,
    assert_whole,
    begin,
    leftovers,
    log_of,
    scheduler_of,
    supervisor_of,
    tasks_of,
)
from movies import imaging, photons, write_tiff
from running_tasks import finish, task_of, until, writer
from settable_clock import SettableClock
from two_schedulers import TwoSchedulers

from airflow_provider_ophys.conversion.run import convert_imaging
from airflow_provider_ophys.models.conversion import ImagingConversion
from demo.rest import DagRun

pytestmark = [
    pytest.mark.stack,
    pytest.mark.skipif(not os.environ.get("CHAOS_AIRFLOWS"), reason="takes a quarter of an hour: make chaos"),
    # roiextractors reads the head of a file through a second handle, which it never closes.
    pytest.mark.filterwarnings("ignore:Exception ignored in. <_io.FileIO:pytest.PytestUnraisableExceptionWarning"),
]

SIDE = 256
HEARTBEAT_TIMEOUT = 30
HOUR = 3600
# As the DAGs have them.
SETTLE_SECONDS = 15
LIMIT_SECONDS = 8
MODES = ("deferrable", "reschedule", "poke")
SHARED_DAGS = ("shared_event", *(f"shared_{mode}" for mode in MODES))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What Airflow's processes share: watched folders, movies, outputs."""
    home = tmp_path_factory.mktemp("other")
    for name in ("event", "shared", "waiting", "settling", "notes", "coming", "dags"):
        (home / name).mkdir()
    for name in ("event", "shared", "slow", "long", "limit"):
        (home / "nwb" / name).mkdir(parents=True)
    noise = photons(100, SIDE, SIDE)
    write_tiff(home / "short.tif", noise[:24])
    write_tiff(home / "slow.tif", np.tile(noise, (2, 1, 1)))
    write_tiff(home / "long.tif", np.tile(noise, (5, 1, 1)))
    convert_imaging(ImagingConversion.from_options(imaging(home / "short.tif", home / "old.nwb")))
    shutil.copy(Path(__file__).with_name("other_airflows_dags.py"), home / "dags")
    return home


@pytest.fixture(scope="module")
def clock() -> Iterator[SettableClock]:
    # PostgreSQL runs as a user who may not enter the folders of tests.
    with tempfile.TemporaryDirectory(prefix="ophys-clock-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield SettableClock(folder)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, home: Path, clock: SettableClock) -> Iterator[TwoSchedulers]:
    environment = {
        # The database goes by the same clock: Airflow starts a run when its time has come by the database's.
        **clock.environment,
        "OTHER_AIRFLOWS_HOME": str(home),
        "OTHER_AIRFLOWS_LEVEL": "19",
        "AIRFLOW__OPHYS__PRELOAD": "True",
        "AIRFLOW__CORE__LAZY_LOAD_PLUGINS": "False",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": str(HEARTBEAT_TIMEOUT),
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "20",
    }
    with TwoSchedulers(
        tmp_path_factory.mktemp("airflow"), dags_folder=home / "dags", environment=environment
    ) as stack:
        wanted = {"arrivals", "waiting", "slow", "long", "time_limit", "settled", *SHARED_DAGS}
        until(lambda: wanted <= set(stack.client.dag_ids()), "Airflow has read the DAGs")
        yield stack


def put(home: Path, way: str, *names: str) -> None:
    """Let folders arrive, complete from the first moment."""
    for name in names:
        folder = home / "coming" / name
        folder.mkdir()
        (folder / "movie.tif").hardlink_to(home / "short.tif")
        (folder / "DONE").touch()
        folder.rename(home / way / name)


def assert_converted(
    stack: TwoSchedulers, home: Path, way: str, names: set[str], dag_ids: tuple[str, ...]
) -> None:
    """Check that all runs ended well, with each folder converted, and nothing beside; say what was repeated."""
    tasks = [task for dag_id in dag_ids for task in tasks_of(stack, dag_id) if task.state != "skipped"]
    assert {task.state for task in tasks} == {"success"}
    given = Counter(Path(stack.client.xcom(task)["nwbfile_path"]).stem for task in tasks)
    assert set(given) == names
    for name in names:
        assert_whole(home / "nwb" / way / f"{name}.nwb", home / "short.tif")
    assert leftovers(home / "nwb" / way) == []
    again = sum(number > 1 for number in given.values())
    tries = Counter(task.try_number for task in tasks)
    print(f"{way}: {len(names)} folders, {again} given to several tasks; tasks by tries {dict(tries)}")  # noqa: T201


def test_folders_that_arrive_while_one_of_two_schedulers_is_killed_are_all_converted(stack, home):
    names = {f"m{number:02d}" for number in range(12)}
    put(home, "event", *names)
    output = home / "nwb" / "event"
    pid = until(lambda: next(filter(None, (writer(output / f"{name}.nwb") for name in names)), None), "one writes")
    killed = scheduler_of(stack, pid)
    stack.kill(killed)
    until(
        lambda: {path.stem for path in output.glob("*.nwb")} == names and all_finished(stack, "arrivals"),
        f"{killed} was killed, and the other converts all",
    )
    stack.launch(killed)
    assert_converted(stack, home, "event", names, ("arrivals",))
    until(lambda: stack.schedulers() == 2, "the killed scheduler is back")


def test_sensors_of_all_modes_beside_an_event_trigger_share_the_folders(stack, home):
    names = {f"s{number:02d}" for number in range(9)}
    for wave in range(3):
        runs = [stack.client.trigger(f"shared_{mode}") for mode in MODES]
        until(lambda runs=runs: all(waits(stack, run) for run in runs), "the sensors wait")
        put(home, "shared", *sorted(names)[wave::3])
        for run in runs:
            assert finish(stack, run).state == "success", "one that got no folder is skipped, with all after it"
    until(
        lambda: (
            {path.stem for path in (home / "nwb" / "shared").glob("*.nwb")} == names
            and all_finished(stack, "shared_event")
        ),
        "all are converted",
    )
    assert_converted(stack, home, "shared", names, SHARED_DAGS)


def waits(stack: TwoSchedulers, run: DagRun) -> bool:
    states = {task.state for task in stack.client.task_instances(run) if task.task_id == "wait"}
    return bool(states & {"running", "deferred", "up_for_reschedule"})


def test_tasks_and_supervisors_that_are_killed_or_stand_still_leave_a_whole_output(stack, home):
    folder = home / "nwb" / "slow"
    trials = ("task_killed", "supervisor_killed", "supervisor_stopped", "both_stopped")
    paths = {name: folder / f"{name}.nwb" for name in trials}
    runs, pids = {}, {}
    for name, path in paths.items():
        shutil.copy(home / "old.nwb", path)
        runs[name], pids[name] = begin(stack, "slow", path)
        supervisor = supervisor_of(pids[name])
        if name == "task_killed":
            os.kill(pids[name], signal.SIGKILL)
        elif name == "supervisor_killed":
            os.kill(supervisor, signal.SIGKILL)
            until(lambda: not psutil.pid_exists(pids["supervisor_killed"]), "the task ends without it", 60)
            assert_whole(path, home / "short.tif")
        else:
            os.kill(supervisor, signal.SIGSTOP)
            if name == "both_stopped":
                os.kill(pids[name], signal.SIGSTOP)
            pids[f"supervisor of {name}"] = supervisor

    def is_refused() -> bool:
        task = task_of(stack, runs["both_stopped"])
        return task.try_number > 1 and "OutputBusyError" in log_of(stack, task)

    until(is_refused, "the second try is refused while the first stands still")
    assert_whole(paths["both_stopped"], home / "short.tif")
    # A task without its supervisor goes on; another try of it runs by now, or has found the work done.
    until(lambda: task_of(stack, runs["supervisor_stopped"]).try_number > 1, "a second try of the other")
    for name in ("both_stopped", "supervisor of both_stopped", "supervisor of supervisor_stopped"):
        if psutil.pid_exists(pids[name]):
            os.kill(pids[name], signal.SIGCONT)
    for name, path in paths.items():
        assert finish(stack, runs[name]).state == "success"
        until(lambda path=path: writer(path) is None, f"nobody writes {path} any more")
        assert_whole(path, home / "slow.tif")
        task = task_of(stack, runs[name])
        assert task.try_number > 1
        reused = stack.client.xcom(task)["reused"]
        print(f"{name}: {task.try_number} tries; the last {'found it done' if reused else 'wrote it'}")  # noqa: T201
    assert leftovers(folder) == []


def test_a_deferred_sensor_that_is_ended_stops_looking_and_loses_no_folder(stack, home):
    looks = Looks(home / "waiting")
    api = "/dags/waiting/dagRuns/{run}/taskInstances/wait"

    failed = defer(stack)
    until(looks.since_last, "its trigger looks")
    stack.client.api("PATCH", api.format(run=failed.run_id), body={"new_state": "failed"})
    until(lambda: looks.during(3) == 0, "after a mark as failed nobody looks any more", 60)

    cleared = defer(stack)
    until(looks.since_last, "the next one looks")
    body = {"dry_run": False, "dag_run_id": cleared.run_id, "task_ids": ["wait"], "only_failed": False}
    stack.client.api("POST", "/dags/waiting/clearTaskInstances", body=body)
    until(lambda: task_of(stack, cleared).state not in (None, "deferred"), "it is cleared")
    until(lambda: task_of(stack, cleared).state == "deferred", "it waits again")
    put(home, "waiting", "one")
    assert finish(stack, cleared).state == "success"
    assert names_of(stack, cleared) == ["one"], "also those that were given to no run before"
    until(lambda: looks.during(3) == 0, "who has got a folder looks no more", 60)


def test_a_sensor_that_is_ended_as_it_takes_a_folder_leaves_it_to_the_next_run(stack, home):
    looks = Looks(home / "waiting")
    run = defer(stack)
    ti = stack.client.api("GET", f"/dags/waiting/dagRuns/{run.run_id}/taskInstances/wait")["id"]
    put(home, "waiting", "two")
    pid = until(lambda: task_process(ti), "the sensor is resumed", interval=0.02)
    os.kill(pid, signal.SIGSTOP)
    print(f"stopped while the task was {task_of(stack, run).state}")  # noqa: T201
    path = f"/dags/waiting/dagRuns/{run.run_id}/taskInstances/wait"
    stack.client.api("PATCH", path, body={"new_state": "failed"})
    until(lambda: not psutil.pid_exists(pid) or is_told_to_end(pid), "its supervisor ends it", 60)
    if psutil.pid_exists(pid):
        os.kill(pid, signal.SIGCONT)
    until(lambda: not psutil.pid_exists(pid), "it has ended", 60)
    assert finish(stack, run).state == "failed"
    assert looks.during(3) == 0
    following = finish(stack, stack.client.trigger("waiting"))
    assert following.state == "success"
    assert names_of(stack, following) == ["two"]


def defer(stack: TwoSchedulers) -> DagRun:
    """Start a run whose sensor waits in the triggerer."""
    run = stack.client.trigger("waiting")
    until(
        lambda: [task.state for task in stack.client.task_instances(run)] == ["deferred"], "the sensor is deferred"
    )
    return run


def names_of(stack: TwoSchedulers, run: DagRun) -> list[str]:
    return [folder["name"] for folder in stack.client.xcom(task_of(stack, run))]


def task_process(ti: str) -> int | None:
    """The process of a task instance, which has its id in the title, as its supervisor has after another word."""
    for process in psutil.process_iter(["cmdline"]):
        if " ".join(process.info["cmdline"] or []).strip() == f"airflow worker -- {ti}":
            return process.pid
    return None


def is_told_to_end(pid: int) -> bool:
    """Tell whether SIGTERM waits for a process."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    waiting = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith(("SigPnd", "ShdPnd"))]
    return any(mask >> (signal.SIGTERM - 1) & 1 for mask in waiting)


@pytest.mark.parametrize(("trial", "before", "after"), [("forward", 0, HOUR), ("back", HOUR, 0)])
def test_a_clock_that_is_set_by_an_hour_shortens_and_lengthens_nothing_of_ours(
    stack, home, clock, trial, before, after
):
    clock.set(before)
    long, limit = (home / "nwb" / folder / f"{trial}.nwb" for folder in ("long", "limit"))
    shutil.copy(home / "old.nwb", long)
    conversion, converts = begin(stack, "long", long, more_than=1)
    limited, is_limited = begin(stack, "time_limit", limit, more_than=1)
    writes, born = time.monotonic(), time.time() - psutil.Process(is_limited).create_time()
    folder = home / "settling" / trial
    folder.mkdir()
    (folder / "movie.tif").write_bytes(b"x" * 1000)
    written = time.monotonic()
    time.sleep(2)  # in which the trigger sees it
    assert writer(long) == converts, "it is under way"
    clock.set(after)

    until(lambda: writer(limit) != is_limited, "the task is over its time limit", interval=0.1)
    took = time.monotonic() - writes
    print(f"{trial}: the task of at most {LIMIT_SECONDS} s ended {took:.1f} s after it wrote first")  # noqa: T201
    assert took < LIMIT_SECONDS + 5
    assert took + born > LIMIT_SECONDS
    until(lambda: "Process timed out" in log_of(stack, task_of(stack, limited)), "its log says so", 60)

    [found] = until(lambda: list((home / "notes").glob(f"{trial}-*")), "the folder is handed over", 300)
    quiet = float(found.name.rpartition("-")[2]) - written
    print(f"{trial}: a run had the folder after {quiet:.1f} s of quiet")  # noqa: T201
    assert quiet > SETTLE_SECONDS

    # Airflow looks at no run whose time has not come, and would go on with this one an hour later.
    clock.set(HOUR)
    assert finish(stack, conversion).state == "success"
    assert_whole(long, home / "long.tif")
    print(f"{trial}: converted by {task_of(stack, conversion).try_number} tries")  # noqa: T201
    assert leftovers(home / "nwb" / "long") == []
    assert list((home / "nwb" / "limit").iterdir()) == []
