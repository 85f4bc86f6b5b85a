"""The operator: what Airflow and other tasks see of staging."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.models.dagbundle import DagBundleModel
from airflow.sdk import DAG, Asset, AssetAlias, task
from airflow.sdk.execution_time.context import OutletEventAccessors
from airflow.utils.session import create_session
from airflow_versions import DagBag, DagSerialization, sync_bag_to_db, task_fails
from s3_trees import crc64nvme, published
from s3_views import Place

from airflow_provider_ophys.exceptions import OphysError, StagingError
from airflow_provider_ophys.models.result import REPORT_SUFFIXES
from airflow_provider_ophys.operators.staging import StageToS3Operator
from airflow_provider_ophys.report.origin import ORIGIN_SUFFIX, Maker, ReportOrigin, record_origin
from airflow_provider_ophys.staging.files import PART_SIZE
from demo.s3_server import S3Server

pytestmark = pytest.mark.usefixtures("connection")


@pytest.fixture
def nwbfile(tmp_path: Path) -> Path:
    path = tmp_path / "session.nwb"
    path.write_bytes(b"content")
    return path


def _context() -> Any:
    return {"outlet_events": OutletEventAccessors()}


def test_result_of_a_write_operator_is_staged_and_reported_as_plain_json(place: Place, nwbfile: Path) -> None:
    operator = StageToS3Operator(
        task_id="stage", source={"nwbfile_path": str(nwbfile), "reused": False}, destination=place.uri
    )
    result = operator.execute(_context())
    assert json.loads(json.dumps(result)) == {
        "source": str(nwbfile),
        "s3_uri": f"{place.uri}session.nwb",
        "manifest_uri": None,
        "latest_uri": None,
        "digest": f"crc64nvme:{crc64nvme(b'content')}",
        "objects": 1,
        "size_bytes": 7,
        "uploaded": 1,
        "skipped": 0,
        "deleted": 0,
        "sent_bytes": 7,
        "copied_bytes": 0,
        "deleted_local": False,
        "dry_run": False,
        "elapsed_seconds": result["elapsed_seconds"],
        "report": None,
        "session": None,
    }
    assert place.contents() == {"session.nwb": b"content"}


def test_the_report_beside_the_file_is_staged_and_no_other_file(
    place: Place, nwbfile: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    source = {
        "nwbfile_path": str(nwbfile),
        "report": {"html": str(tmp_path / "secret"), "png": "", "thumbnail": ""},
    }
    operator = StageToS3Operator(task_id="stage", source=source, destination=place.uri)
    assert operator.execute(_context())["report"] is None
    assert place.contents() == {"session.nwb": b"content"}
    for kind, suffix in REPORT_SUFFIXES.items():
        (tmp_path / f"session.nwb{suffix}").write_text(kind)
    staged = operator.execute(_context())["report"]
    assert staged == {kind: f"{place.uri}session.nwb{suffix}" for kind, suffix in REPORT_SUFFIXES.items()}
    (tmp_path / "session.nwb.report.html").write_text("a later report")
    operator.execute(_context())
    assert place.contents() == {
        "session.nwb": b"content",
        "session.nwb.report.html": b"a later report",
        "session.nwb.report.png": b"png",
        "session.nwb.report.thumbnail.png": b"thumbnail",
    }


def test_who_made_and_who_staged_a_report_is_recorded_beside_it(
    place: Place, nwbfile: Path, tmp_path: Path
) -> None:
    files = {kind: tmp_path / f"session.nwb{suffix}" for kind, suffix in REPORT_SUFFIXES.items()}
    for kind, path in files.items():
        path.write_text(kind)
    writes, stages = Maker("conversion", "write"), Maker("archive", "stage")
    record_origin(files, writes)
    source = {"nwbfile_path": str(nwbfile), "report": {kind: str(path) for kind, path in files.items()}}
    instance = SimpleNamespace(
        dag_id=stages.dag_id, task_id=stages.task_id, run_id="r", map_index=-1, xcom_push=lambda **_: None
    )
    operator = StageToS3Operator(task_id="stage", source=source, destination=place.uri)
    operator.execute({**_context(), "ti": instance})
    there = ReportOrigin.read(place.contents()[f"session.nwb{ORIGIN_SUFFIX}"])
    assert there is not None
    assert there.makers == [writes, stages]
    assert there.proves(stages, "html", b"html")
    here = ReportOrigin.read((tmp_path / f"session.nwb{ORIGIN_SUFFIX}").read_bytes())
    assert here is not None
    assert here.makers == [writes], "staging reads what is here and does not write"


def test_result_is_on_the_events_of_all_outlets(place: Place, tmp_path: Path) -> None:
    archive, alias = Asset("archive"), AssetAlias("sessions")
    path = tmp_path / "a #1.nwb"
    path.write_bytes(b"content")
    operator = StageToS3Operator(task_id="stage", source=path, destination=place.uri, outlets=[archive, alias])
    context = _context()
    result = operator.execute(context)
    assert result["s3_uri"] == f"{place.uri}a #1.nwb"
    assert context["outlet_events"][archive].extra == result
    [event] = context["outlet_events"][alias].asset_alias_events
    assert event.dest_asset_key.uri == f"{place.uri}a%20%231.nwb"
    assert event.extra == result


@pytest.mark.parametrize("given", ["True", "true", True])
def test_overwrite_may_come_from_a_template(place: Place, nwbfile: Path, given: object) -> None:
    place.put("session.nwb", b"older")
    operator = StageToS3Operator(
        task_id="stage", source=str(nwbfile), destination=place.uri, overwrite="{{ params.overwrite }}"
    )
    operator.render_template_fields({"params": {"overwrite": given}})
    operator.execute(_context())
    assert place.contents() == {"session.nwb": b"content"}


@pytest.mark.parametrize(
    ("given", "message"),
    [("False", "overwrite=True"), ("no", "overwrite=True"), ("perhaps", "overwrite: ")],
)
def test_text_that_says_no_does_not_overwrite(place: Place, nwbfile: Path, given: str, message: str) -> None:
    place.put("session.nwb", b"older")
    operator = StageToS3Operator(
        task_id="stage", source=str(nwbfile), destination=place.uri, overwrite="{{ params.overwrite }}"
    )
    operator.render_template_fields({"params": {"overwrite": given}})
    with task_fails(OphysError, match=message):
        operator.execute(_context())
    assert place.contents() == {"session.nwb": b"older"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"source": "/absent/a.nwb"}, "nothing to stage"),
        ({"source": ["a.nwb", "b.nwb"]}, "expand"),
        ({"destination": "archive/lab"}, "not an S3 location"),
        ({"destination": "s3://not-there/lab/"}, "no bucket"),
        ({"max_concurrency": 0}, "max_concurrency: .*greater than"),
    ],
)
def test_what_a_retry_cannot_mend_fails_at_once(
    place: Place, nwbfile: Path, changed: dict[str, Any], message: str
) -> None:
    options = {"source": str(nwbfile), "destination": place.uri, **changed}
    with task_fails(OphysError, match=message):
        StageToS3Operator(task_id="stage", **options).execute(_context())


def test_what_a_retry_may_mend_keeps_the_retries(
    server: S3Server, place: Place, nwbfile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = server.connection()
    connection["extra"]["endpoint_url"] = "http://127.0.0.1:9"
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
    with pytest.raises(StagingError, match="cannot be reached"):
        StageToS3Operator(task_id="stage", source=nwbfile, destination=place.uri).execute(_context())


def test_kill_ends_the_upload_and_leaves_nothing(place: Place, tmp_path: Path) -> None:
    path = tmp_path / "big.nwb"
    path.touch()
    os.truncate(path, 40 * PART_SIZE)
    operator = StageToS3Operator(task_id="stage", source=path, destination=place.uri, max_concurrency=1)
    operator.on_kill()  # before there is anything to stop

    def kill_when_parts_arrive() -> None:
        while not place.open_uploads():
            pass
        operator.on_kill()

    killer = threading.Thread(target=kill_when_parts_arrive)
    killer.start()
    with pytest.raises(StagingError, match="stopped"):
        operator.execute(_context())
    killer.join()
    assert place.listing() == []
    assert place.open_uploads() == []


def test_dag_file_with_the_operator_loads_no_boto3() -> None:
    code = (
        "import sys; from airflow_provider_ophys.operators.staging import StageToS3Operator;"
        "StageToS3Operator(task_id='stage', source='a.nwb', destination='s3://bucket/');"
        "loaded = {'boto3', 'botocore', 'awscrt', 'pynwb', 'h5py', 'zarr'} & set(sys.modules);"
        "sys.exit(str(loaded) if loaded else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def _mapped_dag(place: Place, paths: list[str]) -> DAG:
    with DAG("stage_many", schedule=None) as dag:

        @task
        def convert(path: str) -> dict[str, str]:
            return {"nwbfile_path": path}

        StageToS3Operator.partial(
            task_id="stage", destination=place.uri + "{{ dag.dag_id }}/", outlets=[AssetAlias("sessions")]
        ).expand(source=convert.expand(path=paths))
    return dag


def test_dag_with_mapped_staging_survives_serialization(place: Place) -> None:
    dag = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(_mapped_dag(place, ["a.nwb"])))
    assert dag.task_dict["stage"].partial_kwargs["destination"].endswith("{{ dag.dag_id }}/")


def test_mapped_results_of_other_tasks_are_staged_in_a_dag_run(
    place: Place, nwbfile: Path, tree: Path, airflow_db: Path
) -> None:
    dag = _mapped_dag(place, [str(nwbfile), str(tree)])
    with create_session() as session:
        session.merge(DagBundleModel(name="tests"))
    bag = DagBag(dag_folder="/dev/null", collect_dags=False, bundle_name="tests")
    bag.bag_dag(dag)
    sync_bag_to_db(bag, bundle_name="tests", bundle_version=None)
    run = dag.test()
    assert str(run.state) == "success"
    results = [
        instance.xcom_pull(task_ids="stage", map_indexes=instance.map_index)
        for instance in run.get_task_instances()
        if instance.task_id == "stage"
    ]
    assert sorted(result["s3_uri"].rpartition("/")[2] for result in results) == ["session.nwb", "session.nwb.zarr"]
    expected = {"session.nwb": b"content", **published(tree)}
    assert place.contents() == {f"stage_many/{key}": content for key, content in expected.items()}
