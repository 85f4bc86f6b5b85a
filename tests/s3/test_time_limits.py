"""Operators end soon after their time is over, or after a kill, whatever the server does not answer."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import BaseOperator
from airflow_versions import AirflowTaskTimeout, execute_as_task
from faulty_proxy import FaultyProxy
from s3_trees import published
from s3_views import Place

from airflow_provider_ophys.exceptions import ConversionStoppedError, StagingError
from airflow_provider_ophys.operators.report import WriteReportOperator
from airflow_provider_ophys.operators.staging import StageToS3Operator
from demo.s3_server import S3Server

LIMIT_SECONDS = 1.0
# Airflow gives a task 5 s before it kills. A busy machine may take longer; the requests would take 300 s.
SOON_SECONDS = 30.0
# In which a busy machine has sent the first parts of an upload.
UPLOAD_LIMIT_SECONDS = 8.0


@pytest.fixture
def silent(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A server that accepts every connection and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        _connect(monkeypatch, server, f"http://127.0.0.1:{listener.getsockname()[1]}")
        yield listener


def _connect(monkeypatch: pytest.MonkeyPatch, server: S3Server, endpoint_url: str) -> None:
    connection = server.connection()
    connection["extra"]["endpoint_url"] = endpoint_url
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))


@pytest.fixture
def nwbfile(tmp_path: Path) -> Path:
    path = tmp_path / "session.nwb"
    path.write_bytes(b"content")
    return path


def _stage(source: Path, destination: str = "s3://archive/x/", **options: Any) -> StageToS3Operator:
    return StageToS3Operator(task_id="stage", source=str(source), destination=destination, **options)


def _audit(source: Path) -> StageToS3Operator:
    return _stage(source, verify_only=True)


def _report(source: Path) -> WriteReportOperator:
    return WriteReportOperator(task_id="report", source=f"s3://archive/{source.name}")


@contextmanager
def _ending_soon_after(seconds: float) -> Iterator[None]:
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < seconds + SOON_SECONDS


def _run(operator: BaseOperator) -> None:
    """Execute as Airflow does, time limit and context included."""
    context: Any = {"outlet_events": {}}
    execute_as_task(operator, context)


OPERATORS = pytest.mark.parametrize("operator_for", [_stage, _audit, _report])


@OPERATORS
@pytest.mark.usefixtures("silent")
def test_time_limit_holds_with_a_server_that_never_answers(
    nwbfile: Path, operator_for: Callable[[Path], BaseOperator]
) -> None:
    operator = operator_for(nwbfile)
    operator.execution_timeout = timedelta(seconds=LIMIT_SECONDS)
    with _ending_soon_after(LIMIT_SECONDS), pytest.raises(AirflowTaskTimeout):
        _run(operator)


@OPERATORS
def test_kill_is_obeyed_with_a_server_that_never_answers(
    silent: socket.socket, nwbfile: Path, operator_for: Callable[[Path], BaseOperator]
) -> None:
    operator, killed = operator_for(nwbfile), []

    def kill_when_it_waits() -> None:
        with silent.accept()[0]:
            killed.append(time.monotonic())
            operator.on_kill()
            ended.wait(60)

    ended, killer = threading.Event(), threading.Thread(target=kill_when_it_waits)
    killer.start()
    with pytest.raises((StagingError, ConversionStoppedError), match="stopped"):
        _run(operator)
    assert time.monotonic() - killed[0] < SOON_SECONDS
    ended.set()
    killer.join()


@pytest.mark.usefixtures("silent")
def test_time_limit_holds_even_if_airflows_exception_is_lost(nwbfile: Path) -> None:
    operator = _stage(nwbfile, execution_timeout=timedelta(seconds=LIMIT_SECONDS))
    with _ending_soon_after(LIMIT_SECONDS), pytest.raises(StagingError, match="stopped"):
        operator.execute({"outlet_events": {}})


def test_no_thread_keeps_the_process_from_ending(silent: socket.socket, nwbfile: Path) -> None:
    code = (
        "import signal, sys; from airflow_provider_ophys.operators.staging import StageToS3Operator;"
        "operator = StageToS3Operator(task_id='stage', source=sys.argv[1], destination='s3://archive/x/');"
        "signal.signal(signal.SIGTERM, lambda *_: operator.on_kill());"
        "operator.execute({'outlet_events': {}})"
    )
    child = subprocess.Popen([sys.executable, "-c", code, nwbfile], stderr=subprocess.PIPE, text=True)
    with child, silent.accept()[0]:
        child.send_signal(signal.SIGTERM)
        # Python's own end takes its time on a busy machine; the requests would take 300 s.
        _, errors = child.communicate(timeout=60)
    assert child.returncode == 1
    assert "Staging was stopped" in errors


@pytest.mark.parametrize("end", ["time limit", "kill"])
def test_upload_whose_server_stops_answering_ends_and_the_next_try_completes_it(
    server: S3Server, place: Place, source: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    stalled = threading.Event()
    operator = _stage(source, place.uri)
    sent: list[bytes] = []

    def stall_from_the_third(_: int, line: bytes) -> str | None:
        is_data = line.startswith(b"PUT") and (b"session.nwb.zarr/" in line or b"partNumber" in line)
        sent.extend([line] if is_data and b".probe" not in line else [])
        if len(sent) <= 2:
            return None
        if end == "kill" and not stalled.is_set():
            threading.Timer(0.5, operator.on_kill).start()
        stalled.set()
        return "stall"

    if end == "time limit":
        operator.execution_timeout = timedelta(seconds=UPLOAD_LIMIT_SECONDS)
    with FaultyProxy(server.endpoint_url, stall_from_the_third) as proxy:
        _connect(monkeypatch, server, proxy.endpoint_url)
        begun = time.monotonic()
        with pytest.raises((AirflowTaskTimeout, StagingError)):
            _run(operator)
        assert time.monotonic() - begun < UPLOAD_LIMIT_SECONDS + SOON_SECONDS
    assert stalled.is_set()
    assert not {"session.nwb", "session.nwb.zarr/zarr.json"} & set(place.listing())
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", server.connection_json())
    place.client.delete_object(Bucket=place.bucket, Key=f"{place.prefix}{source.name}.lock")
    operator = _stage(source, place.uri)
    operator.execute({"outlet_events": {}})
    assert place.contents() == (published(source) if source.is_dir() else {source.name: source.read_bytes()})
    assert place.open_uploads() == []


def test_what_ends_an_operator_late_ends_with_it(tmp_path: Path) -> None:
    operator = _stage(tmp_path / "a.nwb", execution_timeout=timedelta(hours=1))
    before = set(threading.enumerate())
    with operator._stoppable() as stop:
        [late] = set(threading.enumerate()) - before
    late.join(60)
    assert not late.is_alive()
    assert not stop.is_set()
