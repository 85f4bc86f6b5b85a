"""Reports as tasks: beside what was converted, of any file, here and in S3."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import pytest
from airflow.sdk import DAG
from airflow_runs import result_of, run_dag
from airflow_versions import task_fails
from described import simulate_described
from nwb_files import METADATA, noisy_movie, write_movie

from airflow_provider_ophys.exceptions import SourceDataError, SourceNotFoundError
from airflow_provider_ophys.hooks.s3 import OphysS3Hook
from airflow_provider_ophys.operators.imaging import WriteImagingOperator
from airflow_provider_ophys.operators.report import WriteReportOperator
from airflow_provider_ophys.operators.segmentation import WriteSegmentationOperator
from airflow_provider_ophys.operators.staging import StageToS3Operator
from airflow_provider_ophys.report.origin import ORIGIN_SUFFIX
from demo.s3_server import S3Server

SUFFIXES = (".report.html", ".report.png", ".report.thumbnail.png")


@pytest.fixture(scope="module")
def acquisition(tmp_path_factory):
    return simulate_described(tmp_path_factory.mktemp("acquisition") / "s", num_samples=60)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with S3Server(tmp_path_factory.mktemp("s3")) as running:
        yield running


def movie_options(acquisition: Path, path: Path) -> dict[str, object]:
    return {
        "extractor": "ScanImage",
        "extractor_kwargs": {"file_path": str(acquisition / "movie.tif")},
        "nwbfile_path": str(path),
        "metadata": [str(acquisition / "metadata.yaml"), METADATA],
        "report": True,
    }


def run(operator, **options):
    with DAG("one"):
        return operator(task_id="run", **options).execute({"outlet_events": {}})


def beside(path: Path) -> list[Path]:
    return [path.with_name(f"{path.name}{suffix}") for suffix in SUFFIXES]


@pytest.mark.usefixtures("airflow_db")
def test_a_dag_writes_and_stages_the_report_with_the_file(tmp_path, acquisition, server, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", server.connection_json())
    path = tmp_path / "session.nwb"
    with DAG("reported") as dag:
        movie = WriteImagingOperator(task_id="movie", **movie_options(acquisition, path))
        cells = WriteSegmentationOperator(
            task_id="cells",
            **movie_options(acquisition, path)
            | {
                "extractor": "Suite2p",
                "extractor_kwargs": {"folder_path": str(acquisition / "suite2p")},
                "if_exists": "append",
            },
        )
        stage = StageToS3Operator(
            task_id="stage", source=movie.output, destination=f"s3://{server.bucket}/reported/"
        )
        again = WriteReportOperator(task_id="again", source=stage.output, report_folder=str(tmp_path / "again"))
        movie >> cells >> stage >> again
    (tmp_path / "again").mkdir()
    done = run_dag(dag)
    assert {instance.state for instances in done.values() for instance in instances} == {"success"}

    written = result_of(done["cells"][0])["report"]
    assert [Path(written[kind]) for kind in ("html", "png", "thumbnail")] == beside(path)
    assert written["summary"]["segmentations"][0]["num_rois"] == 12
    assert result_of(done["movie"][0])["report"]["summary"]["segmentations"] == []

    staged = result_of(done["stage"][0])["report"]
    for kind in ("html", "png", "thumbnail"):
        key = staged[kind].removeprefix(f"s3://{server.bucket}/")
        assert key == f"reported/{Path(written[kind]).name}"
        content = server.client().get_object(Bucket=server.bucket, Key=key)["Body"].read()
        assert content == Path(written[kind]).read_bytes()

    # Read in S3, the file looks as it did here.
    assert result_of(done["again"][0])["report"]["summary"] == written["summary"]
    assert len(list((tmp_path / "again").iterdir())) == len((*SUFFIXES, ORIGIN_SUFFIX))


@pytest.mark.parametrize("backend", ["hdf5", "zarr"])
def test_a_file_in_s3_gets_its_report_beside_it(tmp_path, server, backend, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", server.connection_json())
    path = write_movie(tmp_path / f"a.{backend}.nwb", noisy_movie(50), backend=backend)
    here = run(WriteReportOperator, source=str(path))
    hook = OphysS3Hook()
    uri = hook.publish(path, f"s3://{server.bucket}/{backend}/").s3_uri
    there = run(WriteReportOperator, source=uri)
    hook.conn.close()
    assert json.loads(json.dumps(there)) == there
    assert there["s3_uri"] == uri
    assert there["report"]["html"] == f"{uri}.report.html"
    assert there["report"]["summary"] == here["report"]["summary"]
    page = server.client().get_object(Bucket=server.bucket, Key=f"{backend}/{path.name}.report.html")
    assert b"Content-Security-Policy" in page["Body"].read()


def test_nothing_in_s3_is_said_clearly(server, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", server.connection_json())
    with task_fails(SourceNotFoundError, match="neither a file nor a Zarr"):
        run(WriteReportOperator, source=f"s3://{server.bucket}/nothing.nwb")


def test_what_is_no_nwb_file_is_said_clearly(tmp_path):
    with h5py.File(tmp_path / "a.nwb", "w") as file:
        file["x"] = 1
    for source, error, message in (
        (str(tmp_path / "a.nwb"), SourceDataError, "cannot be read as an NWB file"),
        (str(tmp_path / "b.nwb"), SourceNotFoundError, "There is no NWB file at"),
        (str(Path(__file__)), SourceDataError, "neither an HDF5 file nor a Zarr"),
    ):
        with task_fails(error, match=message):
            run(WriteReportOperator, source=source)
    assert [path.name for path in tmp_path.iterdir()] == ["a.nwb"]


def test_a_report_that_fails_is_a_warning_and_never_fails_the_conversion(tmp_path, acquisition, caplog):
    path = tmp_path / "session.nwb"
    beside(path)[0].mkdir()  # where the page should go
    result = run(WriteImagingOperator, **movie_options(acquisition, path))
    assert result["report"] is None
    assert "IsADirectoryError" in result["report_problem"]
    assert result["validation"] == "valid"
    assert any(
        "could not be made" in record.message and record.levelname == "WARNING" for record in caplog.records
    )
    assert path.is_file()


def test_a_reused_conversion_reuses_its_report_and_makes_one_that_is_not_there(tmp_path, acquisition):
    path = tmp_path / "session.nwb"
    first = run(WriteImagingOperator, **movie_options(acquisition, path))
    made = {file: file.stat().st_mtime_ns for file in beside(path)}
    again = run(WriteImagingOperator, **movie_options(acquisition, path))
    assert again["reused"]
    assert again["report"] == first["report"]
    assert made == {file: file.stat().st_mtime_ns for file in beside(path)}
    beside(path)[0].unlink()
    assert run(WriteImagingOperator, **movie_options(acquisition, path))["report"] == first["report"]
    assert beside(path)[0].is_file()
