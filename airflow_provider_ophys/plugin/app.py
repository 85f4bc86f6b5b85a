"""
The web app: the page "Ophys", the report of a task, and the files that both show.

All that it answers is read only, and depends on who asks: see :mod:`airflow_provider_ophys.plugin.access`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response, status
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from fastapi.staticfiles import StaticFiles

from airflow_provider_ophys.exceptions import OphysError
from airflow_provider_ophys.plugin import objects, pages, reports
from airflow_provider_ophys.plugin.access import ReadableTask, readable
from airflow_provider_ophys.plugin.choice import ChoiceDep, TrendsChoiceDep
from airflow_provider_ophys.plugin.files import ReportNotServedError
from airflow_provider_ophys.plugin.folders import assets_of_dags, waiting_folders
from airflow_provider_ophys.plugin.listing import LISTING
from airflow_provider_ophys.plugin.sessions import SessionRow
from airflow_provider_ophys.plugin.set_up import set_up
from airflow_provider_ophys.plugin.table import as_csv
from airflow_provider_ophys.plugin.trends import trends_of
from airflow_provider_ophys.plugin.waiting import active_dags, waiting_tasks

app = FastAPI(title="Ophys", docs_url=None, redoc_url=None, openapi_url=None)
app.mount("/static", StaticFiles(directory=Path(__file__).with_name("static")), name="static")


@app.middleware("http")
async def _guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Keep every answer to this site, and from being taken for what it is not."""
    response = await call_next(request)
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    response.headers.setdefault("Content-Security-Policy", pages.FILE_POLICY)
    return response


@app.exception_handler(HTTPException)
def _refused(_: Request, error: HTTPException) -> Response:
    return pages.message(str(error.detail), status_code=error.status_code, headers=error.headers)


@app.exception_handler(RequestValidationError)
def _misspelled(_: Request, error: RequestValidationError) -> Response:
    wrong = "; ".join(f"{problem['loc'][-1]}: {problem['msg']}" for problem in error.errors())
    return pages.message(f"This address is not right: {wrong}.", status_code=422)


@dataclass(frozen=True)
class Seen:
    """
    What a person may see.

    :param active: DAGs that have a run now.
    :param assets: Assets that these DAGs have to do with.
    """

    dag_ids: Sequence[str]
    active: Sequence[str]
    assets: frozenset[int]
    rows: Sequence[SessionRow]


def _seen(user: GetUserDep, session: SessionDep) -> Seen:
    LISTING.index.refresh(session)
    assets, active = assets_of_dags(session), active_dags(session)
    dag_ids = readable({*LISTING.index.dag_ids, *assets, *active}, user)
    own = frozenset(asset_id for dag_id in dag_ids for asset_id in assets.get(dag_id, ()))
    with_notes = sorted(dag_ids & LISTING.index.dag_ids)
    return Seen(with_notes, [dag_id for dag_id in active if dag_id in dag_ids], own, LISTING.rows(dag_ids, own))


SeenDep = Annotated[Seen, Depends(_seen)]


@app.get("/")
def overview(choice: ChoiceDep, seen: SeenDep, user: GetUserDep, session: SessionDep) -> Response:
    """Show the sessions, what failed and why, and what waits, of the DAGs that the user may read."""
    ours = {task for task in LISTING.index.unknown_operators() if task[0] in seen.active}
    return pages.overview(
        choice=choice,
        dag_ids=seen.dag_ids,
        every_row=seen.rows,
        rows=choice.pick(seen.rows),
        waiting=waiting_tasks(session, seen.active, ours, limit=pages.MOST_WAITING + 1),
        folders=waiting_folders(session, seen.assets),
        set_up=None if seen.rows else set_up(session, lambda dag_ids: readable(dag_ids, user)),
    )


@app.get("/sessions.csv")
def sessions_csv(choice: ChoiceDep, seen: SeenDep) -> Response:
    """Give the sessions that are chosen, of all pages, as a table."""
    headers = {"Content-Disposition": 'attachment; filename="ophys-sessions.csv"', "Cache-Control": "no-store"}
    content = as_csv(choice.pick(seen.rows), choice.zone)
    return Response(content, media_type="text/csv; charset=utf-8", headers=headers)


@app.get("/trends")
def trends(choice: TrendsChoiceDep, seen: SeenDep) -> Response:
    """Show how many sessions there were by day and by subject, how fast and how big, and what was left to do."""
    return pages.trends(choice=choice, dag_ids=seen.dag_ids, trends=trends_of(choice, seen.rows))


@app.get("/report")
def report(task: ReadableTask, session: SessionDep) -> Response:
    """Show the report of a task, or say why there is none."""
    found, trouble = reports.find(session, task), ""
    if found is not None:
        try:
            reports.read(found, "html", task)
        except (ReportNotServedError, OphysError) as error:
            trouble = str(error)
    places = [row.places for row in LISTING.rows([task.dag_id], []) if trouble and row.report == task]
    return pages.report(
        task=task, path=found.html if found else "", trouble=trouble, places=places[0] if places else ()
    )


@app.get("/report/document")
def report_document(task: ReadableTask, session: SessionDep) -> Response:
    """Serve the page that a task reported, which may do nothing but be looked at."""
    content = _reported(session, task, "html")
    return Response(content, media_type="text/html; charset=utf-8", headers=pages.REPORT_HEADERS)


@app.get("/report/picture")
def report_picture(
    task: ReadableTask, session: SessionDep, kind: Annotated[Literal["png", "thumbnail"], Query()] = "thumbnail"
) -> Response:
    """Serve a picture that a task reported."""
    content = reports.small_picture(session, task) if kind == "thumbnail" else None
    content = content or _reported(session, task, kind)
    return Response(content, media_type="image/png", headers=pages.PICTURE_HEADERS)


def _reported(session: SessionDep, task: ReadableTask, kind: reports.Kind) -> bytes:
    if (found := reports.find(session, task)) is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, "This task made no report.")
    try:
        return reports.read(found, kind, task)
    except (ReportNotServedError, OphysError) as error:
        raise HTTPException(status.HTTP_404_NOT_FOUND, str(error)) from error


@app.get("/object")
def staged_object(
    task: ReadableTask, session: SessionDep, to: Annotated[Literal["", "neurosift"], Query()] = ""
) -> Response:
    """Lead to what a task staged, by an address that opens it for a while."""
    try:
        address = objects.address(session, task, neurosift=to == "neurosift")
    except (ReportNotServedError, OphysError) as error:
        raise HTTPException(status.HTTP_404_NOT_FOUND, str(error)) from error
    return RedirectResponse(address, headers={"Cache-Control": "no-store"})
