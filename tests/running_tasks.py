"""Tasks on Airflow's own processes: their runs, and which process writes what."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from demo.rest import DagRun, TaskInstance
from demo.stack import AirflowStack

PATIENCE_SECONDS = 600


def until[T](condition: Callable[[], T], what: str, seconds: float = PATIENCE_SECONDS, interval: float = 0.3) -> T:
    """Wait until a condition holds, asking every so many seconds; return what it gave."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(interval)
    return found


def writer(path: Path) -> int | None:
    """Return the process that writes an output: the one that has its lock open."""
    lock = path.with_name(f".{path.name}.lock")
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                if any(file.readlink() == lock for file in (process / "fd").iterdir()):
                    return int(process.name)
            except OSError:  # it has ended meanwhile
                continue
    return None


def writing(path: Path, *, more_than: int, interval: float = 0.3) -> int:
    """Wait until a task has written more than so many bytes of an output; return its process."""
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    until(lambda: part.exists() and part.stat().st_size > more_than, f"{path} is being written", interval=interval)
    pid = until(lambda: writer(path), f"somebody has the lock of {path}", interval=interval)
    assert pid is not None
    return pid


def task_of(stack: AirflowStack, run: DagRun) -> TaskInstance:
    """The only task of a run."""
    (task,) = stack.client.task_instances(run)
    return task


def finish(stack: AirflowStack, run: DagRun) -> DagRun:
    """Wait until a run has ended."""
    return stack.client.wait_for_run(run, timeout=PATIENCE_SECONDS)


def is_last_with(fixture: str, item: pytest.Function, nextitem: pytest.Function | None) -> bool:
    """Tell whether a test has a fixture, of the session as a rule, that the next test does without."""
    return fixture in item.funcargs and (nextitem is None or fixture not in nextitem.fixturenames)
