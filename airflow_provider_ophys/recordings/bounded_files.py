"""
Files read whole, or up to a place: all that they have, and no more than a header takes.

Of a file that a share fails to give, ``read`` may return less without a word, which looks like a file that was cut
off, and perhaps like one that says something else.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from airflow_provider_ophys.exceptions import SourceDataError, unreadable
from airflow_provider_ophys.recordings.recording import require_regular


def read_bounded(file: Path, most_bytes: int) -> bytes:
    """
    Read a file whole.

    :param most_bytes: That a file of this kind has.
    :raises SourceNotFoundError: If it does not exist.
    :raises SourceDataError: If it is no regular file, or larger.
    :raises SourceAccessError: If its disk or share fails.
    """
    num_bytes = require_regular(file).st_size
    if num_bytes > most_bytes:
        raise SourceDataError(
            f"{file} has {num_bytes:,} bytes; a header has {most_bytes:,} at most. Check what it is, and remove "
            "it if it is no part of the recording."
        )
    return read_part(file, 0, num_bytes)


def read_part(file: Path, start: int, num_bytes: int) -> bytes:
    """
    Read a part of a file, as far as the file has it.

    :raises SourceNotFoundError: If it does not exist.
    :raises SourceDataError: If it is no regular file, or may not be read.
    :raises SourceAccessError: If its disk or share fails.
    """
    require_regular(file)
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            left = os.fstat(descriptor).st_size - start
            return read_at(descriptor, start, max(0, min(num_bytes, left)))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise unreadable(f"{file} cannot be read: {error}. Check its permissions.", error) from error


def read_at(descriptor: int, offset: int, num_bytes: int) -> bytes:
    """
    Read bytes that a file has, by its size.

    :param descriptor: Of the open file.
    :raises OSError: If they cannot be read, or do not come.
    """
    pieces, count = [], 0
    while count < num_bytes:
        piece = os.pread(descriptor, num_bytes - count, offset + count)
        if not piece:
            raise OSError(errno.EIO, f"nothing comes at byte {offset + count:,}, which it has by its size")
        pieces.append(piece)
        count += len(piece)
    return b"".join(pieces)
