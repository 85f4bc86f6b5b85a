"""
Airflow on this machine, as a user runs it: its four processes on SQLite with LocalExecutor.

Scheduler, DAG processor, triggerer and API server are started from this environment's ``airflow`` command, with
everything they write in one folder and the only open port on 127.0.0.1::

    with AirflowStack(Path("/tmp/home"), dags_folder=Path("dags")) as stack:
        run = stack.client.trigger("my_dag")
"""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

from demo.rest import AirflowApiError, AirflowClient
from demo.servers import HOST, Server, ServerError, free_ports

DATABASE = "airflow.db"
# Both would serve the logs of their tasks on 0.0.0.0; on one machine the API server reads the files itself.
COMPONENTS = {
    "api_server": ["api-server"],
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag_processor": ["dag-processor"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
}


class AirflowStack(Server):
    """
    Airflow's four processes, from :meth:`start` to :meth:`stop`.

    :param home: ``AIRFLOW_HOME``: database, logs, configuration; created when missing, kept afterwards.
    :param dags_folder: The folder of the DAG files.
    :param environment: More variables for all four, such as ``AIRFLOW_VAR_...`` and ``AIRFLOW_CONN_...``.
    :param command: The ``airflow`` command; that of this Python's environment when not given.
    :param parallelism: How many tasks may run at the same time.
    :param start_timeout: Seconds after which a stack that is not healthy is given up.
    :param progress: Is told, in a few words, what the start is waiting for.
    :param components: What to start: the arguments of the ``airflow`` command, by name.
    :param migrated: A migrated SQLite database, of which a copy is used instead of migrating a new one.
    :raises ServerError: From :meth:`start`, with the end of the log of the process that failed.
    """

    def __init__(
        self,
        home: Path,
        *,
        dags_folder: Path,
        environment: Mapping[str, str] | None = None,
        command: Path | None = None,
        parallelism: int = 4,
        start_timeout: float = 180,
        progress: Callable[[str], None] = lambda _: None,
        components: Mapping[str, list[str]] = COMPONENTS,
        migrated: Path | None = None,
    ) -> None:
        super().__init__("Airflow", home, start_timeout=start_timeout, progress=progress)
        self.home = self.folder
        self.dags_folder = Path(dags_folder).resolve()
        self.command = command or Path(sys.executable).with_name("airflow")
        [self.port] = free_ports(1)
        self.url = f"http://{HOST}:{self.port}"
        self.client = AirflowClient(self.url)
        self.environment = self._own_environment(parallelism) | dict(environment or {})
        self.components = dict(components)
        self._migrated = migrated

    def start(self) -> Self:
        """Create the database, start the four processes and return when all of them report to be healthy."""
        if not self.dags_folder.is_dir():
            raise ServerError(f"The folder of the DAG files does not exist: {self.dags_folder}")
        return super().start()

    def launch(self, name: str) -> None:
        """
        Start one component, again after :meth:`kill`, and do not wait for it.

        :param name: One of its components.
        """
        self._launch(name, [self.command, *self.components[name]], self.environment)

    def _launch_all(self) -> None:
        self._progress("creating the metadata database")
        self._migrate()
        for name in self.components:
            self.launch(name)

    def _migrate(self) -> None:
        """Create the database, which also writes ``airflow.cfg`` before four processes would do so at once."""
        if self._migrated is not None:
            shutil.copy(self._migrated, self.home / DATABASE)
            # Where it is empty, all is as Airflow's defaults and the environment say.
            (self.home / "airflow.cfg").touch()
            return
        migration = self._launch("migration", [self.command, "db", "migrate"], self.environment)
        if migration.wait(self.start_timeout) != 0:
            raise ServerError(
                f"'airflow db migrate' did not succeed within {self.start_timeout:g} s "
                f"(exit code {migration.exit_code}).\n{migration.log_tail()}"
            )
        del self._processes["migration"]

    def _waiting_for(self) -> list[str]:
        try:
            report = self.client.health()
        except AirflowApiError:
            return ["api_server"]
        return [name for name in COMPONENTS if name != "api_server" and report.get(name) != "healthy"]

    def _own_environment(self, parallelism: int) -> dict[str, str]:
        # Nothing of an Airflow that the caller may have configured for other work.
        inherited = {name: value for name, value in os.environ.items() if "AIRFLOW_" not in name}
        own_hosts = f"{HOST},localhost"
        for name in ("no_proxy", "NO_PROXY"):
            inherited[name] = ",".join(filter(None, [inherited.get(name), own_hosts]))
        settings = {
            "CORE__DAGS_FOLDER": self.dags_folder,
            "CORE__DAGS_ARE_PAUSED_AT_CREATION": False,
            "CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "CORE__EXECUTOR": "LocalExecutor",
            "CORE__FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "CORE__LOAD_EXAMPLES": False,
            "CORE__PARALLELISM": parallelism,
            # Only this machine reaches 127.0.0.1: whoever opens the page is the administrator.
            "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": True,
            "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.home / DATABASE}",
            "API__BASE_URL": self.url,
            "API__HOST": HOST,
            "API__PORT": self.port,
            "API__SECRET_KEY": secrets.token_hex(32),
            "API__WORKERS": 1,
            # The scheduler signs with it what the API server checks.
            "API_AUTH__JWT_SECRET": secrets.token_hex(64),
            # A DAG file that is added while the stack runs appears after seconds, not minutes.
            "DAG_PROCESSOR__REFRESH_INTERVAL": 5,
            # One that did not change need not be read again each half a minute.
            "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": 3600,
            # So one that a busy machine is slow to import must not be given up: it would be missing for that hour.
            "DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": 600,
            "CORE__DAGBAG_IMPORT_TIMEOUT": 300,
            # Only tests have the provider, and nobody listens.
            "OPENLINEAGE__DISABLED": True,
            "LOGGING__COLORED_CONSOLE_LOG": False,
            "USAGE_DATA_COLLECTION__ENABLED": False,
        }
        return (
            inherited
            | {"AIRFLOW_HOME": str(self.home)}
            | {f"AIRFLOW__{name}": str(value) for name, value in settings.items()}
        )
