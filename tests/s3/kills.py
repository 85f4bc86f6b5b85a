"""
Processes that publish and can be killed at any moment.

Importing Airflow takes seconds, so one process that has done that forks a child for each publication: as
``python kills.py`` it reads one JSON object a line, the arguments of ``publish``, and answers each with the
child's id, and, asked by an empty line, with its exit status when it has ended.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class Publishers:
    """Gives processes that publish, one at a time."""

    def __enter__(self) -> Self:
        self._parent = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        self._answer()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._parent.communicate()

    def start(self, **arguments: Any) -> int:
        """Start one; return its process id."""
        assert self._parent.stdin is not None
        self._parent.stdin.write(json.dumps(arguments) + "\n")
        self._parent.stdin.flush()
        return int(self._answer())

    def wait(self) -> int:
        """Wait for its end; return its exit status, which is that of ``os.waitstatus_to_exitcode``."""
        assert self._parent.stdin is not None
        self._parent.stdin.write("\n")
        self._parent.stdin.flush()
        return int(self._answer())

    def _answer(self) -> str:
        assert self._parent.stdout is not None
        return self._parent.stdout.readline()


def kill(pid: int) -> None:
    """End one without a warning; it may have ended by itself, but nobody waited for it, so the id is its own."""
    os.kill(pid, signal.SIGKILL)


def _main() -> None:
    from airflow_provider_ophys.hooks.s3 import OphysS3Hook

    # Whatever is logged must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    answers.write("ready\n")
    for line in sys.stdin:
        arguments = json.loads(line)
        pid = os.fork()
        if pid == 0:
            try:
                OphysS3Hook(max_concurrency=arguments.pop("threads", 16)).publish(**arguments)
            except BaseException:  # noqa: BLE001 -- a forked child must never run on into its parent's code
                os._exit(1)
            os._exit(0)
        answers.write(f"{pid}\n")
        # Until then the id stays the child's, even when it has ended.
        sys.stdin.readline()
        _, status = os.waitpid(pid, 0)
        answers.write(f"{os.waitstatus_to_exitcode(status)}\n")


if __name__ == "__main__":
    _main()
