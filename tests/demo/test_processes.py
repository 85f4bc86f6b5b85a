"""What was started is ended, with all its children, and nothing else is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from demo.processes import SessionProcess, end_leftovers, remember, session_members, stop_all

# A parent with two children, one of which leaves for a process group of its own, as Airflow's tasks do. The parent
# is deaf to a polite request and tells its children's process ids.
FAMILY = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
children = []
for index in range(2):
    pid = os.fork()
    if pid == 0:
        time.sleep(600)
    if index:
        os.setpgid(pid, pid)
    children.append(pid)
print(*children, flush=True)
time.sleep(600)
"""


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


def launch(folder: Path, code: str) -> SessionProcess:
    return SessionProcess([sys.executable, "-c", code], environment=os.environ, log=folder / "log")


def wait_for_output(process: SessionProcess) -> list[str]:
    deadline = time.monotonic() + 20
    while not (text := process.log.read_text()).endswith("\n"):
        assert time.monotonic() < deadline, "the process said nothing"
        time.sleep(0.02)
    return text.split()


def is_running(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_stop_ends_deaf_parents_and_children_of_other_groups(
    tmp_path: Path, bystander: subprocess.Popen[bytes]
) -> None:
    process = launch(tmp_path, FAMILY)
    children = [int(pid) for pid in wait_for_output(process)]
    assert len({os.getpgid(pid) for pid in children}) == 2
    stop_all([process], patience=0.3)
    assert not any(is_running(pid) for pid in [process.pid, *children])
    assert process.exit_code == -signal.SIGKILL
    assert bystander.poll() is None


def test_kill_asks_nobody_and_spares_no_child(tmp_path: Path, bystander: subprocess.Popen[bytes]) -> None:
    process = launch(tmp_path, FAMILY)
    children = [int(pid) for pid in wait_for_output(process)]
    process.kill()
    assert not any(is_running(pid) for pid in [process.pid, *children])
    assert process.exit_code == -signal.SIGKILL
    assert bystander.poll() is None


def test_stop_lets_a_polite_process_end_by_itself(tmp_path: Path) -> None:
    code = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7)); print(1, flush=True)"
    process = launch(tmp_path, f"{code}; signal.pause()")
    wait_for_output(process)
    stop_all([process])
    assert process.exit_code == 7


def test_stop_finds_orphans_of_a_parent_that_died(tmp_path: Path) -> None:
    process = launch(tmp_path, FAMILY)
    children = [int(pid) for pid in wait_for_output(process)]
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    stop_all([process])
    assert not any(is_running(pid) for pid in children)


def test_leftovers_of_a_killed_owner_are_ended(tmp_path: Path) -> None:
    process = launch(tmp_path, FAMILY)
    children = [int(pid) for pid in wait_for_output(process)]
    note = tmp_path / "processes.json"
    remember(note, [process])
    end_leftovers(note)
    assert not any(is_running(pid) for pid in children)
    assert process.wait(5) == -signal.SIGKILL
    assert not note.exists()


def test_a_stranger_with_the_same_process_id_is_spared(tmp_path: Path) -> None:
    process = launch(tmp_path, "import time; print(1, flush=True); time.sleep(600)")
    wait_for_output(process)
    note = tmp_path / "processes.json"
    note.write_text(json.dumps({process.pid: psutil.Process(process.pid).create_time() - 100}))
    end_leftovers(note)
    assert process.exit_code is None
    stop_all([process])
    assert session_members(process.pid) == []


def test_no_leftovers_are_no_problem(tmp_path: Path) -> None:
    end_leftovers(tmp_path / "processes.json")
