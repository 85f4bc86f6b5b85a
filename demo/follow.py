"""Follow an acquisition through Airflow: the event that it raises, the runs that follow, and their tasks."""

from __future__ import annotations

import time
from collections.abc import Callable

from demo.progress import Progress
from demo.rest import DagRun, TaskInstance
from demo.stack import AirflowStack

ON_ARRIVAL, ARCHIVE = "ophys_on_arrival", "ophys_archive"
# A DAG file is parsed within seconds, and the triggerer looks at the watched folder every few seconds.
PATIENCE_SECONDS = 120.0
LOG_TAIL_LINES = 25
POLL_SECONDS = 0.5


class FollowError(RuntimeError):
    """What was dropped did not get through: a task failed, or nothing happened for too long."""


class Follower:
    """
    Watches the runs of a stack and says what changes.

    :param stack: The running stack.
    :param progress: Gets a line for each change.
    """

    def __init__(self, stack: AirflowStack, progress: Progress) -> None:
        self._stack = stack
        self._client = stack.client
        self._progress = progress
        self._states: dict[tuple[str, str, int], str | None] = {}

    def wait_for_dags(self, *dag_ids: str) -> None:
        """
        Wait until Airflow has read DAG files.

        :raises FollowError: When a file cannot be imported or a DAG does not appear.
        """
        self._wait(
            lambda: set(dag_ids) <= set(self._client.dag_ids()),
            f"waiting for the DAGs {', '.join(dag_ids)}",
            f"Airflow does not know the DAGs {', '.join(dag_ids)}; it reads {self._stack.dags_folder}",
        )

    def follow(self, dag_id: str, *, after: DagRun | None = None) -> DagRun:
        """
        Wait for a run of a DAG and until it has finished.

        :param dag_id: The DAG.
        :param after: Follow the run that comes after this one; the first one when not given.
        :raises FollowError: With the end of a task's log when one failed; or when no run starts, or one hangs.
        """
        run = self._wait_for_run(dag_id, after)
        self._progress.say(f"{dag_id}: run {run.run_id} ({run.run_type.replace('_', ' ')})")
        last_change = time.monotonic()
        while not (run := self._client.dag_run(run.dag_id, run.run_id)).finished:
            if self._report_tasks(run):
                last_change = time.monotonic()
            if time.monotonic() - last_change > PATIENCE_SECONDS and not self._busy(run):
                raise FollowError(f"{dag_id} has not moved for {PATIENCE_SECONDS:g} s.{self._task_table(run)}")
            self._stack.check_alive()
            time.sleep(POLL_SECONDS)
        self._report_tasks(run)
        self._progress.say(f"{dag_id}: {run.state}")
        if run.state != "success":
            raise FollowError(self._failure(run))
        return run

    def follow_until(self, dag_id: str, done: Callable[[list[DagRun]], bool]) -> list[DagRun]:
        """
        Follow the runs of a DAG, one after the other, until they have done something.

        :param done: Is given the runs that have finished.
        :raises FollowError: As :meth:`follow` does.
        """
        runs = [self.follow(dag_id)]
        while not done(runs):
            runs.append(self.follow(dag_id, after=runs[-1]))
        return runs

    def _wait_for_run(self, dag_id: str, after: DagRun | None) -> DagRun:
        def later_runs() -> list[DagRun]:
            runs = self._client.dag_runs(dag_id)
            return runs if after is None else runs[[run.run_id for run in runs].index(after.run_id) + 1 :]

        self._wait(
            lambda: bool(later_runs()),
            f"waiting for a run of {dag_id}",
            f"no run of {dag_id} has started",
        )
        return later_runs()[0]

    def _wait(self, done: Callable[[], bool], waiting: str, failure: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not done():
            self._progress.say(waiting)
            self._stack.check_alive()
            for file, trace in self._client.import_errors().items():
                raise FollowError(f"Airflow cannot import {file}:\n{trace}")
            if time.monotonic() > deadline:
                raise FollowError(f"After {PATIENCE_SECONDS:g} s {failure}. Logs are in {self._stack.home}.")
            time.sleep(POLL_SECONDS)

    def _report_tasks(self, run: DagRun) -> bool:
        """Say which tasks changed, and give whether any did."""
        changed = False
        tasks = self._client.task_instances(run)
        for task in tasks:
            before = self._states.get((run.run_id, task.task_id, task.map_index))
            self._states[run.run_id, task.task_id, task.map_index] = task.state
            if task.state != before and (task.finished or task.state in {"running", "up_for_retry"}):
                took = f" in {task.seconds:.1f} s" if task.finished and task.seconds is not None else ""
                self._progress.say(f"{run.dag_id}: {task.label} {task.state}{took}")
                changed = True
        running = ", ".join(task.label for task in tasks if task.state == "running")
        if running and not changed:
            self._progress.still(f"{run.dag_id}: {running} still running")
        return changed

    def _busy(self, run: DagRun) -> bool:
        return any(task.state == "running" for task in self._client.task_instances(run))

    def _task_table(self, run: DagRun) -> str:
        return "".join(f"\n  {task.label}: {task.state}" for task in self._client.task_instances(run))

    def _failure(self, run: DagRun) -> str:
        tasks = self._client.task_instances(run)
        failed = [task for task in tasks if task.state == "failed"]
        logs = "\n".join(self._log_tail(task) for task in failed)
        return f"The run {run.run_id} of {run.dag_id} failed.\n{logs or self._task_table(run)}"

    def _log_tail(self, task: TaskInstance) -> str:
        lines = "\n  ".join(self._client.task_log(task)[-LOG_TAIL_LINES:])
        return f"End of the log of {task.label}, attempt {task.try_number}:\n  {lines}"
