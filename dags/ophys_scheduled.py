"""
Convert what has arrived, every hour: a scheduled DAG with a sensor.

Watches the folder in the Airflow Variable ``ophys_acquisition_root``, and takes the other Variables that
``ophys_on_arrival`` takes. Use this DAG or that one, not both; it is paused until you choose it.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import Asset, dag

from airflow_provider_ophys.operators.session import convert_session
from airflow_provider_ophys.sensors.acquisition import AcquisitionFolderSensor

ROOT = "{{ var.value.get('ophys_acquisition_root', '/data/acquisitions') }}"
# An event on this asset means: one more NWB file is finished, and verified in S3.
NWB_FILES = Asset("ophys_nwb_files")


@dag(
    schedule=timedelta(hours=1),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=True,
    # For what passes: S3 out of reach, a full disk. What no retry can mend, such as wrong metadata, fails at once.
    default_args={"retries": 3, "retry_delay": timedelta(minutes=1)},
    tags=["ophys"],
    doc_md=__doc__,
)
def ophys_scheduled() -> None:
    """Convert what has arrived since the last run."""
    acquisitions = AcquisitionFolderSensor(
        task_id="wait_for_acquisitions",
        path=ROOT,
        marker_file="DONE",
        deferrable=True,
        # An hour without a recording is not an error: the run is skipped.
        timeout=timedelta(minutes=55).total_seconds(),
        soft_fail=True,
    )
    convert_session.partial(
        root=ROOT,
        subject_table="{{ var.value.get('ophys_subject_table', '') }}",
        folder_name="{{ var.value.get('ophys_folder_name', '') }}",
        output_folder="{{ var.value.get('ophys_output_root', '/data/nwb') }}",
        backend="{{ var.value.get('ophys_backend', 'hdf5') }}",
        destination="{{ var.value.get('ophys_destination', 's3://ophys-nwb/sessions/') }}",
        outlets=[NWB_FILES],
    ).expand(folder=acquisitions.output)


ophys_scheduled()
