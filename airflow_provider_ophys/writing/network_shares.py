"""What network file systems do otherwise than local ones: they remember names, and keep what somebody has open."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

# What is left of a removed folder as long as somebody has files in it open.
REMOVED_PREFIX = ".ophys-removed-"
REMOVED = re.compile(re.escape(REMOVED_PREFIX) + "[0-9a-f]{8}")
STILL_OPEN = frozenset({errno.EBUSY, errno.ENOTEMPTY, errno.EEXIST})


def read_small(file: Path, most_bytes: int = -1) -> bytes:
    """
    Read a small file of an output.

    :param most_bytes: As much of its beginning; all of it by default.
    :raises BlockingIOError: If a share answers "try again", which Python's own files take for the end of a file.
    """
    with file.open("rb", buffering=0) as stream:
        content = stream.read(most_bytes)
    if content is None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), str(file))
    return content


def look_again(folder: Path) -> None:
    """
    Have the next look at a name in a folder be one at what is there now.

    NFS tells what it remembers, for up to a minute after another machine has changed it: of names that are there,
    and of names that are not. It asks the server when a folder is opened.
    """
    with suppress(OSError):
        os.close(os.open(folder, os.O_RDONLY | os.O_DIRECTORY))


def stat_now(path: Path) -> os.stat_result:
    """
    Return what a file or folder is now, by its server's word if it may be opened.

    :raises FileNotFoundError: If it is not there.
    """
    look_again(path.parent)
    found = path.stat()
    if stat.S_ISREG(found.st_mode):
        with suppress(PermissionError):
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            try:
                return os.fstat(descriptor)
            finally:
                os.close(descriptor)
    return found


def remove(path: Path) -> None:
    """
    Remove a file or folder, if it is there.

    NFS keeps a file that a process of this machine has open, under another name (``.nfs...``), and so the folder
    that it is in. Such a folder gets out of the way, with these files only; :func:`sweep` removes it later.
    """
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    kept = []

    def note(_: Callable[..., Any], __: str, error: BaseException) -> None:
        if isinstance(error, OSError) and error.errno in STILL_OPEN:
            kept.append(error)
        elif isinstance(error, OSError) and error.errno == errno.EBADF and error.__context__ is not None:
            # A time limit that ends just as rmtree has closed a folder has it close that once more.
            raise error.__context__
        elif not isinstance(error, FileNotFoundError):
            raise error

    shutil.rmtree(path, onexc=note)
    if kept and os.path.lexists(path):
        path.rename(path.with_name(f"{REMOVED_PREFIX}{secrets.token_hex(4)}"))


def sweep(folder: Path) -> None:
    """Remove what :func:`remove` had to leave in a folder, if nobody has it open any more."""
    for left in folder.glob(f"{REMOVED_PREFIX}*"):
        if REMOVED.fullmatch(left.name):
            shutil.rmtree(left, ignore_errors=True)
