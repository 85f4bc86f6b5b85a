"""A task's process ends with the one that supervises it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

# A supervisor that forks a task as Airflow's does, and is killed while that works.
SUPERVISOR = """
import os, signal, socket, sys, time
from pathlib import Path
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import CommsDecoder
from airflow_provider_ophys.operators.stopping import StoppableOperator

told = Path(sys.argv[1])
requests, answers = socket.socketpair()
supervisor = os.getpid()
if os.fork():
    while not told.exists():
        time.sleep(0.01)
    os.kill(supervisor, signal.SIGKILL)
task_runner.SUPERVISOR_COMMS = CommsDecoder(socket=requests)
with StoppableOperator(task_id="work")._stoppable() as stop:
    told.write_text("working")
    told.write_text("stopped" if stop.wait(60) else "never stopped")
"""


def test_a_task_whose_supervisor_was_killed_stops(tmp_path):
    told = tmp_path / "told"
    supervisor = subprocess.run([sys.executable, "-c", SUPERVISOR, str(told)], check=False, capture_output=True)
    assert supervisor.returncode == -signal.SIGKILL, supervisor.stderr
    deadline = time.monotonic() + 90
    while told.read_text() in ("", "working"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert told.read_text() == "stopped"
