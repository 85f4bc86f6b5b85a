"""Mode, owner, group, access lists and attributes of an output stay what its users made them."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ACCESS, INHERITED = "system.posix_acl_access", "system.posix_acl_default"
READ, EXECUTE = 0o444, 0o111


@dataclass(frozen=True)
class Ownership:
    """
    What a file or folder has besides its content.

    :param mode: Permissions.
    :param owner: Numbers of user and group.
    :param attributes: Extended attributes, access lists among them.
    """

    mode: int
    owner: tuple[int, int]
    attributes: dict[str, bytes]

    def is_of(self, path: Path) -> bool:
        """Tell whether a file or folder has all of this."""
        its = _ownership(path)
        has_attributes = self.attributes.items() <= its.attributes.items()
        return has_attributes and (its.mode, its.owner) == (self.mode, self.owner)


def keep_ownership(old: Path, new: Path) -> None:
    """
    Give a new output what the old one has: mode, group, and where allowed owner, access lists and attributes.

    In a store all folders get what its root has, and all files what the document in its root has, so that nobody
    can read a part of it only. What may not be set is left as it is.

    :param old: The output that is to be replaced.
    :param new: What takes its place; it may be a file where the other is a folder.
    """
    of_file, of_folder = _ownership_of(old)
    if not new.is_dir():
        _give(new, of_file)
        return
    _give(new, of_folder)
    of_file, of_folder = within_store(old)
    for folder, folders, files in new.walk():
        for name in folders:
            _give(folder / name, of_folder)
        for name in files:
            _give(folder / name, of_file)


def within_store(old: Path) -> tuple[Ownership, Ownership]:
    """Return what files and what folders in a store that replaces an output shall have."""
    of_file, of_folder = _ownership_of(old)
    lists = {name: value for name, value in of_folder.attributes.items() if name in (ACCESS, INHERITED)}
    of_folder = Ownership(of_folder.mode, of_folder.owner, lists)
    lists = {name: value for name, value in of_file.attributes.items() if name == ACCESS}
    return Ownership(of_file.mode, of_file.owner, lists), of_folder


def _ownership_of(old: Path) -> tuple[Ownership, Ownership]:
    """Return what files and what folders shall have."""
    own = _ownership(old)
    if not old.is_dir():
        folder_mode = own.mode | (own.mode & READ) >> 2
        return own, Ownership(folder_mode, own.owner, own.attributes)
    documents = [path for path in sorted(old.iterdir()) if path.is_file() and not path.is_symlink()]
    if not documents:
        return Ownership(own.mode & ~(EXECUTE | stat.S_ISGID), own.owner, own.attributes), own
    return _ownership(documents[-1]), own


def _ownership(path: Path) -> Ownership:
    found = path.stat()
    attributes = {}
    with suppress(OSError):
        for name in os.listxattr(path):
            with suppress(OSError):
                attributes[name] = os.getxattr(path, name)
    return Ownership(stat.S_IMODE(found.st_mode), (found.st_uid, found.st_gid), attributes)


def _give(path: Path, kept: Ownership) -> None:
    found = path.lstat()
    # What is so already may be the very file that the old output has too.
    if stat.S_ISLNK(found.st_mode) or kept.is_of(path):
        return
    if (found.st_uid, found.st_gid) != kept.owner:
        try:
            os.chown(path, *kept.owner)
        except OSError:
            with suppress(OSError):
                os.chown(path, -1, kept.owner[1])
    for name, value in kept.attributes.items():
        with suppress(OSError):
            os.setxattr(path, name, value)
    if stat.S_IMODE(path.lstat().st_mode) != kept.mode:
        with suppress(OSError):
            path.chmod(kept.mode)
