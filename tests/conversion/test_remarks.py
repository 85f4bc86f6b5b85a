"""The result of a conversion says what was written, and what was left out, chosen or moved."""

from __future__ import annotations

import json

import h5py
import numpy as np

from airflow_provider_ophys.conversion.run import convert_segmentation
from airflow_provider_ophys.models.conversion import SegmentationConversion

SESSION = {"NWBFile": {"session_start_time": "2026-11-22T09:30:00"}}


def suite2p(folder):
    """One plane whose spikes were not deconvolved."""
    plane = folder / "plane0"
    plane.mkdir(parents=True)
    shape = (12, 16)
    ops = {"fs": 10.0, "nframes": 4, "Ly": 12, "Lx": 16, "meanImg": np.ones(shape, "float32")}
    np.save(plane / "ops.npy", ops)
    np.save(plane / "stat.npy", np.array([{"ypix": [3], "xpix": [4], "lam": [1.0]}], dtype=object))
    np.save(plane / "F.npy", np.ones((1, 4), "float32"))
    np.save(plane / "Fneu.npy", np.ones((1, 4), "float32"))
    np.save(plane / "spks.npy", np.zeros((1, 4), "float32"))
    np.save(plane / "iscell.npy", np.ones((1, 2), "float32"))
    return folder


def converted(tmp_path, **options):
    described = {"extractor": "Suite2p", "extractor_kwargs": {"folder_path": str(tmp_path / "suite2p")}}
    path = str(tmp_path / "a.nwb")
    return convert_segmentation(SegmentationConversion(nwbfile_path=path, **described, **options))


def test_traces_and_remarks_of_the_result_are_of_what_was_written(tmp_path):
    suite2p(tmp_path / "suite2p")
    result = converted(tmp_path, metadata=SESSION | {"Ecephys": {}})
    assert result.traces == ["raw", "neuropil"]
    said = " ".join(result.remarks)
    assert len(result.remarks) == 3
    for part in (
        "deconvolved traces",
        "section Ecephys",
        "session_start_time 2026-11-22T09:30:00 has no time zone",
    ):
        assert part in said
    assert converted(tmp_path, metadata=SESSION | {"Ecephys": {}}).remarks == result.remarks, "reused, they stay"
    with h5py.File(tmp_path / "a.nwb") as file:
        record = file["processing/ophys/ImageSegmentation/PlaneSegmentation"].attrs["airflow_provider_ophys"]
        assert json.loads(record)["remarks"] == result.remarks


def test_named_traces_are_those_of_the_result(tmp_path):
    suite2p(tmp_path / "suite2p")
    named = {"Ophys": {"RoiResponses": {"PlaneSegmentation": {"raw": {"name": "Raw", "unit": "n.a."}}}}}
    assert converted(tmp_path, metadata=SESSION | named).traces == ["raw"]
