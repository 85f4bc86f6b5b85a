"""A stop, a time-out, an error or a full disk ends all threads soon, and the first error is raised as it was."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from airflow_provider_ophys.exceptions import ConversionStoppedError
from airflow_provider_ophys.writing.codecs import HDF5Codec
from airflow_provider_ophys.writing.deflate import deflate_fast
from airflow_provider_ophys.writing.hdf5_sink import HDF5FilterSink, HDF5Sink, open_for_filling
from airflow_provider_ophys.writing.iterator import ArrayDataChunkIterator
from airflow_provider_ophys.writing.pipeline import fill
from airflow_provider_ophys.writing.sharing import Resources

SHAPE = (1000, 64)
ROWS_PER_TASK = 10
# It takes a fraction of a second, but others may be at work on this machine; what hangs, hangs for ten minutes.
SOON_SECONDS = 60.0
HANGS_SECONDS = 600.0


class Sink:
    """Encodes and stores nothing, and does at some row what a test wants."""

    rows_per_task = ROWS_PER_TASK
    scratch_tasks = result_tasks = 1

    def __init__(self, at_encode=int, at_write=int):
        self._at_encode, self._at_write = at_encode, at_write
        self.written = []

    def encode(self, _block, start):
        self._at_encode(start)
        return start

    def write(self, encoded):
        self._at_write(encoded)
        self.written.append(encoded)


class HangingSource(ArrayDataChunkIterator):
    """As a recording on a file server that does not answer any more."""

    def __init__(self, array, **options):
        super().__init__(array, **options)
        self.released = threading.Event()

    def read(self, start, stop):
        if start > 0:
            self.released.wait(HANGS_SECONDS)
        return super().read(start, stop)


def resources(threads=3):
    return Resources(10 * ROWS_PER_TASK * SHAPE[1], threads)


def source_of(kind=ArrayDataChunkIterator):
    return kind(np.zeros(SHAPE, dtype="u1"), chunk_shape=(10, 64), buffer_shape=(10, 64))


def our_threads():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("ophys-")]


def raise_at(row, error):
    def raising(start):
        if start >= row:
            raise error

    return raising


@pytest.mark.parametrize("stage", ["at_encode", "at_write"])
def test_the_first_error_is_raised_as_it_was_and_names_where(stage):
    error = OSError(errno.EIO, "the disk is gone")
    sink = Sink(**{stage: raise_at(50, error)})
    with pytest.raises(OSError, match="the disk is gone") as caught:
        fill(source_of(), sink, resources(), name="acquisition/S/data")
    assert caught.value is error
    assert "acquisition/S/data" in caught.value.__notes__[0]
    assert "50 of 1000 rows" in caught.value.__notes__[0]
    assert our_threads() == []


def test_an_error_of_the_source_is_raised_as_it_was():
    class Broken(ArrayDataChunkIterator):
        def read(self, _start, _stop):
            raise TimeoutError("the server does not answer")

    with pytest.raises(TimeoutError, match="does not answer"):
        fill(source_of(Broken), Sink(), resources(), name="a")
    assert our_threads() == []


def test_a_stop_before_the_start_writes_nothing():
    stopped = resources()
    stopped.stop.set()
    sink = Sink()
    with pytest.raises(ConversionStoppedError, match="nothing was published"):
        fill(source_of(), sink, stopped, name="a")
    assert sink.written == []


def test_a_stop_in_the_middle_ends_it_soon():
    stopping = resources()
    sink = Sink(at_write=lambda start: stopping.stop.set() if start == 20 * ROWS_PER_TASK else None)
    with pytest.raises(ConversionStoppedError):
        fill(source_of(), sink, stopping, name="a")
    # What was encoded already may still be written, but no more than that.
    assert 20 <= len(sink.written) <= 40, f"of {SHAPE[0] // ROWS_PER_TASK}"
    assert our_threads() == []


def test_a_stop_does_not_wait_for_a_read_that_hangs():
    stopping = resources()
    source = source_of(HangingSource)
    threading.Timer(0.3, stopping.stop.set).start()
    begun = time.monotonic()
    with pytest.raises(ConversionStoppedError):
        fill(source, Sink(), stopping, name="a")
    assert time.monotonic() - begun < SOON_SECONDS
    source.released.set()


def test_a_time_out_raised_in_the_calling_thread_ends_it_too():
    """Airflow raises its time-out from a signal handler, wherever the task is."""

    class TaskTimeoutError(BaseException):
        pass

    def handler(number, frame):
        raise TaskTimeoutError

    source = source_of(HangingSource)
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    begun = time.monotonic()
    try:
        with pytest.raises(TaskTimeoutError):
            fill(source, Sink(), resources(), name="a")
    finally:
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - begun < SOON_SECONDS
    source.released.set()


HANGING = """
import threading, time
import numpy as np
from airflow_provider_ophys.writing.iterator import ArrayDataChunkIterator
from airflow_provider_ophys.writing.pipeline import fill
from airflow_provider_ophys.writing.sharing import Resources

class Source(ArrayDataChunkIterator):
    def read(self, start, stop):
        time.sleep(600)

stop = threading.Event()
threading.Timer(0.3, stop.set).start()
fill(Source(np.zeros((10, 10))), None or type("S", (), dict(rows_per_task=1, scratch_tasks=1, result_tasks=1))(),
     Resources(2**20, 1, stop), name="a")
"""


def test_a_process_with_a_read_that_hangs_can_end():
    run = subprocess.run([sys.executable, "-c", HANGING], capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 1
    assert "ConversionStoppedError" in run.stderr


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MiB, which only root can mount."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", tmp_path], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.strip()}")
    yield tmp_path
    subprocess.run(["umount", "--lazy", tmp_path], check=True)


def write_hdf5(path: Path):
    noise = np.random.default_rng(0).integers(0, 256, (200, 64, 1024), dtype="u1")
    with h5py.File(path, "w") as file:
        file.create_dataset("data", noise.shape, "u1", chunks=(1, 64, 1024), compression="gzip")
    source = ArrayDataChunkIterator(noise, chunk_shape=(1, 64, 1024))
    with open_for_filling(path) as file:
        sink = HDF5Sink(file["data"], HDF5Codec(shuffle=False, deflate=deflate_fast))
        fill(source, sink, Resources(2**24, 2), name="acquisition/S/data")


def test_a_full_disk_is_told_as_one(small_disk):
    begun = time.monotonic()
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_hdf5(small_disk / "a.h5")
    assert time.monotonic() - begun < SOON_SECONDS
    assert "acquisition/S/data" in caught.value.__notes__[0]
    assert our_threads() == []


def test_a_file_that_must_not_grow_is_told_too(tmp_path):
    """As `ulimit -f` and quotas do it; where no file system can be mounted, this stands in for a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4 * 2**20, before[1]))
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EFBIG)) as caught:
            write_hdf5(tmp_path / "a.h5")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "acquisition/S/data" in caught.value.__notes__[0]
    assert our_threads() == []


def test_hdf5_leaves_no_chunk_to_be_compressed_when_a_task_that_is_told_to_end_closes_the_file(tmp_path):
    noise = np.random.default_rng(0).integers(0, 2**16, (16, 64, 1024), dtype="u2")
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("data", noise.shape, "u2", chunks=(1, 64, 1024), compression="lzf")
    source = ArrayDataChunkIterator(noise, chunk_shape=(1, 64, 1024))
    with open_for_filling(path) as file:
        dataset = file["data"]
        fill(source, HDF5FilterSink(dataset), Resources(2**24, 2), name="acquisition/S/data")
        stored = path.read_bytes()
        assert all(frame.tobytes() in stored for frame in noise), "noise is stored as it is"
