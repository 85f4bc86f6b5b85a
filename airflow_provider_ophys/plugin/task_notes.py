"""
What tasks noted of their sessions, and what became of the tasks: read from Airflow's database, then what changed.

All of it is kept in memory, by session: to search, sort and page through a year of sessions asks the database for
nothing, and many who look at the page ask no more than one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.state import DagRunState
from pydantic import ValidationError
from sqlalchemy import ColumnElement, Text, and_, cast, or_, select
from sqlalchemy.orm import Session

from airflow_provider_ophys.models.session_note import SessionNote
from airflow_provider_ophys.plugin.arrivals import Arrivals
from airflow_provider_ophys.plugin.tasks import OPERATORS, TaskKey, TaskNote
from airflow_provider_ophys.session_notes import KEY

# What changed is asked for no more often than this.
FRESH_SECONDS = 2.0
# A clock of another machine may be behind by so much.
SLACK = timedelta(minutes=5)
# Runs that were deleted, and what somebody set by hand in a run that had ended, are noticed after so long.
ALL_AGAIN_SECONDS = 900.0
ACTIVE = (DagRunState.QUEUED, DagRunState.RUNNING)


@dataclass(slots=True)
class Group:
    """
    The notes under one name: the path of an NWB file, a folder or an address in S3.

    :param version: Is another one whenever something changed.
    :param others: The names under which there are more on the same session.
    """

    version: int = 0
    notes: dict[TaskKey, list[TaskNote]] = field(default_factory=dict)
    others: set[str] = field(default_factory=set)


class NoteIndex:
    """All notes, by session; safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._arrivals = Arrivals()
        self._forget()

    def _forget(self) -> None:
        self.groups: dict[str, Group] = {}
        # Which groups tell of the file that a folder or an address belongs to.
        self.files: dict[str, set[str]] = {}
        # Whose tasks, and which assets' events, there are notes of.
        self.dag_ids: set[str] = set()
        self.asset_ids: set[int] = set()
        self._operators: dict[tuple[str, str], str] = {}
        self._places: dict[TaskKey, set[str]] = {}
        self._version = 0
        self._looked = self._read_all = 0.0
        self._watermark = datetime.min.replace(tzinfo=UTC)

    def refresh(self, session: Session) -> None:
        """Read what has changed since it was read last."""
        with self._lock:
            now = time.monotonic()
            if self._read_all and now - self._looked < FRESH_SECONDS:
                return
            began = datetime.now(UTC)
            changes = self._changes()
            if not self._read_all or now - self._read_all > ALL_AGAIN_SECONDS:
                self._forget()
                self._arrivals.forget()
                self._read_all = now
                changes = []
            for folder, one in self._arrivals.read(session):
                self.asset_ids.add(int(one.key.run_id))
                self._put(one.key, [(one, f"f:{folder}")])
            self._read(session, changes)
            self._looked, self._watermark = now, began - SLACK

    def _changes(self) -> list[ColumnElement[bool]]:
        """Say which XComs to read: of runs that are active or have changed, those that changed themselves."""
        changed = or_(DagRun.state.in_(ACTIVE), DagRun.updated_at >= self._watermark)
        return [
            XComModel.dag_run_id.in_(select(DagRun.id).where(changed)),
            or_(XComModel.timestamp >= self._watermark, TaskInstance.updated_at >= self._watermark),
        ]

    def _read(self, session: Session, changes: list[ColumnElement[bool]]) -> None:
        same_task = and_(
            TaskInstance.dag_id == XComModel.dag_id,
            TaskInstance.run_id == XComModel.run_id,
            TaskInstance.task_id == XComModel.task_id,
            TaskInstance.map_index == XComModel.map_index,
        )
        statement = (
            select(
                *(XComModel.dag_id, XComModel.run_id, XComModel.task_id, XComModel.map_index),
                # Airflow's own decoder would import classes that a value names, and people may edit values.
                *(cast(XComModel.value, Text), XComModel.timestamp, TaskInstance.operator, TaskInstance.state),
                *(TaskInstance.start_date, TaskInstance.end_date),
                *(TaskInstance.try_number, TaskInstance.max_tries),
            )
            .join(TaskInstance, same_task)
            .where(XComModel.key == KEY, *changes)
        )
        for row in session.execute(statement):
            key = TaskKey(*row[:4])
            self.dag_ids.add(key.dag_id)
            self._operators[key.dag_id, key.task_id] = row[6] or ""
            notes = [
                TaskNote(key, note, row[5], row[7], row[8], row[9], (row[10], row[11] + 1))
                for note in _notes(row[4])
            ]
            self._put(key, [(one, self._place(one.note)) for one in notes])

    def _place(self, note: SessionNote) -> str:
        """Name the group that a note belongs to, and note what else the same session is called."""
        others = {f"f:{note.folder}"} if note.folder else set(self._folders_above(note.source))
        if note.s3_uri:
            others.add(f"s:{note.s3_uri}")
        if not note.nwbfile_path:
            return min(others, default="", key=lambda other: not other.startswith("s:"))
        place = f"p:{note.nwbfile_path}"
        group = self.groups.setdefault(place, Group())
        for other in others - group.others:
            group.others.add(other)
            self.files.setdefault(other, set()).add(place)
        return place

    def _folders_above(self, source: str | None) -> Iterator[str]:
        """Find the folder that arrived in which a recording lies."""
        parts = (source or "").split("/")
        for end in range(len(parts), 1, -1):
            if (place := f"f:{'/'.join(parts[:end])}") in self.groups:
                yield place
                return

    def _put(self, key: TaskKey, notes: Iterable[tuple[TaskNote, str]]) -> None:
        """Replace what a task noted before."""
        for place in self._places.pop(key, ()):
            group = self.groups[place]
            group.notes.pop(key, None)
            self._touch(place)
        for one, place in notes:
            if place:
                self.groups.setdefault(place, Group()).notes.setdefault(key, []).append(one)
                self._places.setdefault(key, set()).add(place)
                self._touch(place)

    def _touch(self, place: str) -> None:
        self._version += 1
        for each in (place, *self.files.get(place, ())):
            self.groups[each].version = self._version

    def unknown_operators(self) -> set[tuple[str, str]]:
        """Give the ids of DAG and task of those that have left notes and whose operators have other names."""
        with self._lock:
            return {task for task, operator in self._operators.items() if operator not in OPERATORS}

    def versions(self) -> list[tuple[str, int]]:
        """
        List the sessions: the name of each, and its version.

        A session whose NWB file is known is listed by that, and no more by its folder.
        """
        with self._lock:
            return [(place, group.version) for place, group in self.groups.items() if not self.files.get(place)]

    def notes_of(self, place: str) -> list[TaskNote]:
        """List all notes on a session."""
        with self._lock:
            group = self.groups.get(place, Group())
            groups = [group, *(self.groups[other] for other in group.others if other in self.groups)]
            return [one for each in groups for notes in each.notes.values() for one in notes]


def _notes(value: Any) -> tuple[SessionNote, ...]:
    try:
        return SessionNote.read(value)
    except ValidationError:
        return ()


def note_of(session: Session, task: TaskKey) -> SessionNote | None:
    """Look up what one task noted; None when it noted nothing, or left notes on several sessions."""
    value = session.scalar(
        select(cast(XComModel.value, Text)).where(
            XComModel.dag_id == task.dag_id,
            XComModel.run_id == task.run_id,
            XComModel.task_id == task.task_id,
            XComModel.map_index == task.map_index,
            XComModel.key == KEY,
        )
    )
    notes = _notes(value) if value else ()
    return notes[0] if len(notes) == 1 else None
