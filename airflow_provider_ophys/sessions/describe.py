"""All that is known of a session before anything is converted."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from airflow_provider_ophys.exceptions import (
    MetadataError,
    OphysError,
    SourceDataError,
    SourceNotFoundError,
    unreadable,
)
from airflow_provider_ophys.models.allowed_roots import check_allowed
from airflow_provider_ophys.models.conversion import MovieOptions
from airflow_provider_ophys.models.folder_contents import is_there
from airflow_provider_ophys.models.metadata import validate_metadata
from airflow_provider_ophys.models.recording import HeaderMetadata, Movie, SegmentedPlane
from airflow_provider_ophys.models.session import Session, SessionMovie, SessionSegmentation
from airflow_provider_ophys.sessions.finding import find_recordings
from airflow_provider_ophys.sessions.given_metadata import METADATA_FILES, GivenMetadata, lay_given
from airflow_provider_ophys.sessions.headers import lay_headers
from airflow_provider_ophys.sessions.layers import Layers
from airflow_provider_ophys.sessions.parts import (
    Part,
    check_one_per_plane,
    labelled,
    movie_of,
    parts_found,
    parts_written,
)
from airflow_provider_ophys.sessions.rates import check_rates_written, pass_over_pictures, with_rate
from airflow_provider_ophys.sessions.session_yaml import NAME, read_session_yaml
from airflow_provider_ophys.sessions.source_metadata import headers_of
from airflow_provider_ophys.sessions.starts import lay_starts
from airflow_provider_ophys.sessions.subject_table import SubjectTable

MOST_UNKNOWN_FILES = 100
# By which a folder says that it is complete, as the shipped DAGs expect it.
MARKER = "DONE"
# Files that say something of a folder, and belong to no recording.
OF_THE_FOLDER = frozenset({NAME, MARKER, *METADATA_FILES})


def describe_session(
    folder: str | os.PathLike[str],
    *,
    name: str | None = None,
    metadata: object = None,
    root: str | os.PathLike[str] | None = None,
    subject_table: SubjectTable | None = None,
    folder_name: str | None = None,
    volumes: bool = True,
    allowed_roots: Sequence[Path] = (),
    allow_pickle: bool = False,
) -> Session:
    """
    Tell which recordings lie in a folder, and what is known of the session; no pixel is read.

    The metadata are merged field by field: what the headers say < ``lab.yaml`` from the root downwards < the
    subject table < the folder's name < ``metadata.yaml`` < ``metadata``. In them, the entry
    ``default_metadata_key`` of a section says what is true of all planes, series or tables, and an entry that is
    named as a channel what is true of that channel. A ``session.yaml`` in the folder names the recordings in place
    of what would be found.

    :param folder: Of the session.
    :param name: What it is called. Default: its path below ``root``, or the folder's name.
    :param metadata: A dict, the path of a YAML or JSON file, or a list of these.
    :param root: The uppermost folder whose ``lab.yaml`` counts. Default: that of the file system.
    :param subject_table: As :func:`airflow_provider_ophys.sessions.subject_table.look_up_subject` takes it.
    :param folder_name: Pattern, as :func:`airflow_provider_ophys.sessions.folder_name.read_folder_name` takes it.
    :param volumes: Whether a volume stays one 4-D series; otherwise each of its planes becomes a series.
    :param allowed_roots: Folders that every path has to lead into; none means that all are allowed.
    :param allow_pickle: Whether pickles in a recording may hold more than data, and run what they want.
    :raises OphysError: If the folder holds nothing known, or something cannot be decided; says what to write
        where.
    """
    place = Path(folder).absolute()
    check_allowed("folder", place, allowed_roots)
    given = GivenMetadata(place, metadata, root, subject_table, folder_name, tuple(allowed_roots))
    try:
        return _described(
            place, name or _name_below(place, root), given, volumes=volumes, allow_pickle=allow_pickle
        )
    except OphysError:
        raise
    except OSError as error:
        raise unreadable(
            f"The session in {place} cannot be looked at: {error}. Check the permissions, and that the share is "
            "mounted.",
            error,
        ) from error


def _described(folder: Path, name: str, given: GivenMetadata, *, volumes: bool, allow_pickle: bool) -> Session:
    if not folder.is_dir():
        raise SourceNotFoundError(f"There is no folder {folder}. Check the path, and that it is mounted here.")
    parts, remarks, unknown = _parts(
        folder, volumes=volumes, allowed_roots=given.allowed_roots, allow_pickle=allow_pickle
    )
    if not volumes:
        remarks += [
            f"{os.path.relpath(part.place, folder)} stays a series of volumes: {NAME} names it so, or its planes "
            f"cannot be read by themselves. Where they can, plane_index in extractor_kwargs chooses one."
            for part in parts
            if part.is_volume
        ]
    draft = _Draft(folder, name, parts, remarks)
    draft.tie()
    lay_given(draft.layers, given, draft.headers(), draft.remarks)
    draft.keys = lay_headers(draft.layers, parts, draft.tied, draft.read, draft.remarks)
    headers, keys = [draft.read(part) for part in parts], [key for key, _, _ in draft.keys]
    draft.remarks += lay_starts(draft.layers, parts, headers=headers, keys=keys, tied=draft.tied)
    return draft.session(unknown)


def _name_below(folder: Path, root: str | os.PathLike[str] | None) -> str:
    top = folder.parent if root is None else Path(root).absolute()
    below = folder.relative_to(top).as_posix() if folder.is_relative_to(top) else "."
    return folder.name if below == "." else below


def _parts(
    folder: Path, *, volumes: bool, allowed_roots: Sequence[Path], allow_pickle: bool
) -> tuple[list[Part], list[str], list[Path]]:
    """Return the movies and segmentations, remarks, and the files that belong to none of them."""
    if is_there(folder / NAME):
        written = read_session_yaml(folder, allowed_roots)
        parts, remarks = parts_written(written, folder, allow_pickle=allow_pickle)
        check_rates_written(parts, folder)
        return parts, [f"What is converted is what {NAME} says.", *remarks], []
    found, unknown = find_recordings(folder, allow_pickle=allow_pickle)
    for each in found:
        for file in each.recording.files if allowed_roots else ():
            check_allowed(f"{each.found.extractor} reads", file, allowed_roots)
    if not found:
        names = ", ".join(str(file.relative_to(folder)) for file in unknown[:5]) or "no file"
        raise SourceDataError(
            f"{folder} holds no recording that is known ({names}). Check that all of it was copied, or write "
            f"{folder / NAME}, which names the extractor; docs/session-yaml.md shows one."
        )
    parts, remarks = parts_found(found, volumes=volumes, allow_pickle=allow_pickle)
    parts, passed_over = pass_over_pictures(parts, folder)
    remarks += [
        f"{file} does not say its rate; it is passed over, beside a movie that does." for file in passed_over
    ]
    return labelled(parts), remarks, unknown


@dataclass
class _Draft:
    folder: Path
    name: str
    parts: list[Part]
    remarks: list[str]
    layers: Layers = field(default_factory=Layers)
    tied: dict[int, Part | None] = field(default_factory=dict)
    keys: list[tuple[str, str, str]] = field(default_factory=list)
    read_headers: dict[int, HeaderMetadata] = field(default_factory=dict)

    def tie(self) -> None:
        """Tell of each segmentation, by its place among the parts, in which movie's plane it lies."""
        movies = [part for part in self.parts if part.kind == "imaging"]
        for number, part in enumerate(self.parts):
            if part.kind == "segmentation":
                self.tied[number], assumed = movie_of(part, movies, self.folder) if movies else (None, [])
                self.remarks += assumed
                self.parts[number] = with_rate(part, self.tied[number], self.folder)
        if not is_there(self.folder / NAME):
            check_one_per_plane([(self.parts[number], movie) for number, movie in self.tied.items()], self.folder)

    def read(self, part: Part) -> HeaderMetadata:
        """Return what the headers of a part say; if they cannot be read, that is a remark."""
        known = self.read_headers.get(id(part.recording))
        if known is None:
            known = self.read_headers[id(part.recording)] = self._headers_of(part)
        return known

    def _headers_of(self, part: Part) -> HeaderMetadata:
        try:
            return headers_of(part.recording)
        except (SourceDataError, SourceNotFoundError) as error:
            remark = f"The headers of the recording cannot be read: {error}"
            if remark not in self.remarks:
                self.remarks.append(remark)
            return HeaderMetadata()

    def headers(self) -> list[HeaderMetadata]:
        """Return what the headers of all parts say, with their remarks told."""
        headers = [self.read(part) for part in self.parts]
        for header in headers:
            self.remarks += [remark for remark in header.remarks if remark not in self.remarks]
        return headers

    def session(self, unknown: Sequence[Path]) -> Session:
        """Check the metadata, and put all together."""
        layers = self.layers
        self._remark_missing()
        self._check()
        names = [str(file.relative_to(self.folder)) for file in unknown if file.name not in OF_THE_FOLDER]
        remarks = [*self.remarks, *layers.remarks]
        if len(names) > MOST_UNKNOWN_FILES:
            remarks.append(f"{len(names)} files belong to no recording; {MOST_UNKNOWN_FILES} of them are listed.")
        described = [
            self._described(part, key, plane_key, name)
            for part, (key, plane_key, name) in zip(self.parts, self.keys, strict=True)
        ]
        return Session(
            folder=str(self.folder),
            name=self.name,
            imaging=[one for one in described if isinstance(one, SessionMovie)],
            segmentation=[one for one in described if isinstance(one, SessionSegmentation)],
            metadata=layers.metadata,
            sources=dict(sorted(layers.sources.items())),
            remarks=list(dict.fromkeys(remarks)),
            unknown_files=names[:MOST_UNKNOWN_FILES],
        )

    def _remark_missing(self) -> None:
        """Say what a file needs that nobody told, and what is assumed for it."""
        for part, (_, _, name) in zip(self.parts, self.keys, strict=True):
            if isinstance(part.options, MovieOptions) and part.options.photon_series_type == "auto":
                self.remarks.append(
                    f"The format of {os.path.relpath(part.place, self.folder)} does not say whether {name} is of "
                    f"one or of two photons. Write photon_series_type into {NAME} if it is one."
                )
        if not self.layers.metadata.get("NWBFile", {}).get("session_start_time"):
            self.remarks.append(
                "No header and no file says when the session started. Write NWBFile.session_start_time into "
                f"{self.folder / METADATA_FILES[0]}, with a time zone."
            )

    def _check(self) -> None:
        """Check the metadata as they are now; name the file of each field that is wrong."""
        try:
            validate_metadata(self.layers.metadata)
        except MetadataError as error:
            wrong = error.__cause__.errors() if isinstance(error.__cause__, ValidationError) else []
            paths = [".".join(map(str, problem["loc"])) for problem in wrong]
            # What contradicts each other is named in the message only.
            named = set(re.findall(r"\w+(?:\.\w+)+", str(error)))
            said = [
                f"  {path}: {where}"
                for path, where in self.layers.sources.items()
                if path in named or any(path == one or path.startswith(f"{one}.") for one in paths)
            ]
            raise MetadataError("\n".join([str(error), *(["They stand in:"] if said else []), *said])) from error

    def _described(self, part: Part, key: str, plane_key: str, name: str) -> SessionMovie | SessionSegmentation:
        facts: dict[str, Any] = {
            **part.options.model_dump(),
            "metadata_key": key,
            "recording": os.path.relpath(part.place, self.folder),
            "name": name,
            "channel": part.channel,
            "plane": part.plane,
        }
        if isinstance(part.known, Movie):
            known: Mapping[str, Any] = part.known.model_dump(include={"num_samples", "sample_shape", "rate"})
            return SessionMovie(**facts, **known)
        if part.kind == "imaging":
            return SessionMovie(**facts)
        num_rois = part.known.num_rois if isinstance(part.known, SegmentedPlane) else None
        return SessionSegmentation(**facts, num_rois=num_rois, imaging_plane=plane_key)
