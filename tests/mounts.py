"""Small disks of file systems that share what two files have in common; where there can be none, tests skip."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from benchmarks import file_systems

SHARING = list(file_systems.PACKAGES)


@contextmanager
def mounted(kind: str, folder: Path) -> Iterator[Path]:
    """As :func:`benchmarks.file_systems.mounted`; skips the test where this machine cannot."""
    with ExitStack() as stack:
        try:
            point = stack.enter_context(file_systems.mounted(kind, folder))
        except file_systems.CannotMountError as error:
            if os.environ.get("CI") and "is not installed" in str(error):
                pytest.fail(f"CI must have what makes it, and .ci/run installs that: {error}")
            pytest.skip(str(error))
        yield point
