"""Tasks are forked from a process that has imported what they need, unless told otherwise; others are spared."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys

# As processes of Airflow do when they start, each loads the plugins for their listeners; then it forks a task.
# What they have in common, Airflow's own modules, is imported once before.
PROCESSES = """
import json, multiprocessing, os, sys

import airflow.listeners.listener
import airflow.plugins_manager
from airflow_provider_ophys.compat import conf

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
    if method := environment.get("START_METHOD"):
        multiprocessing.set_start_method(method)
    sys.argv = ["airflow", *command]
    airflow.listeners.listener.get_listener_manager()
    return in_a_fork(has_all)

def has_all():
    wanted = {"pynwb", "roiextractors", "matplotlib.backends.backend_agg", "airflow_provider_ophys.report.figure"}
    if not wanted <= set(sys.modules):
        assert not wanted & set(sys.modules)
        return False
    from airflow_provider_ophys.conversion import checks
    return checks._own_schema.cache_info().currsize == 1

assert "airflow_provider_ophys.preload" not in sys.modules
print(json.dumps([in_a_fork(lambda: start(*case)) for case in json.loads(sys.argv[1])]))
"""


FORKS_BY_DEFAULT = multiprocessing.get_all_start_methods()[0] == "fork"


def forks_have_all(cases):
    """Start a process for each command and environment; tell whether what it forks has all that tasks need."""
    command = [sys.executable, "-W", "ignore", "-c", PROCESSES, json.dumps(cases)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    statuses = json.loads(run.stdout.splitlines()[-1])
    assert set(statuses) <= {0, 1}, run.stderr
    return [bool(status) for status in statuses]


def test_only_processes_that_fork_tasks_import_ahead(airflow_db):
    expected = {
        # From Python 3.14 on a LocalExecutor's tasks come from a fork server, unless told otherwise.
        ("scheduler", "LocalExecutor", None): FORKS_BY_DEFAULT,
        ("scheduler", "LocalExecutor", "True"): FORKS_BY_DEFAULT,
        ("scheduler", "LocalExecutor", "False"): False,
        ("scheduler", "CeleryExecutor", "True"): False,
        ("celery worker", "CeleryExecutor", "True"): True,
        ("api-server", "LocalExecutor", "True"): False,
        ("dag-processor", "LocalExecutor", "True"): False,
    }
    cases = [
        (
            command.split(),
            {"AIRFLOW__CORE__EXECUTOR": executor} | ({"AIRFLOW__OPHYS__PRELOAD": preload} if preload else {}),
        )
        for command, executor, preload in expected
    ]
    assert dict(zip(expected, forks_have_all(cases), strict=True)) == expected


def test_where_tasks_are_no_forks_nothing_is_imported(airflow_db):
    """A fork server and a new interpreter have nothing of the process that asks for a task."""
    local = {"AIRFLOW__CORE__EXECUTOR": "LocalExecutor"}
    cases = [
        (["scheduler"], local | {"AIRFLOW__CORE__EXECUTE_TASKS_NEW_PYTHON_INTERPRETER": "True"}),
        (["scheduler"], local | {"START_METHOD": "forkserver"}),
        (["scheduler"], local | {"START_METHOD": "fork"}),
    ]
    assert forks_have_all(cases) == [False, False, True]


def test_a_task_itself_does_not(airflow_db, monkeypatch):
    """It was forked from the scheduler and has its command line; what it does not need it does not import."""
    from airflow.sdk.execution_time import task_runner

    from airflow_provider_ophys import preload

    monkeypatch.setattr(sys, "argv", ["airflow", "scheduler"])
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", None, raising=False)
    assert not preload._forks_tasks()
