"""Reads watched folders from disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_ophys.acquisition.readiness import FileSeen, name_matches, path_matches

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


def walk_files(folder: str, root: str, options: AcquisitionOptions) -> Iterator[FileSeen]:
    """
    Go through everything below an acquisition folder, in no particular order.

    Links are followed as long as they stay inside ``root`` and lead to something that is not looked at anyway.
    What vanishes meanwhile is passed over.

    :param folder: The acquisition folder.
    :param root: The watched folder, free of links.
    :param options: For the names of folders that are not entered.
    :raises OSError: If ``folder`` has vanished, or something below it cannot be read.
    """
    entered = [os.path.realpath(folder)]
    todo = [(folder, "")]
    while todo:
        path, prefix = todo.pop()
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
                    yield FileSeen(relative, kind="outside")
                elif _is_folder(entry, target):
                    if name_matches(entry.name, options.incomplete):
                        yield FileSeen(relative, kind="unfinished")
                    elif not name_matches(entry.name, options.ignore) and _enter(target, entered):
                        todo.append((entry.path, relative + "/"))
                else:
                    yield from _file(entry, relative)


def _target(entry: os.DirEntry[str]) -> str | None:
    return os.path.realpath(entry.path) if entry.is_symlink() else None


def _is_folder(entry: os.DirEntry[str], target: str | None) -> bool:
    # Path.is_dir() takes a link that leads to itself for what it is, where DirEntry.is_dir() raises.
    return entry.is_dir() if target is None else Path(target).is_dir()


def _file(entry: os.DirEntry[str], relative: str) -> Iterator[FileSeen]:
    """The facts of a file, unless it is gone or is no regular file."""
    try:
        if Path(entry.path).is_file() if entry.is_symlink() else entry.is_file():
            facts = entry.stat()
            yield FileSeen(relative, facts.st_size, facts.st_mtime_ns)
    except FileNotFoundError:
        return


def _enter(target: str | None, entered: list[str]) -> bool:
    """Whether to enter a folder; a link that leads to what is entered already would go round in circles."""
    if target is None:
        return True
    if any(is_inside(target, known) or is_inside(known, target) for known in entered):
        return False
    entered.append(target)
    return True


def is_inside(path: str, folder: str) -> bool:
    """Whether a path, free of links like ``folder``, is the folder or something in it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")
