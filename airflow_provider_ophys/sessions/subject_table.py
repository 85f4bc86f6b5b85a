"""What a laboratory's table says of a subject."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from airflow_provider_ophys.exceptions import MetadataError, is_passing, unreadable
from airflow_provider_ophys.models.documents import read_bounded
from airflow_provider_ophys.models.metadata_sections import SubjectMetadata

SubjectTable = str | Path | Callable[[str], Mapping[str, Any] | None]
KEY = "subject_id"
SEXES = frozenset("MFUO")
# Days of a year, a month, a week and a day.
UNITS = (365.25, 30.44, 7.0, 1.0)
AGE = re.compile("P" + "".join(rf"(?:(\d+(?:\.\d+)?){unit})?" for unit in "YMWD") + r"(?:T[\dHMS.]+)?(?:/.*)?")
UNFIT = re.compile(r"[/\\\x00-\x1f]")
# What separates the columns where Excel saves a table, by the language of the machine.
SEPARATORS = ",;\t"
SEPARATOR_LINE = re.compile(r"\"?sep=(.)\"?\r?\n", re.IGNORECASE)
UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
MOST_BYTES, MOST_SUBJECTS = 16 * 2**20, 100_000


def look_up_subject(table: SubjectTable, subject_id: str) -> dict[str, Any] | None:
    """
    Return what a table says of a subject, in the fields of ``Subject``.

    :param table: Path of a CSV file with a header, one row per subject, and the columns ``subject_id`` and any
        other field of ``Subject``, also as ``Subject ID``; further columns are passed over. Commas, semicolons or
        tabs separate them. Or a function that returns these fields, or ``None``.
    :param subject_id: As it stands in the table.
    :returns: Only fields that are not empty; ``None`` if the table does not know the subject.
    :raises MetadataError: If the table cannot be read, or knows the subject twice.
    :raises SourceAccessError: If its disk or share fails.
    """
    if callable(table):
        row = table(subject_id)
        if not isinstance(row, (Mapping, type(None))):
            raise MetadataError(
                f"The function that is the subject table returned {row!r:.200} for {subject_id!r}. Let it return "
                "a dict with fields of Subject, or None."
            )
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


def doubts_about(subject: Mapping[str, Any], start: object) -> Iterator[tuple[str, str]]:
    """
    Yield what in a subject's facts cannot be right, or is not as NWB has it, though it can be written.

    :param subject: Fields of ``Subject``.
    :param start: Of the session.
    :returns: The field, and what is to be said of it.
    """
    name, sex, age, born = (subject.get(field) for field in ("subject_id", "sex", "age", "date_of_birth"))
    if isinstance(name, str) and (UNFIT.search(name) or name != name.strip() or not name):
        yield "subject_id", "An archive can make no name of it. Write letters, digits and hyphens."
    if isinstance(sex, str) and sex not in SEXES:
        yield "sex", "NWB's are M (male), F (female), U (unknown) and O (other)."
    if not isinstance(age, str):
        return
    told = AGE.fullmatch(age.strip())
    if told is None or not any(told.groups()):
        yield "age", "It is no duration of ISO 8601. Write for example P90D, P12W or P1Y6M."
        return
    exact = age_between(born, start) if subject.get("age__reference", "birth") == "birth" else None
    if exact is None:
        return
    lengths = {
        float(number) * length: length for number, length in zip(told.groups(), UNITS, strict=True) if number
    }
    # As precise as it is told: "P3M" is any day of the month.
    if abs(sum(lengths) - int(exact[1:-1])) > min(lengths.values()):
        yield (
            "age",
            f"From the date of birth, {born}, to the start it is {exact}. Correct one, or leave the age out.",
        )


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
        content = read_bounded(path, MOST_BYTES)
        # Excel's "Unicode text" is UTF-16; all else begins with a mark of UTF-8, or with none.
        text = content.decode("utf-16" if content.startswith(UTF16_MARKS) else "utf-8-sig").lstrip()
        first, newline, rest = text.partition("\n")
        named = SEPARATOR_LINE.fullmatch(first + newline)
        text = rest if named else text
        first = text.partition("\n")[0]
        separator = named[1] if named else max(SEPARATORS, key=first.count)
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator)
        columns = [_field(column) for column in reader.fieldnames or []]
        reader.fieldnames = columns
        rows = list(islice(reader, MOST_SUBJECTS + 1))
    except (OSError, ValueError, csv.Error) as error:
        if is_passing(error):
            raise unreadable(f"The subject table {path} cannot be read: {error}.", error) from error
        raise MetadataError(
            f"The subject table {path} cannot be read: {error}. Save it as CSV in UTF-8."
        ) from error
    if len(rows) > MOST_SUBJECTS:
        raise MetadataError(f"The subject table {path} has more than {MOST_SUBJECTS:,} rows. Check what it is.")
    twice = [column for column in dict.fromkeys(columns) if column and columns.count(column) > 1]
    if KEY not in columns or twice:
        wrong = f"has the column {twice[0]} twice" if twice else f"has no column {KEY}"
        answer = "Keep one of them" if twice else "Name that of the subjects so, in the first line"
        raise MetadataError(
            f"The subject table {path} {wrong} (columns: {', '.join(columns) or 'none'}). {answer}."
        )
    for row in rows:
        if any(row.get(None) or ()):
            raise MetadataError(
                f"The row of {row[KEY]!r} in the subject table {path} has more cells than there are columns. "
                "Write a text with a separator in it in double quotes."
            )
    return rows


def _field(column: str) -> str:
    """Return the field that is meant by the title of a column, such as ``"Date of birth"``."""
    name = "_".join(column.lower().split())
    return name if name in SubjectMetadata.model_fields else column.strip()
