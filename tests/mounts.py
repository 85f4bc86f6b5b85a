"""Small disks of file systems that can share what two files have in common, mounted from image files."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

# In which Debian package each is made, and the least that it can be.
PACKAGES = {"xfs": ("xfsprogs", 320), "btrfs": ("btrfs-progs", 256)}
SHARING = list(PACKAGES)


@contextmanager
def mounted(kind: str, folder: Path) -> Iterator[Path]:
    """
    Give a new file system; skips the test where this machine cannot mount one.

    :param kind: ``"xfs"`` or ``"btrfs"``.
    :param folder: Where its image file and its mount point go.
    """
    package, mib = PACKAGES[kind]
    make = shutil.which(f"mkfs.{kind}", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if make is None and os.environ.get("CI"):
        pytest.fail(f"CI must have mkfs.{kind}: .ci/run installs {package}")
    if make is None:
        pytest.skip(f"mkfs.{kind} is not installed here: apt-get install {package}")
    image, point = folder / f"{kind}.img", folder / kind
    point.mkdir()
    with image.open("wb") as stream:
        stream.truncate(mib * 2**20)
    subprocess.run([make, "-q", image], check=True, capture_output=True)
    done = subprocess.run(["mount", "-o", "loop", image, point], check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"{kind} can only be mounted by root, where the kernel has it: {done.stderr.strip()}")
    try:
        yield point
    finally:
        subprocess.run(["umount", "--lazy", point], check=True)
        image.unlink()
