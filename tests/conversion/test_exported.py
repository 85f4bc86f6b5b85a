"""An NWBFile that was read from a file is written to another, with what was added to it."""

from __future__ import annotations

import numpy as np
import pytest
from hdmf_zarr import NWBZarrIO
from pynwb import NWBHDF5IO
from roiextractors.testing import generate_dummy_imaging_extractor, generate_dummy_segmentation_extractor

from airflow_provider_ophys.exceptions import ConfigurationError
from airflow_provider_ophys.nwb import write_imaging_to_nwbfile, write_segmentation_to_nwbfile

SESSION = {"NWBFile": {"session_start_time": "2026-11-22T09:30:00+01:00"}}
NAMES = {"hdf5": "a.nwb", "zarr": "a.nwb.zarr"}


def open_nwb(path, backend):
    return NWBHDF5IO(path, "r") if backend == "hdf5" else NWBZarrIO(str(path), "r")


@pytest.mark.parametrize(("source", "target"), [("hdf5", "hdf5"), ("hdf5", "zarr"), ("zarr", "zarr")])
def test_it_has_what_it_had_and_what_was_added(tmp_path, source, target):
    movie, cells = generate_dummy_imaging_extractor(), generate_dummy_segmentation_extractor()
    read, written = tmp_path / NAMES[source], tmp_path / f"new_{NAMES[target]}"
    write_imaging_to_nwbfile(movie, read, metadata=SESSION, backend=source)
    with open_nwb(read, source) as io:
        write_segmentation_to_nwbfile(cells, written, nwbfile=io.read(), backend=target)
    with open_nwb(written, target) as io:
        nwbfile = io.read()
        frames = nwbfile.acquisition["TwoPhotonSeries"].data[:]
        np.testing.assert_array_equal(frames, movie.get_series().swapaxes(1, 2))
        traces = nwbfile.processing["ophys"]["Fluorescence"]["RoiResponseSeries"].data[:]
        np.testing.assert_array_equal(traces, cells.get_traces(name="raw"))
    with open_nwb(read, source) as io:
        assert "ophys" not in io.read().processing


def test_over_itself_it_is_not_written(tmp_path):
    movie, path = generate_dummy_imaging_extractor(), tmp_path / "a.nwb.zarr"
    write_imaging_to_nwbfile(movie, path, metadata=SESSION, backend="zarr")
    cells = generate_dummy_segmentation_extractor()
    with NWBZarrIO(str(path), "r") as io, pytest.raises(ConfigurationError, match="cannot write it over itself"):
        write_segmentation_to_nwbfile(cells, path, nwbfile=io.read(), overwrite=True, backend="zarr")
