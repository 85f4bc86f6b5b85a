"""Many requests at a time, within a memory limit, until somebody stops them; and how far they are."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from threading import Event, Lock, Thread
from typing import Any

from airflow_provider_ophys.exceptions import ConfigurationError, StagingError
from airflow_provider_ophys.staging.files import MIB, PART_SIZE, Part, SourceFile

log = logging.getLogger(__name__)

# Measured: what boto3's client and its connections hold beside the parts, and each thread beside its own. Both are
# rounded up.
CLIENT_MEMORY = 23 * MIB
THREAD_MEMORY = MIB // 2
LEAST_MEMORY = 32 * MIB
# How long requests under way may take after a stop: less than an operator waits for all of it to end.
PATIENCE_SECONDS = 1.0
POLL_SECONDS = 0.1
# A line in the log about that often, so that a long upload can be told from one that hangs.
PROGRESS_SECONDS = 10.0


class TransferProgress:
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


class TransferThreads:
    """
    Threads that read and send.

    :param threads: The most that work at a time; fewer where they would exceed the limit together.
    :param stopped: When it is set, no further part or file is begun.
    :param memory_limit: In bytes, at least ``LEAST_MEMORY``. Every thread holds the bytes of the request that it
        is sending.
    """

    def __init__(self, threads: int, stopped: Event, memory_limit: int) -> None:
        self.threads = threads
        self.stopped = stopped
        self.memory_limit = memory_limit
        self.progress = TransferProgress("", 0)
        self._watched: list[Callable[[], None]] = []

    @contextmanager
    def watched(self, check: Callable[[], None]) -> Iterator[None]:
        """Call ``check`` too before each part or file; it raises if none must be begun."""
        self._watched.append(check)
        try:
            yield
        finally:
            self._watched.remove(check)

    def check_stopped(self) -> None:
        """
        Go on only if nobody asked to stop.

        :raises StagingError: If somebody did.
        """
        for check in self._watched:
            check()
        if self.stopped.is_set():
            raise StagingError(
                "Staging was stopped before it was complete. Run it again: objects that are already there are not "
                "sent twice."
            )

    def each_part[T](self, file: SourceFile, work: Callable[[int, Part], T]) -> list[T]:
        """
        Call ``work(descriptor, part)`` for each part of a file, and check that the file did not change.

        :raises StagingError: If it did.
        """
        parts = file.parts()
        with file.opened() as descriptor:
            return self._all(partial(work, descriptor), parts, part_size=parts[0].size)

    def each_file[T](
        self, work: Callable[[SourceFile], T], files: Sequence[SourceFile], *, threads: int | None = None
    ) -> list[T]:
        """
        Call ``work(file)`` for each file; those of several parts, parallel in themselves, one by one.

        :param threads: The most for this work; as many as there are by default, for work that waits for answers.
        """
        small = [file for file in files if file.size <= PART_SIZE]
        largest = max((file.size for file in small), default=0)
        done = iter(self._all(work, small, part_size=largest, threads=threads))
        return [next(done) if file.size <= PART_SIZE else work(file) for file in files]

    def _all[S, T](
        self, work: Callable[[S], T], items: Sequence[S], *, part_size: int, threads: int | None = None
    ) -> list[T]:
        held = part_size + THREAD_MEMORY
        fitting = (self.memory_limit - CLIENT_MEMORY) // held
        if fitting < 1:
            raise ConfigurationError(
                f"A file of this size is sent in parts of {part_size // MIB} MiB, for which memory_limit "
                f"({self.memory_limit // MIB} MiB) is too small. Raise it to "
                f"{(CLIENT_MEMORY + held) // MIB + 1} MiB."
            )
        waiting = deque(enumerate(items))
        done: dict[int, T] = {}
        errors: list[BaseException] = []

        def work_off() -> None:
            while True:
                try:
                    number, item = waiting.popleft()
                except IndexError:
                    return
                try:
                    self.check_stopped()
                    done[number] = work(item)
                except BaseException as error:  # noqa: BLE001 -- raised below
                    errors.append(error)
                    waiting.clear()

        self._run(work_off, min(threads or self.threads, self.threads, fitting, len(items)), waiting)
        if errors:
            raise errors[0]
        if len(done) < len(items):
            self.check_stopped()
        return [done[number] for number in range(len(items))]

    def _run(self, work: Callable[[], None], count: int, waiting: deque[Any]) -> None:
        """
        Run in threads until they end, or until shortly after a stop.

        Those that then still wait for an answer are left behind, and do not keep the process from ending.

        :param waiting: What the threads begin; emptied when no more must be begun.
        """
        threads = [Thread(target=work, name="ophys-s3", daemon=True) for _ in range(count)]
        try:
            for thread in threads:
                thread.start()
            while not self.stopped.is_set() and (alive := [thread for thread in threads if thread.is_alive()]):
                alive[0].join(POLL_SECONDS)
        finally:  # also when a task's time is over, or somebody presses Ctrl-C
            waiting.clear()
            patience = time.monotonic() + PATIENCE_SECONDS
            for thread in threads:
                if thread.is_alive():
                    thread.join(max(0.0, patience - time.monotonic()))
