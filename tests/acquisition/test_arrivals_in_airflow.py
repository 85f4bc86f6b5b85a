"""Airflow's scheduler and tasks in one process: a run gets what can be mapped and starts the next for the rest."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest
from airflow.sdk import DAG, Asset, task
from airflow_runs import AssetScheduler

from airflow_provider_ophys.assets import arrived_folders, finished_nwbfiles

FOLDERS = [{"path": f"/data/m{number}", "name": f"m{number}"} for number in range(10)]
FILES = [{"source": f"/nwb/m{number}.nwb"} for number in range(10)]


def build(asset: Asset, find: Any) -> DAG:
    with DAG(asset.name, schedule=[asset], catchup=False) as dag:

        @task(inlets=[asset])
        def arrivals(**context: Any) -> list[Any]:
            return find(asset, context)

        @task
        def note(item: Any) -> Any:
            return item

        note.expand(item=arrivals())
    return dag


@pytest.mark.parametrize(
    ("find", "extras"),
    [
        (arrived_folders, [{"from_trigger": True, "payload": folder} for folder in FOLDERS]),
        (arrived_folders, [{"folders": FOLDERS}]),
        (finished_nwbfiles, FILES),
    ],
    ids=["folders", "folders of one event", "files"],
)
def test_events_that_come_together_are_all_handled_in_runs_that_can_be_mapped(
    airflow_db, monkeypatch, request, find, extras
):
    monkeypatch.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", "4")
    asset = Asset(f"arrivals_{request.node.callspec.id.replace(' ', '_')}")
    scheduler = AssetScheduler(build(asset, find), asset, "arrivals")
    scheduler.store_events(extras)

    runs = scheduler.runs()

    # Airflow 3.4 makes a run for each event, of which the later ones find nothing left.
    assert [len(run) for run in runs if run] == [4, 4, 2]
    expected = FOLDERS if find is arrived_folders else [file["source"] for file in FILES]
    assert list(chain(*runs)) == expected
