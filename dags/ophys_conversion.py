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

with every option of the write operators, one entry or a list of them, for channels and planes in one file;
and ``metadata.yaml`` is the metadata of the NWB file, with the sections NWBFile, Subject, Devices and Ophys.

Set the Airflow Variables ``ophys_output_root`` and ``ophys_destination`` to say where results go.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import Asset, Variable, XComArg, task, task_group
from airflow.sdk.exceptions import AirflowSkipException

from airflow_provider_ophys.exceptions import ConfigurationError
from airflow_provider_ophys.models.conversion import MovieOptions, SegmentationOptions
from airflow_provider_ophys.operators.imaging import WriteImagingOperator
from airflow_provider_ophys.operators.segmentation import WriteSegmentationOperator
from airflow_provider_ophys.operators.staging import StageToS3Operator
from airflow_provider_ophys.retries import RETRY_POLICY
from airflow_provider_ophys.settings import allowed_roots

# An event on this asset means: one more NWB file is finished, and verified in S3.
NWB_FILES = Asset("ophys_nwb_files")

# For what passes: S3 out of reach, a full disk, another task at work on the same file. What a retry cannot mend,
# such as wrong metadata, fails at once in spite of them.
RETRIES = {"retries": 3, "retry_delay": timedelta(minutes=1)}


def read_session(folder: Path) -> dict[str, dict[str, Any]]:
    """
    Read what a folder's session.yaml says was recorded.

    :param folder: The acquisition's folder.
    :returns: The options of the write operators, with absolute paths, for ``imaging`` and, where there is one,
        ``segmentation``.
    :raises ConfigurationError: If the file is missing or says something else.
    :raises PathNotAllowedError: If a path leads out of the folder and of ``[ophys] allowed_roots``.
    """
    from airflow_provider_ophys.sessions.session_yaml import operator_options, read_session_yaml

    session = read_session_yaml(folder, allowed_roots())
    if not session.imaging:
        raise ConfigurationError(
            f"{folder / 'session.yaml'} must say what 'imaging' is. docs/session-yaml.md shows one."
        )
    options = {"imaging": operator_options(session.imaging)}
    return options | ({"segmentation": operator_options(session.segmentation)} if session.segmentation else {})


def output_root() -> Path:
    """Where NWB files go."""
    return Path(Variable.get("ophys_output_root", default="/data/nwb"))


def nwbfile_path_of(name: str) -> Path:
    """Where the NWB file of an acquisition goes, by the acquisition's name below the watched folder."""
    return output_root() / f"{name.replace('/', '_')}.nwb"


@task(multiple_outputs=True, retry_policy=RETRY_POLICY)
def plan(folder: dict[str, Any]) -> dict[str, Any]:
    """Read the folder's session.yaml, and decide where its NWB file goes."""
    session = read_session(Path(folder["path"]))
    output_root().mkdir(parents=True, exist_ok=True)
    segmentation = session.get("segmentation", dict.fromkeys(SegmentationOptions.model_fields))
    return {
        **{f"imaging_{option}": value for option, value in session["imaging"].items()},
        **{f"segmentation_{option}": value for option, value in segmentation.items()},
        "metadata": str(Path(folder["path"]) / "metadata.yaml"),
        "nwbfile_path": str(nwbfile_path_of(folder["name"])),
    }


@task
def require_segmentation(extractor: str | list[str] | None) -> str | list[str]:
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
        **{option: session[f"imaging_{option}"] for option in MovieOptions.model_fields},
        nwbfile_path=session["nwbfile_path"],
        metadata=session["metadata"],
        report=True,
    )
    segmentation = WriteSegmentationOperator(
        task_id="write_segmentation",
        **{option: session[f"segmentation_{option}"] for option in SegmentationOptions.model_fields}
        | {"extractor": require_segmentation(session["segmentation_extractor"])},
        nwbfile_path=session["nwbfile_path"],
        metadata=session["metadata"],
        if_exists="append",
        report=True,
    )
    stage = StageToS3Operator(
        task_id="stage_to_s3",
        # Names the file, which has the ROIs by then, and its report.
        source=imaging.output,
        destination="{{ var.value.get('ophys_destination', 's3://ophys-nwb/sessions/') }}",
        outlets=[NWB_FILES],
        trigger_rule="none_failed",
    )
    # The movie comes first in any case; without ROIs, staging must still wait for it.
    imaging >> segmentation
    [imaging, segmentation] >> stage
