"""
On Airflow's own processes: folders as three makers' software leaves them, without a file that describes them,
become NWB files with the values of the recordings, in HDF5 and in Zarr.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hdmf_zarr import NWBZarrIO
from pynwb import NWBHDF5IO, NWBFile

from demo.follow import ON_ARRIVAL, Follower
from demo.progress import Progress
from demo.rest import DagRun
from demo.s3_server import S3Server
from demo.stack import AirflowStack
from demo.summary import results

sys.path.append(str(Path(__file__).parents[1] / "sessions"))

from session_recordings import CHANNELS, PLANES, VOLUMES, recording, traces, two_channels_of_three_planes

pytestmark = pytest.mark.stack

DAGS = Path(__file__).parents[2] / "dags"
LAB = """
NWBFile: {institution: Institute of Microscopes, experimenter: ["Doe, Jane"]}
Subject: {species: Mus musculus}
Ophys:
  ImagingPlanes:
    default_metadata_key: {indicator: GCaMP8m, location: VISp}
"""
SUBJECTS = "subject_id,sex,date_of_birth\nm12,F,2023-05-01\n"
Check = Callable[[NWBFile], None]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("undescribed")
    for name in ("incoming", "nwb", "made"):
        (home / name).mkdir()
    (home / "incoming" / "lab.yaml").write_text(LAB)
    (home / "subjects.csv").write_text(SUBJECTS)
    return home


@pytest.fixture(scope="module")
def s3_server(home: Path) -> Iterator[S3Server]:
    with S3Server(home / "s3") as server:
        yield server


@pytest.fixture(scope="module")
def stack(home: Path, s3_server: S3Server, migrated_database: Path) -> Iterator[AirflowStack]:
    environment = {
        "AIRFLOW_CONN_AWS_DEFAULT": s3_server.connection_json(),
        "AIRFLOW_VAR_OPHYS_ACQUISITION_ROOT": str(home / "incoming"),
        "AIRFLOW_VAR_OPHYS_OUTPUT_ROOT": str(home / "nwb"),
        "AIRFLOW_VAR_OPHYS_DESTINATION": f"s3://{s3_server.bucket}/sessions/",
        "AIRFLOW_VAR_OPHYS_SUBJECT_TABLE": str(home / "subjects.csv"),
        "AIRFLOW_VAR_OPHYS_FOLDER_NAME": "{subject_id}_{session_id}",
        # Of a busy machine.
        "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "120",
    }
    with AirflowStack(
        home / "airflow", dags_folder=DAGS, environment=environment, migrated=migrated_database
    ) as stack:
        yield stack


def scanimage(folder: Path) -> Check:
    truth = two_channels_of_three_planes(folder)

    def check(nwbfile: NWBFile) -> None:
        assert set(nwbfile.acquisition) == {f"TwoPhotonSeries{channel}" for channel in CHANNELS}
        for number, channel in enumerate(CHANNELS):
            series = nwbfile.acquisition[f"TwoPhotonSeries{channel}"]
            assert np.array_equal(series.data[:], truth[:, :, number].transpose(0, 3, 2, 1))
            assert (series.rate, series.imaging_plane.indicator) == (7.5, "GCaMP8m")
        tables = nwbfile.processing["ophys"]["ImageSegmentation"].plane_segmentations
        responses = nwbfile.processing["ophys"]["Fluorescence"].roi_response_series.values()
        assert len(tables) == PLANES
        for plane in range(PLANES):
            table = tables[f"PlaneSegmentationPlane{plane}"]
            assert table.imaging_plane is nwbfile.imaging_planes["ImagingPlaneGreen"]
            assert any(
                each.rois.table is table and np.array_equal(each.data[:], traces(5, VOLUMES, 10 * plane).T)
                for each in responses
            )

    return check


def one_movie(maker: str, kind: str, folder: Path) -> Check:
    truth = recording(maker, folder).truth
    assert truth is not None

    def check(nwbfile: NWBFile) -> None:
        (series,) = nwbfile.acquisition.values()
        assert type(series).__name__ == kind
        assert np.array_equal(series.data[:], truth.transpose(0, 2, 1))

    return check


MAKERS: dict[str, Callable[[Path], Check]] = {
    "m12_scanimage": scanimage,
    "m12_bruker": lambda folder: one_movie("Bruker, a file per frame", "TwoPhotonSeries", folder),
    "m12_miniscope": lambda folder: one_movie("Miniscope", "OnePhotonSeries", folder),
}


def drop(home: Path, suffix: str) -> dict[str, Check]:
    """Put a folder of each maker into the watched folder, whole from the first moment."""
    checks = {}
    for name, make in MAKERS.items():
        checks[f"{name}{suffix}"] = make(home / "made" / f"{name}{suffix}")
    for name in checks:
        assert not list((home / "made" / name).rglob("*.yaml"))
        (home / "made" / name / "DONE").touch()
        (home / "made" / name).rename(home / "incoming" / name)
    return checks


def follow_all(follower: Follower, stack: AirflowStack, names: set[str], run: DagRun | None) -> list[DagRun]:
    """Follow runs until each of these sessions was staged; the runs that it took."""
    runs: list[DagRun] = []
    staged: set[str] = set()
    while staged < names:
        run = follower.follow(ON_ARRIVAL, after=run)
        runs.append(run)
        staged |= {each["session"]["name"] for each in results(stack.client, run, "convert_session.stage")}
    assert staged == names
    return runs


def check_all(stack: AirflowStack, runs: list[DagRun], checks: Mapping[str, Check], io: type[Any]) -> None:
    written = [each for run in runs for each in results(stack.client, run, "convert_session.write")]
    # One task, one file, each of them published once.
    assert sorted(each["session"]["name"] for each in written) == sorted(checks)
    for each in written:
        assert each["validation"] == "valid"
        assert Path(each["report"]["html"]).is_file()
        with closing(io(each["nwbfile_path"], "r")) as opened:
            nwbfile = opened.read()
            checks[each["session"]["name"]](nwbfile)
            assert (nwbfile.institution, nwbfile.subject.sex) == ("Institute of Microscopes", "F")
            assert nwbfile.subject.subject_id == each["session"]["subject_id"] == "m12"
            assert each["session"]["session_id"] == nwbfile.session_id


def test_folders_of_three_makers_become_hdf5_and_then_zarr(
    home: Path, stack: AirflowStack, s3_server: S3Server
) -> None:
    follower = Follower(stack, Progress())
    follower.wait_for_dags(ON_ARRIVAL)
    checks = drop(home, "")
    runs = follow_all(follower, stack, set(checks), None)
    check_all(stack, runs, checks, NWBHDF5IO)
    named = {
        task.name
        for run in runs
        for task in stack.client.task_instances(run)
        if task.task_id.startswith("convert_session.")
    }
    assert named == set(checks)

    stack.client.api("POST", "/variables", body={"key": "ophys_backend", "value": "zarr"})
    checks = drop(home, "_again")
    check_all(stack, follow_all(follower, stack, set(checks), runs[-1]), checks, NWBZarrIO)

    assert sorted(path.name for path in (home / "nwb").glob("*again*.zarr")) == [
        f"{name}_again.nwb.zarr" for name in sorted(MAKERS)
    ]
    listed = s3_server.client().list_objects_v2(Bucket=s3_server.bucket, Prefix="sessions/")["Contents"]
    roots = {entry["Key"].removeprefix("sessions/").partition("/")[0] for entry in listed}
    assert {f"{name}.nwb" for name in MAKERS} | {f"{name}_again.nwb.zarr" for name in MAKERS} <= roots
