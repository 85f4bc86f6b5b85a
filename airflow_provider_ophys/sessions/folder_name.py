"""What the name of a folder says of its session."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Any

from airflow_provider_ophys.exceptions import ConfigurationError
from airflow_provider_ophys.models.metadata_sections import NWBFileMetadata, SubjectMetadata

PLACE = re.compile(r"\{(\w+)(?::([^{}]*))?\}")
# What strptime reads in each directive.
DIRECTIVES = {"Y": r"\d{4}", "j": r"\d{3}", "f": r"\d{1,6}"} | dict.fromkeys("ymdHMSI", r"\d{2}")
DIRECTIVES |= {"b": r"[^\W\d_]+\.?", "p": "[AaPp][Mm]"}
START = "session_start_time"


def read_folder_name(folder: Path, pattern: str) -> dict[str, Any] | None:
    r"""
    Read what a folder's name says.

    :param folder: As many of the last parts of its path are read as the pattern has.
    :param pattern: Such as ``"{subject_id}_{session_start_time:%Y%m%d}_{session_id}"``; or a regular expression
        with named groups, such as ``r"(?P<subject_id>m\d+)_.*"``. Fields are those of ``NWBFile`` and ``Subject``.
    :returns: Metadata; ``None`` if the name does not fit.
    :raises ConfigurationError: If the pattern is none, or has a field that is not known.
    """
    is_expression = "(?P<" in pattern
    expression, formats = (pattern, {}) if is_expression else _expression(pattern.strip("/"))
    try:
        compiled = re.compile(expression)
    except re.error as error:
        raise ConfigurationError(
            f"folder_name {pattern!r} is no pattern: {error}. Write for example "
            "'{subject_id}_{session_start_time:%Y%m%d}_{session_id}'."
        ) from error
    sections = {name: _section_of(name, pattern) for name in compiled.groupindex}
    if not sections:
        raise ConfigurationError(f"folder_name {pattern!r} names no field. Write for example '{{subject_id}}_.*'.")
    most = pattern.strip("/").count("/") + 1
    # In an expression, a slash may also be among the characters of a class.
    texts = ["/".join(folder.parts[-parts:]) for parts in range(1 if is_expression else most, most + 1)]
    match = next(filter(None, map(compiled.fullmatch, texts)), None)
    if match is None:
        return None
    metadata: dict[str, Any] = {}
    for name, text in match.groupdict().items():
        if text is not None:
            value = _moment(text, formats.get(name), folder) if name == START else text
            metadata.setdefault(sections[name], {})[name] = value
    return metadata


def _expression(pattern: str) -> tuple[str, dict[str, str]]:
    """Return the regular expression of a pattern, and how its times are written, by field."""
    expression, end = "", 0
    formats: dict[str, str] = {}
    for place in PLACE.finditer(pattern):
        name, written = place.groups()
        expression += re.escape(pattern[end : place.start()])
        expression += f"(?P<{name}>{_of_time(written) if written else '[^/]+?'})"
        formats |= {name: written} if written else {}
        end = place.end()
    return expression + re.escape(pattern[end:]), formats


def _of_time(written: str) -> str:
    parts = re.split(r"%(.)", written)
    if unknown := [part for part in parts[1::2] if part not in DIRECTIVES]:
        raise ConfigurationError(
            f"folder_name has %{unknown[0]}, which is not known (known: {', '.join(f'%{d}' for d in DIRECTIVES)})."
        )
    texts = [re.escape(part) for part in parts[::2]]
    return texts[0] + "".join(
        DIRECTIVES[directive] + text for directive, text in zip(parts[1::2], texts[1:], strict=True)
    )


def _section_of(field: str, pattern: str) -> str:
    for section, model in (("Subject", SubjectMetadata), ("NWBFile", NWBFileMetadata)):
        if field in model.model_fields:
            return section
    known = [*SubjectMetadata.model_fields, *NWBFileMetadata.model_fields]
    raise ConfigurationError(
        f"folder_name {pattern!r} has the field {field!r}, which neither Subject nor NWBFile has (known: "
        f"{', '.join(known)})."
    )


def _moment(text: str, written: str | None, folder: Path) -> str:
    """Return a time in ISO 8601: a date only, where the name has no more."""
    try:
        moment = datetime.strptime(text, written) if written else datetime.fromisoformat(text)  # noqa: DTZ007
    except ValueError as error:
        raise ConfigurationError(
            f"The name of {folder} has {text!r} as {START}, which is no time: {error}. Rename the folder, or "
            "correct folder_name."
        ) from error
    has_hour = "%H" in written or "%I" in written if written else len(text) > len("2026-01-01")
    return moment.isoformat() if has_hour else moment.date().isoformat()
