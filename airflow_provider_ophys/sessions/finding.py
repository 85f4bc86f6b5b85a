"""Which recordings lie in a folder, at any depth."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from airflow_provider_ophys.exceptions import OphysError, SourceAccessError, SourceNotFoundError
from airflow_provider_ophys.models.problems import Problems
from airflow_provider_ophys.models.recording import FoundRecording, Kind
from airflow_provider_ophys.recordings.formats import FORMATS, format_of, recording_of
from airflow_provider_ophys.recordings.recording import Recording, may_be_a_result
from airflow_provider_ophys.sessions.session_yaml import NAME

# Formats of no maker: searched where no maker's recording takes the files, or the folder.
LESSER = frozenset(
    {"TiffImagingExtractor", "MultiTIFFMultiPageExtractor", "Hdf5ImagingExtractor", "NumpyImagingExtractor"}
)
# A recording of these is the folder, though an argument names a file in it.
WHOLE_FOLDER = frozenset({"ThorTiffImagingExtractor"})
SUITE2P = "Suite2pSegmentationExtractor"
SUITE2P_FOLDERS = re.compile(r"plane\d+|combined")


@dataclass(frozen=True)
class LocatedRecording:
    """
    A recording that was found.

    :param found: Its extractor and arguments.
    :param recording: What tells of it.
    :param folder: In which it was found.
    """

    found: FoundRecording
    recording: Recording
    folder: Path

    @property
    def is_lesser(self) -> bool:
        """Whether it is of no maker's format."""
        return self.found.extractor in LESSER


def find_recordings(folder: Path, *, allow_pickle: bool = False) -> tuple[list[LocatedRecording], list[Path]]:
    """
    Find all recordings below a folder.

    :param folder: Links to folders in it are not followed; hidden ones and NWB files are passed over.
    :param allow_pickle: Whether pickles in a recording may run what they want.
    :returns: Movies before segmentations, each by path; and the files that belong to none.
    :raises OphysError: If what is there cannot be read as what it is; all such errors in one.
    """
    found: list[LocatedRecording] = []
    taken: set[Path] = set()
    loose: list[Path] = []
    problems = Problems()
    # Everything at or below these belongs to a maker's recording.
    owned: list[Path] = []
    for place, names in _folders(folder):
        with problems.gather():
            is_owned = any(place.is_relative_to(owner) for owner in owned)
            for each in _recordings_in(place, allow_pickle=allow_pickle, with_lesser=not is_owned):
                files = _files_in(place, each.recording)
                if each.is_lesser and files & taken:
                    continue
                found.append(each)
                taken |= files
                if _is_the_folder(each):
                    owned.append(place)
        loose += [place / name for name in names]
    try:
        problems.raise_found()
    except OphysError as error:
        if not found:
            raise
        raise type(error)(
            f"{error}\nIf it does not belong to the session, take it out of the folder, or write {folder / NAME} "
            "with what does."
        ) from error
    return _in_order(found), [file for file in loose if file not in taken]


def _files_in(place: Path, recording: Recording) -> set[Path]:
    """Return a recording's files, also as they are called below a folder that is a link."""
    files, real = set(recording.files), place.resolve()
    if real != place:
        files |= {place / file.relative_to(real) for file in files if file.is_relative_to(real)}
    return files


def _folders(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield a folder and those below it, with the names of their files."""

    def fail(error: OSError) -> None:
        if isinstance(error, FileNotFoundError):
            raise SourceNotFoundError(f"There is no folder {error.filename}. Check the path.") from error
        raise SourceAccessError(
            f"{error.filename} cannot be searched: {error.strerror}. Check the permissions, and that the share is "
            "mounted."
        ) from error

    for place, subfolders, names in os.walk(folder, onerror=fail):
        is_suite2p = bool(format_of("segmentation", SUITE2P).find(Path(place)))
        subfolders[:] = sorted(
            name
            for name in subfolders
            if not may_be_a_result(name) and not (is_suite2p and SUITE2P_FOLDERS.fullmatch(name))
        )
        yield Path(place), sorted(name for name in names if not may_be_a_result(name))


def _recordings_in(place: Path, *, allow_pickle: bool, with_lesser: bool) -> Iterator[LocatedRecording]:
    """Yield the recordings whose first file lies directly in a folder, makers' first."""
    owner = False
    for is_lesser in (False, True):
        if is_lesser and (owner or not with_lesser):
            return
        for kind, extractor in _formats():
            if (extractor in LESSER) != is_lesser:
                continue
            for each in format_of(kind, extractor).find(place):
                recording = recording_of(kind, each.extractor, each.extractor_kwargs, allow_pickle=allow_pickle)
                located = LocatedRecording(each, recording, place)
                owner = owner or _is_the_folder(located)
                yield located


def _formats() -> Iterator[tuple[Kind, str]]:
    """Yield an extractor of each format."""
    for kind, known in FORMATS.items():
        by_class: dict[str, str] = {}
        for extractor, name in known.items():
            by_class.setdefault(name, extractor)
        yield from ((kind, extractor) for extractor in by_class.values())


def _is_the_folder(located: LocatedRecording) -> bool:
    if located.found.kind == "segmentation":
        return False
    return "folder_path" in located.found.extractor_kwargs or located.found.extractor in WHOLE_FOLDER


def _in_order(found: list[LocatedRecording]) -> list[LocatedRecording]:
    return sorted(found, key=lambda each: (each.found.kind, each.folder))
