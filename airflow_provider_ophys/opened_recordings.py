"""Which recording an extractor that is open reads, as far as that is known."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from airflow_provider_ophys.exceptions import OphysError
from airflow_provider_ophys.extractor_internals import (
    arguments_of,
    channel_place_of,
    parent_of,
    whole_movie_of,
)
from airflow_provider_ophys.models.allowed_roots import named_paths
from airflow_provider_ophys.models.recording import Kind, Movie
from airflow_provider_ophys.recordings import Recording, recording_of
from airflow_provider_ophys.recordings.formats import FORMATS
from airflow_provider_ophys.recordings.state import name_within

PATH_PARAMETER = re.compile(r"(^|_)(file|folder)?_?paths?$")

# Attribute of an extractor, for its recording.
NOTE = "_ophys_recording"

# Of many files the first ones say enough of where a series comes from.
MOST_NAMED_FILES = 10


def note_recording(extractor: object, recording: Recording | None) -> None:
    """Note, on an extractor, which recording it reads; ``None`` if that cannot be found out."""
    with suppress(AttributeError):  # an object with slots takes no notes
        # What was cut out of it may be a copy, with this note; so it says of which object it is.
        setattr(extractor, NOTE, (id(extractor), recording))


def recording_behind(kind: Kind, extractor: object) -> Recording | None:
    """
    Return the recording that an extractor reads; ``None`` if it reads no file, or it is not known which.

    What this package opened is known. Of others, the arguments are those that the extractor keeps; the folder, or
    the first file, is that of the files that it holds. Some of the samples, or of the ROIs, are of the recording
    that all of them are of; what was cut out of the field of view, or of a volume, its headers do not describe.

    :param kind: Which of the two it is.
    :param extractor: An imaging or segmentation extractor.
    """
    noted: tuple[int, Recording | None] = getattr(extractor, NOTE, (0, None))
    if noted[0] == id(extractor):
        return noted[1]
    whole = _all_of(kind, extractor)
    found = _found_out(kind, extractor) if whole is None else recording_behind(kind, whole)
    note_recording(extractor, found)
    return found


def files_behind(kind: Kind, extractor: object) -> str:
    """
    Name the files that an extractor reads, without the folders that they lie in; of many, the first ones.

    :param kind: As for :func:`recording_behind`.
    :param extractor: As there.
    :returns: Empty if none is known.
    """
    recording = recording_behind(kind, extractor)
    try:
        files = recording.files if recording is not None else list(opened_paths(extractor))
    except (OphysError, OSError):
        files = list(opened_paths(extractor))
    named = files[:MOST_NAMED_FILES]
    names = [file.name if recording is None else name_within(file, recording) for file in named]
    more = len(files) - len(named)
    return ", ".join(dict.fromkeys(names)) + (f" and {more:,} more" if more else "")


def opened_paths(extractor: object) -> Iterator[Path]:
    """
    Yield the files and folders that an extractor was opened with, as far as it knows them.

    :param extractor: Or several in one, such as a recording of many files.
    """
    attributes = getattr(extractor, "__dict__", {})
    named = {name: value for name, value in attributes.items() if PATH_PARAMETER.search(name)}
    yield from (path for _, path in named_paths("", [attributes.get("_kwargs"), named]))
    for value in attributes.values():
        for part in value if isinstance(value, (list, tuple)) else [value]:
            if part is not extractor and hasattr(part, "_kwargs"):
                yield from opened_paths(part)


def _all_of(kind: Kind, extractor: Any) -> Any | None:
    """Return what an extractor gives some of the samples or ROIs of."""
    return parent_of(extractor) if kind == "segmentation" else whole_movie_of(extractor)


def _found_out(kind: Kind, extractor: Any) -> Recording | None:
    found = _known_class(kind, extractor)
    if found is None:
        return None
    name, parameters = found
    arguments = _kept_arguments(extractor, parameters)
    if not any(PATH_PARAMETER.search(argument) for argument in arguments):
        return None
    recording = recording_of(kind, name, arguments)
    if kind == "segmentation":
        return recording
    movie = _movie_of(recording, extractor)
    if movie is None or movie.sample_shape != tuple(extractor.get_sample_shape()):
        return None
    return recording_of(kind, name, movie.extractor_kwargs)


def _known_class(kind: Kind, extractor: object) -> tuple[str, Mapping[str, inspect.Parameter]] | None:
    """Return the name of the class whose recordings are known, and its parameters."""
    for cls in type(extractor).__mro__:
        # EXTRACT's extractor makes one of two others, which are not in the list of extractors.
        name = re.sub("^(New|Legacy)(?=Extract)", "", cls.__name__)
        if name in FORMATS[kind]:
            return name, inspect.signature(cls).parameters
    return None


def _kept_arguments(extractor: object, parameters: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    """Return the arguments that an extractor was made with, as far as it keeps them."""
    given, kept = arguments_of(extractor), getattr(extractor, "__dict__", {})
    found: dict[str, Any] = {}
    for name in parameters:
        # A rate that it keeps may be what it found in the files, and is not always right.
        places = (given.get(name), kept.get(name), kept.get(f"_{name}")) if "frequency" not in name else ()
        value = next((value for value in places if value is not None), None)
        if value is not None:
            found[name] = str(value) if isinstance(value, Path) else value
    named = {path for _, path in named_paths("", found)}
    held = [path for path in opened_paths(extractor) if path not in named]
    if "file_paths" in found:
        found.pop("file_path", None)
    elif held and "folder_path" in parameters and "folder_path" not in found:
        found["folder_path"] = str(held[0].parent)
    elif held and "file_path" in parameters and "file_path" not in found:
        found["file_path"] = str(held[0])
    return found


def _movie_of(recording: Recording, extractor: object) -> Movie | None:
    """Return which of the movies of a recording an extractor gives, by the place of its channel."""
    try:
        contents = recording.contents()
    except (OphysError, OSError, TypeError):
        return None
    movies = contents.movies if contents else []
    place = channel_place_of(extractor) if len(movies) > 1 else 0
    return movies[place] if place is not None and place < len(movies) else None
