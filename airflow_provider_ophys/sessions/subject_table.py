"""What a laboratory's table says of a subject."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any

from airflow_provider_ophys.exceptions import MetadataError
from airflow_provider_ophys.models.documents import read_bounded
from airflow_provider_ophys.models.metadata_sections import SubjectMetadata

SubjectTable = str | Path | Callable[[str], Mapping[str, Any] | None]
KEY = "subject_id"
MOST_BYTES = 64 * 2**20


def look_up_subject(table: SubjectTable, subject_id: str) -> dict[str, Any] | None:
    """
    Return what a table says of a subject, in the fields of ``Subject``.

    :param table: Path of a CSV file with a header, one row per subject, and the columns ``subject_id`` and any
        other field of ``Subject``; further columns are passed over. Or a function that returns these fields, or
        ``None``.
    :param subject_id: As it stands in the table.
    :returns: Only fields that are not empty; ``None`` if the table does not know the subject.
    :raises MetadataError: If the table cannot be read, or knows the subject twice.
    """
    if callable(table):
        row = table(subject_id)
    else:
        rows = [row for row in _rows(Path(table)) if (row[KEY] or "").strip() == subject_id]
        if len(rows) > 1:
            raise MetadataError(
                f"The subject table {table} has {len(rows)} rows of the subject {subject_id!r}. Leave one."
            )
        row = rows[0] if rows else None
    if row is None:
        return None
    known = {name: row[name] for name in SubjectMetadata.model_fields if name != KEY and name in row}
    stripped = {name: value.strip() if isinstance(value, str) else value for name, value in known.items()}
    return {name: value for name, value in stripped.items() if value not in ("", None)}


def age_between(date_of_birth: object, start: object) -> str | None:
    """
    Return the age at a session's start as ISO 8601: ``"P93D"``; ``None`` if either is no date, or in disorder.

    :param date_of_birth: A date, or its text in ISO 8601; so the other.
    """
    born, started = _day(date_of_birth), _day(start)
    if born is None or started is None or started < born:
        return None
    return f"P{(started - born).days}D"


def _day(value: object) -> date | None:
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, date):
        return value
    try:
        return datetime.fromisoformat(str(value)).date()
    except ValueError:
        return None


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        text = read_bounded(path, MOST_BYTES).decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""))
        columns = reader.fieldnames or []
        rows = list(reader)
    except (OSError, ValueError, csv.Error) as error:
        raise MetadataError(
            f"The subject table {path} cannot be read: {error}. Save it as CSV in UTF-8."
        ) from error
    if KEY not in columns:
        raise MetadataError(
            f"The subject table {path} has no column {KEY} (columns: {', '.join(columns) or 'none'}). Name that "
            "of the subjects so, in the first line."
        )
    return rows
