"""Have the disk at work while the CPU encodes, instead of after it."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

INTERVAL_SECONDS = 0.25
CLOSE_SECONDS = 1.0


class WriteBack:
    """
    Brings what has been written to a file to the disk, all the time; a context manager.

    The kernel would begin when it likes, often only when the file is complete and one waits for it; meanwhile what
    is not yet on the disk counts as memory of this process's cgroup.

    :param file: Exists.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._finished = threading.Event()
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._run, name="ophys-write-back", daemon=True)

    def __enter__(self) -> Self:
        self._descriptor = os.open(self._file, os.O_RDONLY)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._finished.set()
        # After an error a disk that hangs must not be waited for.
        self._thread.join(None if error is None else CLOSE_SECONDS)
        # The kernel tells of a failed write once, so it may be this thread that knows.
        if error is None and self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._finished.wait(INTERVAL_SECONDS):
                os.fdatasync(self._descriptor)
        except OSError as error:
            self._error = error
        finally:
            os.close(self._descriptor)
