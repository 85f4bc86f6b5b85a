"""The pipeline fills everything, in any shape, never holds more than its budget, and ends at once when told to."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from airflow_provider_ophys.exceptions import MemoryBudgetError
from airflow_provider_ophys.writing.iterator import ArrayDataChunkIterator
from airflow_provider_ophys.writing.pipeline import fill, plan_fill
from airflow_provider_ophys.writing.sharing import Resources

MIB = 2**20


class ArraySink:
    """Keeps what it is given; counts how many rows are in the pipeline between reading and writing."""

    def __init__(self, shape, dtype, rows_per_task):
        self.array = np.full(shape, 255, dtype=dtype)
        self.rows_per_task = rows_per_task
        self.scratch_tasks = 2
        self.result_tasks = 1
        self.threads = set()
        self.writers = set()

    def encode(self, block, start):
        self.threads.add(threading.current_thread().name)
        return start, block.copy()

    def write(self, encoded):
        self.writers.add(threading.current_thread().name)
        start, rows = encoded
        self.array[start : start + len(rows)] = rows


@pytest.mark.parametrize("num_rows", [1, 6, 7, 8, 50])
@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("budget_tasks", [4, 7, 100])
def test_every_row_arrives(num_rows, threads, budget_tasks):
    array = np.arange(num_rows * 6, dtype="int32").reshape(num_rows, 2, 3)
    source = ArrayDataChunkIterator(array)
    sink = ArraySink(array.shape, array.dtype, rows_per_task=7)
    budget = budget_tasks * min(7, num_rows) * 6 * 4
    fill(source, sink, Resources(budget, threads), name="a")
    np.testing.assert_array_equal(sink.array, array)
    assert len(sink.threads) <= threads
    assert sink.writers == {threading.current_thread().name}, "only the calling thread writes"


@pytest.mark.parametrize(("threads", "at_once"), [(1, 1), (2, 1), (4, 2)])
def test_half_of_the_threads_take_statistics_while_the_others_encode(threads, at_once):
    class Statistics:
        num_bytes = 0

        def __init__(self):
            self.now, self.most, self.rows = 0, 0, 0
            self.lock = threading.Lock()

        def add(self, block, _):
            with self.lock:
                self.now += 1
                self.most = max(self.most, self.now)
                self.rows += len(block)
            time.sleep(0.02)
            with self.lock:
                self.now -= 1

    array, statistics = np.zeros((24, 2, 3), "int32"), Statistics()
    sink = ArraySink(array.shape, array.dtype, rows_per_task=1)
    fill(ArrayDataChunkIterator(array), sink, Resources(MIB, threads), name="a", statistics=statistics)
    assert (statistics.most, statistics.rows) == (at_once, len(array))


@pytest.mark.parametrize("threads", [1, 2, 8, 64])
@pytest.mark.parametrize("budget_mib", [4, 16, 64, 256, 4096])
def test_a_plan_never_exceeds_the_budget(threads, budget_mib):
    budget = budget_mib * MIB
    plan = plan_fill(
        row_bytes=MIB // 2,
        rows_per_task=2,
        scratch_tasks=2,
        result_tasks=1,
        num_rows=10_000,
        most_rows=10_000,
        resources=Resources(budget, threads),
    )
    tasks = plan.block_rows // 2
    held = tasks * (3 + 2) + 2 * plan.threads if plan.read_ahead else 4
    assert held * MIB <= budget
    assert 1 <= plan.threads <= threads


def test_a_small_budget_costs_threads_before_it_is_an_error():
    def plan(budget):
        return plan_fill(
            row_bytes=MIB,
            rows_per_task=1,
            scratch_tasks=2,
            result_tasks=1,
            num_rows=100,
            most_rows=100,
            resources=Resources(budget * MIB, 4),
        )

    assert plan(100).threads == 4
    assert plan(9).threads == 2
    assert (plan(4).threads, plan(4).read_ahead) == (1, False)
    with pytest.raises(MemoryBudgetError, match=r"needs 4 times that \(4 MiB\)"):
        plan(3)


def test_the_users_buffer_bounds_what_is_read_at_once():
    plan = plan_fill(
        row_bytes=MIB,
        rows_per_task=2,
        scratch_tasks=2,
        result_tasks=1,
        num_rows=100,
        most_rows=4,
        resources=Resources(4096 * MIB, 2),
    )
    assert plan.block_rows == 4


def test_no_thread_is_started_for_which_there_is_no_work():
    array = np.zeros((14, 4), dtype="uint8")
    sink = ArraySink(array.shape, "u1", 7)
    fill(ArrayDataChunkIterator(array), sink, Resources(MIB, 64), name="a")
    assert len(sink.threads) <= 2


def test_an_extractor_is_read_by_one_thread_at_a_time():
    class Watched(ArrayDataChunkIterator):
        readers = 0

        def read(self, start, stop):
            assert self.readers == 0, "read by two threads at once"
            self.readers += 1
            time.sleep(0.002)
            self.readers -= 1
            return super().read(start, stop)

    array = np.arange(400, dtype="int16").reshape(100, 4)
    sink = ArraySink(array.shape, array.dtype, 1)
    fill(Watched(array, buffer_shape=(10, 4), chunk_shape=(1, 4)), sink, Resources(MIB, 8), name="a")
    np.testing.assert_array_equal(sink.array, array)
