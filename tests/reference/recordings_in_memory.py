"""Movies and cells that both writers are given: small, made of known numbers, the same on either side."""

from __future__ import annotations

from typing import Any

import numpy as np
from roiextractors import ImagingExtractor, NumpySegmentationExtractor
from roiextractors.testing import generate_dummy_segmentation_extractor

ROWS, COLUMNS, SAMPLES = 5, 7, 12
LINE = np.arange(SAMPLES) / 20.0


class Movie(ImagingExtractor):
    """A movie in memory, whose stamps come from the "hardware" if there are any."""

    extractor_name = "Movie"

    def __init__(self, data: np.ndarray, rate: float = 20.0, stamps: Any = None):
        super().__init__()
        self.data, self.rate = data, rate
        self.stamps = None if stamps is None else np.asarray(stamps, dtype=float)
        self.is_volumetric = data.ndim == 4

    def get_image_shape(self):
        return self.data.shape[1:3]

    def get_sample_shape(self):
        return self.data.shape[1:]

    def get_volume_shape(self):
        return self.data.shape[1:]

    def get_num_planes(self):
        return self.data.shape[3]

    def get_num_samples(self):
        return len(self.data)

    def get_sampling_frequency(self):
        return self.rate

    def get_dtype(self):
        return self.data.dtype

    def get_channel_names(self):
        return ["OpticalChannel"]

    def get_series(self, start_sample=None, end_sample=None):
        return self.data[start_sample:end_sample]

    def get_native_timestamps(self, start_sample=None, end_sample=None):
        return None if self.stamps is None else self.stamps[start_sample:end_sample]


def movie(shape=(SAMPLES, ROWS, COLUMNS), dtype: Any = "uint16", **options: Any) -> Movie:
    numbers = np.arange(np.prod(shape)).reshape(shape)
    return Movie((numbers % 2 if dtype == "bool" else numbers % 100).astype(dtype), **options)


def masks(num_rois: int = 3) -> np.ndarray:
    """Image masks (rows, columns, ROIs): bars of rising weight, each brightest at its lower end."""
    made = np.zeros((ROWS, COLUMNS, num_rois))
    for roi in range(num_rois):
        made[1:4, 2 * roi, roi] = [0.25, 0.5, 1.0]
    return made


def traces(num_rois: int = 3, offset: float = 0.0) -> np.ndarray:
    return (np.arange(SAMPLES * num_rois).reshape(SAMPLES, num_rois) + offset).astype("float64")


def cells(num_rois: int = 3, **options: Any) -> NumpySegmentationExtractor:
    """Cells with raw traces and a mean image; ``options`` are those of NumpySegmentationExtractor."""
    given = {
        "image_masks": masks(num_rois),
        "raw": traces(num_rois),
        "mean_image": np.arange(ROWS * COLUMNS, dtype=float).reshape(ROWS, COLUMNS),
        "sampling_frequency": 20.0,
        "channel_names": ["Green"],
    }
    return NumpySegmentationExtractor(**given | options)


def cells_as_pixels():
    return generate_dummy_segmentation_extractor(
        num_rois=3, num_rows=ROWS, num_columns=COLUMNS, num_samples=SAMPLES, mask_type="pixel", seed=1
    )
