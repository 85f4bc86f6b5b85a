"""A file that our own threads compressed is read by another build of HDF5: Debian's h5dump."""

from __future__ import annotations

import os
import shutil
import subprocess

import h5py
import numpy as np
import pytest
from roiextractors import NumpyImagingExtractor

from airflow_provider_ophys.nwb import write_imaging_to_nwbfile

METADATA = {"NWBFile": {"session_start_time": "2026-11-22T09:30:00+01:00"}}
DATA = "/acquisition/TwoPhotonSeries/data"


@pytest.fixture(scope="module")
def h5dump():
    found = shutil.which("h5dump")
    if found is None and os.environ.get("CI"):
        pytest.fail("CI must have h5dump: .ci/run installs hdf5-tools")
    if found is None:
        pytest.skip("h5dump is not installed here: apt-get install hdf5-tools")
    return found


@pytest.mark.parametrize("compression", ["fast", "small", "none"])
@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "f4", "f8"])
def test_h5dump_reads_what_we_wrote(tmp_path, h5dump, compression, dtype):
    movie = np.random.default_rng(0).poisson(200, (37, 48, 40)).astype(dtype)
    path, dumped = tmp_path / "a.nwb", tmp_path / "dumped"
    imaging = NumpyImagingExtractor(movie[..., np.newaxis], sampling_frequency=30.0)
    write_imaging_to_nwbfile(
        imaging,
        path,
        metadata=METADATA,
        compression=compression,
        # Edge chunks along every axis.
        backend_configuration={DATA[1:]: {"chunk_shape": (8, 16, 32)}},
    )
    subprocess.run(
        [h5dump, f"--dataset={DATA}", "--binary=LE", f"--output={dumped}", path], check=True, capture_output=True
    )
    read = np.fromfile(dumped, dtype=np.dtype(dtype).newbyteorder("<")).reshape(37, 40, 48)
    np.testing.assert_array_equal(read, movie.swapaxes(1, 2))
    with h5py.File(path) as file:
        assert file[DATA].compression == (None if compression == "none" else "gzip")
