"""Publishing through a network and from a disk that fail."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from faulty_proxy import Fault, FaultyProxy
from s3_trees import published
from s3_views import Place

from airflow_provider_ophys.exceptions import StagingError
from airflow_provider_ophys.hooks.s3 import OphysS3Hook
from demo.s3_server import S3Server

OWNER = "dag/run/stage/-1"


def _expected(source: Path) -> dict[str, bytes]:
    return published(source) if source.is_dir() else {source.name: source.read_bytes()}


@pytest.fixture
def through(connection: None, server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Callable[[Fault], object]:
    """Give a hook whose requests go through a faulty proxy, which waits for answers two seconds."""

    @contextmanager
    def through(fault: Fault) -> Iterator[tuple[OphysS3Hook, FaultyProxy]]:
        with FaultyProxy(server.endpoint_url, fault) as proxy, monkeypatch.context() as changed:
            connection = server.connection()
            connection["extra"]["endpoint_url"] = proxy.endpoint_url
            connection["extra"]["config_kwargs"] |= {
                "read_timeout": 2,
                "retries": {"mode": "standard", "total_max_attempts": 3},
            }
            changed.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
            hook = OphysS3Hook()
            try:
                yield hook, proxy
            finally:
                hook.conn.close()

    return through


def _some_once(fate: str) -> Fault:
    """Spoil every third request, but none twice."""
    spoilt, lock = set(), threading.Lock()

    def fault(number: int, line: bytes) -> str | None:
        with lock:
            if number % 3 or line in spoilt:
                return None
            spoilt.add(line)
            return fate

    return fault


@pytest.mark.parametrize("fate", ["drop", "lose", "500", "slow down"])
def test_requests_that_fail_once_are_made_again(through, place: Place, source: Path, fate: str) -> None:
    with through(_some_once(fate)) as (hook, proxy):
        hook.publish(source, place.uri)
    assert len(proxy.spoilt) >= 3
    assert place.contents() == _expected(source)
    assert place.open_uploads() == []


def test_server_that_does_not_answer_once_is_asked_again(through, place: Place, source: Path) -> None:
    stalled = []

    def stall_once(_: int, line: bytes) -> str | None:
        if stalled or not line.startswith(b"PUT") or b".lock" in line:
            return None
        stalled.append(line)
        return "stall"

    with through(stall_once) as (hook, _):
        hook.publish(source, place.uri)
    assert stalled
    assert place.contents() == _expected(source)


@pytest.mark.parametrize(
    ("fate", "message"),
    [("drop", "cannot be reached"), ("slow down", "SlowDown.*Try again"), ("expired", "expired.*Renew")],
)
def test_failure_that_lasts_is_one_error_and_the_next_run_completes(
    through, hook: OphysS3Hook, place: Place, source: Path, fate: str, message: str
) -> None:
    sent = []

    def fail_from_the_third(_: int, line: bytes) -> str | None:
        is_data = line.startswith(b"PUT") and (b"session.nwb.zarr/" in line or b"partNumber" in line)
        sent.extend([line] if is_data and b".probe" not in line else [])
        return fate if len(sent) > 2 else None

    with through(fail_from_the_third) as (spoilt_hook, proxy), pytest.raises(StagingError, match=message):
        spoilt_hook.max_concurrency = 1
        spoilt_hook.publish(source, place.uri, owner=OWNER)
    assert proxy.spoilt
    result = hook.publish(source, place.uri, owner=OWNER)
    assert result.uploaded < 22
    assert place.contents() == _expected(source)
    assert place.open_uploads() == []


def test_what_is_altered_on_the_way_is_refused_by_the_server(
    through, hook: OphysS3Hook, place: Place, source: Path
) -> None:
    def corrupt(_: int, line: bytes) -> str | None:
        is_data = line.startswith(b"PUT") and (b"/c/7 " in line or b"partNumber=2" in line)
        return "corrupt" if is_data else None

    with (
        through(corrupt) as (spoilt_hook, proxy),
        pytest.raises(StagingError, match="not what was sent"),
    ):
        spoilt_hook.publish(source, place.uri)
    assert proxy.spoilt
    assert not {"session.nwb", "session.nwb.zarr/zarr.json", "session.nwb.zarr.manifest.json"} & set(
        place.listing()
    )
    hook.publish(source, place.uri)
    assert place.contents() == _expected(source)


def test_disk_that_cannot_be_read_is_named_and_nothing_is_published(
    hook: OphysS3Hook, place: Place, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pread, reads = os.pread, []

    def fail_late(descriptor: int, size: int, offset: int) -> bytes:
        reads.append(offset)
        if len(reads) == 3:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return pread(descriptor, size, offset)

    with monkeypatch.context() as patched:
        patched.setattr(os, "pread", fail_late)
        with pytest.raises(StagingError, match=f"{source}.*cannot be read at byte.*Input/output error"):
            hook.publish(source, place.uri)
    # Chunks of a tree may be there, which no reader opens without what comes last.
    published = {"session.nwb", "session.nwb.zarr/zarr.json", "session.nwb.zarr.manifest.json"}
    assert not published & set(place.listing())
    assert place.open_uploads() == []
    hook.publish(source, place.uri)
    assert place.contents() == _expected(source)
