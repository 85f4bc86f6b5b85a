"""
A copy of an output to add to, at the cost of what changes: what stays is shared with the old one.

A file is cloned where its file system can (XFS, btrfs, NFS 4.2 before such a one), which copies no byte. In a Zarr
store the chunks, which nobody changes once they are written, become links to the old ones; documents, which an
addition changes, become files of their own.
"""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from airflow_provider_ophys.writing.ownership import Ownership, within_store
from airflow_provider_ophys.writing.replacement import ROOT_DOCUMENTS, followed

# linux/fs.h; Python has no wrapper of it.
FICLONE = 0x40049409
PIECE_BYTES = 64 * 2**20
PLAIN_PIECE_BYTES = 8 * 2**20
# Of an array in format 2, where its group has others.
DOCUMENTS = ROOT_DOCUMENTS | {".zarray"}


def copy_output(old: Path, new: Path, check: Callable[[], None] = lambda: None) -> int:
    """
    Copy a file or a Zarr store; writing to the copy, as this package does, never changes the old one.

    :param new: There is nothing yet, in a folder of the same file system.
    :param check: Called again and again; raises to end the copying.
    :returns: How many bytes were copied: not those that both share now.
    :raises OSError: If the disk is full or fails.
    """
    if not old.is_dir():
        return _copy_file(old, new, check)
    of_files = within_store(old)[0]
    copied = 0
    for folder, _, files in old.walk(on_error=_raise):
        there = new / folder.relative_to(old)
        there.mkdir()
        for name in files:
            check()
            if not is_shared(folder / name, of_files) or not _link(folder / name, there / name):
                copied += _copy_file(folder / name, there / name, check)
    return copied


def bytes_to_copy(path: Path) -> int:
    """Tell how many bytes :func:`copy_output` will copy, if the file system of a Zarr store has hard links."""
    path = followed(path)
    if not path.is_dir():
        return 0 if _can_clone(path) else path.stat().st_size
    of_files = within_store(path)[0]
    files = [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files if not is_shared(file, of_files))


def is_shared(file: Path, of_files: Ownership) -> bool:
    """
    Tell whether a file of a store can be the same in its copy.

    :param of_files: What all files of the copy are to have; giving it to a file that both share would change the
        old one.
    """
    return file.name not in DOCUMENTS and of_files.is_of(file)


def _raise(error: OSError) -> None:
    raise error


def _link(file: Path, new: Path) -> bool:
    try:
        os.link(file, new, follow_symlinks=False)
    except OSError:
        # There are none, or too many of this file, or it is another user's. What else it may be, copying says.
        return False
    return True


def _can_clone(path: Path) -> bool:
    """Try it, with a file that has no name, or on NFS one for a moment."""
    try:
        with path.open("rb") as source, tempfile.TemporaryFile(dir=path.parent, prefix=".ophys-") as target:
            return _clone(source.fileno(), target.fileno())
    except OSError:
        return False


def _clone(source: int, target: int) -> bool:
    try:
        fcntl.ioctl(target, FICLONE, source)
    except OSError:
        return False
    return True


def _copy_file(old: Path, new: Path, check: Callable[[], None]) -> int:
    with old.open("rb") as source, new.open("xb") as target:
        if _clone(source.fileno(), target.fileno()):
            return 0
        size = os.fstat(source.fileno()).st_size
        copied = 0
        for start, stop in _extents(source.fileno(), size):
            position = start
            while position < stop:
                check()
                position += _copy_piece(source.fileno(), target.fileno(), position, stop - position)
            copied += stop - start
        # It may end with a hole.
        os.ftruncate(target.fileno(), size)
        return copied


def _extents(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield where the data of a file are, [start, stop); what is between them is a hole, and becomes one."""
    position = 0
    while position < size:
        start, stop = position, size
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
            stop = min(size, os.lseek(descriptor, start, os.SEEK_HOLE))
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            # It does not know holes: all of it are data.
        yield start, stop
        position = stop


def _copy_piece(source: int, target: int, position: int, size: int) -> int:
    """Copy a piece, by the file server itself where that can; return how many bytes."""
    with suppress(OSError):
        # Whatever is wrong, reading and writing says it too.
        if copied := os.copy_file_range(source, target, min(size, PIECE_BYTES), position, position):
            return copied
    content = os.pread(source, min(size, PLAIN_PIECE_BYTES), position)
    if not content:
        raise OSError(errno.EIO, f"the file became shorter than {position} bytes while it was copied")
    return os.pwrite(target, content, position)
