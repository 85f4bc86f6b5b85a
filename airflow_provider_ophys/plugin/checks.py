"""What the checks of a file found, for one look."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from airflow_provider_ophys.models.session_note import SessionNote


@dataclass(frozen=True, slots=True)
class Check:
    """
    What a check of a file found.

    :param text: In a few words.
    :param kind: How much it matters.
    :param details: What there is to say beyond that.
    """

    text: str
    kind: Literal["good", "care"]
    details: tuple[str, ...] = ()


def checks(notes: Sequence[SessionNote]) -> list[Check]:
    """
    Tell what is known of a file: schema, nwbinspector, and what its report marks.

    :param notes: Of the tasks that are about it, the latest last, which counts.
    """
    return [*_schema(notes), *_inspection(notes), *_marks(notes)]


def _schema(notes: Sequence[SessionNote]) -> Iterator[Check]:
    if valid := next((note.valid for note in reversed(notes) if note.valid), None):
        yield Check(valid, "good" if valid == "valid" else "care")


def _inspection(notes: Sequence[SessionNote]) -> Iterator[Check]:
    note = next((note for note in reversed(notes) if note.findings is not None), None)
    if note is not None and note.findings is not None:
        count = len(note.findings)
        text = f"{count} finding{'' if count == 1 else 's'}" if count else "no findings"
        yield Check(text, "care" if note.serious else "good", note.findings)


def _marks(notes: Sequence[SessionNote]) -> Iterator[Check]:
    # Staging tells where the report is, but not again what it says.
    marks = next((note.marks for note in reversed(notes) if note.report and note.step != "stage"), ())
    for kind, of_kind in groupby(sorted(marks), key=lambda mark: mark.partition(":")[0]):
        details = tuple(of_kind)
        yield Check(f"{kind}: {len(details)}" if len(details) > 1 else kind, "care", details)
    if problem := next((note.report_problem for note in reversed(notes) if note.report_problem), None):
        yield Check("no report", "care", (problem,))
