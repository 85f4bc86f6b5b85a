"""Lines in a log, a live bar in a terminal, the user's own bar, or nothing when told so."""

from __future__ import annotations

import fcntl
import logging
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
from typing import ClassVar

import numpy as np
import pytest

from airflow_provider_ophys.writing import progress
from airflow_provider_ophys.writing.iterator import ArrayDataChunkIterator
from airflow_provider_ophys.writing.pipeline import fill
from airflow_provider_ophys.writing.sharing import Resources

ARRAY = np.zeros((20, 1000), dtype="uint8")


class Discarding:
    """A sink that is at work for a while and stores nothing."""

    rows_per_task = 5
    scratch_tasks = result_tasks = 1

    def encode(self, _block, start):
        return start

    def write(self, encoded):
        pass


def fill_with(**options):
    source = ArrayDataChunkIterator(ARRAY, chunk_shape=(5, 1000), buffer_shape=(10, 1000), **options)
    fill(source, Discarding(), Resources(2**20, 1), name="acquisition/S/data")


@pytest.fixture
def every_moment(monkeypatch):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)


def test_a_task_log_gets_lines_with_percent_speed_and_time_left(every_moment, caplog):
    caplog.set_level(logging.INFO)
    fill_with()
    assert len(caplog.messages) == 4
    first, *_, last = caplog.messages
    assert first.startswith("acquisition/S/data: 25 %, ")
    assert last.startswith("acquisition/S/data: 100 %, ")
    assert last.endswith(" MB/s, 0 s left")


def test_a_line_comes_every_ten_seconds_and_not_more_often(caplog):
    caplog.set_level(logging.INFO)
    fill_with()
    assert progress.LINE_SECONDS == 10
    assert caplog.messages == []


def test_nothing_is_shown_when_told_so(every_moment, caplog):
    caplog.set_level(logging.INFO)
    source = ArrayDataChunkIterator(ARRAY, chunk_shape=(5, 1000))
    source.quiet = True
    fill(source, Discarding(), Resources(2**20, 1), name="a")
    assert caplog.messages == []


class Bar:
    made: ClassVar[list[Bar]] = []

    def __init__(self, total, **options):
        self.total, self.options, self.n, self.closed = total, options, 0, False
        Bar.made.append(self)

    def update(self, n):
        self.n += n

    def close(self):
        self.closed = True


def test_the_users_bar_is_filled_and_closed(every_moment, caplog):
    caplog.set_level(logging.INFO)
    Bar.made.clear()
    fill_with(display_progress=True, progress_bar_class=Bar, progress_bar_options={"desc": "mine"})
    (bar,) = Bar.made
    assert (bar.n, bar.total, bar.closed, bar.options) == (2, 2, True, {"desc": "mine"})
    assert caplog.messages == []


def test_the_users_bar_is_closed_after_an_error_too():
    Bar.made.clear()
    stop = threading.Event()
    stop.set()
    source = ArrayDataChunkIterator(ARRAY, chunk_shape=(5, 1000), display_progress=True, progress_bar_class=Bar)
    with pytest.raises(RuntimeError):
        fill(source, Discarding(), Resources(2**20, 1, stop), name="a")
    assert Bar.made[0].closed


def test_without_a_terminal_tqdm_leaves_the_log_alone(every_moment, caplog, capfd):
    """Airflow would log its carriage returns as one long error."""
    caplog.set_level(logging.INFO)
    fill_with(display_progress=True)
    assert len(caplog.messages) == 4
    assert capfd.readouterr().err == ""


IN_A_TERMINAL = """
import numpy as np, time
from airflow_provider_ophys.writing import progress
from airflow_provider_ophys.writing.iterator import ArrayDataChunkIterator
from airflow_provider_ophys.writing.pipeline import fill
from airflow_provider_ophys.writing.sharing import Resources

class Slow:
    rows_per_task, scratch_tasks, result_tasks = 5, 1, 1
    def encode(self, _block, start):
        return start
    def write(self, encoded):
        time.sleep(0.2)

progress.BAR_DELAY_SECONDS = 0
fill(ArrayDataChunkIterator(np.zeros((20, 1000), "u1")), Slow(), Resources(2**20, 1), name="acquisition/S/data")
"""


def test_a_terminal_shows_a_live_bar():
    terminal, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    subprocess.run([sys.executable, "-c", IN_A_TERMINAL], stderr=inside, stdout=inside, check=True)
    os.close(inside)
    shown = os.read(terminal, 100_000).decode()
    os.close(terminal)
    assert "acquisition/S/data" in shown
    assert "100%" in shown
    assert "B/s" in shown
    assert shown.count("\r") > 2, "it is drawn anew in its line"
