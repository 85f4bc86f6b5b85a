"""Reads watched folders from disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_ophys.acquisition.readiness import FileSeen, Look, Summary, name_matches, path_matches

if TYPE_CHECKING:
    from airflow_provider_ophys.acquisition.options import AcquisitionOptions


def list_names(root: str, pattern: str, on_trouble: Callable[[str, OSError], None]) -> list[str]:
    """
    List the folders below ``root`` that match a pattern, level by level, as sorted relative paths.

    A link is a folder too as long as it stays inside ``root`` and leads to none that is listed anyway
    (``latest``), which would be the same recording twice.

    :param root: The watched folder, free of links.
    :param pattern: One glob per level.
    :param on_trouble: Told of a folder above the acquisition folders that cannot be read.
    :raises OSError: If ``root`` itself cannot be read.
    """
    names = [""]
    links: dict[str, str] = {}
    for glob in pattern.split("/"):
        below: dict[str, str] = {}
        for name in names:
            try:
                below |= {f"{name}/{child}".lstrip("/"): target for child, target in _folders(root, name, glob)}
            except OSError as error:
                if not name:
                    raise
                on_trouble(name, error)
        names = list(below)
        links |= {name: target for name, target in below.items() if target}
    listed = {str(Path(root, name)) for name in names if name not in links}
    return sorted(name for name in names if links.get(name) not in listed)


def _folders(root: str, name: str, glob: str) -> Iterator[tuple[str, str]]:
    """The folders in one folder that match one part of the pattern, and where they lead if they are links."""
    with os.scandir(Path(root, name)) as entries:
        for entry in entries:
            if not path_matches(entry.name, glob):
                continue
            target = _target(entry)
            if target is not None and (not is_inside(target, root) or not Path(target).is_dir()):
                continue
            if target is not None or entry.is_dir():
                yield entry.name, target or ""


def look_into(folder: str, root: str, several: Sequence[AcquisitionOptions]) -> list[Look]:
    """
    Look once at everything below an acquisition folder, for all who want to know.

    Links are followed as long as they stay inside ``root`` and lead to something that is not looked at anyway.
    What vanishes meanwhile is passed over.

    :param folder: The acquisition folder.
    :param root: The watched folder, free of links.
    :param several: Each says by its own options which folders are not entered, and gets a look of its own.
    :raises OSError: If ``folder`` has vanished, or something below it cannot be read.
    """
    looks = [_Look(options, os.path.realpath(folder)) for options in several]
    todo = [(folder, "", looks)]
    while todo:
        path, prefix, interested = todo.pop()
        try:
            entries = os.scandir(path)
        except FileNotFoundError:
            if not prefix:
                raise
            continue
        with entries:
            for entry in entries:
                relative = prefix + entry.name
                target = _target(entry)
                if target is not None and not is_inside(target, root):
                    _add(FileSeen(relative, kind="outside"), interested)
                elif _is_folder(entry, target):
                    entering = [each for each in interested if each.enters(relative, target)]
                    if entering:
                        todo.append((entry.path, relative + "/", entering))
                elif (file := _file(entry, relative)) is not None:
                    _add(file, interested)
    return [each.summary.look() for each in looks]


class _Look:
    """One set of options in a look, and which folders it has been led into."""

    def __init__(self, options: AcquisitionOptions, folder: str) -> None:
        self.summary = Summary(options)
        self._entered = [folder]

    def enters(self, relative: str, target: str | None) -> bool:
        """Whether to enter a folder; a link that leads to what is entered already would go round in circles."""
        name = relative.rpartition("/")[2]
        if name_matches(name, self.summary.options.incomplete):
            self.summary.add(FileSeen(relative, kind="unfinished"))
            return False
        if name_matches(name, self.summary.options.ignore):
            return False
        if target is None:
            return True
        if any(is_inside(target, known) or is_inside(known, target) for known in self._entered):
            return False
        self._entered.append(target)
        return True


def _add(file: FileSeen, interested: Sequence[_Look]) -> None:
    for each in interested:
        each.summary.add(file)


def _target(entry: os.DirEntry[str]) -> str | None:
    return os.path.realpath(entry.path) if entry.is_symlink() else None


def _is_folder(entry: os.DirEntry[str], target: str | None) -> bool:
    # Path.is_dir() takes a link that leads to itself for what it is, where DirEntry.is_dir() raises.
    return entry.is_dir() if target is None else Path(target).is_dir()


def _file(entry: os.DirEntry[str], relative: str) -> FileSeen | None:
    """The facts of a file, unless it is gone or is no regular file."""
    try:
        if Path(entry.path).is_file() if entry.is_symlink() else entry.is_file():
            facts = entry.stat()
            return FileSeen(relative, facts.st_size, facts.st_mtime_ns)
    except FileNotFoundError:
        pass
    return None


def is_inside(path: str, folder: str) -> bool:
    """Whether a path, free of links like ``folder``, is the folder or something in it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")
