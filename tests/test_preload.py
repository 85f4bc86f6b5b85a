"""With ``[ophys] preload``, tasks are forked from a process that has imported pynwb; others are spared."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# As every Airflow process when it starts, it loads the plugins for their listeners; then it forks, as for a task.
PROCESS = """
import os, sys
sys.argv = sys.argv[1:]
from airflow.listeners.listener import get_listener_manager
get_listener_manager()
child = os.fork()
if child == 0:
    os._exit("pynwb" in sys.modules)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def a_fork_has_pynwb(command, **configuration):
    env = os.environ | {f"AIRFLOW__{name}": value for name, value in configuration.items()}
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROCESS, "airflow", *command],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stdout.splitlines()[-1] == "1"


@pytest.mark.parametrize(
    ("command", "executor", "preload", "expected"),
    [
        (["scheduler"], "LocalExecutor", "True", True),
        (["scheduler"], "LocalExecutor", "False", False),
        (["scheduler"], "CeleryExecutor", "True", False),
        (["celery", "worker"], "CeleryExecutor", "True", True),
        (["api-server"], "LocalExecutor", "True", False),
        (["dag-processor"], "LocalExecutor", "True", False),
    ],
)
def test_only_processes_that_fork_tasks_import_ahead(airflow_db, command, executor, preload, expected):
    assert a_fork_has_pynwb(command, OPHYS__PRELOAD=preload, CORE__EXECUTOR=executor) is expected


def test_a_task_itself_does_not(airflow_db, monkeypatch):
    """It was forked from the scheduler and has its command line; what it does not need it does not import."""
    from airflow.sdk.execution_time import task_runner

    from airflow_provider_ophys import preload

    monkeypatch.setattr(sys, "argv", ["airflow", "scheduler"])
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", None, raising=False)
    assert not preload._forks_tasks()
