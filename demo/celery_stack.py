"""
Airflow on this machine as a platform of several hosts runs it: CeleryExecutor, PostgreSQL, Redis and workers.

Each worker has a working folder, an ``AIRFLOW_HOME`` and a copy of the DAG files of its own, as on a host of its
own; what the DAGs read and write is all that they share::

    with CeleryStack(Path("/tmp/home"), dags_folder=Path("dags")) as stack:
        stack.kill("worker_1")
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from demo.postgres_server import PostgresServer
from demo.redis_server import RedisServer
from demo.stack import COMPONENTS, AirflowStack

WORKERS = ("worker_1", "worker_2")
READY = " ready."


class CeleryStack(AirflowStack):
    """
    Airflow's four processes, two Celery workers of one task at a time each, PostgreSQL and Redis.

    :param home: As for :class:`AirflowStack`; the workers' folders are in it.
    :param dags_folder: The DAG files, of which each worker gets a copy.
    :param environment: More variables for all of Airflow's processes.
    :param start_timeout: Seconds after which a stack that is not healthy is given up.
    :param progress: Is told, in a few words, what the start is waiting for.
    """

    def __init__(
        self,
        home: Path,
        *,
        dags_folder: Path,
        environment: Mapping[str, str] | None = None,
        start_timeout: float = 600,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        home = Path(home).resolve()
        self._postgres = PostgresServer(home / "postgres")
        self._redis = RedisServer(home / "redis")
        settings = {
            "CORE__EXECUTOR": "CeleryExecutor",
            "DATABASE__SQL_ALCHEMY_CONN": self._postgres.url,
            "CELERY__BROKER_URL": self._redis.url,
            "CELERY__RESULT_BACKEND": f"db+{self._postgres.url}",
            "CELERY__WORKER_CONCURRENCY": "1",
            "CELERY__WORKER_PREFETCH_MULTIPLIER": "1",
        }
        super().__init__(
            home,
            dags_folder=dags_folder,
            environment={f"AIRFLOW__{name}": value for name, value in settings.items()} | dict(environment or {}),
            start_timeout=start_timeout,
            progress=progress,
            components=COMPONENTS
            | {
                name: ["celery", "worker", "--celery-hostname", f"{name}@%h", "--skip-serve-logs"]
                for name in WORKERS
            },
        )

    def stop(self) -> None:
        """End all of Airflow's processes, then the servers."""
        super().stop()
        self._redis.stop()
        self._postgres.stop()

    def launch(self, name: str) -> None:
        """
        Start one component, again after :meth:`kill`, and do not wait for it.

        :param name: One of its components; a worker gets folders of its own.
        """
        if name not in WORKERS:
            super().launch(name)
            return
        folder = self.worker_folder(name)
        own = {"AIRFLOW_HOME": str(folder), "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags")}
        command = [self.command, *self.components[name]]
        self._launch(name, command, self.environment | own, folder=folder)

    def worker_folder(self, name: str) -> Path:
        """
        Return a worker's own folder, with its DAG files and the logs of its tasks.

        :param name: One of ``WORKERS``.
        """
        return self.home / name

    def _migrate(self) -> None:
        self._postgres.start()
        self._redis.start()
        for name in WORKERS:
            shutil.copytree(self.dags_folder, self.worker_folder(name) / "dags")
        super()._migrate()

    def _waiting_for(self) -> list[str]:
        # Workers are not in the API server's report.
        starting = [name for name in WORKERS if READY not in (self.home / f"{name}.log").read_text()]
        return super()._waiting_for() + starting
