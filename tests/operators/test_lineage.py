"""OpenLineage gets source and output of a conversion in its events; a link in the UI leads to the output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from airflow.sdk import DAG
from airflow_runs import run_dag
from movies import METADATA

from airflow_provider_ophys.operators.imaging import WriteImagingOperator
from airflow_provider_ophys.operators.lineage import NWBFileLink

# In a process of its own: the provider reads its configuration once.
LINEAGE = """
import sys
from airflow.sdk import DAG
from airflow_runs import run_dag
from airflow_provider_ophys.operators.imaging import WriteImagingOperator

tiff, path = sys.argv[1:]
with DAG("lineage") as dag:
    WriteImagingOperator(
        task_id="write",
        extractor="Tiff",
        extractor_kwargs={"file_path": tiff, "sampling_frequency": 30.0},
        nwbfile_path=path,
        metadata={"NWBFile": {"session_start_time": "2026-11-22T09:30:00+01:00"}},
    )
assert run_dag(dag)["write"][0].state == "success"
"""


@pytest.mark.usefixtures("airflow_db")
def test_openlineage_gets_source_and_output(tmp_path: Path, tiff: Path) -> None:
    events_file, path = tmp_path / "events.json", tmp_path / "movie.nwb"
    environment = os.environ | {
        "AIRFLOW__OPENLINEAGE__DISABLED": "False",
        "AIRFLOW__OPENLINEAGE__NAMESPACE": "tests",
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(
            {"type": "file", "log_file_path": str(events_file), "append": True}
        ),
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]),
    }
    command = [sys.executable, "-c", LINEAGE, str(tiff), str(path)]
    run = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    events = [json.loads(line) for line in events_file.read_text().splitlines()]
    (complete,) = [
        event for event in events if event["eventType"] == "COMPLETE" and event["job"]["name"] == "lineage.write"
    ]
    assert [(found["namespace"], found["name"]) for found in complete["inputs"]] == [("file", str(tiff))]
    (output,) = complete["outputs"]
    assert (output["namespace"], output["name"]) == ("file", str(path))
    statistics = output["outputFacets"]["outputStatistics"]
    assert (statistics["rowCount"], statistics["size"]) == (20, path.stat().st_size)
    assert output["facets"]["storage"]["fileFormat"] == "nwb/hdf5"
    (assertion,) = output["facets"]["dataQualityAssertions"]["assertions"]
    assert (assertion["assertion"], assertion["success"]) == ("NWB schema", True)


@pytest.mark.usefixtures("airflow_db")
def test_the_link_leads_to_the_file(tmp_path: Path, tiff: Path) -> None:
    with DAG("link") as dag:
        operator = WriteImagingOperator(
            task_id="write",
            extractor="Tiff",
            extractor_kwargs={"file_path": str(tiff), "sampling_frequency": 30.0},
            nwbfile_path=str(tmp_path / "movie.nwb"),
            metadata=METADATA,
        )
    (instance,) = run_dag(dag)["write"]
    (link,) = [link for link in operator.operator_extra_links if isinstance(link, NWBFileLink)]
    pushed = instance.xcom_pull(task_ids="write", key=link.xcom_key)
    assert pushed == (tmp_path / "movie.nwb").as_uri()
