"""
The results of CNMF-E and of EXTRACT, as MATLAB 7.3 stores them: one structure in an HDF5 file, axes reversed.

Both keep images and traces of the ROIs and, but for EXTRACT since version 1, how long the recording took.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from airflow_provider_ophys.exceptions import ConfigurationError, SourceDataError
from airflow_provider_ophys.models.recording import HeaderMetadata, SegmentedPlane
from airflow_provider_ophys.recordings.hdf5_cells import Hdf5Cells, Hdf5Parts
from airflow_provider_ophys.recordings.headers import Headers

SUFFIXES = (".mat",)
DURATION = "time/totalTime"
LONGEST_VERSION = 100


class CnmfeRecording(Hdf5Cells):
    """What ``CnmfeSegmentationExtractor`` reads: the first structure of the file, whatever its name."""

    suffixes = SUFFIXES
    extractor_name = "CnmfeSegmentationExtractor"

    def arguments_if_known(self) -> dict[str, Any] | None:
        """Return the file, if its first structure has images and signals."""
        with self.opened() as parts:
            name = _first(parts)
            names = ("extractedImages", "extractedSignals")
            return dict(self.arguments) if name and all(parts.has(f"{name}/{each}") for each in names) else None

    def _look(self, parts: Hdf5Parts) -> SegmentedPlane:
        name = _first(parts)
        parts.require(bool(name), "there is no structure in it")
        cells = _cells(parts, f"{name}/extractedImages", f"{name}/extractedSignals")
        parts.shape(f"{name}/Cn", 2)
        rate = cells["num_samples"] / _duration(parts, f"{name}/{DURATION}")
        return SegmentedPlane(extractor_kwargs=dict(self.arguments), rate=rate, **cells)

    def metadata(self) -> HeaderMetadata:
        """Tell the rate: frames in the recording's time."""
        headers = Headers()
        headers.add("plane", "imaging_rate", self.cells.rate, f"{self.file.name}: {DURATION}")
        return headers.result()


class ExtractRecording(Hdf5Cells):
    """What ``ExtractSegmentationExtractor`` reads: results of EXTRACT before and since version 1."""

    suffixes = SUFFIXES
    extractor_name = "ExtractSegmentationExtractor"

    def arguments_if_known(self) -> dict[str, Any] | None:
        """Return the file, and the rate as far as it says so: the extractor asks for it in any case."""
        with self.opened() as parts:
            try:
                is_new = self._is_new(parts)
            except SourceDataError:
                return None
            name = self._name(parts)
            if not parts.has(f"{name}/{'spatial_weights' if is_new else 'filters'}"):
                return None
        return dict(self.arguments) | ({} if is_new else {"sampling_frequency": self.cells.rate})

    def _look(self, parts: Hdf5Parts) -> SegmentedPlane:
        name = self._name(parts)
        if not self._is_new(parts):
            cells = _cells(parts, f"{name}/filters", f"{name}/traces")
            parts.shape(f"{name}/info/summary_image", 2)
            rate = cells["num_samples"] / _duration(parts, f"{name}/{DURATION}")
            return SegmentedPlane(extractor_kwargs=dict(self.arguments), rate=rate, **cells)
        parts.require(parts.number(f"{name}/config/preprocess") is not None, f"it has no {name}/config/preprocess")
        rois, columns, rows = parts.shape(f"{name}/spatial_weights", 3)
        of_traces, samples = parts.shape(f"{name}/temporal_weights", 2)
        parts.require(rois == of_traces, f"{name} has masks of {rois} ROIs, but traces of {of_traces}")
        return SegmentedPlane(
            extractor_kwargs=dict(self.arguments),
            num_rois=rois,
            num_samples=samples,
            image_shape=(rows, columns),
            rate=self.given_rate,
        )

    def metadata(self) -> HeaderMetadata:
        """Tell EXTRACT's version, and the rate if the file says so."""
        headers, file = Headers(), self.file.name
        rate = self.cells.rate
        with self.opened() as parts:
            name = self._name(parts)
            if not self._is_new(parts):
                headers.add("plane", "imaging_rate", rate, f"{file}: {DURATION}")
            version = parts.text(f"{name}/info/version")
            headers.describe("plane", "EXTRACT", version, f"{file}: {name}/info/version")
            radius = parts.number(f"{name}/config/avg_cell_radius")
            place = f"{file}: {name}/config/avg_cell_radius"
            headers.describe("plane", "Radius of cells", radius, place, "pixels")
        return headers.result()

    @cached_property
    def given_rate(self) -> float | None:
        """
        The rate (Hz) that was given.

        :raises ConfigurationError: If it is no rate.
        """
        rate = self.arguments.get("sampling_frequency")
        if rate is None:
            return None
        if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 < rate < np.inf:
            raise ConfigurationError(f"sampling_frequency is {rate!r}. Give the samples per second.")
        return float(rate)

    def _name(self, parts: Hdf5Parts) -> str:
        given = self.arguments.get("output_struct_name")
        names = [str(given)] if given is not None else ["output", "extractAnalysisOutput"]
        name = next((name for name in names if parts.has(name)), None)
        if name is None:
            raise SourceDataError(
                f"{self.file} has no structure {' or '.join(names)}. Name the one that EXTRACT returned in "
                "output_struct_name."
            )
        return name

    def _is_new(self, parts: Hdf5Parts) -> bool:
        name = self._name(parts)
        version = parts.text(f"{name}/info/version") or ""
        first = version[:LONGEST_VERSION].partition(".")[0]
        parts.require(first.isdecimal(), f"it has no version of EXTRACT in {name}/info/version")
        return int(first) >= 1


def _first(parts: Hdf5Parts) -> str | None:
    """Return the name of the first structure, as the extractor takes it."""
    return next((name for name in parts.opened if "#" not in name), None)


def _cells(parts: Hdf5Parts, masks: str, traces: str) -> dict[str, Any]:
    rois, rows, columns = parts.shape(masks, 3)
    samples, of_traces = parts.shape(traces, 2)
    parts.require(rois == of_traces, f"{masks} is of {rois} ROIs, but {traces} of {of_traces}")
    return {"num_rois": rois, "num_samples": samples, "image_shape": (rows, columns)}


def _duration(parts: Hdf5Parts, path: str) -> float:
    parts.require(min(parts.shape(path, 2)) > 0, f"{path} is empty")
    duration = float(parts.opened[path][0, 0])
    parts.require(0 < duration < np.inf, f"{path} is {duration}, not seconds")
    return duration
