"""With ``[ophys] preload``, tasks are forked from a process that has imported pynwb; others are spared."""

from __future__ import annotations

import json
import subprocess
import sys

# As processes of Airflow do when they start, each loads the plugins for their listeners; then it forks a task.
# What they have in common, Airflow's own modules, is imported once before.
PROCESSES = """
import json, os, sys

import airflow.listeners.listener
import airflow.plugins_manager
from airflow.sdk.configuration import conf

def in_a_fork(work):
    child = os.fork()
    if child == 0:
        status = 255
        try:
            status = work()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def start(command, environment):
    os.environ.update(environment)
    sys.argv = ["airflow", *command]
    airflow.listeners.listener.get_listener_manager()
    return in_a_fork(lambda: "pynwb" in sys.modules)

assert "airflow_provider_ophys.preload" not in sys.modules
print(json.dumps([in_a_fork(lambda: start(*case)) for case in json.loads(sys.argv[1])]))
"""


def forks_have_pynwb(cases):
    """Start a process for each command and environment; tell whether what it forks has pynwb."""
    command = [sys.executable, "-W", "ignore", "-c", PROCESSES, json.dumps(cases)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    statuses = json.loads(run.stdout.splitlines()[-1])
    assert set(statuses) <= {0, 1}, run.stderr
    return [bool(status) for status in statuses]


def test_only_processes_that_fork_tasks_import_ahead(airflow_db):
    expected = {
        ("scheduler", "LocalExecutor", "True"): True,
        ("scheduler", "LocalExecutor", "False"): False,
        ("scheduler", "CeleryExecutor", "True"): False,
        ("celery worker", "CeleryExecutor", "True"): True,
        ("api-server", "LocalExecutor", "True"): False,
        ("dag-processor", "LocalExecutor", "True"): False,
    }
    cases = [
        (command.split(), {"AIRFLOW__CORE__EXECUTOR": executor, "AIRFLOW__OPHYS__PRELOAD": preload})
        for command, executor, preload in expected
    ]
    assert dict(zip(expected, forks_have_pynwb(cases), strict=True)) == expected


def test_a_task_itself_does_not(airflow_db, monkeypatch):
    """It was forked from the scheduler and has its command line; what it does not need it does not import."""
    from airflow.sdk.execution_time import task_runner

    from airflow_provider_ophys import preload

    monkeypatch.setattr(sys, "argv", ["airflow", "scheduler"])
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", None, raising=False)
    assert not preload._forks_tasks()
