"""The servers that a Celery stack stands on: they come up, want a password, and leave nothing behind."""

from __future__ import annotations

import tempfile
from pathlib import Path

import psutil
import psycopg2
import pytest
import redis

from demo.postgres_server import PostgresServer
from demo.redis_server import RedisServer


def clusters() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("ophys-postgres-*"))


def test_postgresql_comes_up_and_leaves_nothing(tmp_path: Path) -> None:
    before = clusters()
    with PostgresServer(tmp_path) as server:
        pid = server.pids["postgres"]
        connection = psycopg2.connect(f"postgresql://{server.address}")
        cursor = connection.cursor()
        cursor.execute("create table t as select 1 as one")
        cursor.execute("select one from t")
        assert cursor.fetchone() == (1,)
        connection.close()
        with pytest.raises(psycopg2.OperationalError, match="password"):
            psycopg2.connect(f"postgresql://{server.address.replace(server.password, 'guess')}")
    assert not psutil.pid_exists(pid)
    assert clusters() <= before


def test_redis_comes_up_and_leaves_nothing(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        pid = server.pids["redis-server"]
        with redis.Redis.from_url(server.url) as client:
            client.set("key", "value")
            assert client.get("key") == b"value"
        with redis.Redis(host="127.0.0.1", port=server.port) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
        assert server.password not in " ".join(psutil.Process(pid).cmdline())
    assert not psutil.pid_exists(pid)
