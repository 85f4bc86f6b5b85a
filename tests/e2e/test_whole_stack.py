"""On Airflow's own four processes and a real S3 server: from a dropped folder to a verified file in the bucket."""

from __future__ import annotations

import hashlib
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pynwb
import pytest
from hdmf_zarr import NWBZarrIO
from pynwb import NWBHDF5IO
from undescribed_folders import AS_HDF5, AS_ZARR, FOLDER_NAME, LAB, SUBJECTS, check_all, drop, follow_all

from demo.follow import ARCHIVE, ON_ARRIVAL, Follower
from demo.progress import Progress
from demo.recording import drop_like_a_microscope, simulate_acquisition
from demo.rest import DagRun
from demo.s3_server import S3Server
from demo.stack import AirflowStack
from demo.summary import results
from demo.workspace import Workspace

pytestmark = [
    pytest.mark.stack,
    # roiextractors reads the head of a ScanImage file through a second handle, which it never closes.
    pytest.mark.filterwarnings("ignore:Exception ignored in. <_io.FileIO:pytest.PytestUnraisableExceptionWarning"),
]

DAGS = Path(__file__).parents[2] / "dags"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = Workspace(tmp_path_factory.mktemp("whole-stack"))
    for folder in (workspace.recordings, workspace.incoming, workspace.nwb):
        folder.mkdir()
    return workspace


@pytest.fixture(scope="module")
def s3_server(workspace: Workspace) -> Iterator[S3Server]:
    with S3Server(workspace.s3) as server:
        yield server


@pytest.fixture(scope="module")
def stack(workspace: Workspace, s3_server: S3Server, migrated_database: Path) -> Iterator[AirflowStack]:
    environment = {
        "AIRFLOW_CONN_AWS_DEFAULT": s3_server.connection_json(),
        "AIRFLOW_VAR_OPHYS_ACQUISITION_ROOT": str(workspace.incoming),
        "AIRFLOW_VAR_OPHYS_OUTPUT_ROOT": str(workspace.nwb),
        "AIRFLOW_VAR_OPHYS_DESTINATION": f"s3://{s3_server.bucket}/sessions/",
        "AIRFLOW_VAR_OPHYS_ARCHIVE_DESTINATION": f"s3://{s3_server.bucket}/archive/",
        # Of a busy machine.
        "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "120",
    }
    with AirflowStack(
        workspace.airflow, dags_folder=DAGS, environment=environment, migrated=migrated_database
    ) as stack:
        yield stack


@pytest.fixture(scope="module")
def follower(stack: AirflowStack) -> Follower:
    return Follower(stack, Progress())


@pytest.fixture(scope="module")
def recording(workspace: Workspace) -> Path:
    return simulate_acquisition(workspace.recordings / "mouse_1", num_samples=90)


@pytest.fixture(scope="module")
def arrival(follower: Follower, recording: Path, workspace: Workspace) -> DagRun:
    """The run that the dropped folder has caused, finished."""
    follower.wait_for_dags(ON_ARRIVAL, ARCHIVE)
    drop_like_a_microscope(recording, workspace.incoming, seconds=2)
    return follower.follow(ON_ARRIVAL)


@pytest.fixture(scope="module")
def nwb_file(arrival: DagRun, workspace: Workspace) -> Path:
    return workspace.nwb / "mouse_1.nwb"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def contents_of(folder: Path) -> dict[str, str]:
    """All but the records of who made a report and of what was staged, in which the other DAG is noted too."""
    records = (".report.origin.json", ".digests.json")
    return {file.name: sha256(file.read_bytes()) for file in folder.iterdir() if not file.name.endswith(records)}


def test_dropped_folder_starts_one_run_that_succeeds(arrival: DagRun, stack: AirflowStack) -> None:
    assert (arrival.run_type, arrival.state) == ("asset_triggered", "success")
    assert [run.run_id for run in stack.client.dag_runs(ON_ARRIVAL)] == [arrival.run_id]
    assert {task.state for task in stack.client.task_instances(arrival)} == {"success"}


def test_tasks_report_what_they_did(arrival: DagRun, stack: AirflowStack, nwb_file: Path) -> None:
    (written,) = results(stack.client, arrival, "convert_session.write")
    assert written["nwbfile_path"] == str(nwb_file)
    assert (written["num_samples"], written["sample_shape"], written["dtype"]) == (90, [128, 96], "int16")
    assert (written["num_rois"], set(written["traces"])) == (12, {"raw", "neuropil", "deconvolved"})
    assert written["size_bytes"] == nwb_file.stat().st_size
    assert (written["validation"], written["reused"]) == ("valid", False)
    assert written["peak_memory_bytes"] > 0
    assert written["session"]["name"] == "mouse_1"


def test_file_is_valid_nwb_with_the_pixels_and_traces_of_the_recording(nwb_file: Path, recording: Path) -> None:
    from roiextractors import ScanImageImagingExtractor, Suite2pSegmentationExtractor

    assert pynwb.validate(path=nwb_file) == []
    movie = ScanImageImagingExtractor(file_path=recording / "movie.tif").get_series()
    traces = Suite2pSegmentationExtractor(folder_path=recording / "suite2p").get_traces_dict()
    with h5py.File(nwb_file) as file:
        stored = file["acquisition/TwoPhotonSeries/data"][:]
        found = []
        file["processing/ophys"].visititems(
            lambda _, item: (
                found.append(item[:])
                if isinstance(item, h5py.Dataset) and item.shape == traces["raw"].shape
                else None
            )
        )
    np.testing.assert_array_equal(stored, movie.transpose(0, 2, 1))
    for name in ("raw", "neuropil", "deconvolved"):
        assert any(np.array_equal(candidate, traces[name]) for candidate in found), name


def test_button_beside_the_task_leads_to_the_object(
    arrival: DagRun, stack: AirflowStack, s3_server: S3Server, nwb_file: Path
) -> None:
    [task] = [task for task in stack.client.task_instances(arrival) if task.task_id.endswith(".stage")]
    address = stack.client.task_links(task)["Staged object"]
    assert address.startswith(f"{stack.url}/ophys/object?")
    # It leads to one that is signed: without, the server shows the object to nobody.
    request = urllib.request.Request(address)  # noqa: S310 -- it is http
    request.add_unredirected_header("Authorization", f"Bearer {stack.client.log_in()}")
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
        assert answer.url.startswith(f"{s3_server.endpoint_url}/{s3_server.bucket}/sessions/mouse_1.nwb")
        assert answer.read() == nwb_file.read_bytes()


def test_bucket_holds_the_file(arrival: DagRun, stack: AirflowStack, s3_server: S3Server, nwb_file: Path) -> None:
    (staged,) = results(stack.client, arrival, "convert_session.stage")
    bucket, _, key = staged["s3_uri"].removeprefix("s3://").partition("/")
    assert (bucket, staged["objects"], staged["uploaded"]) == (s3_server.bucket, 1, 1)
    stored = s3_server.client().get_object(Bucket=bucket, Key=key)["Body"].read()
    assert sha256(stored) == sha256(nwb_file.read_bytes())


def test_finished_file_is_archived(
    arrival: DagRun, follower: Follower, s3_server: S3Server, nwb_file: Path
) -> None:
    follower.follow(ARCHIVE)
    listed = s3_server.client().list_objects_v2(Bucket=s3_server.bucket, Prefix="archive/")["Contents"]
    assert nwb_file.stat().st_size in {entry["Size"] for entry in listed}


def test_acquisition_without_segmentation_is_converted_too(
    arrival: DagRun, follower: Follower, stack: AirflowStack, recording: Path, workspace: Workspace
) -> None:
    movie_only = workspace.recordings / "mouse_2"
    movie_only.mkdir()
    shutil.copy(recording / "movie.tif", movie_only)
    drop_like_a_microscope(movie_only, workspace.incoming, seconds=1)
    run = follower.follow(ON_ARRIVAL, after=arrival)
    (written,) = results(stack.client, run, "convert_session.write")
    assert (written["num_samples"], written["num_rois"]) == (90, None)
    assert pynwb.validate(path=workspace.nwb / "mouse_2.nwb") == []
    # The first folder was not handed over again.
    assert len(stack.client.dag_runs(ON_ARRIVAL)) == 2


def test_scheduled_dag_gets_the_same_folders_and_repeats_no_work(
    arrival: DagRun, follower: Follower, stack: AirflowStack, workspace: Workspace
) -> None:
    """Its sensor has a ledger of its own, so all folders are new to it; all that it does was done before."""
    before = contents_of(workspace.nwb)
    follower.wait_for_dags("ophys_scheduled")
    stack.client.api("PATCH", "/dags/ophys_scheduled", body={"is_paused": False})
    run = follower.follow("ophys_scheduled")
    stack.client.api("PATCH", "/dags/ophys_scheduled", body={"is_paused": True})
    (folders,) = results(stack.client, run, "wait_for_acquisitions")
    assert {folder["name"] for folder in folders} == {"mouse_1", "mouse_2"}
    written = results(stack.client, run, "convert_session.write")
    assert [each["reused"] for each in written] == [True, True]
    staged = results(stack.client, run, "convert_session.stage")
    assert [(result["uploaded"], result["skipped"]) for result in staged] == [(0, 1), (0, 1)]
    assert contents_of(workspace.nwb) == before


def test_undescribed_folders_of_several_makers_become_hdf5_and_zarr(
    arrival: DagRun, follower: Follower, stack: AirflowStack, s3_server: S3Server, workspace: Workspace
) -> None:
    subjects = workspace.folder / "subjects.csv"
    subjects.write_text(SUBJECTS)
    (workspace.incoming / "lab.yaml").write_text(LAB)
    set_variables(stack, ophys_subject_table=str(subjects), ophys_folder_name=FOLDER_NAME)
    checks = drop(workspace, AS_HDF5)
    runs = follow_all(follower, stack, set(checks), stack.client.dag_runs(ON_ARRIVAL)[-1])
    check_all(stack, runs, checks, NWBHDF5IO)
    named = {
        task.name
        for run in runs
        for task in stack.client.task_instances(run)
        if task.task_id.startswith("convert_session.")
    }
    assert named == set(checks)

    set_variables(stack, ophys_backend="zarr")
    checks = drop(workspace, AS_ZARR, "_zarr")
    check_all(stack, follow_all(follower, stack, set(checks), runs[-1]), checks, NWBZarrIO)

    names = {f"{name}.nwb" for name in AS_HDF5} | {f"{name}_zarr.nwb.zarr" for name in AS_ZARR}
    assert names <= {path.name for path in workspace.nwb.iterdir()}
    pages = (
        s3_server.client().get_paginator("list_objects_v2").paginate(Bucket=s3_server.bucket, Prefix="sessions/")
    )
    keys = [entry["Key"] for page in pages for entry in page["Contents"]]
    assert names <= {key.removeprefix("sessions/").partition("/")[0] for key in keys}


def set_variables(stack: AirflowStack, **variables: str) -> None:
    for key, value in variables.items():
        stack.client.api("POST", "/variables", body={"key": key, "value": value})
