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

import glob
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from airflow_provider_ophys.conversion.replacing import Kept, check_replaceable
from airflow_provider_ophys.exceptions import (
    FULL_ERRNOS,
    LASTING_ERRNOS,
    PASSING_ERRNOS,
    DiskSpaceError,
    OphysError,
    OutputBusyError,
    OutputFolderError,
    OutputWriteError,
    causes,
    system_errors,
)
from airflow_provider_ophys.writing import replacement
from airflow_provider_ophys.writing.network_shares import remove, sweep
from airflow_provider_ophys.writing.output_lock import HeldLock, output_lock, owner_of
from airflow_provider_ophys.writing.ownership import keep_ownership
from airflow_provider_ophys.writing.replacement import (
    appeared,
    followed,
    move_to_nothing,
    settle,
    settle_locked,
    state_of,
    sync_folder,
)

log = logging.getLogger(__name__)

SYNC_THREADS = 16

# In place of the state of an output: it does not matter.
ANYTHING = "anything"


def check_output_folder(path: Path) -> None:
    """
    Check that an output can be made at a path; a replacement of it that was interrupted is finished before.

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
    settle(path)


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
def sole_writer(path: Path, claim: Path | None = None, *, lock: bool = True) -> Iterator[HeldLock]:
    """
    Keep all others from writing an output at the same time; what a killed writer left is finished or removed.

    :param path: Where the output goes.
    :param claim: The part of the plan on whose behalf this is, if any.
    :param lock: See :func:`output_lock`.
    :raises OutputBusyError: If another process is writing the same output, or another plan has a claim to it.
    :raises OutputFolderError: If what another left is in the way and may not be removed.
    """
    path = followed(path)
    with output_lock(path, lock=lock) as held:
        held.stays = held.is_left
        settle_locked(path)
        _clear(part_of(path), is_left=held.is_left)
        sweep(path.parent)
        held.stays = False
        pattern = f".{glob.escape(path.stem)}.part-*{glob.escape(path.suffix)}"
        for other in path.parent.glob(pattern):
            if other != claim:
                raise OutputBusyError(
                    f"{path} is being written by the tasks of another plan, in {other}. Let them finish or run "
                    "them again; or delete that folder, which gives up what they have done so far."
                )
        yield held


def _clear(part: Path, *, is_left: bool) -> None:
    """Remove the part that a killed writer left; its lock file is then there too, or the part is not ours."""
    if not os.path.lexists(part):
        return
    if not is_left:
        raise OutputFolderError(
            f"{part} is in the way: the output is written there until it is complete, and this was not left by a "
            "killed task, for there is no lock file beside it. Move it away, or delete it."
        )
    try:
        remove(part)
    except PermissionError as error:
        raise OutputFolderError(
            f"{part} was left by a killed task of {owner_of(part)}, and this worker's user may not remove it. "
            "Have them delete it; run the workers that share a folder as one user."
        ) from error


@contextmanager
def building(part: Path, held: HeldLock) -> Iterator[None]:
    """
    Remove afterwards what is where a part was: the part, if it was not moved away, or what it replaced.

    What cannot be removed is left to the next writer: it makes no failure of an output that was published, and
    hides no other. So is what a time limit, which may end at any moment, leaves of a removal.

    :param held: Lock of the output.
    """
    held.stays = True
    try:
        yield
    finally:
        try:
            # Nothing is asked of a disk, that may fail, after an output was published.
            if os.path.lexists(part):
                remove(part)
            held.stays = False
        except OSError:
            log.warning(
                "%s is of no more use and could not be removed; the next writer of the output does.",
                part,
                exc_info=True,
            )


def check_still(path: Path, found: str | None) -> None:
    """
    Check that what was decided about an output still holds: that no other task has published there meanwhile.

    :param found: State of what was there when it was decided.
    :raises OutputBusyError: If not. Another try decides anew: it finds the work done, or says what is in the way.
    """
    if found not in (ANYTHING, state_of(path)):
        raise OutputBusyError(
            f"Another task has written {path} while this one was preparing to. Try again: if it was the same "
            "conversion, there is nothing left to do."
        )


@contextmanager
def naming_write_errors(path: Path, *, published: bool = False) -> Iterator[None]:
    """
    Turn what the output's disk says into an error that names the output.

    What a library says of a file that it could not write is often no ``OSError``; the number in its text tells.

    :param published: Whether the output is at its path, and only looked at.
    :raises DiskSpaceError: If the disk, or the quota, is full.
    :raises OutputFolderError: If a right, a name or a mount has to be changed.
    :raises OutputWriteError: For every other error of the system.
    """
    try:
        yield
    except OphysError:
        raise
    except Exception as error:
        numbers = set(system_errors(error))
        if numbers & FULL_ERRNOS or any(map(_says_full, causes(error))):
            raise DiskSpaceError(
                f"The disk of {path.parent} became full while {path.name} was written. What was there before "
                "is still there. Free some space, or write elsewhere."
            ) from error
        if not numbers and not isinstance(error, OSError):
            raise
        what = "was written, but could not be looked at" if published else "could not be written"
        state = (
            "It is whole, and another try finds it done."
            if published
            else "What was at the path before is still there."
        )
        if numbers & LASTING_ERRNOS and not numbers & PASSING_ERRNOS:
            raise OutputFolderError(
                f"{path} {what}: {error}. {state} Change the rights, the owner or the mount of {path.parent}, or "
                "write elsewhere."
            ) from error
        raise OutputWriteError(
            f"{path} {what}: {error}. {state} Check the disk or network share of its folder."
        ) from error


def _says_full(error: BaseException) -> bool:
    # HDF5 hands on what the system said as a part of its message.
    return any(text in str(error) for text in ("No space left on device", "Disk quota exceeded"))


@contextmanager
def publishing(
    path: Path, *, replace: bool, found: str | None = ANYTHING, kept: Kept | None = None, lock: bool = True
) -> Iterator[Path]:
    """
    Hand out the path of a part to write, and move the part to ``path`` when the block ends well.

    After an error nothing is left of the part, and what was at ``path`` is still there.

    :param path: Where the output goes: a file or a folder. Of a link, what it leads to is replaced.
    :param replace: Whether what is at ``path`` now may be replaced.
    :param found: State of what was at ``path`` when that was decided; default: whatever is there.
    :param kept: What must not be replaced.
    :param lock: See :func:`output_lock`.
    :raises OutputBusyError: If another process or plan is writing the same output, or has done so meanwhile.
    :raises OutputExistsError: If ``path`` exists and must not be replaced, or has changed meanwhile.
    """
    part = part_of(path)
    with sole_writer(path, lock=lock) as held, building(part, held):
        check_still(path, found)
        expected = state_of(path) if replace else None
        yield part
        sync(part)
        move(part, path, expected, kept)


def move(part: Path, path: Path, expected: str | None, kept: Kept | None = None) -> None:
    """
    Move a part, which is complete and on the disk, to its path; what it replaces is then where the part was.

    :param expected: State of what is to be replaced, from :func:`state_of`; ``None`` if nothing is.
    :param kept: What must not be replaced.
    :raises OutputExistsError: If something else is at ``path`` by now, which is then still there.
    """
    path = followed(path)
    if expected is None:
        move_to_nothing(part, path)
        return
    check_replaceable(path, kept or Kept())
    if state_of(path) != expected:
        raise appeared(path)
    keep_ownership(path, part)
    replacement.replace(part, path, expected)


def sync(part: Path) -> None:
    """Have the content on the disk before the name: after a power failure the name must not show an empty file."""
    if part.is_file():
        _sync_file(part)
        return
    tree = [(folder, [folder / file for file in files]) for folder, _, files in part.walk()]
    # Together they wait for the disk once or twice; one after the other, each of them does.
    with ThreadPoolExecutor(SYNC_THREADS, thread_name_prefix="ophys-sync") as pool:
        list(pool.map(_sync_file, (file for _, files in tree for file in files)))
        list(pool.map(sync_folder, (folder for folder, _ in tree)))


def _sync_file(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
