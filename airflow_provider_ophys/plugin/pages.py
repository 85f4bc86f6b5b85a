"""The pages as HTML. Jinja escapes all that comes from outside; nothing here marks anything as safe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from airflow_provider_ophys.plugin.choice import STATES, Choice
from airflow_provider_ophys.plugin.folders import WatchedFolder
from airflow_provider_ophys.plugin.recordings import Recording
from airflow_provider_ophys.plugin.tasks import Task, TaskKey
from airflow_provider_ophys.plugin.waiting import Waiting

# Airflow's own pages embed ours; nobody else's do.
_OURS_ONLY = "base-uri 'none'; form-action 'self'; frame-ancestors 'self'"
FILE_POLICY = f"default-src 'none'; {_OURS_ONLY}"
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    f"frame-src 'self'; {_OURS_ONLY}"
)
# A report carries its style and pictures in itself. Whatever else is in it does nothing, wherever it is opened.
_REPORT_POLICY = (
    "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; font-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
MOST_WAITING = 50
REPORT_HEADERS = {"Content-Security-Policy": _REPORT_POLICY, "Cache-Control": "private, no-cache"}
PICTURE_HEADERS = {"Content-Security-Policy": FILE_POLICY, "Cache-Control": "private, max-age=300"}
_PAGE_HEADERS = {"Content-Security-Policy": _PAGE_POLICY, "Cache-Control": "private, no-store"}


def overview(
    *,
    choice: Choice,
    dag_ids: Sequence[str],
    recordings: Sequence[Recording],
    waiting: Sequence[Waiting],
    folders: Sequence[WatchedFolder],
    earlier: datetime | None,
) -> HTMLResponse:
    """
    Write the page "Ophys".

    :param dag_ids: The DAGs to choose from.
    :param waiting: Of which the first are shown.
    :param earlier: Where the next page begins; None when there is none.
    """
    return _page(
        "overview.html",
        choice=choice,
        states=STATES,
        dag_ids=dag_ids,
        recordings=recordings,
        waiting=waiting[:MOST_WAITING],
        more_wait=len(waiting) > MOST_WAITING,
        folders=folders,
        older=choice.older(earlier) if earlier else "",
    )


def report(*, task: TaskKey, path: str, trouble: str, in_s3: Sequence[str]) -> HTMLResponse:
    """
    Write the tab "Report" of a task instance.

    :param path: Where the task says that its report is; empty when it made none.
    :param trouble: Why the report is not shown; empty when it is.
    :param in_s3: Where in S3 the report is, or the file that it was staged with.
    """
    return _page("report.html", task=task, path=path, trouble=trouble, in_s3=in_s3)


def message(text: str, *, status_code: int, headers: Mapping[str, str] | None = None) -> HTMLResponse:
    """Write a page that says why there is no other."""
    return _page("message.html", status_code=status_code, headers=headers, text=text)


def _page(
    template: str, *, status_code: int = 200, headers: Mapping[str, str] | None = None, **values: Any
) -> HTMLResponse:
    content = _environment.get_template(template).render(**values)
    return HTMLResponse(content, status_code=status_code, headers={**_PAGE_HEADERS, **(headers or {})})


def _query(task: TaskKey) -> str:
    return urlencode(
        {"dag_id": task.dag_id, "run_id": task.run_id, "task_id": task.task_id, "map_index": task.map_index}
    )


def _run_link(task: TaskKey) -> str:
    """Give the address of a run in Airflow's own pages, from a page of ours."""
    return f"../dags/{quote(task.dag_id, safe='')}/runs/{quote(task.run_id, safe='')}"


def _task_link(task: TaskKey) -> str:
    mapped = f"/mapped/{task.map_index}" if task.map_index >= 0 else ""
    return f"{_run_link(task)}/tasks/{quote(task.task_id, safe='')}{mapped}"


def _digits(number: float) -> str:
    """Write three digits, or all of a larger number."""
    return f"{number:.3g}" if abs(number) < 100 else f"{number:.0f}"  # noqa: PLR2004 -- has three already


def _bytes(number: object) -> str:
    if not isinstance(number, int | float):
        return ""
    value = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:  # noqa: PLR2004 -- SI prefixes, as Airflow's operators log them
            return f"{_digits(value)} {unit}"
        value /= 1000
    return f"{_digits(value)} TB"


def _seconds(number: object) -> str:
    if not isinstance(number, int | float):
        return ""
    if number < 60:  # noqa: PLR2004 -- seconds of a minute
        return f"{number:.1f} s"
    minutes, seconds = divmod(round(number), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"


def _speed(task: Task) -> str:
    speed = task.result.get("throughput_mb_per_s")
    return _digits(speed) if isinstance(speed, int | float) and not task.result.get("reused") else ""


def _label(task: TaskKey) -> str:
    return f"{task.task_id} [{task.map_index}]" if task.map_index >= 0 else task.task_id


def _utc(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


_environment = Environment(
    loader=PackageLoader("airflow_provider_ophys.plugin"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters |= {
    "bytes": _bytes,
    "label": _label,
    "query": _query,
    "run_link": _run_link,
    "seconds": _seconds,
    "speed": _speed,
    "task_link": _task_link,
    "utc": _utc,
}
