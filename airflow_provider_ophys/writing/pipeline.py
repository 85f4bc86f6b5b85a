"""
Fill an allocated dataset: one reader, N encoders, one writer, never more in flight than the budget.

The calling thread hands out work and is the only one that writes, so h5py sees one thread; one more thread reads
ahead, so extractors see one thread too; what costs time, transposing and compressing, is done by N threads.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_ophys.exceptions import MemoryBudgetError
from airflow_provider_ophys.writing.progress import Progress, show_progress
from airflow_provider_ophys.writing.sharing import Resources
from airflow_provider_ophys.writing.workers import Workers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from airflow_provider_ophys.writing.frame_statistics import FrameStatistics
    from airflow_provider_ophys.writing.iterator import BulkDataChunkIterator

log = logging.getLogger(__name__)

# In units of what one task reads: while a block is encoded, the one before it waits to be written and the one
# after it is being read; each task's result waits too.
RAW_BLOCKS, ENCODED_BLOCKS = 3, 2

# What statistics need while they look at a task's frames, in the same units: at most a copy of them.
STATISTICS_SCRATCH_TASKS = 1

# Reading more at once makes nothing faster but extractors that search their place at each read.
MOST_BLOCK_BYTES = 24 * 2**20

# How often a wait looks whether the conversion was asked to stop.
STOP_POLL_SECONDS = 0.2


class Sink(Protocol):
    """Where encoded slabs go: a dataset of a file that has been allocated."""

    rows_per_task: int
    """How many rows of the first axis are encoded as one: a chunk's or a shard's."""

    scratch_tasks: int
    """How much memory encoding needs beside its input and its result, in units of its input."""

    result_tasks: int
    """How much its result holds until it is written, at most, in units of its input."""

    def encode(self, block: NDArray[Any], start: int) -> Any:
        """Encode one task's rows, of which the first is ``start``; called from several threads."""

    def write(self, encoded: Any) -> None:
        """Store what ``encode`` returned; called from one thread."""


@dataclass(frozen=True)
class FillPlan:
    """How much is read at once and by how many threads it is encoded."""

    block_rows: int
    threads: int
    read_ahead: bool


def plan_fill(
    *,
    row_bytes: int,
    rows_per_task: int,
    scratch_tasks: int,
    result_tasks: int,
    num_rows: int,
    most_rows: int,
    resources: Resources,
) -> FillPlan:
    """
    Choose block size and threads so that everything in flight fits the budget.

    A budget that is too small for all threads gets fewer; the least is one task at a time.

    :param row_bytes: Uncompressed bytes of one row of the first axis.
    :param rows_per_task: Rows of a chunk or shard.
    :param scratch_tasks: What an encoder needs beside its input and its result, in units of its input.
    :param result_tasks: What its result holds until it is written, in units of its input.
    :param num_rows: Rows of the whole array.
    :param most_rows: Rows that the user allows to be read at once.
    :raises MemoryBudgetError: If not even one task fits; says how much is needed.
    """
    rows_per_task = min(rows_per_task, num_rows)
    most_threads = min(resources.threads, -(-num_rows // rows_per_task))
    task_bytes = max(rows_per_task * row_bytes, 1)
    # Two blocks are being encoded at a time, so half as many tasks as threads keep all of them busy.
    wanted = max(-(-most_threads // 2), MOST_BLOCK_BYTES // task_bytes)
    allowed = max(1, min(most_rows, num_rows) // rows_per_task)
    for threads in range(most_threads, 0, -1):
        left = resources.budget_bytes // task_bytes - scratch_tasks * threads
        tasks = min(left // (RAW_BLOCKS + ENCODED_BLOCKS * result_tasks), wanted, allowed)
        if tasks >= 1:
            return FillPlan(tasks * rows_per_task, threads, read_ahead=True)
    serial_tasks = 1 + scratch_tasks + result_tasks
    if serial_tasks * task_bytes <= resources.budget_bytes:
        return FillPlan(rows_per_task, threads=1, read_ahead=False)
    raise MemoryBudgetError(
        f"{_shortage(resources)}: one chunk or shard holds {task_bytes / 2**20:.1f} MiB, and encoding it needs "
        f"{serial_tasks} times that ({serial_tasks * task_bytes / 2**20:.0f} MiB). Raise memory_limit or the "
        "worker's memory, let fewer conversions run at once, or give a smaller chunk_shape."
    )


def _shortage(resources: Resources) -> str:
    budget = f"The memory budget of {resources.budget_bytes / 2**20:.0f} MiB is too small"
    if resources.budget_bytes >= resources.wanted_bytes:
        return budget
    return (
        f"{budget}, which is what this worker has left of the {resources.wanted_bytes / 2**20:.0f} MiB that the "
        "conversion may use"
    )


def plan_source(
    source: BulkDataChunkIterator,
    *,
    rows_per_task: int,
    scratch_tasks: int,
    result_tasks: int,
    resources: Resources,
    most_rows: int | None = None,
) -> FillPlan:
    """
    Plan how a source is copied; see :func:`plan_fill`.

    :param most_rows: Most rows that are read at once; default: those of the source's buffer.
    :raises MemoryBudgetError: If the budget is too small.
    """
    return plan_fill(
        row_bytes=_row_bytes(source),
        rows_per_task=rows_per_task,
        scratch_tasks=scratch_tasks,
        result_tasks=result_tasks,
        num_rows=source.maxshape[0],
        most_rows=most_rows or source.buffer_shape[0],
        resources=resources,
    )


def _row_bytes(source: BulkDataChunkIterator) -> int:
    return math.prod(map(int, source.maxshape[1:])) * int(source.dtype.itemsize)


def fill(
    source: BulkDataChunkIterator,
    sink: Sink,
    resources: Resources,
    *,
    name: str,
    spans: Sequence[tuple[int, int]] | None = None,
    most_rows: int | None = None,
    statistics: FrameStatistics | None = None,
) -> None:
    """
    Copy an array from its source into an allocated dataset.

    :param source: The array.
    :param sink: The dataset.
    :param resources: Budget, threads and stop signal.
    :param name: The dataset's location, for the log.
    :param spans: Rows [start, stop) of the first axis to copy, each beginning where a task does (see
        :class:`Sink`) and ending where one does or at the end; ``None`` for all.
    :param most_rows: Most rows that are read at once; default: those of the source's buffer.
    :param statistics: Are taken of the frames as they pass, unless the budget is too small for that.
    :raises ConversionStoppedError: If asked to stop.
    :raises MemoryBudgetError: If the budget is too small.
    :raises SourceDataError: If the source cannot be read.
    """
    num_rows, row_bytes = source.maxshape[0], _row_bytes(source)
    plan, statistics = _plan(source, sink, resources, most_rows, statistics)
    log.debug("Filling %s: %s", name, plan)
    if spans is None:
        spans = [(0, num_rows)]
    progress = show_progress(source, name, sum(stop - start for start, stop in spans), row_bytes)
    reader, encoders = Workers(1, "ophys-read"), Workers(plan.threads, "ophys-encode")
    # NumPy gives up the interpreter's lock for each of its many calls: threads that take statistics at the same
    # time wait for each other, and those that encode, in one long call each, hardly do.
    watching = threading.Semaphore(max(1, plan.threads // 2))
    filling = _Fill(source, sink, plan, resources, reader, encoders, progress, statistics, watching)
    try:
        filling.run(_blocks(spans, plan.block_rows))
    except Exception as error:
        error.add_note(f"This happened while {name} was filled, after {filling.rows_written} of {num_rows} rows.")
        raise
    finally:
        # After an error, a stop or a timeout too: what has not begun must not begin.
        reader.close()
        encoders.close()
        progress.finish()


def _plan(
    source: BulkDataChunkIterator,
    sink: Sink,
    resources: Resources,
    most_rows: int | None,
    statistics: FrameStatistics | None,
) -> tuple[FillPlan, FrameStatistics | None]:
    """Plan within the budget, with statistics if there is room for them."""

    def plan(scratch_tasks: int, resources: Resources) -> FillPlan:
        return plan_source(
            source,
            rows_per_task=sink.rows_per_task,
            scratch_tasks=scratch_tasks,
            result_tasks=sink.result_tasks,
            most_rows=most_rows,
            resources=resources,
        )

    if statistics is not None:
        left = replace(resources, budget_bytes=resources.budget_bytes - statistics.num_bytes)
        try:
            return plan(sink.scratch_tasks + STATISTICS_SCRATCH_TASKS, left), statistics
        except MemoryBudgetError:
            log.info("The memory budget is too small to take statistics of frames while they are written.")
    return plan(sink.scratch_tasks, resources), None


def _blocks(spans: Sequence[tuple[int, int]], block_rows: int) -> Iterator[tuple[int, int]]:
    """Cut spans of rows into what is read at once."""
    for start, stop in spans:
        for at in range(start, stop, block_rows):
            yield at, min(at + block_rows, stop)


@dataclass
class _Fill:
    source: BulkDataChunkIterator
    sink: Sink
    plan: FillPlan
    resources: Resources
    reader: Workers
    encoders: Workers
    progress: Progress
    statistics: FrameStatistics | None
    watching: threading.Semaphore
    rows_written: int = 0

    def run(self, blocks: Iterator[tuple[int, int]]) -> None:
        encoding: list[Future[Any]] = []
        coming = self._read(next(blocks, None))
        while coming is not None:
            start, reading = coming
            block = self._await(reading)
            del reading
            if self.plan.read_ahead:
                coming = self._read(next(blocks, None))
            just_read = self._encode(block, start)
            del block
            self._write(encoding)
            encoding = just_read
            if not self.plan.read_ahead:
                self._write(encoding)
                coming = self._read(next(blocks, None))
        self._write(encoding)

    def _read(self, block: tuple[int, int] | None) -> tuple[int, Future[NDArray[Any]]] | None:
        if block is None:
            return None
        start, stop = block
        return start, self.reader.submit(self.source.read, start, stop)

    def _encode(self, block: NDArray[Any], start: int) -> list[Future[Any]]:
        def encode(rows: NDArray[Any], first: int) -> Any:
            self.resources.check_stop()
            if self.statistics is not None:
                with self.watching:
                    self.statistics.add(rows, first)
            return self.sink.encode(rows, first)

        step = self.sink.rows_per_task
        return [
            self.encoders.submit(encode, block[offset : offset + step], start + offset)
            for offset in range(0, block.shape[0], step)
        ]

    def _write(self, encoding: list[Future[Any]]) -> None:
        # Emptied as it goes: neither a result that is written nor its task may be held any longer.
        encoding.reverse()
        while encoding:
            encoded = self._await(encoding.pop())
            self.resources.check_stop()
            self.sink.write(encoded)
            self.rows_written = min(self.rows_written + self.sink.rows_per_task, self.source.maxshape[0])
            self.progress.advance(self.sink.rows_per_task)

    def _await[Result](self, future: Future[Result]) -> Result:
        """Wait for a result, but not for one that hangs when it is no longer wanted."""
        while True:
            try:
                return future.result(STOP_POLL_SECONDS)
            except TimeoutError:
                if future.done():  # a time-out of the task itself, or done this very moment
                    return future.result()
                self.resources.check_stop()
