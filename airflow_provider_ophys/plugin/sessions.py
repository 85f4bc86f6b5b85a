"""Sessions: what many tasks, in many runs of many DAGs, noted of one, as the row of a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from itertools import groupby
from operator import attrgetter
from pathlib import PurePosixPath
from typing import Literal

from airflow_provider_ophys.plugin.checks import Check, checks
from airflow_provider_ophys.plugin.tasks import TaskKey, TaskNote

type State = Literal["failed", "running", "retrying", "waiting", "done", "reused"]

STATES: tuple[State, ...] = ("failed", "running", "retrying", "waiting", "done", "reused")
# In the order in which a session takes them.
STEPS = ("arrived", "described", "converted", "checked", "staged", "archived")
_STEP_OF = {
    "arrive": "arrived",
    "describe": "described",
    "plan": "converted",
    "fill": "converted",
    "convert": "converted",
    "report": "checked",
    "stage": "staged",
}
# Of a task that is not done; of others in none of these states nothing can be said.
_OUTCOMES: dict[str | None, State] = {
    "failed": "failed",
    "up_for_retry": "retrying",
    **dict.fromkeys(("running", "restarting"), "running"),
    **dict.fromkeys((None, "scheduled", "queued", "deferred", "up_for_reschedule"), "waiting"),
}
_WITHOUT_A_WORD = (
    "The task ended without saying why: it was killed, its worker died or memory ran out. Its log may tell more."
)


@dataclass(frozen=True, slots=True)
class Step:
    """
    How far a step of a session is.

    :param state: None when nothing is known of it.
    :param latest: What a task noted of it last.
    """

    name: str
    state: State | None
    latest: TaskNote | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """An address in S3, and the task that staged it there."""

    uri: str
    task: TaskKey


@dataclass(frozen=True, slots=True)
class SessionRow:
    """
    A session at a glance.

    :param path: Of its NWB file; empty when nobody knows it.
    :param folder: In which it was acquired; empty when nobody knows it.
    :param state: Of all of it: whether something has failed that was not mended since, or is under way.
    :param at: When a task noted something of it last.
    :param failure: What failed and was not mended.
    :param report: The task that made the newest report.
    :param picture: The task that has a picture of it.
    :param progress: How many of the tasks that fill its file are done, of how many.
    :param converted: The conversion that its size and speed are of; None when it was only reused.
    """

    id: str
    name: str
    subject: str
    path: str
    folder: str
    source: str
    state: State
    at: datetime
    steps: tuple[Step, ...]
    failure: TaskNote | None
    error: str
    size_bytes: int | None
    speed: float | None
    seconds: float | None
    checks: tuple[Check, ...]
    places: tuple[Place, ...]
    report: TaskKey | None
    picture: TaskKey | None
    running: TaskNote | None
    progress: tuple[int, int] | None
    arrived: datetime | None
    converted: TaskNote | None
    dag_ids: frozenset[str]

    @property
    def has_file(self) -> bool:
        """Whether it has its NWB file."""
        return _has_file(self.steps)


def session_row(place: str, notes: Iterable[TaskNote]) -> SessionRow | None:
    """
    Make the row of a session.

    :param place: The name under which it is listed.
    :param notes: All of those on it that somebody may see; None is made of nothing.
    """
    everything = sorted(notes, key=attrgetter("since", "at"))
    if not everything:
        return None
    failure = _failure(everything)
    steps = tuple(_steps(everything, failure))
    conversions = [one for one in everything if one.note.step == "convert" and outcome(one) == "done"]
    # Of one that added a few cells to a movie it does not say how quick the movie was.
    converted = max(reversed(conversions), key=lambda one: one.note.speed is not None, default=None)
    running = next((one for one in reversed(everything) if outcome(one) == "running"), None)
    path, folder = _last(everything, "nwbfile_path"), _last(everything, "folder")
    # What it was called last, unless only the name of its file is left.
    name = _last(everything, "name") or PurePosixPath(path or folder or _last(everything, "s3_uri")).name
    reported = [one.key for one in everything if one.note.report]
    return SessionRow(
        id=blake2b(place.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest(),
        name=name.removesuffix(".zarr").removesuffix(".nwb") or name,
        subject=_last(everything, "subject"),
        path=path,
        folder=folder,
        source=_last(everything, "source"),
        state=_state(everything, failure, steps),
        at=max(one.at for one in everything),
        steps=steps,
        failure=failure,
        error=_error(failure),
        size_bytes=_last_number(everything, "size_bytes"),
        speed=converted.note.speed if converted else None,
        seconds=converted.note.seconds if converted else None,
        checks=tuple(checks([one.note for one in everything if outcome(one) != "failed"])),
        places=_places(everything),
        report=reported[-1] if reported else None,
        picture=next(
            (one.key for one in reversed(everything) if one.note.report and one.note.step != "stage"), None
        ),
        running=running,
        progress=_progress(everything),
        arrived=next((one.at for one in everything if one.note.step == "arrive"), None),
        converted=converted,
        dag_ids=frozenset(one.key.dag_id for one in everything if one.key.is_task),
    )


def outcome(one: TaskNote) -> State | None:
    """Tell what became of a task, of a session that it is about; None when that says nothing of the session."""
    if one.state != "success" and not one.note.done:
        return _OUTCOMES.get(one.state)
    if one.note.failed:
        return "failed"
    return "reused" if one.note.reused else "done"


def _failure(notes: Sequence[TaskNote]) -> TaskNote | None:
    """Find what failed last and was not mended: by the same task, or in another run by a step that is as far."""
    for position in range(len(notes) - 1, -1, -1):
        one = notes[position]
        if outcome(one) == "failed" and not any(_mends(later, one) for later in notes[position + 1 :]):
            return one
    return None


def _mends(later: TaskNote, failed: TaskNote) -> bool:
    if outcome(later) not in ("done", "reused", "running"):
        return False
    same_task = later.key.dag_id == failed.key.dag_id and later.key.task_id == failed.key.task_id
    return same_task or (later.key.run != failed.key.run and _rank(later) >= _rank(failed))


def _rank(one: TaskNote) -> int:
    return STEPS.index(_STEP_OF.get(one.note.step, "converted"))


def _steps(notes: Sequence[TaskNote], failure: TaskNote | None) -> Iterable[Step]:
    by_name: dict[str, list[TaskNote]] = {name: [] for name in STEPS}
    for one in notes:
        by_name[_STEP_OF.get(one.note.step, "converted")].append(one)
    by_name["staged"], by_name["archived"] = _staged_and_archived(by_name["staged"])
    for name, of_step in by_name.items():
        latest = next((one for one in reversed(of_step) if outcome(one) is not None), None)
        state = outcome(latest) if latest else None
        if failure is not None and failure in of_step:
            state, latest = "failed", failure
        elif state == "failed":
            # It was mended by another step; what was there before still is.
            latest = next((one for one in reversed(of_step) if outcome(one) in ("done", "reused")), None)
            state = outcome(latest) if latest else None
        yield _checked(notes, state, latest) if name == "checked" else Step(name, state, latest)


def _checked(notes: Sequence[TaskNote], state: State | None, latest: TaskNote | None) -> Step:
    """A file is checked as it is converted; a report may come later."""
    valid = next((one for one in reversed(notes) if one.note.valid == "valid" and outcome(one) != "failed"), None)
    if state in (None, "done") and valid is not None:
        return Step("checked", "reused" if valid.note.reused else "done", valid)
    return Step("checked", state if state != "done" else None, latest)


def _staged_and_archived(notes: list[TaskNote]) -> tuple[list[TaskNote], list[TaskNote]]:
    """Tell the first place in S3 from others: what goes to a second one is archived."""
    first = next((one.note.s3_uri for one in notes if one.state == "success"), None)
    task = next((one.key[0::2] for one in notes if one.note.s3_uri == first), None) if first else None
    archived = [one for one in notes if first and one.note.s3_uri != first and one.key[0::2] != task]
    return [one for one in notes if one not in archived], archived


def _state(notes: Sequence[TaskNote], failure: TaskNote | None, steps: Sequence[Step]) -> State:
    outcomes = {outcome(one) for key, of_task in groupby(notes, attrgetter("key")) for one in list(of_task)[-1:]}
    if failure is not None:
        return "failed"
    under_way: tuple[State, ...] = ("running", "retrying")
    for state in under_way:
        if state in outcomes:
            return state
    if "waiting" in outcomes or not _has_file(steps):
        return "waiting"
    return "reused" if any(step.name == "converted" and step.state == "reused" for step in steps) else "done"


def _has_file(steps: Sequence[Step]) -> bool:
    """A file that others have written is known from what was done with it."""
    return any(step.state in ("done", "reused") for step in steps if step.name not in ("arrived", "described"))


def _error(failure: TaskNote | None) -> str:
    return "" if failure is None else failure.note.error or _WITHOUT_A_WORD


def _places(notes: Sequence[TaskNote]) -> tuple[Place, ...]:
    staged = {one.note.s3_uri: one.key for one in notes if one.note.step == "stage" and one.state == "success"}
    return tuple(Place(uri, task) for uri, task in staged.items() if uri)


def _progress(notes: Sequence[TaskNote]) -> tuple[int, int] | None:
    plan = next((one for one in reversed(notes) if one.note.step == "plan" and one.note.shares), None)
    if plan is None or plan.note.shares is None:
        return None
    filled = [one for one in notes if one.note.step == "fill" and one.key.run == plan.key.run]
    return sum(one.state == "success" for one in filled), plan.note.shares


def _last(notes: Sequence[TaskNote], name: str) -> str:
    return next((str(text) for one in reversed(notes) if (text := getattr(one.note, name))), "")


def _last_number(notes: Sequence[TaskNote], name: str) -> int | None:
    return next((number for one in reversed(notes) if (number := getattr(one.note, name)) is not None), None)
