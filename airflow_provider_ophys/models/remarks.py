"""What a user may want to know of a file that was written, though it is no error: for the log and the result."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

log = logging.getLogger(__name__)

_gathered: ContextVar[list[str] | None] = ContextVar("gathered", default=None)


def remark(text: str) -> None:
    """
    Say something of the file that is being written.

    It goes to the log and, within :func:`gathering_remarks`, to those who asked; there only once, as what is
    written is looked at before it is written.
    """
    gathered = _gathered.get()
    if gathered is None:
        log.warning("%s", text)
    elif text not in gathered:
        gathered.append(text)
        log.warning("%s", text)


@contextmanager
def gathering_remarks() -> Iterator[list[str]]:
    """Yield a list of what is remarked upon until the end."""
    gathered: list[str] = []
    token = _gathered.set(gathered)
    try:
        yield gathered
    finally:
        _gathered.reset(token)
