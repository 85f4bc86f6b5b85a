"""What HDF5 could not write when an object was closed, which h5py has no way to raise."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Of each thread that writes an HDF5 file now, what failed so far.
_failed: dict[int, list[BaseException]] = {}
_lock = threading.Lock()
_hook_before: Any = None


@contextmanager
def raising_failed_closings() -> Iterator[None]:
    """
    Raise what failed while h5py's objects of this thread went, when the block has ended well.

    HDF5 writes small datasets and attributes late, when their object is closed. h5py closes an object when Python
    deletes it, where nothing can be raised: Python hands the error to ``sys.unraisablehook``, which prints it, and
    the file lacks what could not be written. h5py objects are to be deleted before the block ends.

    :raises RuntimeError: What h5py said first, with HDF5's text and the system's number in it.
    """
    thread = threading.get_ident()
    failed: list[BaseException] = []
    with _lock:
        outer = _failed.get(thread)
        _failed[thread] = failed
        _listen()
    try:
        yield
    finally:
        with _lock:
            del _failed[thread]
            if outer is not None:
                _failed[thread] = outer
            if not _failed:
                _stop_listening()
    if failed:
        raise failed[0]


def _listen() -> None:
    global _hook_before  # noqa: PLW0603 - the hook is one for the process
    if sys.unraisablehook is not _hear:
        _hook_before = sys.unraisablehook
        sys.unraisablehook = _hear


def _stop_listening() -> None:
    if sys.unraisablehook is _hear:
        sys.unraisablehook = _hook_before


def _hear(unraisable: sys.UnraisableHookArgs) -> None:
    failed = _failed.get(threading.get_ident())
    if failed is None or unraisable.exc_value is None or not str(unraisable.object).startswith("h5py."):
        _hook_before(unraisable)
        return
    # Its frames would keep what they refer to, open files among them.
    failed.append(unraisable.exc_value.with_traceback(None))
