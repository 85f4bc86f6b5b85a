"""
Several conversions at once on one machine share its memory and CPUs.

Each conversion that is running holds a file in a folder that all of this user's processes see, and a lock on it.
The kernel drops the lock when the process ends, however it ends, so what a dead one reserved is free again.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from numbers import Integral, Real
from pathlib import Path
from typing import Any
from uuid import uuid4

from airflow_provider_ophys.exceptions import ConfigurationError, ConversionStoppedError
from airflow_provider_ophys.writing.memory import (
    DEFAULT_FRACTION,
    DEFAULT_LIMIT_BYTES,
    anonymous_bytes,
    available_cpus,
    memory_left,
)

log = logging.getLogger(__name__)

SUFFIX = ".reservation"


@dataclass(frozen=True)
class Wish:
    """
    What a conversion would use if it were alone.

    :param memory_limit: Bytes in flight, at most, that the user gave; ``None`` for the two defaults.
    :param default_limit: Without one: bytes in flight, at most.
    :param fraction: Without one: share of what is available, at most.
    :param threads: Encoding threads that the user gave, taken as they are; ``None`` for one per CPU.
    :raises ConfigurationError: If what the user gave is no number above 0.
    """

    memory_limit: int | None = None
    default_limit: int = DEFAULT_LIMIT_BYTES
    fraction: float = DEFAULT_FRACTION
    threads: int | None = None

    def __post_init__(self) -> None:
        for name, kind in (("memory_limit", Real), ("threads", Integral)):
            value: Any = getattr(self, name)
            is_number = isinstance(value, kind) and not isinstance(value, bool)
            if value is not None and not (is_number and value > 0):
                raise ConfigurationError(f"{name} is {value!r}; write a number above 0.")


@dataclass(frozen=True)
class Resources:
    """
    What a conversion may use, and how it is told to stop.

    :param budget_bytes: Memory for everything in flight.
    :param threads: Encoding threads, at most.
    :param stop: Set from anywhere (a signal handler, another thread) to end the conversion within a task's time.
    :param wanted_bytes: What the budget would be if so much were left.
    """

    budget_bytes: int
    threads: int
    stop: threading.Event = field(default_factory=threading.Event)
    wanted_bytes: int = 0

    def check_stop(self) -> None:
        """
        Raise if the conversion was asked to stop.

        :raises ConversionStoppedError: If so.
        """
        check_not_stopped(self.stop)


def check_not_stopped(stop: threading.Event) -> None:
    """
    Go on only if nobody asked the conversion to stop.

    :raises ConversionStoppedError: If somebody did.
    """
    if stop.is_set():
        raise ConversionStoppedError(
            "The conversion was asked to stop; nothing was published. Run the task again to convert."
        )


def share_folder() -> Path:
    """Return the folder that all conversions of this user on this machine share."""
    return Path(tempfile.gettempdir()) / f"airflow-provider-ophys-{os.getuid()}"


@contextmanager
def sharing(wish: Wish, stop: threading.Event, *, folder: Path | None = None) -> Iterator[Resources]:
    """
    Reserve a conversion's share of this machine for as long as the block runs.

    What others have reserved and do not use yet is not available, so two that start together do not both take all
    of it. With n conversions running, each that joins gets an n-th of the CPUs, at least one.

    :param wish: What it would use alone.
    :param stop: Goes into the resources.
    :param folder: Where the reservations are; all that share must name the same.
    """
    resources, reservation = _try_to_reserve(wish, stop, folder)
    try:
        yield resources
    finally:
        if reservation is not None:
            reservation.release()


def _try_to_reserve(
    wish: Wish, stop: threading.Event, folder: Path | None
) -> tuple[Resources, _Reservation | None]:
    try:
        folder = share_folder() if folder is None else folder
        _make(folder)
        with _locked(folder):
            return _reserve(wish, stop, folder)
    except OSError as error:
        log.warning("Conversions on this machine cannot share its memory: %s", error)
        return _resources(wish, stop, others=[]), None


@dataclass(frozen=True)
class _Reservation:
    file: Path
    descriptor: int

    def release(self) -> None:
        self.file.unlink(missing_ok=True)
        os.close(self.descriptor)


def _make(folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError(f"{folder} is no folder of this user")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time look and reserve; that takes milliseconds, so waiting for it is safe."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _reserve(wish: Wish, stop: threading.Event, folder: Path) -> tuple[Resources, _Reservation]:
    resources = _resources(wish, stop, _running(folder))
    file = folder / f"{uuid4().hex}{SUFFIX}"
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    reservation = _Reservation(file, descriptor)
    content = {
        "pid": os.getpid(),
        "bytes": resources.budget_bytes,
        "held_before": anonymous_bytes(),
        "limits": list(memory_left()),
    }
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with os.fdopen(descriptor, "wb", closefd=False) as stream:
            stream.write(json.dumps(content).encode())
    except BaseException:
        reservation.release()
        raise
    return resources, reservation


def _running(folder: Path) -> list[dict[str, Any]]:
    """Return the reservations of conversions that are running; remove those that a killed one left."""
    running = []
    for file in folder.glob(f"*{SUFFIX}"):
        # Who ends removes its file at any moment; what is open stays readable.
        with suppress(FileNotFoundError), file.open("rb") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
                file.unlink(missing_ok=True)
            except BlockingIOError:
                running += _reserved(stream.read())
    return running


def _reserved(content: bytes) -> list[dict[str, Any]]:
    """Read a reservation; one that is not whole, as of an older version in a full folder, reserves nothing."""
    try:
        reservation = json.loads(content)
        return [reservation] if reservation.keys() >= {"pid", "bytes", "held_before", "limits"} else []
    except (ValueError, AttributeError):
        return []


def _resources(wish: Wish, stop: threading.Event, others: list[dict[str, Any]]) -> Resources:
    left = min(
        # Who is in another container shares the machine's memory with this one, but not its limit.
        bytes_left - sum(_unused(other) for other in others if limit in other["limits"])
        for limit, bytes_left in memory_left().items()
    )
    left = max(0, left)
    if wish.memory_limit is not None:
        wanted, budget = wish.memory_limit, min(wish.memory_limit, left)
    else:
        wanted, budget = wish.default_limit, min(wish.default_limit, int(left * wish.fraction))
    threads = wish.threads or -(-available_cpus() // (len(others) + 1))
    return Resources(budget, threads, stop, wanted)


def _unused(reservation: dict[str, Any]) -> int:
    """Return what a conversion may still allocate of what it reserved; the rest is no longer available anyhow."""
    held = anonymous_bytes(reservation["pid"])
    return max(0, int(reservation["bytes"]) - max(0, held - int(reservation["held_before"])))
