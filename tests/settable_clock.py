"""
A time of day that a test sets while processes run, as an administrator or a time server does.

``settable_clock.c`` is preloaded into them. With libfaketime 0.9.10, ``time.sleep()`` is an error in Python 3.12,
which waits by ``clock_nanosleep()``.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_suffix(".c")


class SettableClock:
    """
    Sets the time of day of processes that have its :attr:`environment`; skips the test where nothing compiles it.

    :param folder: For the library, and the file that says how far the clock is from the machine's own.
    """

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.skip("clocks are set by a small library in C, and there is no compiler (cc) to make it")
        library = folder / "settable_clock.so"
        subprocess.run(
            [compiler, "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, SOURCE], check=True
        )
        self._offset = folder / "offset"
        self.set(0)
        self.environment = {"LD_PRELOAD": str(library), "CLOCK_OFFSET_FILE": str(self._offset)}

    def set(self, seconds: int) -> None:
        """Set it to so many seconds after the machine's own, or before if negative, at once and for all."""
        with self._offset.open("r+b" if self._offset.exists() else "w+b") as stream:
            stream.write(seconds.to_bytes(8, "little", signed=True))
