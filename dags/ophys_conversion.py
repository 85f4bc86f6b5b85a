"""
What happens to one acquisition folder, whichever DAG found it: plan, write the movie, add the ROIs, stage.

Each folder holds two files that describe it. ``session.yaml`` says what was recorded:

.. code-block:: yaml

    imaging:
      extractor: ScanImageImagingExtractor
      extractor_kwargs: {file_path: movie.tif}       # paths are relative to the folder
    segmentation:                 # may be left out
      extractor: Suite2pSegmentationExtractor
      extractor_kwargs: {folder_path: suite2p}

and ``metadata.yaml`` is the metadata of the NWB file, with the sections NWBFile, Subject, Devices and Ophys.

Set the Airflow Variables ``ophys_output_root`` and ``ophys_destination`` to say where results go.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import Asset, Variable, XComArg, task, task_group
from airflow.sdk.exceptions import AirflowSkipException

from airflow_provider_ophys.operators.imaging import WriteImagingOperator
from airflow_provider_ophys.operators.segmentation import WriteSegmentationOperator
from airflow_provider_ophys.operators.staging import StageToS3Operator

# An event on this asset means: one more NWB file is finished, and verified in S3.
NWB_FILES = Asset("ophys_nwb_files")

# For what passes: S3 out of reach, a full disk, another task at work on the same file. What a retry cannot mend,
# such as wrong metadata, fails at once in spite of them.
RETRIES = {"retries": 3, "retry_delay": timedelta(minutes=1)}


@task(multiple_outputs=True)
def plan(folder: dict[str, Any]) -> dict[str, Any]:
    """Read the folder's session.yaml, and decide where its NWB file goes."""
    import yaml

    path = Path(folder["path"])
    session = yaml.safe_load((path / "session.yaml").read_text())
    output_root = Path(Variable.get("ophys_output_root", default="/data/nwb"))
    output_root.mkdir(parents=True, exist_ok=True)
    conversions = {}
    for part in ("imaging", "segmentation"):
        described = session.get(part, {"extractor": None, "extractor_kwargs": {}})
        conversions[f"{part}_extractor"] = described["extractor"]
        conversions[f"{part}_kwargs"] = {
            name: str(path / value) if name.endswith("_path") else value
            for name, value in described["extractor_kwargs"].items()
        }
    return {
        **conversions,
        "metadata": str(path / "metadata.yaml"),
        "nwbfile_path": str(output_root / f"{folder['name'].replace('/', '_')}.nwb"),
    }


@task
def require_segmentation(extractor: str | None) -> str:
    """Skip the ROIs of a session that has none; what comes after them goes on."""
    if extractor is None:
        raise AirflowSkipException("session.yaml has no segmentation")
    return extractor


@task_group
def convert(folder: XComArg) -> None:
    """Turn one acquisition folder into one NWB file, here and in S3."""
    session = plan(folder)
    imaging = WriteImagingOperator(
        task_id="write_imaging",
        extractor=session["imaging_extractor"],
        extractor_kwargs=session["imaging_kwargs"],
        nwbfile_path=session["nwbfile_path"],
        metadata=session["metadata"],
    )
    segmentation = WriteSegmentationOperator(
        task_id="write_segmentation",
        extractor=require_segmentation(session["segmentation_extractor"]),
        extractor_kwargs=session["segmentation_kwargs"],
        nwbfile_path=session["nwbfile_path"],
        metadata=session["metadata"],
        if_exists="append",
    )
    stage = StageToS3Operator(
        task_id="stage_to_s3",
        source=session["nwbfile_path"],
        destination="{{ var.value.get('ophys_destination', 's3://ophys-nwb/sessions/') }}",
        outlets=[NWB_FILES],
        trigger_rule="none_failed",
    )
    # The movie comes first in any case; without ROIs, staging must still wait for it.
    imaging >> segmentation
    [imaging, segmentation] >> stage
