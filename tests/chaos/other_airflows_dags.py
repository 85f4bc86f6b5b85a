"""The DAGs of test_other_airflows.py, which tells Airflow's processes its folder by the environment."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG, Asset, AssetWatcher, RetryRule, task

from airflow_provider_ophys.assets import arrived_folders
from airflow_provider_ophys.exceptions import ConversionStoppedError, OutputBusyError
from airflow_provider_ophys.operators.imaging import WriteImagingOperator
from airflow_provider_ophys.retries import OphysRetryPolicy
from airflow_provider_ophys.sensors.acquisition import AcquisitionFolderSensor
from airflow_provider_ophys.triggers.acquisition import AcquisitionFolderTrigger

HOME = Path(os.environ["OTHER_AIRFLOWS_HOME"])
MODES = {"deferrable": {"deferrable": True}, "reschedule": {"mode": "reschedule"}, "poke": {"mode": "poke"}}
DATA = "acquisition/TwoPhotonSeries/data"
RETRIES = {"retries": 60, "retry_delay": timedelta(seconds=2)}
SOON = timedelta(seconds=2)
WRITE = {
    "extractor": "Tiff",
    "metadata": {"NWBFile": {"session_start_time": "2026-11-22T09:30:00+01:00"}},
    # Seconds of work on one CPU, in pieces that are short enough to stop between them.
    "backend_configuration": {
        DATA: {
            "chunk_shape": [4, 256, 256],
            "compression_method": "zstd",
            "compression_options": {"clevel": int(os.environ["OTHER_AIRFLOWS_LEVEL"])},
        }
    },
    "threads": 1,
}
PATIENT = RETRIES | {
    "retry_policy": OphysRetryPolicy(
        [RetryRule(error, retry_delay=SOON) for error in (OutputBusyError, ConversionStoppedError)]
    )
}


def conversion(movie: Path, output: Path) -> dict:
    arguments = {"file_path": str(movie), "sampling_frequency": 30.0}
    return {"extractor_kwargs": arguments, "nwbfile_path": str(output)}


def conversions_of(folders: list[dict], way: str) -> list[dict]:
    return [
        conversion(Path(folder["path"]) / "movie.tif", HOME / "nwb" / way / f"{folder['name']}.nwb")
        for folder in folders
    ]


def watched(name: str, **options) -> Asset:
    trigger = AcquisitionFolderTrigger(path=HOME / name, poke_interval=1, **options)
    return Asset(name, watchers=[AssetWatcher(name=name, trigger=trigger)])


def on_event(dag_id: str, way: str, asset: Asset) -> None:
    with DAG(dag_id, schedule=[asset], max_active_runs=4, default_args=RETRIES):

        @task(inlets=[asset])
        def conversions(**context):
            return conversions_of(arrived_folders(asset, context), way)

        WriteImagingOperator.partial(task_id="write", **WRITE, **PATIENT).expand_kwargs(conversions())


on_event("arrivals", "event", watched("event", marker_file="DONE"))

shared = watched("shared", marker_file="DONE")
on_event("shared_event", "shared", shared)
for mode, options in MODES.items():
    with DAG(f"shared_{mode}", schedule=None, max_active_runs=1, default_args=RETRIES):
        found = AcquisitionFolderSensor(
            task_id="wait",
            path=HOME / "shared",
            marker_file="DONE",
            inlets=[shared],
            poke_interval=1,
            timeout=40,
            soft_fail=True,
            **options,
        ).output

        @task
        def conversions(folders):
            return conversions_of(folders, "shared")

        WriteImagingOperator.partial(task_id="write", **WRITE, **PATIENT).expand_kwargs(conversions(found))

with DAG("waiting", schedule=None):
    AcquisitionFolderSensor(
        task_id="wait", path=HOME / "waiting", marker_file="DONE", deferrable=True, poke_interval=0.5, timeout=7200
    )

for name in ("slow", "long"):
    with DAG(name, schedule=None, params={"name": ""}):
        options = conversion(HOME / f"{name}.tif", HOME / "nwb" / name / "{{ params.name }}.nwb")
        WriteImagingOperator(task_id="write", **WRITE, **options, if_exists="overwrite", **PATIENT)

with DAG("time_limit", schedule=None, params={"name": ""}):
    options = conversion(HOME / "long.tif", HOME / "nwb" / "limit" / "{{ params.name }}.nwb")
    WriteImagingOperator(task_id="write", **WRITE, **options, execution_timeout=timedelta(seconds=8))

settling = watched("settling", settle_seconds=15)
with DAG("settled", schedule=[settling], default_args=RETRIES):

    @task(inlets=[settling])
    def note(**context):
        """Leave in the names of files what a run got, and when by the clock that nobody sets."""
        for folder in arrived_folders(settling, context):
            (HOME / "notes" / f"{folder['name']}-{time.monotonic()}").touch()

    note()
