"""The task group that writes one movie by many tasks, in real DAG runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import movies
import numpy as np
import pytest
import tifffile
from airflow.sdk import DAG, Asset, task
from airflow_runs import events_of, result_of, run_dag
from airflow_versions import DagSerialization, task_fails
from hdmf_zarr import NWBZarrIO

from airflow_provider_ophys.conversion.many_workers import plan_imaging
from airflow_provider_ophys.conversion.movie_statistics import STATISTICS_SUFFIX
from airflow_provider_ophys.exceptions import ConfigurationError, PathNotAllowedError
from airflow_provider_ophys.models.plan import ParallelImagingConversion
from airflow_provider_ophys.models.result import REPORT_SUFFIXES
from airflow_provider_ophys.operators.imaging import WriteImagingOperator
from airflow_provider_ophys.operators.parallel import (
    FillShardsOperator,
    PlanImagingOperator,
    PublishImagingOperator,
    write_imaging_in_parallel,
)
from airflow_provider_ophys.report.origin import ORIGIN_SUFFIX

SHARDS = {"acquisition/TwoPhotonSeries/data": {"chunk_shape": [2, 29, 13], "shard_shape": [4, 29, 13]}}

pytestmark = pytest.mark.usefixtures("airflow_db")


def imaging(tiff, path, **options):
    return movies.imaging(tiff, path, backend="zarr", backend_configuration=SHARDS) | options


def group_dag(dag_id, tiff, path, **options):
    with DAG(dag_id, params={"tasks": 3}) as dag:
        group = write_imaging_in_parallel(group_id="movie", **imaging(tiff, path, **options))

        @task
        def after(result):
            return result

        after(group.output)
    return dag


def states(instances):
    return {task_id: [instance.state for instance in of_task] for task_id, of_task in instances.items()}


def test_the_group_returns_what_the_operator_returns(tmp_path, tiff):
    path = tmp_path / "many.nwb"
    # The number of tasks is a template like every other option.
    dag = group_dag("parallel", tiff, path, num_tasks="{{ params.tasks }}", outlets=[Asset("parallel")])
    instances = run_dag(dag)
    assert states(instances) == {
        "movie.plan": ["success"],
        "movie.fill": ["success"] * 3,
        "movie.publish": ["success"],
        "after": ["success"],
    }
    assert [instance.rendered_map_index for instance in instances["movie.fill"]] == [
        "shards 0 to 0",
        "shards 1 to 2",
        "shards 3 to 4",
    ]
    result = result_of(instances["movie.publish"][0])
    assert json.loads(json.dumps(result)) == result_of(instances["after"][0])
    one = WriteImagingOperator(task_id="one", **imaging(tiff, tmp_path / "one.nwb")).execute({})
    varying = {"nwbfile_path", "size_bytes", "elapsed_seconds", "throughput_mb_per_s", "peak_memory_bytes"}
    varying |= {"durations"}
    assert {key: result[key] for key in result.keys() - varying} == {key: one[key] for key in one.keys() - varying}
    assert result.keys() == one.keys()
    assert events_of("parallel") == [("parallel", result)], "one event, of the finished store"
    with NWBZarrIO(str(path), "r") as io:
        data = io.read().acquisition["TwoPhotonSeries"].data[:]
    np.testing.assert_array_equal(data, tifffile.imread(tiff).transpose(0, 2, 1))

    again = run_dag(group_dag("parallel_again", tiff, path))
    assert states(again) == {
        "movie.plan": ["success"],
        "movie.fill": ["skipped"],
        "movie.publish": ["success"],
        "after": ["success"],
    }
    assert result_of(again["movie.publish"][0])["reused"] is True


@pytest.fixture
def allowed(tmp_path, monkeypatch):
    folder = tmp_path / "allowed"
    folder.mkdir()
    monkeypatch.setenv("AIRFLOW__OPHYS__ALLOWED_ROOTS", f"/nowhere, {folder}")
    return folder


def test_with_report_and_inspection_within_the_allowed_roots(tiff, allowed):
    movie, path = Path(shutil.copy(tiff, allowed)), allowed / "many.nwb"
    more = {"report": True, "inspect": "report"}
    instances = run_dag(group_dag("parallel_report", movie, path, num_tasks=2, **more))
    assert {state for of_task in states(instances).values() for state in of_task} == {"success"}
    result = result_of(instances["movie.publish"][0])
    one = WriteImagingOperator(task_id="one", **imaging(movie, allowed / "one.nwb", **more)).execute({})
    assert result.keys() == one.keys()
    assert result["inspection"] == one["inspection"] != []
    assert result["report"].keys() == one["report"].keys()
    for kind, suffix in REPORT_SUFFIXES.items():
        assert result["report"][kind] == str(allowed / f"many.nwb{suffix}")
    # Outside of Airflow there is no task that made it.
    assert {entry.name for entry in allowed.iterdir()} == {"movie.tif", f"many.nwb{ORIGIN_SUFFIX}"} | {
        f"{name}.nwb{suffix}"
        for name in ("one", "many")
        for suffix in ("", STATISTICS_SUFFIX, *REPORT_SUFFIXES.values())
    }

    again = run_dag(group_dag("parallel_report_again", movie, path, **more))
    reused = result_of(again["movie.publish"][0])
    assert (reused["reused"], reused["inspection"]) == (True, result["inspection"])
    assert reused["report"] == result["report"], "of an unchanged file it is not made again"


def test_inspection_that_is_to_fail_publishes_nothing(tiff, allowed):
    movie, path = Path(shutil.copy(tiff, allowed)), allowed / "many.nwb"
    instances = run_dag(group_dag("parallel_inspect", movie, path, report=True, inspect="fail"))
    assert states(instances) == {
        "movie.plan": ["success"],
        "movie.fill": ["success"],
        "movie.publish": ["failed"],
        "after": ["upstream_failed"],
    }
    assert not path.exists()
    assert not list(allowed.glob("*.report.*"))


def test_no_task_of_the_group_is_led_out_of_the_allowed_roots(tmp_path, tiff, allowed):
    instances = run_dag(group_dag("parallel_led_out", tiff, allowed / "many.nwb"))
    assert states(instances)["movie.plan"] == ["failed"]
    assert not list(allowed.iterdir())

    movie = Path(shutil.copy(tiff, allowed))
    plan = plan_imaging(ParallelImagingConversion.from_options(imaging(movie, allowed / "many.nwb")))
    for change in ({"part": str(tmp_path / "elsewhere")}, {"dataset_path": "../../data"}, {"part": ""}):
        led_out = plan.to_json() | change
        fill = FillShardsOperator(task_id="fill", plan=led_out, share=plan.shares[0].to_json())
        publish = PublishImagingOperator(task_id="publish", plan=led_out)
        for operator in (fill, publish):
            with task_fails(PathNotAllowedError, match=r"plan\.part .*allowed_roots"):
                operator.execute({})


def test_bad_input_is_one_clear_error_without_a_retry(tmp_path, tiff):
    dag = group_dag("parallel_hdf5", tiff, tmp_path / "a.nwb", backend="hdf5", retries=3)
    instances = run_dag(dag)
    assert states(instances) == {
        "movie.plan": ["failed"],
        "movie.fill": ["upstream_failed"],
        "movie.publish": ["upstream_failed"],
        "after": ["upstream_failed"],
    }
    assert instances["movie.plan"][0].try_number == 1
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["movie.tif"]
    with DAG("bad"):
        plan = PlanImagingOperator(
            task_id="plan", num_tasks="many", **imaging(tiff, tmp_path / "a.nwb", threads=0)
        )
    with task_fails(ConfigurationError, match=r"(?s)2 option\(s\).*threads.*num_tasks"):
        plan.execute({})


def test_no_more_tasks_than_can_be_mapped(tmp_path, tiff, monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", "3")
    path = tmp_path / "movie.nwb"
    instances = run_dag(group_dag("parallel_many", tiff, path, num_tasks=100))
    assert states(instances)["movie.fill"] == ["success"] * 3
    assert states(instances)["movie.publish"] == ["success"]
    with NWBZarrIO(str(path), "r") as io:
        data = io.read().acquisition["TwoPhotonSeries"].data[:]
    assert np.array_equal(data, tifffile.imread(tiff).transpose(0, 2, 1))


def test_airflows_own_options_are_those_of_every_task(tmp_path, tiff):
    dag = group_dag(
        "parallel_options", tiff, tmp_path / "a.nwb", retries=2, pool="writers", pool_slots=2, outlets=[Asset("x")]
    )
    back = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))
    for name in ("plan", "fill", "publish"):
        task = back.get_task(f"movie.{name}")
        assert (task.retries, task.pool, task.pool_slots) == (2, "writers", 2)
    assert [bool(dag.get_task(f"movie.{name}").outlets) for name in ("plan", "publish")] == [False, True]
    assert back.get_task("movie.publish").upstream_task_ids == {"movie.plan", "movie.fill"}
    assert back.get_task("after").upstream_task_ids == {"movie.publish"}
