"""What the hook refuses, and how it sets up its client."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from s3_views import Place, Requests
from settable_clock import SettableClock

from airflow_provider_ophys.exceptions import (
    ConfigurationError,
    OphysError,
    SourceDataError,
    SourceNotFoundError,
    StagingError,
)
from airflow_provider_ophys.hooks.s3 import OphysS3Hook
from airflow_provider_ophys.staging.files import PART_SIZE
from demo.s3_server import S3Server

# Bad input


@pytest.fixture
def small_file(tmp_path: Path) -> Path:
    path = tmp_path / "a.nwb"
    path.write_bytes(b"content")
    return path


def _set_connection(monkeypatch: pytest.MonkeyPatch, server: S3Server, **changed: Any) -> None:
    connection = server.connection()
    extra = {**connection["extra"], **changed.pop("extra", {})}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps({**connection, **changed, "extra": extra}))


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"password": "a-wrong-secret-key"}, ConfigurationError, "SignatureDoesNotMatch"),
        ({"login": "AKIAUNKNOWN000000000"}, ConfigurationError, "InvalidAccessKeyId"),
        ({"extra": {"endpoint_url": "http://127.0.0.1:9"}}, StagingError, "cannot be reached"),
        ({"extra": {"endpoint_url": "http://192.0.2.1:9000"}}, ConfigurationError, "unencrypted"),
        ({"extra": {"endpoint_url": "http://s3.example.org"}}, ConfigurationError, "allow_insecure_http"),
        ({"extra": {"endpoint_url": "https://me:pass-word@127.0.0.1"}}, ConfigurationError, "into login"),
        ({"extra": {"endpoint_url": "not a url"}}, ConfigurationError, "endpoint_url"),
        *(
            ({"extra": {"endpoint_url": malformed}}, ConfigurationError, "endpoint_url")
            for malformed in (
                "https//me:pass-word@127.0.0.1",
                "https:/me:pass-word@127.0.0.1",
                "me:pass-word@127.0.0.1:9000",
                "https://me:pa/pass-word@127.0.0.1",
                "https://me:pass-word@[::1",
                "https://me:pass-word@",
                "https://127.0.0.1:pass-word",
                "https://127.0.0.1/?token=pass-word",
                "https://127.0.0.1/#pass-word",
                "ftp://127.0.0.1/pass-word",
            )
        ),
        ({"extra": {"region_name": "no region"}}, ConfigurationError, "region"),
    ],
)
def test_wrong_connection_is_one_clear_error_without_secrets(
    server: S3Server,
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    small_file: Path,
    changed: dict[str, Any],
    error: type[OphysError],
    message: str,
) -> None:
    _set_connection(monkeypatch, server, **changed)
    with pytest.raises(error, match=message) as caught:
        OphysS3Hook().publish(small_file, place.uri)
    assert "'aws_default'" in str(caught.value)
    assert place.listing() == []
    secrets = (server.secret_key, "a-wrong-secret-key", "pass-word")
    shown = f"{caught.value} {caught.value.__cause__} {caught.value.__context__} {caplog.text}"
    assert not any(secret in shown for secret in secrets)


def test_missing_connection_does_not_fall_back_to_other_credentials(
    server: S3Server, place: Place, monkeypatch: pytest.MonkeyPatch, small_file: Path, airflow_db: Path
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
    with pytest.raises(ConfigurationError, match="no Airflow connection 'archive'"):
        OphysS3Hook("archive").publish(small_file, place.uri)
    assert place.listing() == []
    assert OphysS3Hook(None).publish(small_file, place.uri).uploaded == 1


def test_missing_bucket_is_named_before_anything_is_sent(
    hook: OphysS3Hook, requests: Requests, small_file: Path
) -> None:
    with pytest.raises(ConfigurationError, match="no bucket 'not-there'"):
        hook.publish(small_file, "s3://not-there/x/")
    assert [name for name, _ in requests.made] == ["ListObjectsV2"]


@pytest.mark.parametrize("size", [7, PART_SIZE + 1])
def test_right_that_is_missing_is_named(
    server: S3Server, place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, size: int
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", server.connection_json(read_only=True))
    (tmp_path / "a.nwb").write_bytes(b"x" * size)
    with pytest.raises(ConfigurationError, match=r"may not do (PutObject|CreateMultipartUpload).*AccessDenied"):
        OphysS3Hook().publish(tmp_path / "a.nwb", place.uri)
    assert place.listing() == []


def test_a_clock_that_is_an_hour_off_is_named_and_tried_again(
    server: S3Server, place: Place, hook: OphysS3Hook, tmp_path: Path, small_file: Path
) -> None:
    clock = SettableClock(tmp_path)
    published = hook.publish(small_file, place.uri)
    clock.set(3600)
    done = subprocess.run(
        [sys.executable, "-c", ASK, str(small_file), place.uri, server.bucket, published.s3_uri.split("/", 3)[3]],
        env={**os.environ, **clock.environment},
        capture_output=True,
        text=True,
        check=False,
    )
    told = "StagingError: The clock of this machine"
    refused = [line for line in done.stdout.splitlines() if line.startswith(told)]
    assert len(refused) == 2, done.stdout + done.stderr
    assert "ListObjectsV2" in refused[0]
    assert "HeadObject" in refused[1], "whose refusal says nothing but its own time"


ASK = """
import sys
from airflow_provider_ophys.hooks.s3 import OphysS3Hook
from airflow_provider_ophys.staging.s3_store import S3Store

file, destination, bucket, key = sys.argv[1:]
hook = OphysS3Hook()
for ask in (lambda: hook.publish(file, destination), lambda: S3Store(hook.conn, bucket).details(key)):
    try:
        ask()
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
"""


def test_reader_may_find_that_all_is_published(
    server: S3Server, place: Place, hook: OphysS3Hook, monkeypatch: pytest.MonkeyPatch, small_file: Path
) -> None:
    hook.publish(small_file, place.uri)
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", server.connection_json(read_only=True))
    assert OphysS3Hook().publish(small_file, place.uri).skipped == 1


def test_bad_source_and_destination_are_refused_before_any_request(
    hook: OphysS3Hook, place: Place, requests: Requests, small_file: Path, tree: Path
) -> None:
    with pytest.raises(SourceNotFoundError, match="absent"):
        hook.publish(small_file.with_name("absent"), place.uri)
    with pytest.raises(ConfigurationError, match="not an S3 location"):
        hook.publish(small_file, "/mnt/archive")
    (tree / "link").symlink_to("/etc/hostname")
    with pytest.raises(SourceDataError, match="symbolic link"):
        hook.publish(tree, place.uri)
    assert requests.made == []


# How the client is set up


def test_requests_are_bounded_and_have_a_connection_for_each_thread(connection: None) -> None:
    config = OphysS3Hook(max_concurrency=24).conn.meta.config
    assert (config.connect_timeout, config.read_timeout) == (5, 60)
    assert config.retries == {"mode": "standard", "total_max_attempts": 5}
    assert config.max_pool_connections == 24
    assert config.s3 == {"addressing_style": "path"}


def test_connection_may_set_other_bounds(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    _set_connection(
        monkeypatch, server, extra={"config_kwargs": {"read_timeout": 300, "max_pool_connections": 50}}
    )
    config = OphysS3Hook().conn.meta.config
    assert (config.connect_timeout, config.read_timeout, config.max_pool_connections) == (5, 300, 50)


def test_memory_is_bounded_however_many_threads_are_asked_for(
    place: Place, connection: None, requests: Requests, hook: OphysS3Hook, tmp_path: Path
) -> None:
    hook.max_concurrency = 64
    (tmp_path / "a.nwb").touch()
    os.truncate(tmp_path / "a.nwb", 24 * PART_SIZE)
    at_once, most, lock = 0, 0, threading.Lock()

    def begin(*_: object) -> None:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)

    def end(*_: object) -> None:
        nonlocal at_once
        with lock:
            at_once -= 1

    requests.before("UploadPart", begin)
    requests.after("UploadPart", end)
    hook.publish(tmp_path / "a.nwb", place.uri, memory_limit="128MiB")
    assert 1 < most <= 12
