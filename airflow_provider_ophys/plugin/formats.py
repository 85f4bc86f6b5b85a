"""How numbers, tasks and addresses are written on the pages."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

from airflow_provider_ophys.plugin.tasks import TaskKey


def query(task: TaskKey) -> str:
    """Write the query of a page of ours that is about a task."""
    return urlencode(
        {"dag_id": task.dag_id, "run_id": task.run_id, "task_id": task.task_id, "map_index": task.map_index}
    )


def run_link(task: TaskKey) -> str:
    """Give the address of a run in Airflow's own pages, from a page of ours."""
    return f"../dags/{quote(task.dag_id, safe='')}/runs/{quote(task.run_id, safe='')}"


def task_link(task: TaskKey) -> str:
    """Give the address of a task instance in Airflow's own pages, where its log is."""
    mapped = f"/mapped/{task.map_index}" if task.map_index >= 0 else ""
    return f"{run_link(task)}/tasks/{quote(task.task_id, safe='')}{mapped}"


def label(task: TaskKey) -> str:
    """Name a task instance for people."""
    return f"{task.task_id} [{task.map_index}]" if task.map_index >= 0 else task.task_id


def digits(number: object) -> str:
    """Write three digits, or all of a larger number; nothing for what is no number."""
    if not isinstance(number, int | float):
        return ""
    return f"{number:.3g}" if abs(number) < 100 else f"{number:.0f}"  # noqa: PLR2004 -- has three already


def in_bytes(number: object) -> str:
    """Write a number of bytes; nothing for what is no number."""
    if not isinstance(number, int | float):
        return ""
    value = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:  # noqa: PLR2004 -- SI prefixes, as Airflow's operators log them
            return f"{digits(value)} {unit}"
        value /= 1000
    return f"{digits(value)} TB"


def in_seconds(number: object) -> str:
    """Write a time; nothing for what is no number."""
    if not isinstance(number, int | float):
        return ""
    if number < 60:  # noqa: PLR2004 -- seconds of a minute
        return f"{number:.1f} s"
    minutes, seconds = divmod(round(number), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"


def ago(moment: datetime) -> str:
    """Write how long something has lasted."""
    return in_seconds(max(0.0, (datetime.now(UTC) - moment).total_seconds()))


FILTERS: dict[str, Callable[..., Any]] = {
    "ago": ago,
    "bytes": in_bytes,
    "digits": digits,
    "label": label,
    "query": query,
    "run_link": run_link,
    "seconds": in_seconds,
    "task_link": task_link,
}
