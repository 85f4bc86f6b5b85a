"""``convert_session``: from folders to NWB files by one task group, called once or mapped."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

import pytest
from airflow.sdk import DAG, Asset, task
from airflow_runs import events_of, result_of, run_dag
from airflow_versions import task_fails
from pynwb import NWBHDF5IO

sys.path.append(str(Path(__file__).parents[1] / "sessions"))
from session_recordings import recording, two_channels_of_three_planes

from airflow_provider_ophys.conversion import write_session
from airflow_provider_ophys.exceptions import (
    ConfigurationError,
    OutputExistsError,
    OutputFolderError,
    PreflightError,
)
from airflow_provider_ophys.operators.imaging import WriteImagingOperator
from airflow_provider_ophys.operators.parallel import write_imaging_in_parallel
from airflow_provider_ophys.operators.report import WriteReportOperator
from airflow_provider_ophys.operators.session import (
    DescribeSessionOperator,
    WriteSessionOperator,
    convert_session,
)
from airflow_provider_ophys.operators.staging import StageToS3Operator
from airflow_provider_ophys.sessions import describe_session

pytestmark = pytest.mark.usefixtures("airflow_db")


def names_of(instances):
    return [instance.rendered_map_index for instance in instances]


def test_mapped_over_what_a_sensor_hands_over_each_folder_becomes_a_file_named_after_it(tmp_path):
    watched = tmp_path / "watched"
    two_channels_of_three_planes(watched / "m1" / "day 1")
    recording("Miniscope", watched / "m2")
    (watched / "lab.yaml").write_text("NWBFile: {institution: Institute}\nSubject: {subject_id: m12}")
    # Above the root, and so of nobody here.
    (tmp_path / "lab.yaml").write_text("NWBFile: {lab: Other}")
    files = Asset("files_of_mapped_sessions")
    with DAG("mapped_sessions") as dag:

        @task
        def arrivals():
            return [{"path": str(watched / name), "name": name, "num_files": 1} for name in ("m1/day 1", "m2")]

        convert_session.partial(
            output_folder=tmp_path / "new" / "nwb", root="{{ params.root }}", folder_name="", outlets=[files]
        ).expand(folder=arrivals())
    dag.params["root"] = str(watched)

    instances = run_dag(dag)

    assert set(instances) == {"arrivals", "convert_session.describe", "convert_session.write"}
    assert {instance.state for found in instances.values() for instance in found} == {"success"}
    for step in ("describe", "write"):
        assert names_of(instances[f"convert_session.{step}"]) == ["m1/day 1", "m2"]
    described = [result_of(instance) for instance in instances["convert_session.describe"]]
    assert [each["name"] for each in described] == ["m1/day 1", "m2"]
    written = [result_of(instance) for instance in instances["convert_session.write"]]
    assert [each["nwbfile_path"] for each in written] == [
        str(tmp_path / "new" / "nwb" / name) for name in ("m1_day 1.nwb", "m2.nwb")
    ]
    assert written[0]["session"] == {
        "folder": str(watched / "m1/day 1"),
        "name": "m1/day 1",
        "subject_id": "m12",
        "session_id": None,
    }
    assert written[0]["report"]["html"].endswith("m1_day 1.nwb.report.html")
    # Either may be finished first.
    assert sorted(extra["session"]["name"] for _, extra in events_of("mapped_sessions")) == ["m1/day 1", "m2"]
    with NWBHDF5IO(written[0]["nwbfile_path"], "r") as io:
        nwbfile = io.read()
        assert (nwbfile.institution, nwbfile.lab, nwbfile.subject.subject_id) == ("Institute", None, "m12")
        assert len(nwbfile.acquisition) == 2
        assert len(nwbfile.processing["ophys"]["ImageSegmentation"].plane_segmentations) == 3


def test_mapped_over_paths_they_are_called_by_their_path_below_the_root(tmp_path):
    recording("ScanImage, one file", tmp_path / "m1" / "a")
    with DAG("mapped_paths") as dag:
        convert_session.override(group_id="convert").partial(
            output_folder=tmp_path, root=tmp_path, backend="zarr", report=False
        ).expand(folder=[str(tmp_path / "m1" / "a")])
    instances = run_dag(dag)
    assert names_of(instances["convert.write"]) == ["m1/a"]
    result = result_of(instances["convert.write"][0])
    assert (result["nwbfile_path"], result["backend"], result["report"]) == (
        str(tmp_path / "m1_a.nwb.zarr"),
        "zarr",
        None,
    )


def test_of_two_folders_that_would_get_one_file_the_second_is_refused_whatever_may_be_overwritten(tmp_path):
    for folder in ("a/b", "a_b"):
        recording("ScanImage, one file", tmp_path / folder)
    with DAG("one_name") as dag:
        convert_session.partial(
            output_folder=tmp_path / "nwb", root=tmp_path, if_exists="overwrite", report=False
        ).expand(folder=[str(tmp_path / "a/b"), str(tmp_path / "a_b")])
    states = {instance.rendered_map_index: instance.state for instance in run_dag(dag)["convert_session.write"]}
    (second,) = (name for name, state in states.items() if state == "failed")
    (first,) = (name for name, state in states.items() if state == "success")

    session = describe_session(tmp_path / second, root=tmp_path)
    for if_exists in ("overwrite", "reuse", "append", "fail"):
        with pytest.raises(
            (OutputExistsError, PreflightError), match=rf"session '{first}'.*'{second}'.*Rename one"
        ):
            write_session(session, tmp_path / "nwb" / "a_b.nwb", if_exists=if_exists)


def test_a_session_that_was_renamed_may_replace_its_own_file(tmp_path):
    recording("ScanImage, one file", tmp_path / "a")
    path = tmp_path / "m.nwb"
    write_session(describe_session(tmp_path / "a"), path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert write_session(describe_session(tmp_path / "b"), path).reused
    assert not write_session(describe_session(tmp_path / "b"), path, if_exists="overwrite").reused


def test_options_go_to_the_tasks_that_they_are_of():
    with DAG("options") as dag:
        convert_session(
            folder="/data/m1",
            output_folder="/nwb",
            destination="s3://bucket/",
            subject_table="/data/subjects.csv",
            volumes=False,
            compression="small",
            memory_limit="1GiB",
            layout="versioned",
            retries=5,
            pool="nwb",
            outlets=[Asset("done")],
        )
    describe, write, stage = (dag.get_task(f"convert_session.{name}") for name in ("describe", "write", "stage"))
    assert (describe.subject_table, describe.volumes) == ("/data/subjects.csv", False)
    assert (write.compression, write.memory_limit, write.report) == ("small", "1GiB", True)
    assert (stage.layout, stage.memory_limit) == ("versioned", "256MiB")
    assert [(each.retries, each.pool) for each in (describe, write, stage)] == [(5, "nwb")] * 3
    assert [len(each.outlets) for each in (describe, write, stage)] == [0, 0, 1]
    assert stage.upstream_task_ids == {"convert_session.write"}


def test_what_is_of_no_task_is_refused_while_the_dag_is_read():
    with DAG("refused"), pytest.raises(ConfigurationError, match=r"layout of convert_session.*destination"):
        convert_session(folder="/data/m1", output_folder="/nwb", layout="versioned")
    with DAG("misspelled"), pytest.raises(Exception, match="no_such_option"):
        convert_session(folder="/data/m1", output_folder="/nwb", no_such_option="small")


@pytest.mark.parametrize("folder", [{"name": "m1"}, {"path": ""}, 7, {"path": "/data", "name": 7}])
def test_a_folder_that_is_none_is_refused(folder):
    with DAG("none"):
        describe = DescribeSessionOperator(task_id="describe", folder=folder)
    with task_fails(ConfigurationError, match=r"folder is .*path and name"):
        describe.execute({})


@pytest.mark.parametrize("where", [{}, {"nwbfile_path": "/nwb/m1.nwb", "output_folder": "/nwb"}])
def test_a_file_or_a_folder_is_needed(tmp_path, where):
    recording("ScanImage, one file", tmp_path / "m1")
    with DAG("where"):
        write = WriteSessionOperator(
            task_id="write", session=describe_session(tmp_path / "m1").model_dump(mode="json"), **where
        )
    with task_fails(ConfigurationError, match=r"nwbfile_path is .* output_folder .*Give one of them"):
        write.execute({})


def test_an_output_folder_that_cannot_be_made_or_is_an_address_is_named(tmp_path):
    recording("ScanImage, one file", tmp_path / "m1")
    (tmp_path / "file").touch()
    session = describe_session(tmp_path / "m1").model_dump(mode="json")
    for folder, kind, told in (
        ("s3://bucket/nwb", ConfigurationError, "output_folder 's3://bucket/nwb' is an address"),
        ("nwb", ConfigurationError, "output_folder 'nwb' is relative"),
        (str(tmp_path / "file" / "nwb"), OutputFolderError, "cannot be made: Not a directory"),
    ):
        with DAG("where"):
            write = WriteSessionOperator(task_id="write", session=session, output_folder=folder)
        with task_fails(kind, match=told):
            write.execute({})


MOVIE = {"extractor": "Tiff", "extractor_kwargs": {"file_path": "/m.tif", "sampling_frequency": 30.0}}
RESULT = {"nwbfile_path": "/nwb/a_b.nwb", "session": {"folder": "/data/a/b", "name": "a/b"}}


@pytest.mark.parametrize(
    ("operator", "options", "name"),
    [
        (WriteImagingOperator, MOVIE | {"nwbfile_path": Path("/nwb/m1.nwb.zarr")}, "m1"),
        (WriteImagingOperator, MOVIE | {"nwbfile_path": "/nwb/m1.h5"}, "m1"),
        (DescribeSessionOperator, {"folder": "/data/m1/"}, "m1"),
        (StageToS3Operator, {"source": "/nwb/m1.nwb", "destination": "s3://b/"}, "m1"),
        (StageToS3Operator, {"source": RESULT, "destination": "s3://b/"}, "a/b"),
        (WriteReportOperator, {"source": {"s3_uri": "s3://b/nwb/m1.nwb", "session": None}}, "m1"),
        (WriteReportOperator, {"source": f"/{'m' * 300}.nwb"}, "m" * 200),
        (DescribeSessionOperator, {"folder": None}, ""),
    ],
)
def test_operators_are_named_after_their_session_or_its_file(operator, options, name):
    with DAG("named") as dag:
        named = operator(task_id="one", **options)
        mapped = operator.partial(task_id="many").expand_kwargs([options])
        own = operator.partial(task_id="own", map_index_template="mine").expand_kwargs([options])
    template = dag.get_template_env().from_string
    assert template(named.map_index_template).render(task=named) == name
    assert mapped.map_index_template == named.map_index_template
    assert own.map_index_template == "mine"


def test_the_tasks_of_one_movie_by_many_are_named_too():
    with DAG("many") as dag:
        write_imaging_in_parallel(
            group_id="movie",
            nwbfile_path="/nwb/m1.nwb.zarr",
            backend="zarr",
            retry_delay=timedelta(seconds=1),
            **MOVIE,
        )
    assert dag.get_task("movie.plan").session_name == "m1"
    publish = dag.get_task("movie.publish")
    publish.plan = {"conversion": {"nwbfile_path": "/nwb/m1.nwb.zarr"}}
    assert publish.session_name == "m1"
