"""
Copy each finished NWB file to the archive as well: a DAG scheduled on the asset of NWB files.

Any task with the asset ``ophys_nwb_files`` among its outlets starts it. The Airflow Variable
``ophys_archive_destination`` says where the archive is.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Asset, dag, task

from airflow_provider_ophys.assets import finished_nwbfiles
from airflow_provider_ophys.operators.staging import StageToS3Operator

NWB_FILES = Asset("ophys_nwb_files")


@dag(
    schedule=[NWB_FILES],
    catchup=False,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=1)},
    tags=["ophys"],
    doc_md=__doc__,
)
def ophys_archive() -> None:
    """Archive what was just finished."""

    @task(inlets=[NWB_FILES])
    def finished(**context: Any) -> list[str]:
        """List the files that this run is for: events that come close together start one run."""
        return finished_nwbfiles(NWB_FILES, context)

    StageToS3Operator.partial(
        task_id="archive",
        destination="{{ var.value.get('ophys_archive_destination', 's3://ophys-nwb/archive/') }}",
    ).expand(source=finished())


ophys_archive()
