"""
What is in folders, or an error.

``Path.glob``, ``os.walk`` and ``os.path.lexists`` find nothing where a share fails: a recording, or a link that
leads out, would be overlooked.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import NoReturn


def is_there(path: Path) -> bool:
    """
    Tell whether there is anything by a name, also a link to nothing.

    :raises OSError: If that cannot be seen.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def matching(folder: Path, pattern: str) -> list[Path]:
    """
    Return what is in a folder, sorted by name; nothing if there is no such folder.

    :param pattern: Of the names, as a shell understands it.
    :raises OSError: If that cannot be seen.
    """
    try:
        return sorted(path for path in folder.iterdir() if fnmatch(path.name, pattern))
    except (FileNotFoundError, NotADirectoryError):
        return []


def walk(folder: Path, *, follow_links: bool = False) -> Iterator[tuple[str, list[str], list[str]]]:
    """
    Yield a folder and those below it, as ``os.walk`` does.

    :raises OSError: If one cannot be listed.
    """
    yield from os.walk(folder, onerror=_fail, followlinks=follow_links)


def _fail(error: OSError) -> NoReturn:
    raise error
