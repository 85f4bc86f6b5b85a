"""Conversions that run at once share memory and CPUs; a killed one gives back what it had."""

from __future__ import annotations

import fcntl
import os
import resource
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from airflow_provider_ophys.writing import sharing as sharing_module
from airflow_provider_ophys.writing.memory import available_memory
from airflow_provider_ophys.writing.sharing import Wish, sharing

MIB = 2**20
GIB = 2**30
STOP = threading.Event()


def test_alone_the_budget_is_the_users_or_a_share(tmp_path):
    with sharing(Wish(memory_limit=5, threads=3), STOP, folder=tmp_path) as resources:
        assert (resources.budget_bytes, resources.threads) == (5, 3)
    with sharing(Wish(default_limit=7, fraction=1.0), STOP, folder=tmp_path) as resources:
        assert resources.budget_bytes == 7
    with sharing(Wish(default_limit=2**60, fraction=0.25), STOP, folder=tmp_path) as resources:
        assert 0 < resources.budget_bytes <= available_memory() / 2
        assert resources.wanted_bytes == 2**60


def test_nobody_is_promised_more_than_there_is(tmp_path):
    with sharing(Wish(memory_limit=2**60), STOP, folder=tmp_path) as resources:
        assert resources.budget_bytes < 2**50


OTHER = """
import sys, threading, time
from pathlib import Path
from airflow_provider_ophys.writing.sharing import Wish, sharing
with sharing(Wish(memory_limit=int(sys.argv[2])), threading.Event(), folder=Path(sys.argv[1])) as resources:
    print(resources.budget_bytes, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def another(tmp_path):
    """Start a process that has reserved so many bytes; the processes are killed afterwards."""
    started = []

    def start(num_bytes):
        process = subprocess.Popen(
            [sys.executable, "-c", OTHER, tmp_path, str(num_bytes)], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process, int(process.stdout.readline())

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_what_another_process_reserved_is_not_available(tmp_path, another):
    _, others = another(6 * GIB)
    with sharing(Wish(memory_limit=2**60), STOP, folder=tmp_path) as resources:
        assert resources.budget_bytes <= available_memory() - others + GIB


def test_two_that_start_together_do_not_both_take_all(tmp_path, another):
    _, first = another(2**60)
    _, second = another(2**60)
    assert second < first / 4


def test_a_killed_conversion_gives_back_what_it_had(tmp_path, another):
    process, _ = another(2**60)
    process.kill()
    process.wait()
    with sharing(Wish(memory_limit=GIB), STOP, folder=tmp_path) as resources:
        assert resources.budget_bytes == GIB
        assert len(list(tmp_path.glob("*.reservation"))) == 1, "what it left is removed"
    assert list(tmp_path.glob("*.reservation")) == []


def test_what_a_conversion_holds_already_is_not_counted_twice(tmp_path):
    with sharing(Wish(memory_limit=600 * MIB), STOP, folder=tmp_path):
        (before,) = sharing_module._running(tmp_path)
        assert sharing_module._unused(before) == pytest.approx(600 * MIB, abs=20 * MIB)
        held = np.ones(400 * MIB, dtype="u1")
        assert sharing_module._unused(before) == pytest.approx(200 * MIB, abs=20 * MIB)
        del held


def test_threads_do_not_pile_up(tmp_path, monkeypatch):
    monkeypatch.setattr(sharing_module, "available_cpus", lambda: 16)
    threads = []
    stack = []
    for _ in range(8):
        one = sharing(Wish(), STOP, folder=tmp_path)
        stack.append(one)
        threads.append(one.__enter__().threads)
    assert threads == [16, 8, 6, 4, 4, 3, 3, 2]
    for one in stack:
        one.__exit__(None, None, None)


def test_an_error_in_a_conversion_releases_its_share(tmp_path):
    with pytest.raises(ZeroDivisionError), sharing(Wish(), STOP, folder=tmp_path):
        raise ZeroDivisionError
    assert list(tmp_path.glob("*.reservation")) == []


def test_without_a_folder_to_share_it_converts_all_the_same(tmp_path, caplog):
    taken = tmp_path / "a file"
    taken.touch()
    with sharing(Wish(memory_limit=5), STOP, folder=taken) as resources:
        assert resources.budget_bytes == 5
    assert "cannot share" in caplog.text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder of another user")
def test_a_folder_of_another_user_is_not_trusted(tmp_path, caplog):
    folder = tmp_path / "theirs"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    with sharing(Wish(memory_limit=5), STOP, folder=folder) as resources:
        assert resources.budget_bytes == 5
    assert "no folder of this user" in caplog.text
    assert list(folder.iterdir()) == []


def test_an_os_error_of_the_conversion_is_not_taken_for_one_of_sharing(tmp_path):
    begun = time.monotonic()
    with pytest.raises(OSError, match="disk full"), sharing(Wish(), STOP, folder=tmp_path):
        raise OSError("disk full")
    assert time.monotonic() - begun < 60


def test_a_conversion_under_another_limit_takes_nothing_of_ours(tmp_path, another, monkeypatch):
    """Another container has its own memory; what both share is the machine's."""
    _, others = another(2 * GIB)
    ours = {"machine": 100 * GIB, "/sys/fs/cgroup/ours": GIB}
    monkeypatch.setattr(sharing_module, "memory_left", lambda: ours)
    with sharing(Wish(memory_limit=2**60), STOP, folder=tmp_path) as resources:
        assert resources.budget_bytes == GIB
    monkeypatch.setattr(sharing_module, "memory_left", lambda: {"machine": 3 * GIB})
    with sharing(Wish(memory_limit=2**60), STOP, folder=tmp_path) as resources:
        assert resources.budget_bytes == pytest.approx(3 * GIB - others, abs=GIB / 4)


def test_a_full_folder_leaves_nothing_and_ends_the_sharing_only(tmp_path, caplog):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with sharing(Wish(memory_limit=5), STOP, folder=tmp_path) as resources:
            assert resources.budget_bytes == 5
            assert not list(tmp_path.glob(f"*{sharing_module.SUFFIX}"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "cannot share its memory" in caplog.text


def test_what_is_no_reservation_reserves_nothing(tmp_path, another):
    another(5)
    for content in ("", "{", "[]", "{}"):
        file = tmp_path / f"{len(content)}{content.encode().hex()}{sharing_module.SUFFIX}"
        file.write_text(content)
        descriptor = os.open(file, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    with sharing(Wish(memory_limit=7), STOP, folder=tmp_path) as resources:
        assert resources.budget_bytes == 7


def test_without_any_temporary_folder_a_conversion_is_alone(monkeypatch, caplog):
    def nowhere():
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(sharing_module.tempfile, "gettempdir", nowhere)
    with sharing(Wish(memory_limit=5), STOP) as resources:
        assert resources.budget_bytes == 5
    assert "cannot share its memory" in caplog.text


def test_nobody_misses_a_share_because_another_ends(tmp_path, caplog):
    stop = threading.Event()

    def come_and_go():
        while not stop.is_set():
            with sharing(Wish(memory_limit=5), STOP, folder=tmp_path):
                pass

    others = [threading.Thread(target=come_and_go) for _ in range(3)]
    for other in others:
        other.start()
    for _ in range(200):
        with sharing(Wish(memory_limit=5), STOP, folder=tmp_path):
            pass
    stop.set()
    for other in others:
        other.join()
    assert caplog.text == ""
