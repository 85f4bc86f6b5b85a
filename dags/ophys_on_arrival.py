"""
Convert each acquisition as soon as it is complete: an event-driven DAG.

The triggerer watches the folder in the Airflow Variable ``ophys_acquisition_root``; when a folder below it has its
marker file ``DONE``, this DAG runs at once, and no worker slot is taken while nothing arrives. Use this DAG or
``ophys_scheduled``, not both.

A folder needs nothing but the recordings in it. What their headers do not say may stand in a ``lab.yaml`` in the
watched folder, and in a ``metadata.yaml`` beside the recording. Other Variables say where results go
(``ophys_output_root``, ``ophys_destination``), as what (``ophys_backend``: ``hdf5`` or ``zarr``), and what else
tells of a session (``ophys_subject_table``, a CSV file; ``ophys_folder_name``, what a folder's name says).
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Asset, AssetWatcher, Variable, dag, task

from airflow_provider_ophys.assets import arrived_folders
from airflow_provider_ophys.operators.session import convert_session
from airflow_provider_ophys.triggers.acquisition import AcquisitionFolderTrigger

ROOT = Variable.get("ophys_acquisition_root", default="/data/acquisitions")
TRIGGER = AcquisitionFolderTrigger(path=ROOT, marker_file="DONE")
ACQUISITIONS = Asset("ophys_acquisitions", watchers=[AssetWatcher(name="acquisition_folders", trigger=TRIGGER)])
# An event on this asset means: one more NWB file is finished, and verified in S3.
NWB_FILES = Asset("ophys_nwb_files")


@dag(
    schedule=[ACQUISITIONS],
    catchup=False,
    # For what passes: S3 out of reach, a full disk. What no retry can mend, such as wrong metadata, fails at once.
    default_args={"retries": 3, "retry_delay": timedelta(minutes=1)},
    tags=["ophys"],
    doc_md=__doc__,
)
def ophys_on_arrival() -> None:
    """Convert what has just arrived."""

    @task(inlets=[ACQUISITIONS])
    def arrivals(**context: Any) -> list[dict[str, Any]]:
        """List the folders that this run is for: events that come close together start one run."""
        return arrived_folders(ACQUISITIONS, context)

    convert_session.partial(
        root=ROOT,
        subject_table="{{ var.value.get('ophys_subject_table', '') }}",
        folder_name="{{ var.value.get('ophys_folder_name', '') }}",
        output_folder="{{ var.value.get('ophys_output_root', '/data/nwb') }}",
        backend="{{ var.value.get('ophys_backend', 'hdf5') }}",
        destination="{{ var.value.get('ophys_destination', 's3://ophys-nwb/sessions/') }}",
        outlets=[NWB_FILES],
    ).expand(folder=arrivals())


ophys_on_arrival()
