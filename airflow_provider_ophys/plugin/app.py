"""
The web app: the page "Ophys", the report of a task, and the files that both show.

All that it answers is read only, and depends on who asks: see :mod:`airflow_provider_ophys.plugin.access`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Literal

from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import FastAPI, HTTPException, Query, Request, Response, status
from fastapi.exceptions import RequestValidationError
from fastapi.staticfiles import StaticFiles

from airflow_provider_ophys.exceptions import ConfigurationError
from airflow_provider_ophys.plugin import pages
from airflow_provider_ophys.plugin.access import ReadableTask, readable, team_of
from airflow_provider_ophys.plugin.choice import ChoiceDep, whole_moments
from airflow_provider_ophys.plugin.files import (
    S3,
    Kind,
    Policy,
    ReportNotServedError,
    read_reported,
    reported_path,
)
from airflow_provider_ophys.plugin.folders import dags_that_watch, waiting_folders
from airflow_provider_ophys.plugin.recordings import gather
from airflow_provider_ophys.plugin.tasks import TaskKey, task_result, tasks_of_runs
from airflow_provider_ophys.plugin.waiting import dags_that_wait, waiting_tasks
from airflow_provider_ophys.report.origin import Maker
from airflow_provider_ophys.settings import allowed_roots, report_roots

MOST_RUNS, MOST_TASKS = 50, 500

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


@app.get("/")
def overview(choice: ChoiceDep, user: GetUserDep, session: SessionDep) -> Response:
    """Show the recent recordings and what waits, of the DAGs that the user may read."""
    dag_ids = sorted(readable(choice.dag_ids(session), user))
    runs, earlier_runs = whole_moments(choice.runs(session, dag_ids, limit=MOST_RUNS + 1), MOST_RUNS)
    names = [(run.dag_id, run.run_id) for run in runs]
    tasks, earlier = whole_moments(tasks_of_runs(session, names, limit=MOST_TASKS + 1), MOST_TASKS)
    waiting = readable(choice.of(dags_that_wait(session)), user)
    watching = dags_that_watch(session)
    assets = {asset_id for dag_id in readable(choice.of(watching), user) for asset_id in watching[dag_id]}
    return pages.overview(
        choice=choice,
        dag_ids=dag_ids,
        recordings=[one for one in gather(tasks) if choice.state in {None, *one.states}],
        waiting=waiting_tasks(session, waiting, limit=pages.MOST_WAITING + 1),
        folders=waiting_folders(session, assets),
        earlier=earlier or earlier_runs,
    )


@app.get("/report")
def report(task: ReadableTask, session: SessionDep) -> Response:
    """Show the report of a task, or say why there is none."""
    result = task_result(session, task) or {}
    trouble = ""
    if path := reported_path(result, "html"):
        try:
            _read(path, "html", task)
        except (ReportNotServedError, ConfigurationError) as error:
            trouble = str(error)
    return pages.report(
        task=task, path=path, trouble=trouble, in_s3=_places_in_s3(session, task) if trouble else []
    )


def _places_in_s3(session: SessionDep, task: ReadableTask) -> list[str]:
    tasks = tasks_of_runs(session, [task.run], limit=MOST_TASKS)
    about_it = [one for one in gather(tasks) if task in {each.key for each in one.tasks}]
    return [place for one in about_it for place in one.places_in_s3]


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
    return Response(_reported(session, task, kind), media_type="image/png", headers=pages.PICTURE_HEADERS)


def _reported(session: SessionDep, task: ReadableTask, kind: Kind) -> bytes:
    path = reported_path(task_result(session, task) or {}, kind)
    if not path:
        raise HTTPException(status.HTTP_404_NOT_FOUND, "This task made no report.")
    try:
        return _read(path, kind, task)
    except (ReportNotServedError, ConfigurationError) as error:
        raise HTTPException(status.HTTP_404_NOT_FOUND, str(error)) from error


def _read(path: str, kind: Kind, task: TaskKey) -> bytes:
    if path.startswith(S3):
        raise ReportNotServedError("It is in S3, which this page does not read.")
    policy = Policy(allowed_roots(), report_roots())
    return read_reported(path, kind, policy, Maker(task.dag_id, task.task_id), team_of(task.dag_id))
