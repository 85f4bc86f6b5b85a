"""A DAG that only the people of the other lab may look at."""

from __future__ import annotations

import os
from pathlib import Path

from airflow.sdk import dag, task

from airflow_provider_ophys.operators.imaging import WriteImagingOperator

ROOT = Path(os.environ["PLUGIN_TEST_ROOT"])


@dag(schedule=None)
def elsewhere():
    WriteImagingOperator(
        task_id="write_imaging",
        extractor="ScanImageImagingExtractor",
        extractor_kwargs={"file_path": str(ROOT / "recording" / "movie.tif")},
        nwbfile_path=str(ROOT / "nwb" / "secret.nwb"),
        metadata=str(ROOT / "recording" / "metadata.yaml"),
        report=True,
    )


@dag(schedule=None)
def envious():
    @task
    def claim() -> dict[str, object]:
        return {"report": None}

    claim()


elsewhere()
envious()
