"""CaImAn's results: an HDF5 file with what it estimated and the parameters that it was given."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from airflow_provider_ophys.models.recording import HeaderMetadata, SegmentedPlane
from airflow_provider_ophys.recordings.hdf5_cells import Hdf5Cells, Hdf5Parts
from airflow_provider_ophys.recordings.headers import Headers

MASKS, DIMENSIONS, RATE = "estimates/A", "params/data/dims", "params/data/fr"
TRACES = ("C", "YrA", "S", "F_dff")
ACCEPTED = "estimates/idx_components"
BLOCK = 1 << 20


class CaimanRecording(Hdf5Cells):
    """What ``CaimanSegmentationExtractor`` reads. What was not computed is a single value there: ``NoneType``."""

    suffixes = (".hdf5", ".h5")
    extractor_name = "CaimanSegmentationExtractor"

    def arguments_if_known(self) -> dict[str, Any] | None:
        """Return the file, if it has estimates and parameters."""
        with self.opened() as parts:
            return dict(self.arguments) if parts.has(f"{MASKS}/indptr") and parts.has(DIMENSIONS) else None

    def _look(self, parts: Hdf5Parts) -> SegmentedPlane:
        dimensions = tuple(map(int, parts.values(DIMENSIONS, 1)))
        parts.require(
            len(dimensions) == 2 and min(dimensions) > 0,  # noqa: PLR2004
            f"{DIMENSIONS} is {dimensions}, not (rows, columns)",
        )
        rate = parts.number(RATE)
        parts.require(rate is not None and 0 < rate < np.inf, f"{RATE} is {rate}, not samples per second")
        shapes = {
            name: parts.shape(f"estimates/{name}", 2) for name in TRACES if parts.is_computed(f"estimates/{name}")
        }
        num_rois = _check_masks(parts, prod(dimensions)) if parts.is_computed(f"{MASKS}/data") else None
        if num_rois is None:
            num_rois = next(iter(shapes.values()), (0, 0))[0]
        lengths = {shape[1] for shape in shapes.values()}
        for name, shape in shapes.items():
            parts.require(
                shape[0] == num_rois and len(lengths) == 1,
                f"estimates/{name} has the shape {shape}, but of {num_rois} components there are {shapes}",
            )
        _check_background(parts, prod(dimensions))
        if parts.is_computed(ACCEPTED):
            accepted = parts.values(ACCEPTED, 1)
            is_index = accepted.dtype.kind in "iu" and accepted.min() >= 0 and accepted.max() < num_rois
            parts.require(bool(is_index), f"{ACCEPTED} names others than the {num_rois} components")
        return SegmentedPlane(
            extractor_kwargs=dict(self.arguments),
            num_rois=num_rois,
            num_samples=lengths.pop() if lengths else None,
            image_shape=dimensions,
            rate=rate,
        )

    def metadata(self) -> HeaderMetadata:
        """Tell the rate, and what CaImAn was told of the movie."""
        headers, file = Headers(), self.file.name
        with self.opened() as parts:
            headers.add("plane", "imaging_rate", parts.number(RATE), f"{file}: {RATE}")
            for name, label, unit in (
                ("caiman_version", "CaImAn", ""),
                ("decay_time", "Decay time of the sensor", "s"),
            ):
                path = f"params/data/{name}"
                value = parts.number(path)
                headers.describe(
                    "plane", label, parts.text(path) if value is None else value, f"{file}: {path}", unit
                )
        return headers.result()


def _check_masks(parts: Hdf5Parts, num_pixels: int) -> int:
    """Check a sparse matrix (pixels, components) as its library does not: a wrong one ends the process."""
    shape = tuple(map(int, parts.values(f"{MASKS}/shape", 1)))
    (stored,), (indices,) = parts.shape(f"{MASKS}/data", 1), parts.shape(f"{MASKS}/indices", 1)
    begins = parts.values(f"{MASKS}/indptr", 1)
    is_right = (
        len(shape) == 2  # noqa: PLR2004
        and shape[0] == num_pixels
        and begins.dtype.kind in "iu"
        and len(begins) == shape[1] + 1
        and begins[0] == 0
        and bool(np.all(begins[1:] >= begins[:-1]))
        and begins[-1] == stored == indices
    )
    parts.require(is_right, f"{MASKS} is no sparse matrix of {num_pixels} pixels: {shape}, {stored} values")
    dataset = parts.opened[f"{MASKS}/indices"]
    for first in range(0, indices, BLOCK):
        block = dataset[first : first + BLOCK]
        parts.require(
            block.dtype.kind in "iu" and bool(block.min() >= 0 and block.max() < num_pixels),
            f"{MASKS} has values outside of the {num_pixels} pixels",
        )
    return shape[1]


def _check_background(parts: Hdf5Parts, num_pixels: int) -> None:
    if not parts.is_computed("estimates/b"):
        return
    num_axes = len(parts.opened["estimates/b"].shape)
    pixels = parts.shape("estimates/b", max(1, min(num_axes, 2)))[0]
    parts.require(pixels == num_pixels, f"estimates/b has {pixels} pixels, not {num_pixels}")
