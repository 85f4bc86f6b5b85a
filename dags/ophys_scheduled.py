"""
Convert what has arrived, every hour: a scheduled DAG with a sensor.

Watches the folder in the Airflow Variable ``ophys_acquisition_root``. Use this DAG or ``ophys_on_arrival``, not
both; it is paused until you choose it.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import dag

from airflow_provider_ophys.sensors.acquisition import AcquisitionFolderSensor
from ophys_conversion import RETRIES, convert


@dag(
    schedule=timedelta(hours=1),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=True,
    default_args=RETRIES,
    tags=["ophys"],
    doc_md=__doc__,
)
def ophys_scheduled() -> None:
    """Convert what has arrived since the last run."""
    acquisitions = AcquisitionFolderSensor(
        task_id="wait_for_acquisitions",
        path="{{ var.value.get('ophys_acquisition_root', '/data/acquisitions') }}",
        marker_file="DONE",
        required_files=["session.yaml", "metadata.yaml"],
        deferrable=True,
        # An hour without a recording is not an error: the run is skipped.
        timeout=timedelta(minutes=55).total_seconds(),
        soft_fail=True,
    )
    convert.expand(folder=acquisitions.output)


ophys_scheduled()
