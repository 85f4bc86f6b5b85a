"""The movies and segmentations of a session: which there are, what tells them apart, what belongs together."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from airflow_provider_ophys.exceptions import ConfigurationError, OphysError
from airflow_provider_ophys.extractors import check_channel, find_extractor
from airflow_provider_ophys.models.conversion import MovieOptions, SegmentationOptions
from airflow_provider_ophys.models.recording import Contents, Kind, Movie, SegmentedPlane
from airflow_provider_ophys.recordings.formats import is_meant, recording_of
from airflow_provider_ophys.recordings.recording import Recording
from airflow_provider_ophys.sessions.finding import WHOLE_FOLDER, LocatedRecording
from airflow_provider_ophys.sessions.session_yaml import EXAMPLE, NAME, SessionFile
from airflow_provider_ophys.sessions.source_metadata import title

VOLUME_AXES = 3
# Of a file's name, what is no part of the name of its recording.
SUFFIXES = re.compile(r"(\.ome)?\.[A-Za-z]\w{0,4}$")


@dataclass(frozen=True)
class Part:
    """
    A movie or a segmentation.

    :param options: With which it is written.
    :param recording: That opens it and no other.
    :param place: Of the recording that it is a part of: a file, or a folder.
    :param known: What its headers say of it; ``None`` if the format does not know.
    :param label: What tells it from the others of its kind: ``"GreenPlane0"``; empty if it is the only one.
    """

    options: MovieOptions | SegmentationOptions
    recording: Recording
    place: Path
    known: Movie | SegmentedPlane | None
    label: str = ""

    @property
    def kind(self) -> Kind:
        """``"imaging"`` or ``"segmentation"``."""
        return self.options.kind

    @property
    def channel(self) -> str | None:
        """Name of the channel, if the format knows it."""
        return None if self.known is None else self.known.channel

    @property
    def plane(self) -> int | None:
        """Index of the plane; of a volume, none."""
        return None if self.known is None else self.known.plane

    @property
    def is_volume(self) -> bool:
        """Whether it is a movie of volumes."""
        return isinstance(self.known, Movie) and len(self.known.sample_shape) == VOLUME_AXES


def parts_found(
    found: Sequence[LocatedRecording], *, volumes: bool, allow_pickle: bool
) -> tuple[list[Part], list[str]]:
    """
    Return the movies and segmentations of the recordings that were found, and remarks.

    :param volumes: Whether a volume stays one movie; otherwise each of its planes is one.
    :param allow_pickle: Whether pickles in a recording may run what they want.
    """
    parts: list[Part] = []
    remarks: list[str] = []
    for each in found:
        contents = each.recording.contents() or Contents()
        remarks += contents.remarks
        place = _place(each.recording)
        place = each.folder if place == each.folder.resolve() else place
        for options, known in _options(each, contents, volumes=volumes):
            recording = recording_of(
                options.kind, options.extractor, options.extractor_kwargs, allow_pickle=allow_pickle
            )
            parts.append(Part(options, recording, place, known))
    return labelled(parts), remarks


def parts_written(written: SessionFile, folder: Path, *, allow_pickle: bool) -> tuple[list[Part], list[str]]:
    """
    Return the movies and segmentations that ``session.yaml`` names, and remarks.

    :param folder: In which the file lies.
    :param allow_pickle: Whether pickles in a recording may run what they want.
    :raises OphysError: If there is no such extractor, or nothing that it reads; says which entry it is.
    """
    parts: list[Part] = []
    remarks: list[str] = []
    entries: list[tuple[int, MovieOptions | SegmentationOptions]] = [
        *enumerate(written.imaging),
        *enumerate(written.segmentation),
    ]
    for number, options in entries:
        recording = recording_of(
            options.kind, options.extractor, options.extractor_kwargs, allow_pickle=allow_pickle
        )
        try:
            if type(recording) is Recording:
                find_extractor(options.kind, options.extractor)
            _ = recording.files  # says what is not there
            contents = recording.contents() or Contents()
            check_channel(recording, contents.movies)
        except OphysError as error:
            raise type(error)(f"{folder / NAME}: {options.kind}.{number}: {error}") from error
        remarks += [remark for remark in contents.remarks if remark not in remarks]
        known: list[Movie | SegmentedPlane] = [*contents.movies, *contents.segmentations]
        own = next((one for one in known if one.extractor_kwargs == options.extractor_kwargs), None)
        if isinstance(options, MovieOptions) and options.photon_series_type == "auto":
            series_type = contents.photon_series_type or "auto"
            options = options.model_copy(update={"photon_series_type": series_type})  # noqa: PLW2901
        parts.append(Part(options, recording, _place(recording), own or (known[0] if len(known) == 1 else None)))
    return labelled(parts), remarks


def _options(
    each: LocatedRecording, contents: Contents, *, volumes: bool
) -> Iterator[tuple[MovieOptions | SegmentationOptions, Movie | SegmentedPlane]]:
    extractor = each.found.extractor
    for movie in contents.movies:
        planes = (
            []
            if volumes
            else [
                movie.model_copy(
                    update={"extractor_kwargs": arguments, "plane": n, "sample_shape": movie.sample_shape[:2]}
                )
                for n, arguments in enumerate(movie.planes)
            ]
        )
        for one in planes or [movie]:
            series_type = contents.photon_series_type or "auto"
            yield (
                MovieOptions(
                    extractor=extractor,
                    extractor_kwargs=one.extractor_kwargs,
                    photon_series_type=series_type,
                ),
                one,
            )
    for segmentation in contents.segmentations:
        arguments = segmentation.extractor_kwargs
        yield SegmentationOptions(extractor=extractor, extractor_kwargs=arguments), segmentation


def _place(recording: Recording) -> Path:
    paths = list(recording.paths.values())
    if not paths:
        return Path()
    is_folder = any(is_meant(recording.extractor, name) for name in WHOLE_FOLDER)
    return paths[0].absolute().parent if is_folder else paths[0].absolute()


def labelled(parts: Sequence[Part]) -> list[Part]:
    """Return parts with labels: of the several of a kind, each gets its own."""
    return [
        part for kind in ("imaging", "segmentation") for part in _labelled([p for p in parts if p.kind == kind])
    ]


def _labelled(parts: list[Part]) -> list[Part]:
    if len(parts) < 2:  # noqa: PLR2004
        return [replace(part, label="") for part in parts]
    labels = [title(part.channel or "") + ("" if part.plane is None else f"Plane{part.plane}") for part in parts]
    places = [part.place for part in parts]
    # By the file or folder; where all have one name, by the folder that it lies in.
    for names in ([SUFFIXES.sub("", place.name) for place in places], [place.parent.name for place in places]):
        if not _are_unique(labels) and len(set(names)) > 1:
            labels = [title(name) + label for name, label in zip(names, labels, strict=True)]
    if not _are_unique(labels):
        labels = [f"{label}{number}" for number, label in enumerate(labels)]
    return [replace(part, label=label) for part, label in zip(parts, labels, strict=True)]


def _are_unique(labels: Sequence[str]) -> bool:
    return all(labels) and len(set(labels)) == len(labels)


def movie_of(segmentation: Part, movies: Sequence[Part], folder: Path) -> tuple[Part | None, list[str]]:
    """
    Tell in which movie's plane a segmentation lies.

    :param movies: Of the session.
    :param folder: Of the session, for messages.
    :returns: ``None`` if it is none of the movies' planes; and remarks of what is assumed.
    :raises ConfigurationError: If it may be several.
    """
    near = _best(movies, lambda movie: _nearness(segmentation.place, movie.place))
    if segmentation.plane is not None:
        near = [movie for movie in near if movie.plane == segmentation.plane or movie.is_volume] or (
            [movie for movie in near if movie.plane is None] if segmentation.plane == 0 else []
        )
    if not near:
        return None, []
    channels = list(dict.fromkeys(movie.channel for movie in near))
    remarks = []
    if len(channels) > 1:
        channel, is_said = _channel_of(segmentation, channels)
        near = [movie for movie in near if movie.channel == channel]
        if not is_said:
            place = os.path.relpath(segmentation.place, folder)
            remarks = [f"{place} does not say its channel; it is taken to be of {channel}."]
    if len(near) > 1:
        raise ConfigurationError(
            f"{_named(segmentation, folder)} may be of {' or of '.join(_named(movie, folder) for movie in near)}. "
            f"Write {folder / NAME} with the movies and segmentations that belong together, for example\n"
            f"  {EXAMPLE}"
        )
    return near[0], remarks


def check_one_per_plane(tied: Sequence[tuple[Part, Part | None]], folder: Path) -> None:
    """
    Check that no plane has two segmentations, of which the user may want one.

    :param tied: Segmentations, each with its movie.
    :param folder: Of the session, for messages.
    :raises ConfigurationError: If one has.
    """
    counted = Counter((segmentation.plane or 0, movie.label) for segmentation, movie in tied if movie is not None)
    for (plane, label), count in counted.items():
        several = [
            segmentation
            for segmentation, movie in tied
            if movie is not None and (segmentation.plane or 0, movie.label) == (plane, label)
        ]
        if count > 1 and len({segmentation.place for segmentation in several}) > 1:
            raise ConfigurationError(
                f"{folder} has {count} segmentations of one plane: "
                f"{', '.join(_named(each, folder) for each in several)}. Write {folder / NAME} with those that "
                f"are to be converted, for example\n  {EXAMPLE}\n  segmentation: {{extractor: "
                f"{several[0].options.extractor}, extractor_kwargs: ...}}"
            )


def _best(movies: Sequence[Part], score: Callable[[Part], int]) -> list[Part]:
    scores = [score(movie) for movie in movies]
    return [movie for movie, one in zip(movies, scores, strict=True) if one == max(scores)]


def _nearness(one: Path, other: Path) -> int:
    """Count the folders that two places share."""
    return len(Path(os.path.commonpath([one, other.parent if other.suffix else other])).parts)


def _channel_of(segmentation: Part, channels: Sequence[str | None]) -> tuple[str | None, bool]:
    """Return the channel that is meant, and whether the segmentation says so: by name, or as ``chan2``."""
    if segmentation.channel in channels and segmentation.channel is not None:
        return segmentation.channel, True
    number = re.fullmatch(r"\D*(\d+)", segmentation.channel or "")
    if number and 0 < int(number[1]) <= len(channels):
        return channels[int(number[1]) - 1], True
    return channels[0], False


def _named(part: Part, folder: Path) -> str:
    """Name a part in a message, by its place in the folder, its channel and its plane."""
    place = os.path.relpath(part.place, folder)
    more = [f"channel {part.channel}"] if part.channel else []
    more += [] if part.plane is None else [f"plane {part.plane}"]
    return f"{place} ({', '.join(more)})" if more else place
