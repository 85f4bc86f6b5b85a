"""
One Airflow for the modules that kill its parts: on PostgreSQL, where other modules have SQLite.

Each module puts DAG files of its own into the folder of :func:`stack`, where Airflow finds them within seconds.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from running_tasks import PATIENCE_SECONDS, is_last_with

from demo.postgres_server import PostgresServer
from demo.stack import AirflowStack

ENVIRONMENT = {
    # A triggerer takes over from one that was killed when it has not been heard of for so long.
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "4",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
    # A worker that died is noticed after a minute, not after five, by the scheduler or by the one that follows it.
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "15",
    "AIRFLOW__OPHYS__PRELOAD": "True",
}


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    with PostgresServer(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, database: PostgresServer) -> Iterator[AirflowStack]:
    with AirflowStack(
        tmp_path_factory.mktemp("airflow"),
        dags_folder=tmp_path_factory.mktemp("dags"),
        environment=ENVIRONMENT | {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database.url},
        parallelism=8,
        start_timeout=PATIENCE_SECONDS,
    ) as stack:
        yield stack


def pytest_runtest_teardown(item: pytest.Function, nextitem: pytest.Function | None) -> None:
    """Stop both after the last test of the last module: until the end they would keep the processor busy."""
    if is_last_with("database", item, nextitem):
        item.funcargs["stack"].stop()
        item.funcargs["database"].stop()
