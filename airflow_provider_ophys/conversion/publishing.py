"""
An output appears at its path whole or not at all.

It is written to a hidden neighbour, ``.<stem>.part<suffix>``, and moved to its path when it is complete: an
atomic rename within one file system. A lock file beside it keeps two writers of the same output apart, on one
machine and on network file systems that pass locks on, and makes what a killed writer left safe to remove.

What several tasks write together cannot be held by one process's lock: it is in ``.<stem>.part-<plan><suffix>``,
a name of the plan's own, so that no two plans ever write into the same part; while it is there, it is the plan's
claim to the output, and everybody else is refused.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import glob
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from airflow_provider_ophys.conversion.replacing import Kept, check_replaceable
from airflow_provider_ophys.exceptions import (
    DiskSpaceError,
    OphysError,
    OutputBusyError,
    OutputExistsError,
    OutputFolderError,
    OutputWriteError,
    causes,
)
from airflow_provider_ophys.nwb.existing import GROUP_DOCUMENTS

# linux/fs.h and fcntl.h; Python has no wrapper of renameat2.
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
AT_FDCWD = -100

SYNC_THREADS = 16


def check_output_folder(path: Path) -> None:
    """
    Check that an output can be made at a path.

    :raises OutputFolderError: If its folder does not exist, is no folder, or may not be written to.
    """
    if path.is_symlink() and not path.exists():
        raise OutputFolderError(
            f"{path} is a link to {path.readlink()}, which is not there. Remove or correct it."
        )
    folder = followed(path).parent
    if not folder.is_dir():
        raise OutputFolderError(f"The output folder {folder} does not exist. Create it, or correct nwbfile_path.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputFolderError(f"The output folder {folder} is not writable for this worker. Check its owner.")


def followed(path: Path) -> Path:
    """Return where an output really is: what a link leads to is replaced, and the link stays."""
    return path.resolve() if path.is_symlink() else path


def part_of(path: Path, plan: str | None = None) -> Path:
    """
    Return where an output is written until it is complete.

    :param path: Where the output goes: a file or a folder.
    :param plan: Name of the plan that several tasks follow; ``None`` for a part that one process writes.
    """
    path = followed(path)
    # With the same suffix: pynwb tells HDF5 from other files by it.
    return path.with_name(f".{path.stem}.part{'' if plan is None else f'-{plan}'}{path.suffix}")


@contextmanager
def sole_writer(path: Path, claim: Path | None = None) -> Iterator[None]:
    """
    Keep all others from writing an output at the same time.

    :param path: Where the output goes.
    :param claim: The part of the plan on whose behalf this is, if any.
    :raises OutputBusyError: If another process is writing the same output, or another plan has a claim to it.
    """
    path = followed(path)
    with _locked(path):
        pattern = f".{glob.escape(path.stem)}.part-*{glob.escape(path.suffix)}"
        for other in path.parent.glob(pattern):
            if other != claim:
                raise OutputBusyError(
                    f"{path} is being written by the tasks of another plan, in {other}. Let them finish or run "
                    "them again; or delete that folder, which gives up what they have done so far."
                )
        yield


@contextmanager
def building(part: Path) -> Iterator[None]:
    """Remove what a killed writer left of a part, and afterwards what is left of it when it was not moved away."""
    remove(part)
    try:
        yield
    finally:
        remove(part)


@contextmanager
def naming_write_errors(path: Path) -> Iterator[None]:
    """
    Turn what the output's disk says into an error that names the output.

    :raises DiskSpaceError: If the disk, or the quota, is full.
    :raises OutputWriteError: For every other ``OSError``.
    """
    try:
        yield
    except OphysError:
        raise
    except Exception as error:
        if any(map(_says_full, causes(error))):
            raise DiskSpaceError(
                f"The disk of {path.parent} became full while {path.name} was written. What was there before "
                "is still there. Free some space, or write elsewhere."
            ) from error
        if not isinstance(error, OSError):
            raise
        raise OutputWriteError(
            f"{path} could not be written: {error}. What was at the path before is still there. Check the disk or "
            "network share of its folder."
        ) from error


def _says_full(error: BaseException) -> bool:
    # HDF5 hands on what the system said as a part of its message.
    return (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)) or any(
        text in str(error) for text in ("No space left on device", "Disk quota exceeded")
    )


@contextmanager
def publishing(path: Path, *, replace: bool, kept: Kept | None = None) -> Iterator[Path]:
    """
    Hand out the path of a part to write, and move the part to ``path`` when the block ends well.

    After an error nothing is left of the part, and what was at ``path`` is still there.

    :param path: Where the output goes: a file or a folder. Of a link, what it leads to is replaced.
    :param replace: Whether what is at ``path`` now may be replaced.
    :param kept: What must not be replaced.
    :raises OutputBusyError: If another process or plan is writing the same output.
    :raises OutputExistsError: If ``path`` exists and must not be replaced, or has changed meanwhile.
    """
    part = part_of(path)
    with sole_writer(path), building(part):
        expected = state_of(path) if replace else None
        yield part
        sync(part)
        move(part, path, expected, kept)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = path.with_name(f".{path.name}.lock")
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise OutputBusyError(
                f"Another task is writing {path} at this moment. Try again when it is done; if both are meant to "
                "run, give them different outputs."
            ) from error
        # The writer before us may have removed the file between our open and our lock.
        if _is_same_file(lock, descriptor):
            break
        os.close(descriptor)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(descriptor)


def _is_same_file(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def state_of(path: Path) -> str | None:
    """
    Return what tells whether an output is still the same, also after it was renamed; ``None`` if there is none.

    Of a file its size and time, of a store the documents in its folder, of which each that we write is another.
    """
    try:
        found = path.stat()
        if not stat.S_ISDIR(found.st_mode):
            return f"{found.st_size} bytes, {found.st_mtime_ns}"
        documents = [path / name for name in sorted(GROUP_DOCUMENTS) if (path / name).is_file()]
        names = sorted(os.fsencode(entry.name) for entry in path.iterdir())
        content = b"\n".join([*names, *map(Path.read_bytes, documents)])
        return hashlib.sha256(content).hexdigest()
    except FileNotFoundError:
        return None


def move(part: Path, path: Path, expected: str | None, kept: Kept | None = None) -> None:
    """
    Move a part, which is complete and on the disk, to its path; what it replaces is then where the part was.

    :param expected: State of what is to be replaced, from :func:`state_of`; ``None`` if nothing is.
    :param kept: What must not be replaced.
    :raises OutputExistsError: If something else is at ``path`` by now, which is then still there.
    """
    path = followed(path)
    if expected is None:
        _move_to_nothing(part, path)
    else:
        check_replaceable(path, kept or Kept())
        if state_of(path) != expected:
            raise _appeared(path)
        _exchange(part, path, expected)
    _sync_folder(path.parent)


def _appeared(path: Path) -> OutputExistsError:
    return OutputExistsError(
        f"{path} appeared or changed while this conversion was writing; it was left as it is. Run the task again "
        "if that was meant, or write elsewhere."
    )


def _move_to_nothing(part: Path, path: Path) -> None:
    """Rename, unless there is something by now."""
    if _rename(part, path, RENAME_NOREPLACE):
        return
    # A file system that cannot do both at once.
    if os.path.lexists(path):
        raise _appeared(path)
    part.rename(path)


def _exchange(part: Path, path: Path, expected: str) -> None:
    """Swap the two: a rename replaces neither a folder that is not empty nor a file by a folder."""
    if _rename(part, path, RENAME_EXCHANGE):
        if state_of(part) != expected:
            _rename(part, path, RENAME_EXCHANGE)
            raise _appeared(path)
        return
    if part.is_file() and path.is_file():
        part.replace(path)
        return
    # A file system that cannot swap (some network shares): for a moment there is nothing at the path.
    aside = path.with_name(f".{path.name}.old")
    remove(aside)
    path.rename(aside)
    part.rename(path)
    remove(aside)


def _rename(part: Path, path: Path, how: int) -> bool:
    """
    Rename in a way that Python has no function for.

    :returns: Whether the file system can do that; if not, nothing was done.
    :raises OutputExistsError: If there is something at ``path`` that must not be replaced.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(AT_FDCWD, os.fsencode(part), AT_FDCWD, os.fsencode(path), how) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    if code == errno.EEXIST:
        raise _appeared(path)
    raise OSError(code, os.strerror(code), str(path))


def remove(path: Path) -> None:
    """Remove a file or folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync(part: Path) -> None:
    """Have the content on the disk before the name: after a power failure the name must not show an empty file."""
    if part.is_file():
        _sync_file(part)
        return
    tree = [(folder, [folder / file for file in files]) for folder, _, files in part.walk()]
    # Together they wait for the disk once or twice; one after the other, each of them does.
    with ThreadPoolExecutor(SYNC_THREADS, thread_name_prefix="ophys-sync") as pool:
        list(pool.map(_sync_file, (file for _, files in tree for file in files)))
        list(pool.map(_sync_folder, (folder for folder, _ in tree)))


def _sync_file(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems cannot
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
