"""File systems that share what two files have in common, mounted from image files."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# In which Debian package each is made, and the least that one can be, in MiB.
PACKAGES = {"xfs": ("xfsprogs", 320), "btrfs": ("btrfs-progs", 256)}


class CannotMountError(Exception):
    """This machine cannot mount such a file system, or lacks what makes one."""


@contextmanager
def mounted(kind: str, folder: Path, mib: int = 0) -> Iterator[Path]:
    """
    Give a new file system of its own.

    :param kind: ``"xfs"`` or ``"btrfs"``.
    :param folder: Where its image file and its mount point go.
    :param mib: Its size; the image takes what is written to it.
    :raises CannotMountError: If that cannot be.
    """
    package, least = PACKAGES[kind]
    make = shutil.which(f"mkfs.{kind}", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if make is None:
        raise CannotMountError(f"mkfs.{kind} is not installed here: apt-get install {package}")
    image, point = folder / f"{kind}.img", folder / kind
    point.mkdir()
    with image.open("wb") as stream:
        stream.truncate(max(mib, least) * 2**20)
    try:
        subprocess.run([make, "-q", image], check=True, capture_output=True)
        done = subprocess.run(["mount", "-o", "loop", image, point], check=False, capture_output=True, text=True)
        if done.returncode:
            raise CannotMountError(f"only root mounts {kind}, where the kernel has it: {done.stderr.strip()}")
        try:
            yield point
        finally:
            subprocess.run(["umount", "--lazy", point], check=True)
    finally:
        image.unlink()
        point.rmdir()
