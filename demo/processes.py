"""
Start long-running commands so that they can be ended with everything they started, and nothing else.

Each command leads a session of its own. Its children stay in that session even when they move to another process
group, as Airflow's tasks do, or when their parent dies, so the session's number names exactly what we started.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

STOP_PATIENCE_SECONDS = 5.0
POLL_SECONDS = 0.1
# Where a stack notes its processes, below its home.
PROCESSES_FILE = "processes.json"


class SessionProcess:
    """
    A running command that leads its own session.

    :param command: The command and its arguments.
    :param environment: All of its environment.
    :param log: The file that takes its output, replaced.
    :param folder: Its working folder; ours when not given.
    :param user: Whom it runs as; as us when not given.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        environment: Mapping[str, str],
        log: Path,
        folder: Path | None = None,
        user: str | None = None,
    ) -> None:
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=folder,
                user=user,
            )

    @property
    def pid(self) -> int:
        """Its process id, which is the number of its session too."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """How it ended, or None while it runs."""
        return self._process.poll()

    def log_tail(self, lines: int = 25) -> str:
        """Give the end of its output."""
        tail = self.log.read_text(errors="replace").splitlines()[-lines:]
        return f"End of {self.log}:\n" + "\n".join(tail or ["(it wrote nothing)"])

    def terminate(self) -> None:
        """Ask it to end."""
        if self.exit_code is None:
            self._process.terminate()

    def kill(self) -> None:
        """End it and all that it started, now: the leader first, which gets no chance to notice the others."""
        self._process.kill()
        _kill_session(self.pid)
        self._process.wait()

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait until it has ended and give its exit code, or None when it runs longer than so many seconds."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)
        return self._process.returncode


def stop_all(processes: Iterable[SessionProcess], patience: float = STOP_PATIENCE_SECONDS) -> None:
    """
    End commands with all they started: ask the leaders, wait so many seconds, kill what is left.

    A second Ctrl-C does not interrupt this, since that would leave processes behind.
    """
    started = list(processes)
    with uninterrupted():
        for process in started:
            process.terminate()
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline and any(process.exit_code is None for process in started):
            time.sleep(POLL_SECONDS)
        for process in started:
            _kill_session(process.pid)
            process.wait()


def session_members(leader: int) -> list[psutil.Process]:
    """List the living processes of a session, by the process id of its leader."""
    members = []
    for pid in psutil.pids():
        with suppress(ProcessLookupError, PermissionError, psutil.NoSuchProcess):
            if os.getsid(pid) == leader and (member := psutil.Process(pid)).status() != psutil.STATUS_ZOMBIE:
                members.append(member)
    return members


def remember(path: Path, processes: Iterable[SessionProcess]) -> None:
    """Note who runs, so that :func:`end_leftovers` can end them should we be killed before we stop them."""
    notes = {}
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            notes[process.pid] = psutil.Process(process.pid).create_time()
    path.write_text(json.dumps(notes))


def end_leftovers(path: Path) -> None:
    """End what an earlier owner of the note at ``path`` left running, if it is still the same process."""
    with suppress(FileNotFoundError):
        for pid, created in json.loads(path.read_text()).items():
            with suppress(psutil.NoSuchProcess):
                # A process id is reused sooner or later, but not with the same second of birth.
                if psutil.Process(int(pid)).create_time() == created:
                    _kill_session(int(pid))
        path.unlink()


def _kill_session(leader: int) -> None:
    """Kill all of a session, and look again, since a member may fork while we look."""
    while members := session_members(leader):
        for member in members:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        time.sleep(POLL_SECONDS)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ignore Ctrl-C and a polite request to end; only the main thread is told of them, and only it can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
