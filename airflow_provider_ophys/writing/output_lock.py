"""One writer of an output at a time, on one machine and on network file systems that pass locks on."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from airflow_provider_ophys.exceptions import OutputBusyError, OutputFolderError
from airflow_provider_ophys.writing.network_shares import look_again

log = logging.getLogger(__name__)

# What a file system says that has no locks.
NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})


@dataclass
class HeldLock:
    """
    The lock of an output, for as long as it is held.

    :param is_left: Whether a writer that was killed left its lock file.
    :param stays: Set it to leave the lock file, as a killed writer would: what else is left may then be removed.
    """

    is_left: bool
    stays: bool = False


@contextmanager
def output_lock(path: Path, *, lock: bool = True) -> Iterator[HeldLock]:
    """
    Keep all other writers from an output; the kernel lets go of the lock when the process ends, however it ends.

    :param path: Where the output goes; no link.
    :param lock: Whether to ask the file system for a lock; without, it is up to the user that nobody else writes.
    :raises OutputBusyError: If another process is writing the output.
    :raises OutputFolderError: If the file system has no locks, or the lock file is another user's.
    """
    file = path.with_name(f".{path.name}.lock")
    while True:
        descriptor, found = _open(file, path)
        try:
            if lock:
                _lock(descriptor, path)
        except OSError as error:
            os.close(descriptor)
            if not found and not isinstance(error, OutputBusyError):
                file.unlink(missing_ok=True)
            raise
        # The writer before us may have removed the file between our open and our lock.
        if _is_same_file(file, descriptor):
            break
        os.close(descriptor)
    held = HeldLock(is_left=found)
    try:
        yield held
    finally:
        # One that stays is as one that a killed writer left: no reason to call what was written a failure.
        try:
            if not held.stays:
                file.unlink(missing_ok=True)
        except OSError:
            log.warning("The lock %s could not be removed; the next writer does.", file, exc_info=True)
        os.close(descriptor)


def _open(file: Path, path: Path) -> tuple[int, bool]:
    """Open or create the lock file; tell whether it was there."""
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        pass
    else:
        # Whoever else may write here shall be able to lock it, whatever this user's umask is.
        with suppress(OSError):
            os.fchmod(descriptor, 0o666)
        return descriptor, False
    for flags in (os.O_RDWR, os.O_RDONLY):
        try:
            return os.open(file, flags | os.O_NONBLOCK | os.O_NOFOLLOW), True
        except FileNotFoundError:
            return _open(file, path)
        except PermissionError as error:
            if flags == os.O_RDONLY:
                raise _of_another(file, path) from error
    raise AssertionError  # one of the two has returned or raised


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # CIFS says EACCES of what another holds.
        if error.errno in (errno.EAGAIN, errno.EACCES):
            raise _busy(path) from error
        if error.errno == errno.EBADF:
            raise _of_another(path.with_name(f".{path.name}.lock"), path) from error
        if error.errno in NO_LOCKS:
            raise OutputFolderError(
                f"The file system of {path.parent} has no locks ({os.strerror(error.errno)}), which keep two "
                "tasks from writing one output. Mount it with locks (NFS: without 'nolock'; FUSE: with its option "
                "for flock), or set [ophys] lock = none and see to it that no two tasks write to one path."
            ) from error
        raise


def _busy(path: Path) -> OutputBusyError:
    return OutputBusyError(
        f"Another task is writing {path} at this moment. Try again when it is done; if both are meant to "
        "run, give them different outputs."
    )


def _of_another(file: Path, path: Path) -> OutputFolderError:
    return OutputFolderError(
        f"{file}, the lock of {path}, belongs to {owner_of(file)} and may not be opened by this worker's user. If "
        "nobody is writing that output, have them delete it; run the workers that share a folder as one user."
    )


def owner_of(path: Path) -> str:
    """Name the user to whom a file belongs, for a message."""
    try:
        number = path.lstat().st_uid
    except OSError:
        return "another user"
    try:
        return f"the user {pwd.getpwuid(number).pw_name!r}"
    except KeyError:
        return f"the user with the number {number}"


def _is_same_file(path: Path, descriptor: int) -> bool:
    look_again(path.parent)
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
        # NFS says so of an open file that another machine has removed.
        return False
