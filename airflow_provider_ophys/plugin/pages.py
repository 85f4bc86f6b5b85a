"""The pages as HTML. Jinja escapes all that comes from outside; nothing here marks anything as safe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from airflow_provider_ophys.compat import HAS_STATE_STORES
from airflow_provider_ophys.plugin import charts, formats
from airflow_provider_ophys.plugin.choice import PER_PAGE, Choice, time_zone
from airflow_provider_ophys.plugin.folders import WatchedFolder
from airflow_provider_ophys.plugin.listing import today_in
from airflow_provider_ophys.plugin.objects import neurosift_allowed
from airflow_provider_ophys.plugin.sessions import STATES, Place, SessionRow
from airflow_provider_ophys.plugin.set_up import SetUp
from airflow_provider_ophys.plugin.tasks import TaskKey
from airflow_provider_ophys.plugin.trends import Trends
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
MOST_WAITING = 200
REPORT_HEADERS = {"Content-Security-Policy": _REPORT_POLICY, "Cache-Control": "private, no-cache"}
PICTURE_HEADERS = {"Content-Security-Policy": FILE_POLICY, "Cache-Control": "private, max-age=300"}
_PAGE_HEADERS = {"Content-Security-Policy": _PAGE_POLICY, "Cache-Control": "private, no-store"}


def overview(
    *,
    choice: Choice,
    dag_ids: Sequence[str],
    every_row: Sequence[SessionRow],
    rows: Sequence[SessionRow],
    waiting: Sequence[Waiting],
    folders: Sequence[WatchedFolder],
    set_up: SetUp | None,
) -> HTMLResponse:
    """
    Write the page "Ophys".

    :param dag_ids: The DAGs to choose from.
    :param every_row: All sessions that the person may see.
    :param rows: Those that are chosen, of which one page is shown; the last one, if there are no longer so many.
    :param waiting: Of which the first are shown.
    :param set_up: For a page that has nothing else to show.
    """
    num_pages = max(1, -(-len(rows) // PER_PAGE))
    choice = replace(choice, page=min(choice.page, num_pages))
    return _page(
        "overview.html",
        choice=choice,
        states=(*STATES, "no file"),
        dag_ids=dag_ids,
        today=today_in(every_row, choice.zone),
        incomplete=sum(len(folder.note["folders"]) + folder.note["more"] for folder in folders),
        rows=choice.one_page(rows),
        num_rows=len(rows),
        num_pages=num_pages,
        waiting=waiting[:MOST_WAITING],
        more_wait=len(waiting) > MOST_WAITING,
        folders=folders,
        set_up=set_up,
        neurosift=neurosift_allowed(),
        lists_folders=HAS_STATE_STORES,
    )


def trends(*, choice: Choice, dag_ids: Sequence[str], trends: Trends) -> HTMLResponse:
    """Write the page of what was converted over time."""
    days = [day.name for day in trends.days]
    drawn = [
        charts.bar_chart("Sessions converted per day", "sessions", days, [day.sessions for day in trends.days]),
        charts.bar_chart("GB written per day", "GB", days, [day.size_bytes / 1e9 for day in trends.days]),
        charts.bar_chart("MB/s, median of the day", "MB/s", days, [day.speed or 0 for day in trends.days]),
        charts.bar_chart("Waiting at the end of the day", "sessions", days, [day.backlog for day in trends.days]),
    ]
    return _page("trends.html", choice=choice, dag_ids=dag_ids, trends=trends, charts=drawn)


def report(*, task: TaskKey, path: str, trouble: str, places: Sequence[Place]) -> HTMLResponse:
    """
    Write the tab "Report" of a task instance.

    :param path: Where the task says that its report is; empty when it made none.
    :param trouble: Why the report is not shown; empty when it is.
    :param places: Where in S3 its session is.
    """
    return _page("report.html", task=task, path=path, trouble=trouble, places=places)


def message(text: str, *, status_code: int, headers: Mapping[str, str] | None = None) -> HTMLResponse:
    """Write a page that says why there is no other."""
    return _page("message.html", status_code=status_code, headers=headers, text=text)


def _page(
    template: str, *, status_code: int = 200, headers: Mapping[str, str] | None = None, **values: Any
) -> HTMLResponse:
    content = _environment.get_template(template).render(**values)
    return HTMLResponse(content, status_code=status_code, headers={**_PAGE_HEADERS, **(headers or {})})


def _local(moment: datetime) -> str:
    """Write a time as this Airflow's clock shows it; a script writes it as the person has Airflow show times."""
    here = moment.astimezone(time_zone())
    return f"{here:%Y-%m-%d %H:%M} {here.tzname() or ''}".rstrip()


_environment = Environment(
    loader=PackageLoader("airflow_provider_ophys.plugin"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters |= formats.FILTERS | {"local": _local}
