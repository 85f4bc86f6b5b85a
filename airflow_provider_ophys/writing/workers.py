"""Threads that never keep a process from ending: one that hangs in a read from a dead server is left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

# What is being encoded takes far less; Airflow kills a task five seconds after it has asked it to stop.
CLOSE_SECONDS = 1.5


class Workers:
    """
    Threads that run what is submitted, in its order.

    :param count: How many.
    :param name: What their names begin with.
    """

    def __init__(self, count: int, name: str) -> None:
        self._tasks: SimpleQueue[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]] | None] = SimpleQueue()
        self._closing = False
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True) for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def submit[Result](self, function: Callable[..., Result], *arguments: Any) -> Future[Result]:
        """Have a thread call a function; what it returns or raises is in the future."""
        future: Future[Result] = Future()
        self._tasks.put((future, function, arguments))
        return future

    def close(self) -> None:
        """Let what has not begun not begin, and wait a moment for what has."""
        self._closing = True
        for _ in self._threads:
            self._tasks.put(None)
        deadline = time.monotonic() + CLOSE_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            if not self._closing:
                _carry_out(*task)
            # While this thread waits, it must not hold what it worked on.
            del task


def _carry_out(future: Future[Any], function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        future.set_result(function(*arguments))
    except BaseException as error:  # noqa: BLE001 -- raised where the result is wanted
        future.set_exception(error)
