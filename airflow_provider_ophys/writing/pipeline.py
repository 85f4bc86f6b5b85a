"""
Fill an allocated dataset: one reader, N encoders, one writer, never more in flight than the budget.

The calling thread hands out work and is the only one that writes, so h5py sees one thread; one more thread reads
ahead, so extractors see one thread too; what costs time, transposing and compressing, is done by N threads.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_ophys.exceptions import MemoryBudgetError
from airflow_provider_ophys.writing.sharing import Resources

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from airflow_provider_ophys.writing.iterator import BulkDataChunkIterator

log = logging.getLogger(__name__)

# In units of what one task reads: while a block is encoded, the one before it waits to be written and the one
# after it is being read; each task's result waits too.
RAW_BLOCKS, ENCODED_BLOCKS = 3, 2

# Reading more at once makes nothing faster but extractors that search their place at each read.
MOST_BLOCK_BYTES = 24 * 2**20
PROGRESS_SECONDS = 10.0


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
    task_bytes = max(rows_per_task * row_bytes, 1)
    # Two blocks are being encoded at a time, so half as many tasks as threads keep all of them busy.
    wanted = max(-(-resources.threads // 2), MOST_BLOCK_BYTES // task_bytes)
    allowed = max(1, min(most_rows, num_rows) // rows_per_task)
    for threads in range(resources.threads, 0, -1):
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


def fill(
    source: BulkDataChunkIterator,
    sink: Sink,
    resources: Resources,
    *,
    name: str,
    spans: Sequence[tuple[int, int]] | None = None,
) -> None:
    """
    Copy an array from its source into an allocated dataset.

    :param source: The array.
    :param sink: The dataset.
    :param resources: Budget, threads and stop signal.
    :param name: The dataset's location, for the log.
    :param spans: Rows [start, stop) of the first axis to copy, each beginning where a task does (see
        :class:`Sink`) and ending where one does or at the end; ``None`` for all.
    :raises ConversionStoppedError: If asked to stop.
    :raises MemoryBudgetError: If the budget is too small.
    :raises SourceDataError: If the source cannot be read.
    """
    num_rows = source.maxshape[0]
    row_bytes = source.dtype.itemsize
    for length in source.maxshape[1:]:
        row_bytes *= length
    plan = plan_fill(
        row_bytes=row_bytes,
        rows_per_task=sink.rows_per_task,
        scratch_tasks=sink.scratch_tasks,
        result_tasks=sink.result_tasks,
        num_rows=num_rows,
        most_rows=source.buffer_shape[0],
        resources=resources,
    )
    log.debug("Filling %s: %s", name, plan)
    if spans is None:
        spans = [(0, num_rows)]
    progress = _Progress(source, name, sum(stop - start for start, stop in spans), row_bytes)
    with (
        ThreadPoolExecutor(1, thread_name_prefix="ophys-read") as reader,
        ThreadPoolExecutor(plan.threads, thread_name_prefix="ophys-encode") as encoders,
    ):
        try:
            _Fill(source, sink, plan, resources, reader, encoders, progress).run(_blocks(spans, plan.block_rows))
        finally:
            # After an error, a stop or a timeout: what has not begun must not begin.
            reader.shutdown(wait=False, cancel_futures=True)
            encoders.shutdown(wait=False, cancel_futures=True)
    progress.finish()


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
    reader: ThreadPoolExecutor
    encoders: ThreadPoolExecutor
    progress: _Progress

    def run(self, blocks: Iterator[tuple[int, int]]) -> None:
        encoding: list[Future[Any]] = []
        coming = self._read(next(blocks, None))
        while coming is not None:
            start, reading = coming
            block = reading.result()
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
            encoded = encoding.pop().result()
            self.resources.check_stop()
            self.sink.write(encoded)
            self.progress.advance(self.sink.rows_per_task)


class _Progress:
    """A line in the log every ten seconds, and the iterator's own progress bar when it has one."""

    def __init__(self, source: BulkDataChunkIterator, name: str, num_rows: int, row_bytes: int) -> None:
        self._bar = source.progress_bar if source.display_progress else None
        self._rows_per_bar_step = source.buffer_shape[0]
        self._bar_steps = 0
        self._name = name
        self._num_rows = num_rows
        self._row_bytes = row_bytes
        self._done = 0
        self._started = self._last = time.monotonic()

    def advance(self, rows: int) -> None:
        self._done = min(self._done + rows, self._num_rows)
        if self._bar is not None:
            steps = -(-self._done // self._rows_per_bar_step)
            self._bar.update(n=steps - self._bar_steps)
            self._bar_steps = steps
        now = time.monotonic()
        if now - self._last >= PROGRESS_SECONDS:
            self._last = now
            speed = self._done / (now - self._started)
            log.info(
                "%s: %.0f %%, %.0f MB/s, %.0f s left",
                self._name,
                100 * self._done / self._num_rows,
                speed * self._row_bytes / 1e6,
                (self._num_rows - self._done) / speed,
            )

    def finish(self) -> None:
        if self._bar is not None:
            self._bar.close()
