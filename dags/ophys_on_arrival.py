"""
Convert each acquisition as soon as it is complete: an event-driven DAG.

The triggerer watches the folder in the Airflow Variable ``ophys_acquisition_root``; when a folder below it has its
marker file ``DONE``, this DAG runs at once, and no worker slot is taken while nothing arrives. Use this DAG or
``ophys_scheduled``, not both.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Asset, AssetWatcher, Variable, dag, task

from airflow_provider_ophys.assets import arrived_folders
from airflow_provider_ophys.triggers.acquisition import AcquisitionFolderTrigger
from ophys_conversion import RETRIES, convert

ACQUISITIONS = Asset(
    "ophys_acquisitions",
    watchers=[
        AssetWatcher(
            name="acquisition_folders",
            trigger=AcquisitionFolderTrigger(
                path=Variable.get("ophys_acquisition_root", default="/data/acquisitions"),
                marker_file="DONE",
                required_files=["session.yaml", "metadata.yaml"],
            ),
        )
    ],
)


@dag(schedule=[ACQUISITIONS], catchup=False, default_args=RETRIES, tags=["ophys"], doc_md=__doc__)
def ophys_on_arrival() -> None:
    """Convert what has just arrived."""

    @task(inlets=[ACQUISITIONS])
    def arrivals(**context: Any) -> list[dict[str, Any]]:
        """List the folders that this run is for: events that come close together start one run."""
        return arrived_folders(ACQUISITIONS, context)

    convert.expand(folder=arrivals())


ophys_on_arrival()
