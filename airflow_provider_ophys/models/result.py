"""What a conversion reports: plain JSON in XCom and on the output's asset event."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from airflow_provider_ophys.models.backend import Backend
from airflow_provider_ophys.models.session_name import SessionName

# What is added to the name of an NWB file for the files of its report.
REPORT_SUFFIXES = {"html": ".report.html", "png": ".report.png", "thumbnail": ".report.thumbnail.png"}


class Report(BaseModel):
    """
    The report of an NWB file.

    :param html: Absolute path (or URI) of the self-contained page, as are the next two of images.
    :param thumbnail: Of at most 320 pixels.
    :param summary: Small JSON. Of each of its ``movies``: ``path``, ``num_samples``, ``samples_looked_at``,
        ``plane_means``, ``saturation_level`` and ``saturation_share``, ``num_marks`` and ``marks`` (``kind``,
        ``start`` and ``stop`` in seconds, ``samples``, ``count``, ``detail``), ``checked`` and ``not_checked``
        (kind to reason); ``concerns`` are sentences on the file; of each of its ``segmentations``: ``path``,
        ``num_rois``, ``accepted``, ``rejected``, ``outlines`` and ``traces``; ``left_out``: path to reason.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    html: str
    png: str
    thumbnail: str
    summary: dict[str, Any]

    @property
    def files(self) -> dict[str, str]:
        """Where its files are, by kind."""
        return {"html": self.html, "png": self.png, "thumbnail": self.thumbnail}


class Finding(BaseModel):
    """
    What nwbinspector found.

    :param importance: ``"CRITICAL"``, ``"BEST_PRACTICE_VIOLATION"``, ``"BEST_PRACTICE_SUGGESTION"`` or, if a check
        itself failed, ``"ERROR"``.
    :param check: Name of the check.
    :param message: What it says.
    :param location: Of the object in the file.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    importance: str
    check: str
    message: str
    location: str

    def __str__(self) -> str:
        return f"{self.importance} {self.check}: {self.message} ({self.location})"


class ConversionResult(BaseModel):
    """
    What both kinds of conversions report.

    ``remarks`` are what the user may want to know of the file, such as a time without a time zone.
    ``source_bytes`` is the size of the recording's files, ``uncompressed_bytes`` that of the arrays that were
    filled. ``durations`` are the seconds of each phase: ``prepare`` (opening the recording and all checks before a
    byte is written), ``allocate``, ``fill``, ``check`` and ``publish``, empty if the output was reused; and
    ``report``, if one was asked for.
    ``inspection`` is what nwbinspector found, ``None`` if it was not asked.
    ``report`` is ``None`` if none was asked for or, with the reason in ``report_problem``, if it failed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    nwbfile_path: str
    backend: Backend
    size_bytes: int
    elapsed_seconds: float
    throughput_mb_per_s: float
    peak_memory_bytes: int
    reused: bool
    validation: Literal["valid", "not validated"]
    remarks: list[str] = []
    inspection: list[Finding] | None = None
    durations: dict[str, float] = {}
    source_bytes: int = 0
    uncompressed_bytes: int = 0
    report: Report | None = None
    report_problem: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the result as what XCom and asset events carry."""
        return self.model_dump(mode="json")


class PhotonSeriesFacts(BaseModel):
    """
    A series that was written.

    :param name: Of the series.
    :param num_samples: Frames, or volumes.
    :param sample_shape: (columns, rows[, planes]), as stored.
    :param dtype: NumPy's name of the pixels' type.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    num_samples: int
    sample_shape: list[int]
    dtype: str


class ImagingResult(ConversionResult):
    """
    A movie that was written, or several.

    ``sample_shape`` is (columns, rows[, planes]), as stored; of several movies it is, as ``num_samples`` and
    ``dtype`` are, that of the first; ``photon_series`` tells of each. ``size_bytes`` is the whole file or store,
    ``throughput_mb_per_s`` counts uncompressed megabytes (10^6 bytes), ``peak_memory_bytes`` is the most that the
    process held beyond its start, without the page cache.
    """

    num_samples: int
    sample_shape: list[int]
    dtype: str
    photon_series: list[PhotonSeriesFacts] = []


class SegmentationResult(ConversionResult):
    """
    What was written of one segmentation, or of several.

    ``num_rois`` counts all of them, ``traces`` are the roles that were written, such as ``["raw", "neuropil"]``,
    and ``plane_segmentations`` the names of the tables, those of background components too.
    """

    num_rois: int
    traces: list[str]
    plane_segmentations: list[str]


class SessionResult(ConversionResult):
    """
    All of a session that was written at once.

    The fields are those of :class:`ImagingResult` and :class:`SegmentationResult`; of what the session does not
    have they are ``None`` or empty. ``session`` says which one it is.
    """

    session: SessionName | None = None
    num_samples: int | None = None
    sample_shape: list[int] | None = None
    dtype: str | None = None
    photon_series: list[PhotonSeriesFacts] = []
    num_rois: int | None = None
    traces: list[str] = []
    plane_segmentations: list[str] = []
