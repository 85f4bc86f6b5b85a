"""What is known of a session before anything is converted: plain JSON, which travels in an XCom."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from airflow_provider_ophys.exceptions import ConfigurationError
from airflow_provider_ophys.models.conversion import MovieOptions, SegmentationOptions, SessionConversion
from airflow_provider_ophys.models.session_name import SessionName
from airflow_provider_ophys.models.validation import list_problems, number_check


class SessionMovie(MovieOptions):
    """
    A movie of a session, and the options with which it is written.

    :param recording: Where the recording lies, relative to the session's folder.
    :param name: Of the series in the NWB file.
    :param channel: Name of the channel; ``None`` if the format knows none.
    :param plane: Index of the plane, from 0; ``None`` for the only one, or for a volume.
    :param num_samples: Frames, or volumes; ``None`` if only reading tells, as for the next ones.
    :param sample_shape: (rows, columns[, planes]).
    :param rate: Samples per second (Hz).
    """

    recording: str
    name: str
    channel: str | None = None
    plane: int | None = None
    num_samples: int | None = None
    sample_shape: tuple[int, ...] | None = None
    rate: float | None = None


class SessionSegmentation(SegmentationOptions):
    """
    A segmentation of a session, and the options with which it is written.

    :param recording: Where it lies, relative to the session's folder.
    :param name: Of the table of ROIs in the NWB file.
    :param channel: Name of the channel; ``None`` if the format does not say.
    :param plane: Index of the plane, from 0; ``None`` if there is one only, or the format does not say.
    :param num_rois: ROIs; ``None`` if only reading tells.
    :param imaging_plane: Key of its plane in ``Ophys.ImagingPlanes``.
    """

    recording: str
    name: str
    channel: str | None = None
    plane: int | None = None
    num_rois: int | None = None
    imaging_plane: str


class Session(BaseModel):
    """
    A session, as far as its folder tells of it.

    :param folder: Absolute path.
    :param name: Its path below the watched folder, with ``/``; or the folder's name.
    :param imaging: Its movies, by recording, channel and plane.
    :param segmentation: Its segmentations.
    :param metadata: Of all of it, in the dict form.
    :param sources: Path of a field, such as ``"Subject.subject_id"`` -> where it stands.
    :param remarks: What is assumed, missing or contradictory, one sentence each.
    :param unknown_files: Files that belong to no recording, relative to the folder; the first hundred.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    _wants_numbers = number_check()

    folder: str
    name: str
    imaging: list[SessionMovie] = []
    segmentation: list[SessionSegmentation] = []
    metadata: dict[str, Any] = {}
    sources: dict[str, str] = {}
    remarks: list[str] = []
    unknown_files: list[str] = []

    @property
    def names(self) -> list[str]:
        """Of its series in an NWB file, then of its tables of ROIs."""
        return [movie.name for movie in self.imaging] + [one.name for one in self.segmentation]

    @property
    def identity(self) -> SessionName:
        """What tells it from others."""
        ids = (
            self.metadata.get("Subject", {}).get("subject_id"),
            self.metadata.get("NWBFile", {}).get("session_id"),
        )
        subject_id, session_id = (None if each is None else str(each) for each in ids)
        return SessionName(folder=self.folder, name=self.name, subject_id=subject_id, session_id=session_id)

    def conversion(self, nwbfile_path: str | Path, **options: Any) -> SessionConversion:
        """
        Return the conversion of all of the session into one file.

        :param nwbfile_path: Where the file goes.
        :param options: Others of the conversion, such as ``backend`` or ``if_exists``.
        :raises ConfigurationError: If one is wrong.
        """
        movies = [_only(movie, MovieOptions) for movie in self.imaging]
        segmentations = [_only(each, SegmentationOptions) for each in self.segmentation]
        found = {
            "session": self.identity,
            "names": self.names,
            "imaging": movies,
            "segmentation": segmentations,
            "metadata": self.metadata,
        }
        return SessionConversion.from_options(found | {"nwbfile_path": str(nwbfile_path)} | options)


def session_conversion(
    session: Session | Mapping[str, Any], nwbfile_path: str | Path, **options: Any
) -> SessionConversion:
    """
    Return the conversion of a session into one file.

    :param session: What :func:`airflow_provider_ophys.sessions.describe_session` returned, also as JSON; or a
        dict with the lists ``imaging`` and ``segmentation``, of the options of each movie
        (:class:`MovieOptions`) and segmentation (:class:`SegmentationOptions`), and with ``metadata``.
    :param nwbfile_path: Where the file goes.
    :param options: Others of the conversion, such as ``backend`` or ``if_exists``.
    :raises ConfigurationError: If the session is neither of these, or an option is wrong.
    """
    if not isinstance(session, (Session, Mapping)):
        raise ConfigurationError(
            f"session is {session!r:.200}. Give what DescribeSessionOperator or describe_session returns, or a "
            "dict with imaging, segmentation and metadata."
        )
    if isinstance(session, Mapping) and "folder" not in session:
        return SessionConversion.from_options({**session, "nwbfile_path": str(nwbfile_path), **options})
    try:
        described = session if isinstance(session, Session) else Session.model_validate(session)
    except ValidationError as error:
        raise ConfigurationError(
            f"session is not what DescribeSessionOperator or describe_session returns:\n{list_problems(error)}"
        ) from error
    return described.conversion(nwbfile_path, **options)


def _only(part: BaseModel, options: type[MovieOptions | SegmentationOptions]) -> dict[str, Any]:
    return part.model_dump(include=set(options.model_fields))
