"""
Have a worker import once what conversions need, so that the tasks it forks begin at once.

Importing pynwb takes seconds, as long as writing a gigabyte. Airflow forks each task from a process that lives on
(LocalExecutor: from workers that the scheduler forks; Celery: from the worker's pool), and a fork has what its
parent has imported. With ``[ophys] preload``, this plugin imports it where Airflow loads plugins, if that is such
a process: the scheduler with a LocalExecutor does so when it starts; a Celery worker only with
``[core] lazy_load_plugins = False``. Where processes are made by a fork server, Airflow has its own way:
``[core] mp_forkserver_preload = airflow_provider_ophys.conversion.run``.
"""

from __future__ import annotations

import logging
import sys
import time
from importlib import import_module
from typing import Any

from airflow.plugins_manager import AirflowPlugin
from airflow.sdk.configuration import conf

log = logging.getLogger(__name__)

MODULES = ("airflow_provider_ophys.conversion.run", "roiextractors")

TASK_RUNNER = "airflow.sdk.execution_time.task_runner"


class PreloadPlugin(AirflowPlugin):
    """Imports what conversions need, in processes that fork tasks."""

    name = "ophys_preload"

    @classmethod
    def on_load(cls, *_: Any, **__: Any) -> None:
        """Import it if the configuration says so."""
        if _forks_tasks() and conf.getboolean("ophys", "preload", fallback=False):
            preload()


def preload() -> None:
    """Import what conversions need."""
    begun = time.monotonic()
    for module in MODULES:
        import_module(module)
    log.info("Imported what conversions need, for all tasks forked from here: %.1f s.", time.monotonic() - begun)


def _forks_tasks() -> bool:
    # A task's own process loads plugins too, and has the command line of the process that it was forked from.
    if hasattr(sys.modules.get(TASK_RUNNER), "SUPERVISOR_COMMS"):
        return False
    if sys.argv[1:3] == ["celery", "worker"]:
        return True
    return sys.argv[1:2] == ["scheduler"] and "LocalExecutor" in str(conf.get("core", "executor"))
