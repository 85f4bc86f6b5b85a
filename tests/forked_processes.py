"""
Run a function in processes that can be disturbed at any moment.

Importing Airflow and pynwb takes seconds, so one process that has imported the function's module forks a child for
each call. As ``python forked_processes.py FILE FUNCTION`` it reads a JSON object a line: ``{"start": arguments}``
forks a child and answers its process id, ``{"wait": pid}`` answers its exit code.
"""

from __future__ import annotations

import inspect
import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

UNEXPECTED = 255


class ForkedProcesses:
    """
    Starts processes; a context manager.

    :param function: What each runs, in a module that imports all it needs. Its arguments are plain JSON, and it
        returns the process's exit code; one that raises ends with ``UNEXPECTED``.
    """

    def __init__(self, function: Callable[..., int]) -> None:
        self._command = [sys.executable, __file__, inspect.getfile(function), function.__name__]

    def __enter__(self) -> Self:
        self._parent = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        )
        self._answer()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._parent.communicate()

    def start(self, **arguments: Any) -> int:
        """Start one; return its process id, which stays its own until it is waited for."""
        return int(self._ask({"start": arguments}))

    def wait(self, pid: int) -> int:
        """Wait until one has ended; return its exit code, which is negative for a signal."""
        return int(self._ask({"wait": pid}))

    def _ask(self, question: dict[str, Any]) -> str:
        assert self._parent.stdin is not None
        self._parent.stdin.write(json.dumps(question) + "\n")
        self._parent.stdin.flush()
        return self._answer()

    def _answer(self) -> str:
        assert self._parent.stdout is not None
        return self._parent.stdout.readline()


def _main(file: str, name: str) -> None:
    function = runpy.run_path(file)[name]
    # Whatever is logged must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    answers.write("ready\n")
    for line in sys.stdin:
        question = json.loads(line)
        if "wait" in question:
            _, status = os.waitpid(question["wait"], 0)
            answers.write(f"{os.waitstatus_to_exitcode(status)}\n")
            continue
        pid = os.fork()
        if pid == 0:
            code = UNEXPECTED
            try:
                code = function(**question["start"])
            finally:
                # A forked child must never run on into its parent's code.
                os._exit(code)
        answers.write(f"{pid}\n")


if __name__ == "__main__":
    _main(*sys.argv[1:])
