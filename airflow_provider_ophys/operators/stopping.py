"""
Ending what an operator does soon after its time is over, or after Airflow asked it to end.

When an ``execution_timeout`` is over, Airflow raises an exception, once, wherever the main thread happens to be;
where that is a callback of Python's own, as when h5py lets go of an object, it is only printed. When a task is to
end, Airflow calls ``on_kill`` and kills five seconds later. A thread that waits for a server hears of neither. If
the process that supervises a task is killed, the task's own hears of nothing at all.
"""

from __future__ import annotations

import contextvars
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from typing import Any

from airflow_provider_ophys.compat import supervising_process
from airflow_provider_ophys.exceptions import OphysError
from airflow_provider_ophys.operators.naming import NamedOperator

# Airflow's own way goes first.
LATE_SECONDS = 1.0
# For what is under way to end by itself, and to clean up; with the above well below Airflow's five seconds, as the
# machine may be busy.
PATIENCE_SECONDS = 2.0
POLL_SECONDS = 0.1
SUPERVISOR_POLL_SECONDS = 1.0


class StoppableOperator(NamedOperator):
    """An operator whose work ends within five seconds of its ``execution_timeout``, a kill, or its supervisor."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # Made in execute(): operators are copied while a DAG is built, which an event does not survive.
        self._stop: threading.Event | None = None

    @contextmanager
    def _stoppable(self) -> Iterator[threading.Event]:
        """Give what is set when the work must end: Airflow asks for it, time is over, or nobody supervises it."""
        stop, done = threading.Event(), threading.Event()
        self._stop = stop
        supervisor = supervising_process()
        if supervisor is not None:
            watching = (supervisor, stop, done)
            threading.Thread(target=_watch_supervisor, args=watching, name="ophys-supervisor", daemon=True).start()
        limit = self.execution_timeout
        late = threading.Timer(limit.total_seconds() + LATE_SECONDS, stop.set) if limit is not None else None
        if late is not None:
            late.daemon = True
            late.start()
        try:
            yield stop
        finally:
            done.set()
            if late is not None:
                late.cancel()

    def on_kill(self) -> None:
        """Let the work end: Airflow lets ``execute`` run on for five seconds, then kills."""
        if self._stop is not None:
            self._stop.set()


def _watch_supervisor(supervisor: int, stop: threading.Event, done: threading.Event) -> None:
    """
    Stop when the process that supervises this task has ended.

    Airflow takes the task for dead then, and nobody would hear of its result. Its other tries find the output busy
    for as long as it goes on, which may be for longer than they are repeated.
    """
    while not done.wait(SUPERVISOR_POLL_SECONDS):
        if os.getppid() != supervisor:
            stop.set()
            return


def call_until_stopped[T](work: Callable[[], T], stop: threading.Event, unfinished: OphysError) -> T:
    """
    Call what may wait for a server for longer than there is time.

    It runs in a thread of its own. When ``stop`` is set, or Airflow raises its exception here, the thread gets
    two seconds to end by itself, and is left behind otherwise.

    :param work: What to call; it looks at ``stop`` whenever it can.
    :param unfinished: Raised if it was left behind.
    """
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # noqa: BLE001 -- raised where it is waited for
            outcome.set_exception(error)

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(run,), name="ophys-work", daemon=True).start()
    try:
        while not (outcome.done() or stop.is_set()):
            wait([outcome], timeout=POLL_SECONDS)
    except BaseException:
        stop.set()
        wait([outcome], timeout=PATIENCE_SECONDS)
        raise
    wait([outcome], timeout=PATIENCE_SECONDS)
    if not outcome.done():
        raise unfinished
    return outcome.result()
