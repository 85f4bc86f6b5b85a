"""Task instances gathered by the NWB file that they are about: one recording for one look."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath

from airflow_provider_ophys.plugin.checks import Check, checks, last
from airflow_provider_ophys.plugin.files import S3, reported_path
from airflow_provider_ophys.plugin.tasks import STAGING, WRITING, Json, Task, TaskKey


@dataclass(frozen=True)
class Recording:
    """
    One NWB file in one run: what wrote it, reported on it and staged it.

    :param path: Of the NWB file; empty when no task got so far as to know it.
    :param tasks: At least one, in the order in which they started.
    """

    path: str
    tasks: tuple[Task, ...]

    @property
    def name(self) -> str:
        """What a person calls it."""
        first = self.tasks[0].key
        return PurePosixPath(self.path).name or first.task_id

    @property
    def states(self) -> set[str | None]:
        """The states of its tasks."""
        return {task.state for task in self.tasks}

    @property
    def started(self) -> datetime:
        """When the first of its tasks started; when its run was due if none has."""
        return min((task.started for task in self.tasks if task.started), default=self.tasks[0].run_after)

    @property
    def reported(self) -> Task | None:
        """The task with the newest report on a disk; None when there is none."""
        for task in reversed(self.tasks):
            path = reported_path(task.result, "html")
            if path and not path.startswith(S3):
                return task
        return None

    @property
    def places_in_s3(self) -> list[str]:
        """Where in S3 its report is or, when only the file was staged, the file."""
        reports = [path for result in self._results if (path := reported_path(result, "html")).startswith(S3)]
        return reports[-1:] or [self.s3_uri] * bool(self.s3_uri)

    @property
    def size_bytes(self) -> object:
        """What the last task that looked at the file or store found to be its size."""
        return last(self._results, "size_bytes")

    @property
    def s3_uri(self) -> str:
        """Where in S3 it is; empty when it was not staged."""
        return str(last(self._results, "s3_uri") or "")

    @property
    def address(self) -> str:
        """Where a browser finds what was staged; empty when nothing was."""
        return next((task.address for task in reversed(self.tasks) if task.address), "")

    @property
    def checks(self) -> list[Check]:
        """What the checks of the file found."""
        return checks(self._results)

    @property
    def _results(self) -> list[Json]:
        return [task.result for task in self.tasks]

    @property
    def source(self) -> str:
        """The file or folder that was converted."""
        for task in self.tasks:
            arguments = task.fields.get("extractor_kwargs")
            if isinstance(arguments, dict):
                named = [value for name, value in arguments.items() if name.endswith("_path")]
                if named and isinstance(named[0], str):
                    return named[0]
        return ""


def gather(tasks: Iterable[Task]) -> list[Recording]:
    """
    Gather the tasks that write, report on and stage the same file in the same run.

    A task that does not know its file yet belongs to the file that those of its run and map index are about.

    :param tasks: Task instances of ours.
    :returns: Recordings of which a task has started, in the order of their first tasks.
    """
    ours = [task for task in tasks if task.operator == STAGING or task.operator in WRITING]
    files: dict[tuple[str, str, int], set[str]] = {}
    for task in ours:
        files.setdefault(_place(task), set()).update({file_of(task)} - {""})
    groups: dict[tuple[tuple[str, str], str], list[Task]] = {}
    for task in ours:
        known = file_of(task) or (next(iter(files[_place(task)])) if len(files[_place(task)]) == 1 else "")
        groups.setdefault((task.key.run, known or f"{task.key.task_id} {task.key.map_index}"), []).append(task)
    recordings = [
        Recording(next(filter(None, map(file_of, group)), ""), tuple(sorted(group, key=_order)))
        for group in groups.values()
    ]
    return [recording for recording in recordings if any(task.started for task in recording.tasks)]


def file_of(task: Task) -> str:
    """Tell which NWB file a task is about, by what it returned, else by what it was told; empty when unknown."""
    told = task.fields.get("source")
    places = (
        task.result.get("nwbfile_path"),
        task.result.get("source"),
        task.fields.get("nwbfile_path"),
        *((told.get("nwbfile_path"), told.get("source")) if isinstance(told, dict) else (told,)),
        task.result.get("s3_uri"),
    )
    return next((place for place in places if place and isinstance(place, str)), "")


def _place(task: Task) -> tuple[str, str, int]:
    return (*task.key.run, task.key.map_index)


def _order(task: Task) -> tuple[bool, datetime, TaskKey]:
    return task.started is None, task.started or task.run_after, task.key
