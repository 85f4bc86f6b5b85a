"""
Tasks that run a write operator in a process of their own and can be disturbed at any moment.

Importing Airflow and pynwb takes seconds, so one process that has done that forks a child for each task. As
``python forked_tasks.py`` it reads one JSON object a line: ``{"start": ...}`` forks a task and answers its process
id, ``{"wait": pid}`` answers its exit code. A task treats signals and its timeout as Airflow's task runner does:
SIGTERM calls ``on_kill()`` and lets ``execute()`` go on, a timeout calls it and raises.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any, Self

SUCCEEDED, FAILED, TIMED_OUT, UNEXPECTED = 0, 1, 2, 3


class ForkedTasks:
    """Starts tasks; a context manager."""

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

    def start(self, operator: str, options: dict[str, Any], report: Path, *, timeout: float | None = None) -> int:
        """
        Start a task.

        :param operator: ``"imaging"`` or ``"segmentation"``.
        :param options: The operator's arguments.
        :param report: File for the task's result, or the text of its error.
        :param timeout: Its ``execution_timeout``, in seconds.
        :returns: Its process id.
        """
        started = {"operator": operator, "options": options, "report": str(report), "timeout": timeout}
        return int(self._ask({"start": started}))

    def wait(self, pid: int) -> int:
        """Wait until a task has ended; return its exit code, which is negative for a signal."""
        return int(self._ask({"wait": pid}))

    def _ask(self, question: dict[str, Any]) -> str:
        assert self._parent.stdin is not None
        self._parent.stdin.write(json.dumps(question) + "\n")
        self._parent.stdin.flush()
        return self._answer()

    def _answer(self) -> str:
        assert self._parent.stdout is not None
        return self._parent.stdout.readline()


def _run_task(operator: str, options: dict[str, Any], report: str, timeout: float | None) -> int:
    from airflow.sdk.exceptions import AirflowTaskTimeout

    from airflow_provider_ophys.exceptions import OphysError
    from airflow_provider_ophys.operators.imaging import WriteImagingOperator
    from airflow_provider_ophys.operators.segmentation import WriteSegmentationOperator

    task = {"imaging": WriteImagingOperator, "segmentation": WriteSegmentationOperator}[operator](
        task_id="write", **options
    )
    signal.signal(signal.SIGTERM, lambda *_: task.on_kill())
    try:
        with _time_limit(timeout):
            text, code = json.dumps(task.execute({"outlet_events": {}})), SUCCEEDED
    except AirflowTaskTimeout:
        task.on_kill()
        text, code = "timeout", TIMED_OUT
    except OphysError as error:
        text, code = f"{type(error).__name__}: {error}", FAILED
    except BaseException:  # noqa: BLE001 -- the harness has to see what must never happen
        text, code = traceback.format_exc(), UNEXPECTED
    Path(report).write_text(text)
    return code


def _time_limit(seconds: float | None) -> Any:
    from contextlib import nullcontext

    from airflow.sdk.execution_time.timeout import TimeoutPosix

    return nullcontext() if seconds is None else TimeoutPosix(seconds)


def _main() -> None:
    import pynwb.ophys  # noqa: F401 -- loaded once, for all tasks
    import roiextractors  # noqa: F401
    from hdmf_zarr import NWBZarrIO  # noqa: F401

    import airflow_provider_ophys.conversion.run
    import airflow_provider_ophys.operators.imaging
    import airflow_provider_ophys.operators.segmentation
    import airflow_provider_ophys.writing.zarr_sink  # noqa: F401

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
                code = _run_task(**question["start"])
            finally:
                # A forked child must never run on into its parent's code.
                os._exit(code)
        answers.write(f"{pid}\n")


if __name__ == "__main__":
    _main()
