"""
A finished output takes the place of the old one; a kill at any moment loses neither.

Where the file system can exchange two names, that is one step. Where it cannot (NFS, some FUSE file systems), a
store is replaced in two: the old one is moved aside, then the new one to the path. What is about to be done is
written down beside the path before, in ``.<name>.journal``, and whoever looks at the path next finishes it or
takes it back: :func:`settle`. The old one is removed only when the new one is known to be there.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import logging
import os
import stat
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from airflow_provider_ophys.exceptions import OutputBusyError, OutputExistsError, OutputFolderError, system_errors
from airflow_provider_ophys.writing.network_shares import look_again, read_small, remove, stat_now
from airflow_provider_ophys.writing.output_lock import NO_LOCKS, output_lock

log = logging.getLogger(__name__)

# linux/fs.h and fcntl.h; Python has no wrapper of renameat2.
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
AT_FDCWD = -100
CANNOT = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP})

# Of the root of a Zarr store, in format 2 and 3.
ROOT_DOCUMENTS = frozenset({"zarr.json", ".zgroup", ".zattrs", ".zmetadata"})

# How long a replacement takes that nobody interrupts: two renames, and the removal of what was replaced.
PATIENCE_SECONDS, LOOK_SECONDS = 10.0, 0.05
# Where no lock tells whether it is interrupted.
UNLOCKED_SECONDS = 3.0


def followed(path: Path) -> Path:
    """Return where an output really is: what a link leads to is replaced, and the link stays."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def state_of(path: Path) -> str | None:
    """
    Return what tells whether an output is still the same, also after it was renamed; ``None`` if there is none.

    Of a file its size and time, of a store the documents in its folder, of which each that we write is another.
    """
    try:
        found = stat_now(path)
        if not stat.S_ISDIR(found.st_mode):
            return f"{found.st_size} bytes, {found.st_mtime_ns}"
        # NFS adds a name for each file that was removed and is still open.
        names = sorted(os.fsencode(entry.name) for entry in path.iterdir() if not entry.name.startswith(".nfs"))
        documents = [path / name for name in sorted(ROOT_DOCUMENTS) if (path / name).is_file()]
        return hashlib.sha256(b"\n".join([*names, *map(read_small, documents)])).hexdigest()
    except (FileNotFoundError, NotADirectoryError, ValueError):  # a name with a NUL is no output's either
        return None


def move_to_nothing(part: Path, path: Path) -> None:
    """
    Move a finished part to a path at which there is nothing.

    :raises OutputExistsError: If something is there by now, which is then still there.
    """
    if not _rename(part, path, RENAME_NOREPLACE):
        _move_by_other_calls(part, path)
    sync_folder(path.parent)


def _move_by_other_calls(part: Path, path: Path) -> None:
    """Where the file system cannot look and rename at once: neither a link nor a folder replaces what is there."""
    look_again(path.parent)
    if os.path.lexists(path):
        raise appeared(path)
    if part.is_file() and _link(part, path):
        # It is published; a second name that does not go now goes with the next writer's look.
        with suppress(OSError):
            part.unlink()
        return
    try:
        part.rename(path)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise appeared(path) from error
        raise


def _link(part: Path, path: Path) -> bool:
    """Give a part the name of the output too; tell whether the file system can do that."""
    try:
        os.link(part, path)
    except FileExistsError:
        # A share that did not hear its server's answer asks once more, and is told of its own link.
        look_again(path.parent)
        if not path.samefile(part):
            raise appeared(path) from None
    except OSError:
        # What else is wrong, renaming says too.
        return False
    return True


def replace(part: Path, path: Path, expected: str) -> None:
    """
    Put a finished part in the place of an output; that is then where the part was, or gone.

    :param expected: State of the output, from :func:`state_of`.
    :raises OutputExistsError: If something else is at ``path`` by now, which is then still there.
    """
    if _rename(part, path, RENAME_EXCHANGE):
        if state_of(part) != expected:
            _rename(part, path, RENAME_EXCHANGE)
            raise appeared(path)
    elif part.is_file() and path.is_file():
        part.replace(path)
    else:
        _replace_in_steps(part, path, expected)
    sync_folder(path.parent)


def appeared(path: Path) -> OutputExistsError:
    """Return the error for an output at whose path there is something else by now."""
    return OutputExistsError(
        f"{path} appeared or changed while this conversion was writing; it was left as it is. Run the task again "
        "if that was meant, or write elsewhere."
    )


@dataclass(frozen=True)
class _Journal:
    """
    A replacement that is under way: what is moved from where to where. All names are of the output's own folder.

    :param part: Name of the new output.
    :param aside: Name that the old one gets.
    :param new: State of the new one.
    :param old: State of the old one.
    """

    part: str
    aside: str
    new: str
    old: str

    def write(self, path: Path) -> None:
        """Put it on the disk beside an output, whole."""
        unfinished = _unfinished_journal_of(path)
        with unfinished.open("w", encoding="utf-8") as stream:
            json.dump(asdict(self), stream)
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.replace(_journal_of(path))
        sync_folder(path.parent)


def _journal_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.journal")


def _unfinished_journal_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.journal.part")


def _read_journal(path: Path) -> _Journal | None:
    file = _journal_of(path)
    try:
        journal = _Journal(**json.loads(read_small(file)))
        _check_names(journal)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, AttributeError) as error:
        raise OutputFolderError(
            f"{file} is not what this package writes there: {error}. Move it away; {path} was left as it is."
        ) from error
    return journal


def _check_names(journal: _Journal) -> None:
    for name in (journal.part, journal.aside):
        if not name.startswith(".") or "/" in name or name in (".", ".."):
            raise ValueError(f"{name!r} is no hidden name")


def _replace_in_steps(part: Path, path: Path, expected: str) -> None:
    """For a moment there is nothing at the path: so it is written down first what goes where."""
    aside, new = _free_name(path), state_of(part) or ""
    _Journal(part.name, aside.name, new, expected).write(path)
    path.rename(aside)
    if state_of(aside) != expected:
        move_to_nothing(aside, path)
        _journal_of(path).unlink()
        raise appeared(path)
    sync_folder(path.parent)
    try:
        is_done = _finish(path)
    except OSError:
        if state_of(path) != new:
            raise
        # No reason to call what was published a failure; the journal stays.
        log.warning("%s, which was replaced, could not be removed; who looks next does.", aside, exc_info=True)
        is_done = True
    if not is_done:
        raise OutputExistsError(
            f"{path} appeared while the old output was replaced; it was left as it is. The old one is in {aside}."
        )


def _free_name(path: Path) -> Path:
    """Return a name for what is moved aside; an older ``.old`` may be the only copy of something."""
    names = (f".{path.name}.old{'' if number == 1 else f'-{number}'}" for number in range(1, 1000))
    return next(free for free in map(path.with_name, names) if not os.path.lexists(free))


def is_settled(path: Path) -> bool:
    """Tell whether no replacement of an output was interrupted, or is under way."""
    look_again(path.parent)
    return not os.path.lexists(_journal_of(path)) and (os.path.lexists(path) or not _looks_whole(_old(path)))


def _old(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def settle(path: Path) -> None:
    """
    Finish a replacement that was interrupted, or take it back, before an output is looked at.

    :param path: Of the output; there may be none. Links are followed.
    :raises OutputBusyError: If a replacement that is under way does not end.
    :raises OutputFolderError: If there is nothing at the path until somebody finishes who may write to its folder.
    """
    path, lock = followed(path), True
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_settled(path):
        try:
            with output_lock(path, lock=lock):
                settle_locked(path)
        except OutputBusyError:
            if os.path.lexists(path):
                return  # the old one or the new one, whole
            if time.monotonic() > deadline:
                raise
            time.sleep(LOOK_SECONDS)
        except OSError as error:
            if lock and not NO_LOCKS.isdisjoint(system_errors(error)):
                # Whoever replaces it may be at work, and is done by then.
                time.sleep(UNLOCKED_SECONDS)
                lock = False
                continue
            if os.path.lexists(path):
                return
            raise OutputFolderError(
                f"Replacing {path} was interrupted, and cannot be finished here: {error}. Both outputs are "
                f"there, hidden in {path.parent}. Run 'python -m airflow_provider_ophys repair {path}' where that "
                "folder can be written to."
            ) from error


def settle_locked(path: Path) -> None:
    """As :func:`settle`, for who has the lock of the output."""
    _unfinished_journal_of(path).unlink(missing_ok=True)
    if _read_journal(path) is not None:
        _finish(path)
    elif not os.path.lexists(path) and _looks_whole(_old(path)):
        # From a version of this package that kept no journal: the new one is not known to be whole.
        log.warning("Replacing %s was interrupted; the old one is put back.", path)
        _old(path).rename(path)
        sync_folder(path.parent)


def _looks_whole(path: Path) -> bool:
    return path.is_file() or any((path / document).is_file() for document in ROOT_DOCUMENTS)


def _finish(path: Path) -> bool:
    """
    Go on with what the journal says from wherever it was left; each step may be the last one before a kill.

    :returns: Whether the new output is at the path.
    """
    journal = _read_journal(path)
    if journal is None:
        return False
    part, aside = path.with_name(journal.part), path.with_name(journal.aside)
    with suppress(OutputExistsError):  # then it stays
        if state_of(part) == journal.new:
            if not os.path.lexists(path):
                move_to_nothing(part, path)
        elif os.path.lexists(aside) and not os.path.lexists(path):
            log.warning("What was to replace %s is not there any more; the old one is put back.", path)
            move_to_nothing(aside, path)
    found = state_of(path)
    if found == journal.new:
        remove(aside)
    elif os.path.lexists(aside):
        log.warning("%s is neither the old nor the new output; the old one stays in %s.", path, aside)
    _journal_of(path).unlink()
    sync_folder(path.parent)
    return found == journal.new


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
    if code in CANNOT:
        return False
    if code == errno.EEXIST:
        raise appeared(path)
    raise OSError(code, os.strerror(code), str(path))


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, where the file system can do that: some of networks cannot."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
