"""What a conversion reports: plain JSON in XCom and on the output's asset event."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from airflow_provider_ophys.models.backend import Backend


class _ConversionResult(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    nwbfile_path: str
    backend: Backend
    size_bytes: int
    elapsed_seconds: float
    throughput_mb_per_s: float
    peak_memory_bytes: int
    reused: bool
    validation: Literal["valid", "not validated"]

    def to_json(self) -> dict[str, Any]:
        """Return the result as what XCom and asset events carry."""
        return self.model_dump(mode="json")


class ImagingResult(_ConversionResult):
    """
    A movie that was written.

    ``sample_shape`` is (columns, rows[, planes]), as stored. ``size_bytes`` is the whole file or store,
    ``throughput_mb_per_s`` counts uncompressed megabytes (10^6 bytes), ``peak_memory_bytes`` is the most that
    the process held beyond its start, without the page cache.
    """

    num_samples: int
    sample_shape: list[int]
    dtype: str


class SegmentationResult(_ConversionResult):
    """A segmentation that was written; ``traces`` are the roles found, such as ``["raw", "neuropil"]``."""

    num_rois: int
    traces: list[str]
