"""On CeleryExecutor: two workers that share only the storage, with a real Redis and PostgreSQL; one is killed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pynwb
import pytest
import tifffile
from hdmf_zarr import NWBZarrIO
from movies import imaging, photons, write_tiff
from pynwb import NWBHDF5IO
from thorough import THOROUGH

from airflow_provider_ophys.conversion.run import convert_imaging
from airflow_provider_ophys.models.conversion import ImagingConversion
from demo.celery_stack import WORKERS, CeleryStack
from demo.follow import Follower
from demo.progress import Progress
from demo.rest import DagRun
from demo.summary import results

pytestmark = [
    pytest.mark.stack,
    pytest.mark.skipif(not THOROUGH, reason="starts eight servers: make thorough"),
    # roiextractors reads the head of a ScanImage file through a second handle, which it never closes.
    pytest.mark.filterwarnings("ignore:Exception ignored in. <_io.FileIO:pytest.PytestUnraisableExceptionWarning"),
]

RUN_SECONDS = 600

SCENARIOS = """
import sys
from datetime import timedelta

from airflow.sdk import dag, task

from airflow_provider_ophys.operators.imaging import WriteImagingOperator
from airflow_provider_ophys.operators.parallel import write_imaging_in_parallel

MOVIE = {
    "extractor": "Tiff",
    "extractor_kwargs": {"file_path": "{{ params.movie }}", "sampling_frequency": 30.0},
    "nwbfile_path": "{{ params.output }}",
    "metadata": {"NWBFile": {"session_start_time": "2026-11-22T09:30:00+01:00"}},
    "retries": 2,
    "retry_delay": timedelta(seconds=1),
}
DATA = "acquisition/TwoPhotonSeries/data"


@dag(schedule=None, params={"movie": "", "output": ""})
def one_worker():
    # Deflate at its highest level takes long enough for a kill in the middle.
    slow = {"chunk_shape": [10, 256, 256], "compression_method": "gzip", "compression_options": {"level": 9}}
    WriteImagingOperator(task_id="write", backend_configuration={DATA: slow}, threads=1, **MOVIE)


@dag(schedule=None, params={"movie": "", "output": ""})
def many_workers():
    shards = {DATA: {"chunk_shape": [10, 256, 256], "shard_shape": [50, 256, 256]}}
    write_imaging_in_parallel(
        group_id="movie", num_tasks=4, backend="zarr", backend_configuration=shards, **MOVIE
    )


@dag(schedule=None)
def preloaded():
    @task
    def has_pynwb():
        return "pynwb" in sys.modules

    has_pynwb()


one_worker()
many_workers()
preloaded()
"""


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the workers share."""
    folder = tmp_path_factory.mktemp("storage")
    for name in ("nwb", "recordings"):
        (folder / name).mkdir()
    return folder


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, storage: Path) -> Iterator[CeleryStack]:
    dags = tmp_path_factory.mktemp("scenarios")
    (dags / "scenarios.py").write_text(SCENARIOS)
    environment = {
        # How soon a killed worker's task is taken for dead; Airflow's own default is five minutes.
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "45",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
        "AIRFLOW__OPHYS__PRELOAD": "True",
        "AIRFLOW__CORE__LAZY_LOAD_PLUGINS": "False",
    }
    with CeleryStack(
        tmp_path_factory.mktemp("celery") / "home", dags_folder=dags, environment=environment
    ) as stack:
        yield stack


@pytest.fixture(scope="module")
def follower(stack: CeleryStack) -> Follower:
    follower = Follower(stack, Progress())
    follower.wait_for_dags("one_worker", "many_workers", "preloaded")
    return follower


@pytest.fixture(scope="module")
def movie(storage: Path) -> Path:
    return write_tiff(storage / "recordings" / "movie.tif", photons(400, 256, 256))


def trigger(stack: CeleryStack, dag_id: str, movie: Path, output: Path) -> DagRun:
    return stack.client.trigger(dag_id, conf={"movie": str(movie), "output": str(output)})


def workers_of(stack: CeleryStack, dag_id: str, attempt: int | str = "*") -> set[str]:
    """The workers that ran tasks of a DAG, by the logs that they wrote in folders of their own."""
    return {
        name
        for name in WORKERS
        if any(stack.worker_folder(name).glob(f"logs/dag_id={dag_id}/**/attempt={attempt}.log"))
    }


def test_a_preloaded_worker_has_imported_what_conversions_need(stack: CeleryStack, follower: Follower) -> None:
    run = stack.client.wait_for_run(stack.client.trigger("preloaded"), timeout=RUN_SECONDS)
    (task,) = stack.client.task_instances(run)
    assert stack.client.xcom(task) is True


def test_both_workers_write_one_movie_as_one_would_have(
    stack: CeleryStack, follower: Follower, storage: Path, movie: Path
) -> None:
    output = storage / "nwb" / "many.nwb.zarr"
    run = stack.client.wait_for_run(trigger(stack, "many_workers", movie, output), timeout=RUN_SECONDS)
    assert run.state == "success"
    assert workers_of(stack, "many_workers") == set(WORKERS)
    assert [filled["filled"] for filled in results(stack.client, run, "movie.fill")] == [2, 2, 2, 2]
    (result,) = results(stack.client, run, "movie.publish")
    assert (result["nwbfile_path"], result["validation"], result["reused"]) == (str(output), "valid", False)
    data = "acquisition/TwoPhotonSeries/data"
    shard = {"chunk_shape": [10, 256, 256], "shard_shape": [50, 256, 256]}
    one = storage / "nwb" / "one.nwb.zarr"
    alone = imaging(movie, one, backend="zarr", backend_configuration={data: shard})
    convert_imaging(ImagingConversion.from_options(alone))
    shards = [
        {str(file.relative_to(store)): file.read_bytes() for file in (store / data).rglob("*") if file.is_file()}
        for store in (output, one)
    ]
    assert len(shards[0]) == 1 + 8
    assert shards[0] == shards[1]
    with NWBZarrIO(str(output), "r") as io:
        pixels = io.read().acquisition["TwoPhotonSeries"].data[:]
    np.testing.assert_array_equal(pixels, tifffile.imread(movie).transpose(0, 2, 1))


def test_the_task_of_a_killed_worker_is_finished_by_the_other(
    stack: CeleryStack, follower: Follower, storage: Path, movie: Path
) -> None:
    output = storage / "nwb" / "killed.nwb"
    run = trigger(stack, "one_worker", movie, output)
    deadline = time.monotonic() + RUN_SECONDS
    # In mid-conversion: the pixels are being written.
    while sum(part.stat().st_size for part in (storage / "nwb").glob(".killed.part.nwb")) < 2 * 2**20:
        assert time.monotonic() < deadline
        assert not output.exists(), "the conversion was too quick to be killed"
        time.sleep(0.02)
    (killed,) = workers_of(stack, "one_worker")
    stack.kill(killed)
    assert not output.exists()
    run = stack.client.wait_for_run(run, timeout=RUN_SECONDS)
    assert run.state == "success"
    (task,) = stack.client.task_instances(run)
    assert task.try_number == 2
    assert workers_of(stack, "one_worker", attempt=2) == set(WORKERS) - {killed}
    assert [entry.name for entry in (storage / "nwb").glob("*killed*")] == ["killed.nwb"]
    assert pynwb.validate(path=output) == []
    with NWBHDF5IO(output, "r") as io:
        pixels = io.read().acquisition["TwoPhotonSeries"].data[:]
    np.testing.assert_array_equal(pixels, tifffile.imread(movie).transpose(0, 2, 1))
