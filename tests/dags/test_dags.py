"""The DAGs in ``dags/`` load anywhere, and run: from a folder that arrived to objects in S3."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from airflow_runs import AssetScheduler, events_of, result_of, run_dag
from airflow_versions import DagBag
from described import simulate_described
from pynwb import NWBHDF5IO

from demo.recording import simulate_acquisition
from demo.s3_server import S3Server

DAGS = Path(__file__).parents[2] / "dags"

pytestmark = pytest.mark.usefixtures("airflow_db")


def load(dag_id):
    bag = DagBag(DAGS, bundle_name="tests")
    assert bag.import_errors == {}
    return bag.dags[dag_id]


def test_every_dag_loads_and_names_no_path_of_anyones_machine():
    bag = DagBag(DAGS, bundle_name="tests")
    assert bag.import_errors == {}
    assert set(bag.dags) == {"ophys_on_arrival", "ophys_scheduled", "ophys_archive", "ophys_backfill"}
    for file in DAGS.glob("*.py"):
        text = file.read_text()
        assert "/home/" not in text
        assert "/Users/" not in text


def test_loading_the_dags_imports_nothing_heavy():
    heavy = ["boto3", "botocore", "h5py", "hdmf", "pynwb", "roiextractors", "scipy", "zarr"]
    code = (
        "import sys\n"
        "import ophys_archive, ophys_backfill, ophys_on_arrival, ophys_scheduled\n"
        f"print([name for name in {heavy} if name in sys.modules])\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(DAGS)},
    )
    assert run.stdout.splitlines()[-1] == "[]"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with S3Server(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture
def platform(tmp_path, server, monkeypatch):
    """The Variables and the connection that the DAGs need, and an empty watched folder."""
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", server.connection_json())
    monkeypatch.setenv("AIRFLOW_VAR_OPHYS_ACQUISITION_ROOT", str(tmp_path / "acquisitions"))
    monkeypatch.setenv("AIRFLOW_VAR_OPHYS_OUTPUT_ROOT", str(tmp_path / "nwb"))
    monkeypatch.setenv("AIRFLOW_VAR_OPHYS_DESTINATION", f"s3://{server.bucket}/{tmp_path.name}/")
    (tmp_path / "acquisitions").mkdir()
    return tmp_path


def test_the_scheduled_dag_converts_and_stages_sessions_with_and_without_files_that_describe_them(
    platform, server
):
    simulate_described(platform / "acquisitions" / "m1", num_samples=40)
    second = simulate_acquisition(platform / "acquisitions" / "m2", num_samples=30, seed=1)
    shutil.rmtree(second / "suite2p")
    (platform / "acquisitions" / "lab.yaml").write_text("NWBFile: {lab: Imaging Lab}\nSubject: {subject_id: m2}")

    instances = run_dag(load("ophys_scheduled"))

    states = {task_id: [instance.state for instance in found] for task_id, found in instances.items()}
    assert states == {
        "wait_for_acquisitions": ["success"],
        "convert_session.describe": ["success", "success"],
        "convert_session.write": ["success", "success"],
        "convert_session.stage": ["success", "success"],
    }
    named = {instance.rendered_map_index for found in instances.values() for instance in found[:2]}
    assert named == {None, "m1", "m2"}
    folders = result_of(instances["wait_for_acquisitions"][0])
    assert [folder["name"] for folder in folders] == ["m1", "m2"]
    written = [result_of(instance) for instance in instances["convert_session.write"]]
    assert [(each["num_samples"], each["num_rois"]) for each in written] == [(40, 12), (30, None)]
    assert [(each["session"]["name"], each["session"]["subject_id"]) for each in written] == [
        ("m1", "simulated-mouse-0"),
        ("m2", "m2"),
    ]
    staged = [result_of(instance) for instance in instances["convert_session.stage"]]
    assert [result["s3_uri"].rpartition("/")[2] for result in staged] == ["m1.nwb", "m2.nwb"]
    assert [result["size_bytes"] for result in staged] == [
        (platform / "nwb" / f"{name}.nwb").stat().st_size for name in ("m1", "m2")
    ]
    # Either may be finished first.
    assert sorted((extra["source"], extra["session"]["name"]) for _, extra in events_of("ophys_scheduled")) == [
        (str(platform / "nwb" / f"{name}.nwb"), name) for name in ("m1", "m2")
    ]
    assert len(list((platform / "nwb").glob("*.report.html"))) == 2
    with NWBHDF5IO(platform / "nwb" / "m2.nwb", "r") as io:
        assert io.read().lab == "Imaging Lab"
    with NWBHDF5IO(platform / "nwb" / "m1.nwb", "r") as io:
        nwbfile = io.read()
        (movie,) = nwbfile.acquisition.values()
        (table,) = nwbfile.processing["ophys"]["ImageSegmentation"].plane_segmentations.values()
        assert table.imaging_plane is movie.imaging_plane
        # Neurons are brighter than what is around them: masks and movie are the same place.
        mean = movie.data[:].mean(axis=0)
        inside = np.stack([mask > 0 for mask in table["image_mask"].data[:]]).any(axis=0)
        assert mean[inside].mean() > mean[~inside].mean()


def test_the_archive_gets_all_files_that_are_finished_together():
    """Airflow hands a run the first of the events that come close together, and leaves the others for the next."""
    from ophys_archive import NWB_FILES

    files = [f"/nwb/m{number}.nwb" for number in range(10)]
    archive = AssetScheduler(load("ophys_archive"), NWB_FILES, "finished")
    archive.store_events([{"source": file, "size_bytes": 1} for file in files])
    # Other tests may have left events on the asset, which the first run gets too.
    (run,) = archive.runs()
    assert [file for file in run if file in files] == files
