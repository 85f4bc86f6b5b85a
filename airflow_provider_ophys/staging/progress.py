"""A line in the log about every ten seconds, so that a long upload can be told from one that hangs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from threading import Lock

log = logging.getLogger(__name__)

PROGRESS_SECONDS = 10.0


class Progress:
    """
    How much of an upload is done; many threads may advance it.

    :param name: Of what is uploaded.
    :param total: In bytes.
    :param clock: Gives seconds.
    """

    def __init__(self, name: str, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._total = total
        self._clock = clock
        self._done = 0
        self._started = self._last = clock()
        self._lock = Lock()

    def advance(self, size: int) -> None:
        """Note that so many more bytes are there."""
        with self._lock:
            self._done += size
            now = self._clock()
            if now - self._last < PROGRESS_SECONDS or not self._done:
                return
            self._last = now
            speed = self._done / max(now - self._started, 1e-9)
            log.info(
                "%s: %.0f %%, %.1f MB/s, %.0f s left",
                *(self._name, 100 * self._done / self._total, speed / 1e6, (self._total - self._done) / speed),
            )
