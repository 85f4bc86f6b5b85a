"""The API server starts, whatever the thread that reads the sessions meanwhile does."""

from __future__ import annotations

import subprocess
import sys

import pytest

# SQLAlchemy has all of Airflow's models imported when it configures them, and holds a lock meanwhile.
START = """
import threading
from sqlalchemy import event
from sqlalchemy.orm import Mapper

configured_in = []
event.listen(Mapper, "before_configured", lambda: configured_in.append(threading.current_thread().name))
import airflow.api_fastapi.main

[thread.join(60) for thread in threading.enumerate() if thread.name == "ophys-sessions"]
print(configured_in[0])
"""


@pytest.mark.usefixtures("airflow_db")
def test_airflows_models_are_configured_where_its_modules_are_imported():
    run = subprocess.run(
        [sys.executable, "-c", START],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
        stdin=subprocess.DEVNULL,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1] == "MainThread"
