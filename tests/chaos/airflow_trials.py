"""What trials on Airflow's own processes do and look at: tasks' processes, runs, outputs, looks at a folder."""

from __future__ import annotations

import ctypes
import dataclasses
import os
import struct
import time
from pathlib import Path

import hdf5plugin  # noqa: F401 -- reads what zstd has compressed
import numpy as np
import psutil
import pynwb
import tifffile
from running_tasks import writing

from demo.rest import DagRun, TaskInstance
from demo.stack import AirflowStack

# From linux/inotify.h.
IN_OPEN = 0x20
EVENT = struct.Struct("iIII")


def begin(stack: AirflowStack, dag_id: str, path: Path, *, more_than: int = 1_000_000) -> tuple[DagRun, int]:
    """Start a run of one conversion; return it, and the task's process once that has written so many bytes."""
    run = stack.client.trigger(dag_id, conf={"name": path.stem})
    return run, writing(path, more_than=more_than)


def supervisor_of(task: int) -> int:
    """The process that has forked a task's own, and tells Airflow that it runs."""
    return psutil.Process(task).ppid()


def scheduler_of(stack: AirflowStack, task: int) -> str:
    """The name of the scheduler in whose executor a task runs."""
    above = {process.pid for process in psutil.Process(task).parents()}
    return next(name for name, pid in stack.pids.items() if pid in above)


def tasks_of(stack: AirflowStack, dag_id: str, task_id: str = "write") -> list[TaskInstance]:
    """All tasks of a name in all runs of a DAG."""
    runs = stack.client.dag_runs(dag_id)
    return [task for run in runs for task in stack.client.task_instances(run) if task.task_id == task_id]


def all_finished(stack: AirflowStack, dag_id: str) -> bool:
    """Tell whether a DAG has no run that goes on."""
    return all(run.finished for run in stack.client.dag_runs(dag_id))


def log_of(stack: AirflowStack, task: TaskInstance) -> str:
    """The logs of all tries of a task, as far as they left one."""
    tries = range(1, task.try_number + 1)
    return "\n".join(
        line for number in tries for line in stack.client.task_log(dataclasses.replace(task, try_number=number))
    )


def leftovers(folder: Path) -> list[str]:
    """What lies beside the outputs."""
    return [entry.name for entry in folder.iterdir() if entry.name.startswith(".")]


def assert_whole(path: Path, movie: Path) -> None:
    """Check that an output is valid and has the movie's pixels."""
    assert pynwb.validate(path=path) == []
    with pynwb.NWBHDF5IO(path, "r") as io:
        pixels = io.read().acquisition["TwoPhotonSeries"].data[:]
    np.testing.assert_array_equal(pixels, tifffile.imread(movie).transpose(0, 2, 1))


class Looks:
    """
    Counts how often any process opens a folder, as each look at it does.

    :param folder: That is watched for acquisitions.
    """

    def __init__(self, folder: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._stream = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert libc.inotify_add_watch(self._stream, os.fsencode(folder), IN_OPEN) >= 0

    def since_last(self) -> int:
        """How often since this was asked last."""
        count = 0
        while True:
            try:
                found = os.read(self._stream, 1 << 16)
            except BlockingIOError:
                return count
            while found:
                _, _, _, length = EVENT.unpack_from(found)
                # Those of what is in it have a name.
                count += not found[EVENT.size : EVENT.size + length].rstrip(b"\0")
                found = found[EVENT.size + length :]

    def during(self, seconds: float) -> int:
        """How often during the next seconds."""
        self.since_last()
        time.sleep(seconds)
        return self.since_last()
