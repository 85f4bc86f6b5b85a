"""Real recordings, converted inside an Airflow run, read back as what roiextractors gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from airflow.sdk import DAG
from airflow_runs import result_of, run_dag
from hdmf_zarr import NWBZarrIO
from pynwb import NWBHDF5IO
from roiextractors import Suite2pSegmentationExtractor, TiffImagingExtractor

from airflow_provider_ophys.operators.imaging import WriteImagingOperator
from airflow_provider_ophys.operators.segmentation import WriteSegmentationOperator

METADATA = {"NWBFile": {"session_start_time": "2026-11-22T09:30:00+01:00"}}


def read(path):
    return NWBZarrIO(path, "r") if Path(path).is_dir() else NWBHDF5IO(path, "r")


@pytest.mark.usefixtures("airflow_db")
def test_a_two_photon_movie_and_a_suite2p_folder(tmp_path, shared_data):
    movie = {"file_path": str(shared_data / "two_photon_tiff" / "mouse2p.tiff"), "sampling_frequency": 30.0}
    suite2p = {"folder_path": str(shared_data / "suite2p")}
    with DAG("real_recordings") as dag:
        for backend in ("hdf5", "zarr"):
            WriteImagingOperator(
                task_id=f"movie_{backend}",
                extractor="TiffImagingExtractor",
                extractor_kwargs=movie,
                nwbfile_path=str(tmp_path / f"movie_{backend}.nwb"),
                metadata=METADATA,
                backend=backend,
            )
            WriteSegmentationOperator(
                task_id=f"cells_{backend}",
                extractor="Suite2pSegmentationExtractor",
                extractor_kwargs=suite2p,
                nwbfile_path=str(tmp_path / f"cells_{backend}.nwb"),
                metadata=METADATA,
                backend=backend,
            )

    instances = run_dag(dag)

    assert {instance.state for found in instances.values() for instance in found} == {"success"}
    frames = TiffImagingExtractor(**movie).get_series()
    segmentation = Suite2pSegmentationExtractor(**suite2p)
    masks = segmentation.get_roi_image_masks()
    for backend in ("hdf5", "zarr"):
        result = result_of(instances[f"movie_{backend}"][0])
        assert (result["backend"], result["num_samples"], result["dtype"]) == (backend, 200, "uint16")
        with read(result["nwbfile_path"]) as io:
            data = io.read().acquisition["TwoPhotonSeries"].data[:]
        np.testing.assert_array_equal(data, frames.transpose(0, 2, 1))
        result = result_of(instances[f"cells_{backend}"][0])
        assert (result["num_rois"], result["traces"]) == (54, ["raw", "neuropil", "deconvolved"])
        with read(result["nwbfile_path"]) as io:
            ophys = io.read().processing["ophys"]
            stored = ophys["ImageSegmentation"]["PlaneSegmentation"]["image_mask"].data[:]
            np.testing.assert_array_equal(stored, masks.transpose(2, 1, 0))
            for role, name in {
                "raw": "RoiResponseSeries",
                "neuropil": "Neuropil",
                "deconvolved": "Deconvolved",
            }.items():
                np.testing.assert_array_equal(
                    ophys["Fluorescence"][name].data[:], segmentation.get_traces(name=role)
                )
