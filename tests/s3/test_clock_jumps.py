"""
Leases of writers whose clocks are wrong, or are set while they write: age is told by the server's clock alone.

A server refuses what is signed more than a quarter of an hour from its own time, so that a clock may be wrong by
ten minutes unnoticed, and by an hour not.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from s3_views import Place
from settable_clock import SettableClock
from thorough import THOROUGH

from airflow_provider_ophys.staging.lease import Lease
from airflow_provider_ophys.staging.s3_store import S3Store

pytestmark = pytest.mark.skipif(not THOROUGH, reason="waits for leases to end: make thorough")

MINUTES = 600
HOUR = 3600
# Whole seconds, as the server tells times. Waiting for a lease far longer than that is waiting by a wrong clock.
LEASE_SECONDS = 5
PATIENCE_SECONDS = 40
REPORT = "lease: "

WRITER = """
import sys, time
from airflow_provider_ophys.exceptions import OutputBusyError
from airflow_provider_ophys.hooks.s3 import OphysS3Hook
from airflow_provider_ophys.staging.lease import Lease
from airflow_provider_ophys.staging.s3_store import S3Store

bucket, key, seconds, patience = sys.argv[1:]
lease = Lease(S3Store(OphysS3Hook().conn, bucket), key, seconds=int(seconds))
deadline = time.monotonic() + float(patience)

def check_patience():
    if time.monotonic() > deadline:
        raise TimeoutError

try:
    with lease.held(check_patience):
        print("lease: taken", time.monotonic(), flush=True)
        try:
            while True:
                lease.check()
                time.sleep(0.05)
        except OutputBusyError:
            print("lease: lost", time.monotonic(), flush=True)
except TimeoutError:
    print("lease: not taken", time.monotonic(), flush=True)
"""


@pytest.fixture
def clock(tmp_path: Path) -> SettableClock:
    return SettableClock(tmp_path)


def _lease(place: Place) -> Lease:
    return Lease(S3Store(place.client, place.bucket), f"{place.prefix}session.nwb.zarr", seconds=LEASE_SECONDS)


@contextmanager
def _writer(place: Place, clock: SettableClock, patience: float = PATIENCE_SECONDS) -> Iterator[Callable[[], str]]:
    """Start a process that goes by the clock and takes the lease; give what reads the next line of its report."""
    command = [sys.executable, "-c", WRITER, place.bucket, f"{place.prefix}session.nwb.zarr"]
    with subprocess.Popen(
        [*command, str(LEASE_SECONDS), str(patience)],
        env={**os.environ, **clock.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            # Airflow logs between them.
            lines = (line for line in process.stdout if line.startswith(REPORT))
            yield lambda: next(lines).removeprefix(REPORT)
        finally:
            process.kill()


def _moment(line: str, what: str) -> float:
    """The time of a line of the report, by the clock that nobody sets and all processes share."""
    assert line.startswith(what), line
    return float(line.removeprefix(what).split()[0])


@pytest.mark.parametrize("offset", [MINUTES, -MINUTES])
def test_a_writer_whose_clock_is_wrong_takes_no_living_lease_and_does_not_wait_longer_for_a_dead_one(
    connection: None, place: Place, clock: SettableClock, offset: int
) -> None:
    clock.set(offset)
    with (
        _lease(place).held(lambda: None),
        _writer(place, clock, patience=2 * LEASE_SECONDS) as report,
    ):
        assert report().startswith("not taken")
    dead = _lease(place)
    dead._take(lambda: None)
    died = time.monotonic()
    with _writer(place, clock) as report:
        assert _moment(report(), "taken") - died > LEASE_SECONDS - 1


@pytest.mark.parametrize("offset", [HOUR, -HOUR])
def test_a_writer_whose_clock_is_set_by_an_hour_stops_before_another_has_its_lease_which_is_soon(
    connection: None, place: Place, clock: SettableClock, offset: int
) -> None:
    with _writer(place, clock) as report:
        assert report().startswith("taken")
        clock.set(offset)
        deadline = time.monotonic() + PATIENCE_SECONDS
        with _lease(place).held(lambda: _require(time.monotonic() < deadline)):
            taken = time.monotonic()
            assert _moment(report(), "lost") < taken


def _require(condition: bool) -> None:  # noqa: FBT001
    assert condition, "the lease of a dead writer is not to be had"
