"""NWB files with known content, written by our own writers or, for what those refuse to make, with h5py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from roiextractors import NumpyImagingExtractor
from roiextractors.testing import generate_dummy_segmentation_extractor

from airflow_provider_ophys.nwb import write_imaging_to_nwbfile, write_segmentation_to_nwbfile

METADATA = {"NWBFile": {"session_start_time": "2026-11-22T09:30:00+01:00"}}
RATE = 20.0


def noisy_movie(num_samples=200, num_rows=24, num_columns=40, seed=0):
    """A quiet two-photon movie, (time, rows, columns): a background, a few cells that fire, shot noise."""
    rng = np.random.default_rng(seed)
    light = np.full((num_samples, num_rows, num_columns), 60.0)
    for row, column in ((6, 9), (14, 30), (19, 18)):
        activity = 60 * (1 + 2 * (rng.random(num_samples) < 0.1))
        light[:, row - 2 : row + 3, column - 2 : column + 3] += activity[:, None, None]
    return rng.poisson(light).astype("uint16")


def write_movie(path: Path, movie, *, timestamps=None, metadata=METADATA, **options) -> Path:
    """Write a movie, (time, rows, columns), at 20 Hz or with timestamps in seconds."""
    extractor = NumpyImagingExtractor(timeseries=movie[..., np.newaxis], sampling_frequency=RATE)
    if timestamps is not None:
        extractor.set_times(np.asarray(timestamps, dtype=np.float64))
    write_imaging_to_nwbfile(extractor, path, metadata=metadata, **options)
    return path


def append_segmentation(path: Path, num_rows=24, num_columns=40, num_rois=6, mask_type="image"):
    """Append a segmentation; return the extractor it was written from."""
    extractor = generate_dummy_segmentation_extractor(
        num_rois=num_rois, num_rows=num_rows, num_columns=num_columns, num_samples=50, sampling_frequency=RATE
    )
    write_segmentation_to_nwbfile(extractor, path, append_on_disk_nwbfile=True, mask_type=mask_type)
    return extractor
