"""How far a conversion is: lines in a task's log, a live bar in a terminal, or the user's own bar."""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from airflow_provider_ophys.writing.iterator import BulkDataChunkIterator

log = logging.getLogger(__name__)

LINE_SECONDS = 10.0

# A bar for what is done in a moment would only flicker.
BAR_DELAY_SECONDS = 1.0


class Progress(Protocol):
    """Told of the rows that were written."""

    def advance(self, rows: int) -> None:
        """Count rows that have been written."""

    def finish(self) -> None:
        """End the display."""


def show_progress(source: BulkDataChunkIterator, name: str, num_rows: int, row_bytes: int) -> Progress:
    """
    Choose how progress is shown.

    The source's own bar if it has one; nothing if it is quiet; a bar in a terminal; otherwise lines in the log.

    :param name: What is filled, for people.
    :param num_rows: How many rows will be written.
    :param row_bytes: Uncompressed bytes of a row.
    """
    # A bar that is disabled, as tqdm disables itself where there is no terminal, shows nothing.
    if source.display_progress and not getattr(source.progress_bar, "disable", False):
        return _OwnBar(source.progress_bar, source.buffer_shape[0], num_rows)
    if source.quiet:
        return _Nothing()
    if sys.stderr.isatty():
        return _Bar(name, num_rows * row_bytes, row_bytes)
    return _Lines(name, num_rows, row_bytes)


class _Nothing:
    def advance(self, rows: int) -> None:
        """Show nothing."""

    def finish(self) -> None:
        """End nothing."""


class _OwnBar:
    """The bar of an iterator, which counts buffers, as hdmf makes it."""

    def __init__(self, bar: Any, rows_per_step: int, num_rows: int) -> None:
        self._bar = bar
        self._rows_per_step = rows_per_step
        self._num_rows = num_rows
        self._done = self._steps = 0

    def advance(self, rows: int) -> None:
        self._done = min(self._done + rows, self._num_rows)
        steps = -(-self._done // self._rows_per_step)
        if steps > self._steps:
            self._bar.update(n=steps - self._steps)
            self._steps = steps

    def finish(self) -> None:
        self._bar.close()


class _Bar:
    def __init__(self, name: str, num_bytes: int, row_bytes: int) -> None:
        from tqdm import tqdm

        self._bar = tqdm(
            total=num_bytes, desc=name, unit="B", unit_scale=True, dynamic_ncols=True, delay=BAR_DELAY_SECONDS
        )
        self._row_bytes = row_bytes

    def advance(self, rows: int) -> None:
        self._bar.update(min(rows * self._row_bytes, self._bar.total - self._bar.n))

    def finish(self) -> None:
        self._bar.close()


class _Lines:
    def __init__(self, name: str, num_rows: int, row_bytes: int) -> None:
        self._name = name
        self._num_rows = num_rows
        self._row_bytes = row_bytes
        self._done = 0
        self._started = self._last = time.monotonic()

    def advance(self, rows: int) -> None:
        self._done = min(self._done + rows, self._num_rows)
        now = time.monotonic()
        if now - self._last < LINE_SECONDS:
            return
        self._last = now
        rows_per_second = self._done / (now - self._started)
        log.info(
            "%s: %.0f %%, %.0f MB/s, %.0f s left",
            self._name,
            100 * self._done / self._num_rows,
            rows_per_second * self._row_bytes / 1e6,
            (self._num_rows - self._done) / rows_per_second,
        )

    def finish(self) -> None:
        """Say no more: the task tells what it has written."""
