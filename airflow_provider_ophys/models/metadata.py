"""NWB metadata as users give them: read, merged, and checked against :mod:`.metadata_sections`."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from airflow_provider_ophys.exceptions import MetadataError
from airflow_provider_ophys.models.documents import check_nesting, read_document
from airflow_provider_ophys.models.legacy_metadata import in_words_of_list_form, is_list_form, translate
from airflow_provider_ophys.models.metadata_sections import UNKNOWN, Metadata, NWBFileMetadata, Section, listed

DEFAULT_METADATA_KEY = "default_metadata_key"

# As many as fit on a screen.
MOST_PROBLEMS = 20


def load_metadata(metadata: object) -> dict[str, Any]:
    """
    Read metadata from what users give: a dict, the path of a YAML or JSON file, or a list of these.

    :param metadata: ``None``, a mapping, a path, or a list of those, merged left to right: mappings are
        merged key by key, everything else (lists too) is replaced by the later value.
    :returns: A new dict; the one given is never changed.
    :raises MetadataError: If a file is missing, is neither YAML nor JSON, or does not hold a mapping.
    """
    if metadata is None:
        return {}
    if isinstance(metadata, (str, Path)):
        return read_document(Path(metadata))
    if isinstance(metadata, Mapping):
        try:
            check_nesting(metadata)
        except ValueError as error:
            raise MetadataError(f"The metadata cannot be used: {error}. Flatten it.") from error
        return merge_metadata({}, metadata)
    if isinstance(metadata, Sequence):
        merged: dict[str, Any] = {}
        for part in metadata:
            merged = merge_metadata(merged, load_metadata(part))
        return merged
    raise MetadataError(
        f"metadata is a {type(metadata).__name__}. "
        "Give a dict, the path of a YAML or JSON file, or a list of these."
    )


def merge_metadata(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two metadata mappings into a new one; where both have a value, the one in ``over`` counts."""
    merged = dict(under)
    for key, value in over.items():
        if isinstance(value, Mapping):
            below = merged.get(key)
            merged[key] = merge_metadata(below if isinstance(below, Mapping) else {}, value)
        else:
            merged[key] = value
    return merged


def with_own_metadata(extractor: object, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Put the caller's metadata over what the extractor itself knows, if it has ``nwb_metadata``."""
    return merge_metadata(getattr(extractor, "nwb_metadata", None) or {}, metadata)


def validate_metadata(metadata: Mapping[str, Any]) -> Metadata:
    """
    Check metadata, in its dict form or translated from its list form.

    :param metadata: Mapping with the sections ``NWBFile``, ``Subject``, ``DeviceModels``, ``Devices``, ``Ophys``.
    :raises MetadataError: One error that names every problem, where it is, and what to write instead.
    """
    try:
        return Metadata.model_validate(translate(metadata))
    except ValidationError as error:
        told = [f"  {_explain(dict(problem))}" for problem in error.errors()[:MOST_PROBLEMS]]
        if error.error_count() > MOST_PROBLEMS:
            told.append(f"  ... and {error.error_count() - MOST_PROBLEMS:,} more.")
        problems = "\n".join(told)
        if is_list_form(metadata):
            problems = in_words_of_list_form(problems)
        raise MetadataError(f"The metadata has {error.error_count()} problem(s):\n{problems}") from error


# As text, which pydantic reads as the number: JSON, in which Airflow carries arguments and XComs, has no NaN.
UNKNOWN_WAVELENGTH = "nan"

PLACEHOLDERS: dict[str, Any] = {
    "excitation_lambda": UNKNOWN_WAVELENGTH,
    "emission_lambda": UNKNOWN_WAVELENGTH,
    "indicator": UNKNOWN,
    "location": UNKNOWN,
    "unit": "n.a.",
    "optical_channel": [{"name": "OpticalChannel", "description": UNKNOWN, "emission_lambda": UNKNOWN_WAVELENGTH}],
}
"""What may be written where a required field is honestly not known."""


def spell_nan(metadata: Any) -> Any:
    """Return metadata with every NaN spelled ``"nan"``, so that it can travel as JSON; all else as it is."""
    if isinstance(metadata, Mapping):
        return {key: spell_nan(value) for key, value in metadata.items()}
    if isinstance(metadata, (list, tuple)):
        return [spell_nan(value) for value in metadata]
    return UNKNOWN_WAVELENGTH if isinstance(metadata, float) and math.isnan(metadata) else metadata


def _explain(problem: dict[str, Any]) -> str:
    location = [str(part) for part in problem["loc"]]
    where, kind, given = ".".join(location), problem["type"], problem["input"]
    if kind == "missing":
        if location[-1] in PLACEHOLDERS:
            return f"{where} is missing. If it is not known, write {PLACEHOLDERS[location[-1]]!r}."
        return f"{where} is missing and has no placeholder: it must be given."
    if kind == "value_error":
        return str(problem["ctx"]["error"]) + "."
    if kind == "extra_forbidden":
        said = f" is not known (known there: {listed(_known_fields(location[:-1]))})"
    elif kind == "string_type" and isinstance(given, bool):
        said = f" is a text, but YAML reads yes, no, on, off and the like as {given}. Write it in quotes"
    elif kind == "string_type" and isinstance(given, (int, float)):
        said = f' is a text, but {given!r} is a number. Write it in quotes: "{given}"'
    elif kind.startswith(("datetime", "date_")):
        example = "2026-11-22T09:30:00+01:00"
        said = f" is {reprlib.repr(given)}, which is no date and time. Write it as ISO 8601, such as {example}"
    else:
        said = f": {problem['msg']} (given: {reprlib.repr(given)})"
    return f"{where}{said}."


def _known_fields(location: Sequence[str]) -> list[str]:
    """Fields of the section at a location such as ``("Ophys", "ImagingPlanes", "plane0")``."""
    annotation: Any = Metadata
    for part in location:
        if _is_section(annotation):
            annotation = _without_none(annotation.model_fields[part].annotation)
        else:  # a dict by key or a list by position: its values
            annotation = get_args(annotation)[-1]
    return list(annotation.model_fields) if _is_section(annotation) else []


def _without_none(annotation: object) -> object:
    kinds = get_args(annotation)
    return kinds[0] if type(None) in kinds else annotation


def _is_section(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section)


def require_session_start_time(metadata: Metadata) -> NWBFileMetadata:
    """
    Return the section ``NWBFile``, which a new file cannot do without.

    :raises MetadataError: If it, or the time, is not there.
    """
    if metadata.NWBFile is None or metadata.NWBFile.session_start_time is None:
        raise MetadataError(
            "The metadata has no NWBFile.session_start_time, which every NWB file needs. "
            "Give it as ISO 8601 with a time zone, for example '2026-11-22T09:30:00+01:00'."
        )
    return metadata.NWBFile
