"""The page with 50,000 task instances in a real metadata database: quick, and with few queries."""

from __future__ import annotations

import json
import time
import uuid
from datetime import UTC, datetime, timedelta
from statistics import median

import pytest
from airflow.api_fastapi.app import init_auth_manager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.api_fastapi.core_api.security import get_user
from airflow.models.dag import DagModel
from airflow.models.dagbundle import DagBundleModel
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.settings import engine as airflow_engine
from airflow.utils.session import create_session
from sqlalchemy import delete, event, insert, select, update
from starlette.testclient import TestClient

from airflow_provider_ophys.plugin.app import app
from airflow_provider_ophys.plugin.listing import LISTING
from airflow_provider_ophys.session_notes import KEY

# Each run converts 300 sessions, in three tasks each: 50,400 task instances.
RUNS, SESSIONS, STEPS = 56, 300, ("describe", "convert", "stage")
MOST_SECONDS, MOST_QUERIES = 0.5, 20
NOW = datetime.now(UTC)


def note_of(run, number, step):
    path = f"/data/nwb/run{run}/session_{number}.nwb"
    note = {"step": step, "folder": f"/data/in/run{run}/session_{number}", "subject": f"mouse {number % 40}"}
    if step != "describe":
        note |= {"nwbfile_path": path, "size_bytes": 5_000_000 + number, "seconds": 3.0, "speed": 100.0 + number}
    if step == "convert":
        note |= {"valid": "valid", "findings": ["no subject"], "report": {"html": f"{path}.report.html"}}
    if step == "stage":
        note |= {"s3_uri": f"s3://archive/{number}.nwb", "aws_conn_id": "aws_default"}
    return note


def insert_runs(connection):
    connection.execute(insert(DagBundleModel.__table__), {"name": "many"})
    limits = {"max_active_tasks": 1, "max_active_runs": 1, "max_consecutive_failed_dag_runs": 0}
    dag = {"dag_id": "many", "bundle_name": "many", "timetable_type": "", "has_task_concurrency_limits": False}
    connection.execute(insert(DagModel.__table__), dag | limits)
    rows = [
        {
            "dag_id": "many",
            "run_id": f"run{run}",
            "run_type": "manual",
            "run_after": NOW - timedelta(hours=RUNS - run),
            "state": "running" if run == RUNS - 1 else "success",
            "updated_at": NOW - timedelta(hours=RUNS - run),
        }
        for run in range(RUNS)
    ]
    connection.execute(insert(DagRun.__table__), rows)


def insert_tasks(connection):
    tasks, xcoms = [], []
    # A text before Airflow 3.2.
    kind_of_id = TaskInstance.id.type.python_type
    ids = dict(connection.execute(select(DagRun.run_id, DagRun.id)).all())
    for run in range(RUNS):
        at = NOW - timedelta(hours=RUNS - run)
        for number in range(SESSIONS):
            for step in STEPS:
                where = {"dag_id": "many", "run_id": f"run{run}", "task_id": step, "map_index": number}
                state = "failed" if step == "stage" and number == 7 else "success"
                times = {"start_date": at, "end_date": at, "updated_at": at, "state": state}
                plain = {
                    "id": kind_of_id(str(uuid.uuid4())),
                    "try_number": 1,
                    "max_tries": 0,
                    "pool": "default_pool",
                    "pool_slots": 1,
                }
                tasks.append({**where, **times, **plain, "operator": "LabsOwnOperator"})
                told = {"sessions": [note_of(run, number, step)]}
                xcoms.append({**where, "dag_run_id": ids[f"run{run}"], "key": KEY, "value": told, "timestamp": at})
                # What a task returned lies beside.
                xcoms.append({**xcoms[-1], "key": "return_value", "value": {"text": json.dumps(told) * 3}})
    connection.execute(insert(TaskInstance.__table__), tasks)
    connection.execute(insert(XComModel.__table__), xcoms)


@pytest.fixture(scope="module")
def many(airflow_db):
    LISTING.__init__()
    with airflow_engine.begin() as connection:
        # What the tests before these have converted.
        connection.execute(delete(XComModel).where(XComModel.key == KEY))
        insert_runs(connection)
        insert_tasks(connection)
    yield
    with airflow_engine.begin() as connection:
        for model in (XComModel, TaskInstance, DagRun, DagModel):
            connection.execute(delete(model).where(model.dag_id == "many"))
    LISTING.__init__()


@pytest.fixture
def client(many):
    init_auth_manager()
    app.dependency_overrides[get_user] = lambda: SimpleAuthManagerUser(username="boss", role="admin")
    with TestClient(app) as client:
        yield client
    app.dependency_overrides.clear()


class Queries:
    """Counts what is asked of the database."""

    def __init__(self):
        self.texts = []

    def __call__(self, _connection, _cursor, statement, *_):
        self.texts.append(statement)


@pytest.fixture
def queries():
    counted = Queries()
    event.listen(airflow_engine, "before_cursor_execute", counted)
    yield counted
    event.remove(airflow_engine, "before_cursor_execute", counted)


def seconds_of(client, address):
    # What was read for one is there for two seconds for the next.
    LISTING.index._looked = 0.0
    started = time.process_time()
    answer = client.get(address)
    assert answer.status_code == 200, answer.text
    return time.process_time() - started


@pytest.mark.parametrize(
    "address", ["/", "/?q=run3+session_29", "/?sort=size&page=7&since=", "/trends", "/?state=failed"]
)
def test_a_page_is_quick_and_asks_little(client, queries, address):
    client.get("/")
    queries.texts.clear()
    taken = [seconds_of(client, address) for _ in range(3)]
    assert len(queries.texts) <= 3 * MOST_QUERIES, queries.texts
    assert median(taken) < MOST_SECONDS, taken


def test_all_sessions_and_all_failures_are_there(client):
    answer = client.get("/sessions.csv?since=")
    assert len(answer.text.splitlines()) == 1 + RUNS * SESSIONS
    failed = client.get("/sessions.csv?since=&state=failed").text.splitlines()[1:]
    assert len(failed) == RUNS
    pages = -(-RUNS * SESSIONS // 50)
    assert f"Page {pages} of {pages}" in client.get(f"/?since=&page={pages}").text
    assert f"Page {pages} of {pages}" in client.get("/?since=&page=99999").text


def test_what_changes_in_a_run_that_has_ended_is_seen(client, queries):
    client.get("/")
    with create_session() as session:
        now = datetime.now(UTC)
        session.execute(
            update(TaskInstance)
            .where(TaskInstance.dag_id == "many", TaskInstance.run_id == "run5", TaskInstance.map_index == 7)
            .values(state="success", updated_at=now)
        )
        session.execute(update(DagRun).where(DagRun.run_id == "run5").values(updated_at=now))
    assert seconds_of(client, "/") < MOST_SECONDS
    assert len(client.get("/sessions.csv?since=&state=failed").text.splitlines()) == RUNS
