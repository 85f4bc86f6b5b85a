"""What files, tables and names say of a session, laid over what the headers of its recordings say."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_provider_ophys.exceptions import MetadataError
from airflow_provider_ophys.models.allowed_roots import check_allowed, check_allowed_metadata
from airflow_provider_ophys.models.documents import read_document
from airflow_provider_ophys.models.folder_contents import is_there
from airflow_provider_ophys.models.legacy_metadata import is_list_form
from airflow_provider_ophys.models.metadata import load_metadata
from airflow_provider_ophys.models.recording import HeaderMetadata
from airflow_provider_ophys.sessions.folder_name import read_folder_name
from airflow_provider_ophys.sessions.layers import ASSUMED, Layers, in_json
from airflow_provider_ophys.sessions.session_yaml import NAME as SESSION_FILE
from airflow_provider_ophys.sessions.subject_table import (
    SubjectTable,
    age_between,
    doubts_about,
    look_up_subject,
)

METADATA_FILES = ("metadata.yaml", "lab.yaml")
SESSION_START = ("NWBFile", "session_start_time")
SUBJECT_ID = ("Subject", "subject_id")

Origin = tuple[Mapping[str, Any], str | Mapping[str, str]]


@dataclass(frozen=True)
class GivenMetadata:
    """
    Where metadata are looked for; the parameters of :func:`airflow_provider_ophys.sessions.describe_session`.

    :param folder: Absolute.
    """

    folder: Path
    metadata: object = None
    root: str | os.PathLike[str] | None = None
    subject_table: SubjectTable | None = None
    folder_name: str | None = None
    allowed_roots: tuple[Path, ...] = ()

    def lab_files(self) -> list[Path]:
        """Return the ``lab.yaml`` files from the root downwards."""
        files = [folder / METADATA_FILES[1] for folder in self._folders()]
        return [file for file in files if file.is_file()]

    def misnamed_files(self) -> list[Path]:
        """Return the files that would be read if they ended in ``.yaml``."""
        above = [folder / METADATA_FILES[1] for folder in self._folders()]
        files = [*above, self.folder / METADATA_FILES[0], self.folder / SESSION_FILE]
        return [file.with_suffix(".yml") for file in files if file.with_suffix(".yml").is_file()]

    def _folders(self) -> list[Path]:
        """Return those of which ``lab.yaml`` counts, from the root downwards."""
        folders = [self.folder, *self.folder.parents]
        if self.root is not None:
            top = Path(self.root).absolute()
            if top not in folders:
                raise MetadataError(f"root is {top}, which {self.folder} is not below. Give a folder above it.")
            folders = folders[: folders.index(top) + 1]
        if self.allowed_roots:
            tops = [root.resolve() for root in self.allowed_roots]
            folders = [folder for folder in folders if any(folder.resolve().is_relative_to(top) for top in tops)]
        return folders[::-1]


def lay_given(layers: Layers, given: GivenMetadata, headers: Sequence[HeaderMetadata], remarks: list[str]) -> None:
    """
    Lay down what is known of the session and the subject, and all that was given.

    :param layers: Empty.
    :param headers: Of all movies and segmentations; what they say of devices and planes is left out here.
    :param remarks: To which what is missing or contradictory is added.
    """
    of_headers = _of_session(headers, remarks)
    remarks += [f"{file} is not read. Call it {file.stem}.yaml." for file in given.misnamed_files()]
    labs = [_file(file, given) for file in given.lab_files()]
    above: list[Origin] = []
    own = given.folder / METADATA_FILES[0]
    if is_there(own):
        above.append(_file(own, given))
    if given.metadata is not None:
        of_arguments = load_metadata(given.metadata)
        check_allowed_metadata(of_arguments, given.allowed_roots)
        above.append((_dict_form(in_json(of_arguments), "metadata"), "arguments"))
    named = _named(given, [of_headers, *labs, *above], remarks)
    table = _of_table(given, [of_headers, *labs, *named, *above], remarks)
    for metadata, source in [of_headers, *labs, *table, *named, *above]:
        layers.lay(metadata, source)
    subject, nwbfile = layers.metadata.get("Subject", {}), layers.metadata.get("NWBFile", {})
    if isinstance(subject, Mapping) and isinstance(nwbfile, Mapping) and "age" not in subject:
        age = age_between(subject.get("date_of_birth"), nwbfile.get("session_start_time"))
        if age is not None:
            layers.lay({"Subject": {"age": age}}, "date of birth and start")
    if isinstance(subject, Mapping) and isinstance(nwbfile, Mapping):
        for field, doubt in doubts_about(subject, nwbfile.get("session_start_time")):
            path = f"Subject.{field}"
            remarks.append(f"{path} is {subject[field]!r} by {layers.sources.get(path, ASSUMED)}. {doubt}")


def _of_session(headers: Sequence[HeaderMetadata], remarks: list[str]) -> Origin:
    """Return what the headers say of session and subject: the earliest start, and of all else the first."""
    layers, starts = Layers(), dict[str, str]()
    for header in headers:
        for section in ("Subject", "NWBFile"):
            said = dict(header.metadata.get(section, {}))
            if section == "NWBFile" and SESSION_START[1] in said:
                source = header.sources.get(".".join(SESSION_START), "")
                starts.setdefault(said.pop(SESSION_START[1]), source)
            layers.lay_under({section: said} if said else {}, header.sources)
    if starts:
        earliest = min(starts)
        layers.lay_under({"NWBFile": {SESSION_START[1]: earliest}}, {".".join(SESSION_START): starts[earliest]})
    if len(starts) > 1:
        listed = ", ".join(f"{start} ({source})" for start, source in sorted(starts.items()))
        remarks.append(
            f"The recordings have different starts: {listed}. The first is the session's; if the clocks of their "
            "machines differ, give starting_time (seconds after it) of the other series in metadata.yaml."
        )
    return layers.metadata, layers.sources


def _file(path: Path, given: GivenMetadata) -> Origin:
    check_allowed("metadata", path, given.allowed_roots)
    name = os.path.relpath(path, given.folder) if path.parent == given.folder else str(path)
    document = read_document(path)
    check_allowed_metadata(document, given.allowed_roots)
    return _dict_form(in_json(document), str(path)), name


def _dict_form(metadata: dict[str, Any], where: str) -> dict[str, Any]:
    """Check that metadata can be merged by key."""
    if is_list_form(metadata):
        raise MetadataError(
            f"{where} has lists of devices, planes or series in Ophys, which cannot be merged with what others "
            "say. Write it in the dict form: Devices, Ophys.ImagingPlanes, Ophys.MicroscopySeries by key; "
            "docs/metadata.md shows it."
        )
    for section in ("NWBFile", "Subject", "Devices", "DeviceModels", "Ophys"):
        if not isinstance(metadata.get(section, {}), Mapping):
            raise MetadataError(f"{section} in {where} is {metadata[section]!r}. Write fields below it.")
    return metadata


def _named(given: GivenMetadata, others: Sequence[Origin], remarks: list[str]) -> list[Origin]:
    """Return what the folder's name says; a date alone gives way to the time of the same day."""
    if given.folder_name is None:
        return []
    said = read_folder_name(given.folder, given.folder_name)
    if said is None:
        remarks.append(f"The name {given.folder.name!r} does not fit the pattern {given.folder_name!r}.")
        return []
    day, start = _last(SESSION_START, [(said, "")]), _last(SESSION_START, others)
    if day is not None and len(str(day)) == len("2026-01-01") and str(start).startswith(str(day)):
        del said["NWBFile"]["session_start_time"]
    return [(said, "the folder's name")]


def _of_table(given: GivenMetadata, others: Sequence[Origin], remarks: list[str]) -> list[Origin]:
    """Return what the subject table says of the subject that the others name."""
    if given.subject_table is None:
        return []
    table = "the subject table" if callable(given.subject_table) else str(given.subject_table)
    if not callable(given.subject_table):
        check_allowed("subject_table", table, given.allowed_roots)
    subject_id = _last(SUBJECT_ID, others)
    if subject_id is None:
        remarks.append(f"Nothing says which subject it is, so {table} was not asked. Give Subject.subject_id.")
        return []
    said = look_up_subject(given.subject_table, str(subject_id))
    if said is None:
        remarks.append(f"{table} does not know the subject {subject_id!r}.")
        return []
    return [({"Subject": in_json(said)}, table)]


def _last(path: tuple[str, str], origins: Sequence[Origin]) -> Any:
    """Return the value of a field in the uppermost origin that has it."""
    for metadata, _ in reversed(origins):
        section = metadata.get(path[0])
        if isinstance(section, Mapping) and section.get(path[1]) is not None:
            return section[path[1]]
    return None
