"""The two operators in real DAG runs: folders in, one NWB file for each out."""

from __future__ import annotations

import numpy as np
import pytest
import yaml
from airflow.sdk import DAG
from airflow_runs import result_of, run_dag
from airflow_versions import task_fails
from pynwb import NWBHDF5IO
from session_recordings import recording, two_channels_of_three_planes

from airflow_provider_ophys.exceptions import ConfigurationError, PathNotAllowedError
from airflow_provider_ophys.operators.session import DescribeSessionOperator, WriteSessionOperator

pytestmark = pytest.mark.usefixtures("airflow_db")


def test_a_folder_becomes_a_file_named_after_its_subject(tmp_path):
    truth = two_channels_of_three_planes(tmp_path / "m12_a")
    with DAG("session") as dag:
        described = DescribeSessionOperator(
            task_id="describe",
            folder=tmp_path / "m12_a",
            folder_name="{subject_id}_{session_id}",
            volumes="{{ 'False' }}",
        )
        subject = "{{ ti.xcom_pull(task_ids='describe')['metadata']['Subject']['subject_id'] }}"
        WriteSessionOperator(
            task_id="write", session=described.output, nwbfile_path=f"{tmp_path}/{subject}.nwb", report=True
        )

    instances = run_dag(dag)

    assert [instance.state for found in instances.values() for instance in found] == ["success", "success"]
    session, result = (result_of(instances[task][0]) for task in ("describe", "write"))
    assert session["sources"]["Subject.subject_id"] == "the folder's name"
    assert result["nwbfile_path"] == str(tmp_path / "m12.nwb")
    assert result["report"]["html"].startswith(str(tmp_path))
    with NWBHDF5IO(tmp_path / "m12.nwb", "r") as io:
        nwbfile = io.read()
        for number, channel in enumerate(("Green", "Far")):
            for plane in range(3):
                data = nwbfile.acquisition[f"TwoPhotonSeries{channel}Plane{plane}"].data[:]
                assert np.array_equal(data, truth[:, plane, number].transpose(0, 2, 1))
        assert len(nwbfile.processing["ophys"]["ImageSegmentation"].plane_segmentations) == 3


def test_mapped_over_folders_one_that_cannot_be_decided_costs_only_itself(tmp_path):
    recording("ScanImage, one file", tmp_path / "a")
    (tmp_path / "b").mkdir()
    with DAG("sessions") as dag:
        DescribeSessionOperator.partial(task_id="describe").expand(folder=[str(tmp_path / name) for name in "ab"])
    states = [instance.state for instance in run_dag(dag)["describe"]]
    assert states == ["success", "failed"]


def one(operator, **options):
    with DAG("one"):
        return operator(task_id="one", **options)


@pytest.mark.parametrize(
    ("session", "told"),
    [
        (
            {"folder": "/m1", "movies": []},
            r"not what DescribeSessionOperator or describe_session returns(.|\n)*movies",
        ),
        ({"movies": []}, "movies"),
        ("m1", "session is 'm1'"),
    ],
)
def test_what_is_no_session_is_refused(tmp_path, session, told):
    write = one(WriteSessionOperator, session=session, nwbfile_path=tmp_path / "x.nwb")
    with task_fails(ConfigurationError, match=told):
        write.execute({})


def test_whether_volumes_stay_is_true_or_false(tmp_path):
    with task_fails(ConfigurationError, match="volumes is 'some'"):
        one(DescribeSessionOperator, folder=tmp_path, volumes="some").execute({})


def test_the_platforms_allowed_roots_hold(tmp_path, monkeypatch):
    recording("ScanImage, one file", tmp_path / "a")
    (tmp_path / "a" / "session.yaml").write_text(
        yaml.safe_dump({"imaging": {"extractor": "ScanImage", "extractor_kwargs": {"file_path": "/etc/m.tif"}}})
    )
    monkeypatch.setenv("AIRFLOW__OPHYS__ALLOWED_ROOTS", str(tmp_path))
    with task_fails(PathNotAllowedError, match="allowed_roots"):
        one(DescribeSessionOperator, folder=tmp_path / "a").execute({})
