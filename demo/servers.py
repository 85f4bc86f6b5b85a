"""
What the servers of the demonstration and the tests have in common.

They listen on this machine only, start and end as context managers, and return from their start when they answer.
Nothing of a start that fails stays behind; what an owner that was killed left running, the next start ends.
"""

from __future__ import annotations

import random
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from demo.processes import (
    POLL_SECONDS,
    PROCESSES_FILE,
    STOP_PATIENCE_SECONDS,
    SessionProcess,
    end_leftovers,
    remember,
    stop_all,
)

HOST = "127.0.0.1"
# Below the range from which Linux takes the ports of outgoing connections, so that no client grabs one of ours
# between the moment we find it free and the moment its server binds it.
PORTS = range(20_000, 32_000)


class ServerError(RuntimeError):
    """A server could not be started, or has ended."""


class Server(ABC):
    """
    Processes that serve, from :meth:`start` to :meth:`stop`.

    :param product: What it is called in errors.
    :param folder: Where it works and its logs go; created when missing.
    :param start_timeout: Seconds after which one that does not answer is given up.
    :param stop_patience: Seconds between asking its processes to end and killing them.
    :param progress: Is told, in a few words, what the start is waiting for.
    :raises ServerError: From :meth:`start`, with the end of the log of the process that failed.
    """

    def __init__(
        self,
        product: str,
        folder: Path,
        *,
        start_timeout: float,
        stop_patience: float = STOP_PATIENCE_SECONDS,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.product = product
        self.folder = Path(folder).resolve()
        self.start_timeout = start_timeout
        self._stop_patience = stop_patience
        self._progress = progress
        self._processes: dict[str, SessionProcess] = {}

    @property
    def pids(self) -> dict[str, int]:
        """Process ids of what runs, by name."""
        return {name: process.pid for name, process in self._processes.items()}

    def start(self) -> Self:
        """Start it and return when it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        end_leftovers(self.folder / PROCESSES_FILE)
        try:
            self._launch_all()
            self._wait_until_it_answers()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End its processes and all that they started; what they wrote stays in its folder."""
        stop_all(self._processes.values(), self._stop_patience)
        self._processes.clear()
        (self.folder / PROCESSES_FILE).unlink(missing_ok=True)

    def kill(self, name: str) -> None:
        """
        End one of its processes and all that it started at once, as a crash of the machine would.

        :param name: Its name.
        """
        self._processes.pop(name).kill()
        self._remember()

    def check_alive(self) -> None:
        """
        Look whether all of its processes still run.

        :raises ServerError: With the end of the log of the one that has ended.
        """
        for name, process in self._processes.items():
            if (exit_code := process.exit_code) is not None:
                raise ServerError(
                    f"{self.product}'s {name} has ended with exit code {exit_code}.\n{process.log_tail()}"
                )

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @abstractmethod
    def _launch_all(self) -> None:
        """Start its processes, each by :meth:`_launch`."""

    @abstractmethod
    def _waiting_for(self) -> list[str]:
        """List those of its processes that do not answer yet."""

    def _launch(
        self, name: str, command: list[str | Path], environment: Mapping[str, str], **options: Any
    ) -> SessionProcess:
        """Start one process, with its log in the folder, and note that it runs."""
        if name in self._processes:
            raise ServerError(f"{self.product}'s {name} runs already; kill it first.")
        log = self.folder / f"{name}.log"
        self._processes[name] = SessionProcess(command, environment=environment, log=log, **options)
        self._remember()
        return self._processes[name]

    def _remember(self) -> None:
        remember(self.folder / PROCESSES_FILE, self._processes.values())

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + self.start_timeout
        while waiting := self._waiting_for():
            self._progress(f"waiting for {', '.join(waiting)}")
            self.check_alive()
            if time.monotonic() > deadline:
                tails = "\n".join(self._processes[name].log_tail() for name in waiting)
                raise ServerError(
                    f"{self.product} is not healthy after {self.start_timeout:g} s: {', '.join(waiting)}.\n{tails}"
                )
            time.sleep(POLL_SECONDS)


def free_ports(count: int) -> list[int]:
    """Find ports of 127.0.0.1 that nobody uses, each another."""
    ports: list[int] = []
    with ExitStack() as held:
        while len(ports) < count:
            probe = held.enter_context(socket.socket())
            with suppress(OSError):
                probe.bind((HOST, random.choice(PORTS)))  # noqa: S311 -- no secret depends on it
                ports.append(probe.getsockname()[1])
    return ports
