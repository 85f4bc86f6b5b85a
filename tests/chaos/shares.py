"""
The file system that is tried: of the folder ``CHAOS_FOLDER``, if that is set.

``CHAOS_FOLDER_AGAIN`` is the same folder as another machine sees it: mounted a second time, with a cache of its
own (NFS: ``nosharecache``). What another host would do is done there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

FOLDER = os.environ.get("CHAOS_FOLDER", "")
AGAIN = os.environ.get("CHAOS_FOLDER_AGAIN", "") or FOLDER


@contextmanager
def on_two_hosts(otherwise: Path) -> Iterator[tuple[Path, Path]]:
    """
    Give a new folder, as two hosts see it.

    :param otherwise: Is it, for both, where ``CHAOS_FOLDER`` is not set.
    """
    if not FOLDER:
        yield otherwise, otherwise
        return
    folder = Path(mkdtemp(dir=FOLDER))
    try:
        yield folder, Path(AGAIN) / folder.name
    finally:
        shutil.rmtree(folder)
