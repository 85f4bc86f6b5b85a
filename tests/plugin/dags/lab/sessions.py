"""What the pages are looked at with: sessions of every kind, one that is waited for, and hostile results."""

from __future__ import annotations

import os
from pathlib import Path

from airflow.sdk import dag, task

from airflow_provider_ophys.operators.imaging import WriteImagingOperator
from airflow_provider_ophys.operators.parallel import write_imaging_in_parallel
from airflow_provider_ophys.operators.segmentation import WriteSegmentationOperator
from airflow_provider_ophys.operators.session import DescribeSessionOperator, WriteSessionOperator
from airflow_provider_ophys.operators.staging import StageToS3Operator
from airflow_provider_ophys.sensors.acquisition import AcquisitionFolderSensor

ROOT = Path(os.environ["PLUGIN_TEST_ROOT"])
METADATA = [
    str(ROOT / "recording" / "metadata.yaml"),
    # NWB allows no slash in a name, but all else.
    {"Devices": {"two_photon": {"name": "<script>alert(1)", "description": "</td><script>alert(2)</script>"}}},
]
FILES = [str(ROOT / "nwb" / f"{name}.nwb") for name in os.environ["PLUGIN_TEST_NAMES"].split("|")]


@dag(schedule=None)
def sessions():
    movies = WriteImagingOperator.partial(
        task_id="write_imaging",
        extractor="ScanImageImagingExtractor",
        extractor_kwargs={"file_path": str(ROOT / "recording" / "movie.tif")},
        metadata=METADATA,
        report=True,
    ).expand(nwbfile_path=FILES)
    cells = WriteSegmentationOperator.partial(
        task_id="write_segmentation",
        extractor="Suite2pSegmentationExtractor",
        extractor_kwargs={"folder_path": str(ROOT / "recording" / "suite2p")},
        metadata=METADATA,
        if_exists="append",
    ).expand(nwbfile_path=FILES)
    stage = StageToS3Operator.partial(task_id="stage", destination="s3://ophys/sessions/").expand(
        # Its report is staged with it.
        source=movies.output
    )
    movies >> cells >> stage


@dag(schedule=None)
def broken():
    WriteImagingOperator(
        task_id="write_imaging",
        extractor="TiffImagingExtractor",
        extractor_kwargs={"file_path": str(ROOT / "recording" / "missing.tif"), "sampling_frequency": 30.0},
        nwbfile_path=str(ROOT / "nwb" / "broken.nwb"),
    )


class LabsOwnOperator(WriteImagingOperator):
    """A lab's subclass, of whose name we know nothing."""


@dag(schedule=None)
def mended():
    """Fails as long as its recording is not there; found by the file that it would write."""
    LabsOwnOperator(
        task_id="convert",
        extractor="ScanImageImagingExtractor",
        extractor_kwargs={"file_path": str(ROOT / "recording" / "late.tif")},
        metadata=METADATA,
        nwbfile_path=str(ROOT / "nwb" / "mended.nwb"),
    )


@dag(schedule=None)
def undescribed():
    """A folder whose session.yaml is wrong: nobody knows the name of its file."""
    described = DescribeSessionOperator(task_id="describe", folder=str(ROOT / "incoming" / "bad_session"))
    WriteSessionOperator(task_id="write", session=described.output, nwbfile_path=str(ROOT / "nwb" / "bad.nwb"))


@dag(schedule=None)
def many_workers():
    movie = write_imaging_in_parallel(
        group_id="movie",
        num_tasks=2,
        extractor="ScanImageImagingExtractor",
        extractor_kwargs={"file_path": str(ROOT / "recording" / "movie.tif")},
        metadata=METADATA,
        nwbfile_path=str(ROOT / "nwb" / "parallel.nwb.zarr"),
        backend="zarr",
    )
    StageToS3Operator(task_id="stage", source=movie.output, destination="s3://ophys/sessions/")


@dag(schedule=None)
def archive():
    StageToS3Operator(
        task_id="archive", source=str(ROOT / "nwb" / "mouse_1.nwb"), destination="s3://ophys/archive/"
    )


@dag(schedule=None)
def watching():
    AcquisitionFolderSensor(
        task_id="wait", path=str(ROOT / "incoming"), marker_file="DONE", poke_interval=2, deferrable=True
    )


@dag(schedule=None)
def hostile():
    @task
    def claim(path: str) -> dict[str, object]:
        return {"report": {"html": path, "png": path, "thumbnail": path, "summary": {}}}

    claim.expand(path=os.environ["PLUGIN_TEST_CLAIMS"].split("|"))


sessions()
broken()
mended()
undescribed()
many_workers()
archive()
watching()
hostile()
