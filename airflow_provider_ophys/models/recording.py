"""What is known of a recording without reading a pixel: where it lies, what is in it, what its headers say."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Kind = Literal["imaging", "segmentation"]
PhotonSeriesType = Literal["TwoPhotonSeries", "OnePhotonSeries"]


class _Known(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FoundRecording(_Known):
    """
    A recording in a folder.

    :param kind: ``"imaging"`` or ``"segmentation"``.
    :param extractor: Name of the roiextractors class that reads it.
    :param extractor_kwargs: Arguments with which it does; paths as texts.
    """

    kind: Kind
    extractor: str
    extractor_kwargs: dict[str, Any]


class Movie(_Known):
    """
    One movie of a recording: of one channel, and of one plane or of a volume.

    :param extractor_kwargs: Arguments that open this movie and no other.
    :param channel: Name of the channel, as the maker's software has it; ``None`` if it has none.
    :param plane: Index of the plane, from 0; ``None`` for the only one, or for a volume.
    :param num_samples: Frames, or volumes.
    :param sample_shape: (rows, columns), or (rows, columns, planes) of a volume.
    :param dtype: NumPy's name of the pixels' type; ``None`` if only reading tells.
    :param rate: Samples per second (Hz), the file's own; ``None`` if the file does not say.
    :param start: Of the first sample.
    :param duration: Seconds from the first sample to the end of the last; ``None`` if the file does not say.
    :param planes: Of a volume: arguments that open each plane by itself; empty if that is not possible.
    """

    extractor_kwargs: dict[str, Any]
    channel: str | None = None
    plane: int | None = None
    num_samples: int
    sample_shape: tuple[int, ...]
    dtype: str | None = None
    rate: float | None = None
    start: datetime | None = None
    duration: float | None = None
    planes: list[dict[str, Any]] = []


class SegmentedPlane(_Known):
    """
    One segmentation of a recording.

    :param extractor_kwargs: Arguments that open this segmentation and no other.
    :param channel: Name of the channel; ``None`` if there is one only, or the file does not say.
    :param plane: Index of the plane, from 0; ``None`` if there is one only, or the file does not say.
    :param num_rois: ROIs.
    :param num_samples: Of the traces; ``None`` if there are none.
    :param image_shape: (rows, columns[, planes]) in which the ROIs lie.
    :param rate: Of the traces (Hz), the file's own; ``None`` if the file does not say.
    """

    extractor_kwargs: dict[str, Any]
    channel: str | None = None
    plane: int | None = None
    num_rois: int
    num_samples: int | None = None
    image_shape: tuple[int, ...] | None = None
    rate: float | None = None


class Contents(_Known):
    """
    What is in a recording.

    :param movies: By channel, then by plane.
    :param segmentations: By plane, then by channel.
    :param photon_series_type: What the movies are in NWB; ``None`` if the format does not say.
    :param remarks: What is assumed or contradictory, one sentence each.
    """

    movies: list[Movie] = []
    segmentations: list[SegmentedPlane] = []
    photon_series_type: PhotonSeriesType | None = None
    remarks: list[str] = []


class HeaderMetadata(_Known):
    """
    What the headers of a recording say, in the dict form of metadata.

    :param metadata: Its device, plane and series have the key
        :data:`airflow_provider_ophys.models.metadata.DEFAULT_METADATA_KEY`.
    :param sources: Path of a field, such as ``"Subject.subject_id"`` -> where it stands, such as
        ``"metaData.json: animalID"``.
    :param remarks: What is assumed or contradictory, one sentence each.
    """

    metadata: dict[str, Any] = {}
    sources: dict[str, str] = {}
    remarks: list[str] = []
