"""
Conversions that are killed on Airflow's own processes, in all the ways that Airflow and its machine have.

Each has an old output at its path, which has to be untouched until a later try has finished. Airflow's metadata
database is a PostgreSQL here, so what reads and writes it is looked at on that, too.
"""

from __future__ import annotations

import csv
import hashlib
import os
import signal
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pynwb
import pytest
from movies import METADATA, photons, write_tiff
from roiextractors.testing import generate_dummy_imaging_extractor
from running_tasks import finish, task_of, until, writer, writing

from airflow_provider_ophys.nwb import write_imaging_to_nwbfile
from demo.follow import Follower
from demo.progress import Progress
from demo.rest import DagRun
from demo.stack import AirflowStack

pytestmark = pytest.mark.stack

NUM_SAMPLES, SIDE = 600, 512
# Of those that are killed, which are written slowly.
NUM_SLOW_SAMPLES = 300
# What is killed is done again a second later.
SOON_SECONDS = 0.05
# The kernel's own way of running out of memory ends the task like this as well.
AT_ONCE = {"retries": 1, "retry_delay": "1"}
SCENARIOS = {
    "mark_failed": {"retries": 0},
    "clear": {"retries": 0},
    "time_out": {"retries": 0, "execution_timeout": "2"},
    "sigkill": AT_ONCE,
    "worker_lost": AT_ONCE,
}
DAGS = """
import sys
from datetime import timedelta

from airflow.sdk import DAG, Asset, AssetWatcher, RetryRule, task

from airflow_provider_ophys.assets import arrived_folders
from airflow_provider_ophys.exceptions import OutputBusyError
from airflow_provider_ophys.operators.imaging import WriteImagingOperator
from airflow_provider_ophys.retries import OphysRetryPolicy
from airflow_provider_ophys.triggers.acquisition import AcquisitionFolderTrigger

SECONDS = {{"retry_delay", "execution_timeout"}}
# Seven seconds of work on one CPU, in pieces that are short enough to stop between them.
SLOW = {{
    "chunk_shape": [4, {side}, {side}],
    "compression_method": "zstd",
    "compression_options": {{"clevel": 12}},
}}


def movie(path, name="movie.tif"):
    return {{
        "extractor": "Tiff",
        "extractor_kwargs": {{"file_path": f"{movies}/{{name}}", "sampling_frequency": 30.0}},
        "nwbfile_path": path,
        "metadata": {metadata},
    }}


with DAG("preloaded", schedule=None):

    @task
    def has_pynwb():
        return "pynwb" in sys.modules

    has_pynwb()

trigger = AcquisitionFolderTrigger(path="{incoming}", settle_seconds=1, poke_interval=0.5)
incoming = Asset("incoming", watchers=[AssetWatcher(name="incoming", trigger=trigger)])

with DAG("arrivals", schedule=[incoming], max_active_runs=1):

    @task(inlets=[incoming])
    def names(**context):
        return [folder["name"] for folder in arrived_folders(incoming, context)]

    names()

with DAG("one_movie", schedule=None, params={{"movie": ""}}):
    WriteImagingOperator(task_id="write", **movie("{output}/paged.nwb", "{{{{ params.movie }}}}"))

for name, options in {scenarios}.items():
    airflows = {{
        key: timedelta(seconds=int(value)) if key in SECONDS else value for key, value in options.items()
    }}
    with DAG(f"kills_{{name}}", schedule=None):
        WriteImagingOperator(
            task_id="write",
            **movie(f"{output}/{{name}}.nwb", "slow.tif"),
            if_exists="overwrite",
            backend_configuration={{"acquisition/TwoPhotonSeries/data": SLOW}},
            threads=1,
            **airflows,
        )

with DAG("one_output_for_two", schedule=None):
    WriteImagingOperator.partial(
        task_id="write",
        retries=20,
        retry_policy=OphysRetryPolicy([RetryRule(OutputBusyError, retry_delay=timedelta(seconds=2))]),
    ).expand_kwargs([movie("{output}/shared.nwb"), movie("{output}/shared.nwb")])

with DAG("eight_at_once", schedule=None):
    WriteImagingOperator.partial(
        task_id="write", map_index_template="{{{{ task.nwbfile_path.split('/') | last }}}}"
    ).expand_kwargs([movie(f"{output}/eight_{{number}}.nwb") for number in range(8)])
"""


@pytest.fixture(scope="module")
def movies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of 315 MB of noise, and of half as much for those that take long to compress it."""
    folder, noise = tmp_path_factory.mktemp("movies"), photons(100, SIDE, SIDE, seed=0)
    for name, num_samples in {"movie.tif": NUM_SAMPLES, "slow.tif": NUM_SLOW_SAMPLES}.items():
        write_tiff(folder / name, np.tile(noise, (num_samples // len(noise), 1, 1)))
    return folder


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the outputs, with an old one for each scenario."""
    folder = tmp_path_factory.mktemp("output")
    old = generate_dummy_imaging_extractor(num_rows=13, num_columns=29, num_samples=5)
    for name in SCENARIOS:
        write_imaging_to_nwbfile(old, folder / f"{name}.nwb", metadata=METADATA)
    return folder


@pytest.fixture(scope="module")
def incoming(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("incoming")


@pytest.fixture(scope="module", autouse=True)
def dags(stack: AirflowStack, movies: Path, output: Path, incoming: Path) -> None:
    """The DAGs of this module, which Airflow has found."""
    text = DAGS.format(
        movies=movies, output=output, incoming=incoming, metadata=METADATA, scenarios=SCENARIOS, side=SIDE
    )
    (stack.dags_folder / "kills.py").write_text(textwrap.dedent(text))
    Follower(stack, Progress()).wait_for_dags("arrivals", "preloaded", "eight_at_once")


def begin(stack: AirflowStack, path: Path) -> tuple[DagRun, int]:
    """Start a scenario's run, and return it and the task's process once that is writing."""
    run = stack.client.trigger(f"kills_{path.stem}")
    return run, writing(path, more_than=5_000_000, interval=SOON_SECONDS)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def is_new(path: Path) -> bool:
    num_samples = NUM_SLOW_SAMPLES if path.stem in SCENARIOS else NUM_SAMPLES
    with pynwb.NWBHDF5IO(path, "r") as io:
        whole = bool(io.read().acquisition["TwoPhotonSeries"].data.shape == (num_samples, SIDE, SIDE))
    return whole and pynwb.validate(path=path) == []


def nothing_beside(path: Path) -> bool:
    return not [entry for entry in path.parent.iterdir() if entry.name.startswith(f".{path.stem}.")]


def test_a_preloaded_scheduler_has_imported_what_conversions_need(stack: AirflowStack) -> None:
    run = finish(stack, stack.client.trigger("preloaded"))
    assert stack.client.xcom(task_of(stack, run)) is True


def test_folders_that_arrive_are_handed_over_once_each(
    stack: AirflowStack, incoming: Path, tmp_path: Path
) -> None:
    handed_over: list[str] = []
    run, follower = None, Follower(stack, Progress())
    for name in ("one", "two"):
        # Whole from the first moment: a busy machine may take longer over two steps than a folder to settle.
        (tmp_path / name).mkdir()
        (tmp_path / name / "movie.tif").write_bytes(b"x")
        (tmp_path / name).rename(incoming / name)
        run = follower.follow("arrivals", after=run)
        handed_over += stack.client.xcom(task_of(stack, run))
    assert handed_over == ["one", "two"]


def test_the_page_of_sessions_says_what_failed_and_what_is_done(
    stack: AirflowStack, movies: Path, output: Path
) -> None:
    path = output / "paged.nwb"
    for movie, state in (("absent.tif", "failed"), ("slow.tif", "success")):
        assert finish(stack, stack.client.trigger("one_movie", conf={"movie": movie})).state == state
        rows = csv.DictReader(stack.client.page("sessions.csv").decode().splitlines())
        (row,) = [row for row in rows if row["nwbfile_path"] == str(path)]
        if state == "failed":
            assert row["state"] == "failed"
            assert str(movies / "absent.tif") in row["error"]
    assert (row["state"], row["error"], row["dags"]) == ("done", "", "one_movie")
    assert int(row["size_bytes"]) == path.stat().st_size
    assert "paged" in stack.client.page("", {"q": "paged"}).decode()
    assert "MB/s" in stack.client.page("trends").decode()


def test_marked_as_failed_it_stops_and_leaves_the_old_output(stack: AirflowStack, output: Path) -> None:
    path = output / "mark_failed.nwb"
    before = digest(path)
    run, _ = begin(stack, path)
    api = f"/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/write"
    stack.client.api("PATCH", api, body={"new_state": "failed"})
    until(lambda: writer(path) is None, "the task is gone", interval=SOON_SECONDS)
    assert nothing_beside(path), "it was told to stop, and tidied up within its grace"
    assert digest(path) == before
    assert finish(stack, run).state == "failed"


def test_cleared_it_stops_and_is_done_again(stack: AirflowStack, output: Path) -> None:
    path = output / "clear.nwb"
    run, first = begin(stack, path)
    body = {"dry_run": False, "dag_run_id": run.run_id, "task_ids": ["write"], "only_failed": False}
    stack.client.api("POST", f"/dags/{run.dag_id}/clearTaskInstances", body=body)
    until(lambda: writer(path) != first, "the first try is gone", interval=SOON_SECONDS)
    assert finish(stack, run).state == "success"
    assert is_new(path)
    assert nothing_beside(path)


def test_past_its_time_limit_it_stops_and_leaves_the_old_output(stack: AirflowStack, output: Path) -> None:
    path = output / "time_out.nwb"
    before = digest(path)
    run = finish(stack, stack.client.trigger("kills_time_out"))
    assert run.state == "failed"
    assert digest(path) == before
    assert nothing_beside(path)
    assert any("AirflowTaskTimeout" in line for line in stack.client.task_log(task_of(stack, run)))


def test_killed_at_once_it_is_done_again(stack: AirflowStack, output: Path) -> None:
    path = output / "sigkill.nwb"
    before = digest(path)
    run, pid = begin(stack, path)
    os.kill(pid, signal.SIGKILL)
    until(lambda: writer(path) != pid, "the first try is gone", interval=SOON_SECONDS)
    assert digest(path) == before
    assert not nothing_beside(path), "a process that is killed cannot tidy up; the next try does"
    assert finish(stack, run).state == "success"
    assert task_of(stack, run).try_number == 2
    assert is_new(path)
    assert nothing_beside(path)


def test_two_tasks_with_one_output_do_not_mix(stack: AirflowStack, output: Path) -> None:
    run = finish(stack, stack.client.trigger("one_output_for_two"))
    assert run.state == "success"
    results = [stack.client.xcom(task) for task in stack.client.task_instances(run)]
    assert sorted(result["reused"] for result in results) == [False, True], "one writes, the other waits"
    assert is_new(output / "shared.nwb")
    assert nothing_beside(output / "shared.nwb")


def test_eight_at_once_share_the_machine(stack: AirflowStack, output: Path) -> None:
    run = finish(stack, stack.client.trigger("eight_at_once"))
    assert run.state == "success"
    results = [stack.client.xcom(task) for task in stack.client.task_instances(run)]
    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(lambda result: is_new(Path(result["nwbfile_path"])), results))
    assert len(results) == 8
    # Each may hold 256 MiB in flight, and pynwb and the HDF5 library some more.
    assert max(result["peak_memory_bytes"] for result in results) < 400 * 2**20


def test_lost_with_its_worker_it_is_done_again(stack: AirflowStack, output: Path) -> None:
    """Last, for it takes the scheduler down: with LocalExecutor, that is the worker."""
    path = output / "worker_lost.nwb"
    before = digest(path)
    run, _ = begin(stack, path)
    stack.kill("scheduler")
    until(lambda: writer(path) is None, "the task is gone", interval=SOON_SECONDS)
    assert digest(path) == before
    stack.launch("scheduler")
    assert finish(stack, run).state == "success"
    assert is_new(path)
    assert nothing_beside(path)
