"""
Have a worker import once what conversions and reports need, so that the tasks it forks begin at once.

Importing pynwb and matplotlib takes seconds, as long as writing a gigabyte. Airflow forks each task from a
process that lives on (LocalExecutor: from workers that the scheduler forks; Celery: from the worker's pool), and a
fork has what its parent has imported. Unless ``[ophys] preload`` is off, this plugin imports it where Airflow
loads plugins, if that is such a process: the scheduler with a LocalExecutor does so when it starts; a Celery
worker only with ``[core] lazy_load_plugins = False``.

Where tasks are no forks of it (a fork server, as is Python 3.14's default, or
``[core] execute_tasks_new_python_interpreter``), nothing is imported; for the former Airflow has a way of its own:
``[core] mp_forkserver_preload = airflow_provider_ophys.conversion.run``.
"""

from __future__ import annotations

import logging
import multiprocessing
import sys
import time
from importlib import import_module
from typing import Any

from airflow_provider_ophys.compat import AirflowPlugin, conf

log = logging.getLogger(__name__)

MODULES = (
    "airflow_provider_ophys.conversion.run",
    "roiextractors",
    "airflow_provider_ophys.report.conversion",
    "airflow_provider_ophys.report.files",
    "matplotlib.backends.backend_agg",
)

TASK_RUNNER = "airflow.sdk.execution_time.task_runner"


class PreloadPlugin(AirflowPlugin):
    """Imports what conversions and reports need, in processes that fork tasks."""

    name = "ophys_preload"

    @classmethod
    def on_load(cls, *_: Any, **__: Any) -> None:
        """Import it unless the configuration says otherwise."""
        if _forks_tasks() and conf.getboolean("ophys", "preload", fallback=True):
            try:
                preload()
            except Exception:
                # The scheduler has other work than ours; the tasks say what is wrong.
                log.exception("What conversions need cannot be imported here.")


def preload() -> None:
    """Import what conversions and reports need, and make ready what validates files."""
    begun = time.monotonic()
    for module in MODULES:
        import_module(module)
    from airflow_provider_ophys.conversion.checks import make_ready

    make_ready()
    log.info("Imported what conversions need, for all tasks forked from here: %.1f s.", time.monotonic() - begun)


def _forks_tasks() -> bool:
    # A task's own process loads plugins too, and has the command line of the process that it was forked from.
    if hasattr(sys.modules.get(TASK_RUNNER), "SUPERVISOR_COMMS"):
        return False
    if conf.getboolean("core", "execute_tasks_new_python_interpreter", fallback=False):
        return False
    if sys.argv[1:3] == ["celery", "worker"]:
        return True
    # Asked so that it is not settled by the question; the first of all is Python's default.
    method = multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
    return (
        method == "fork"
        and sys.argv[1:2] == ["scheduler"]
        and "LocalExecutor" in str(conf.get("core", "executor"))
    )
