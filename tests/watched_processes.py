"""Run a function in a process that is watched: which files it touches, and what time and memory it takes."""

from __future__ import annotations

import os
import resource
import signal
import site
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from failing_calls import Call, run_with_failures

READS = {"open", "openat", "read", "pread64", "readv", "preadv", "getdents64", "mmap"}
CHANGES = {
    "write", "pwrite64", "writev", "pwritev", "sendfile", "copy_file_range", "ftruncate", "fallocate", "fchmod",
    "fchown", "rename", "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat", "rmdir", "mkdir",
    "mkdirat", "symlink", "chmod", "fchmodat", "chown", "fchownat", "utimensat", "setxattr",
}  # fmt: skip
# What Python, its libraries and the C library read by themselves.
OF_THE_SYSTEM = (
    *(str(Path(place).resolve()) for place in (sys.prefix, sys.base_prefix, site.getuserbase())),
    *(place for place in sys.path if place),
    *(str(Path(__file__).parents[1]), sys.prefix, "/usr", "/lib", "/sys", "/dev", "/etc/ld.so", "/etc/localtime"),
    *("/etc/mime.types", "/etc/magic", "/etc/timezone"),
)
# A process that hangs is ended; how busy the machine is shall not matter.
ENDS_AFTER_CPU_SECONDS, ENDS_AFTER_SECONDS = 20, 600


@dataclass(frozen=True)
class Watched:
    """
    What a process did.

    :param returned: By the function.
    :param cpu_seconds: That it took: how busy the machine is does not count.
    :param grown_bytes: Most memory that it took beyond what it began with.
    :param outside: Calls by which it read or changed what it had no business with.
    """

    returned: Any
    cpu_seconds: float
    grown_bytes: int
    outside: list[Call]


def run_watched(
    function: Callable[[], Any],
    *,
    reads: Sequence[Path],
    changes: Sequence[Path],
    passed_over: Sequence[Path] = (),
) -> Watched:
    """
    Run a function in a forked process.

    :param function: Returns something that is plain JSON. A signal ends it after 20 s of CPU time, or ten minutes.
    :param reads: Folders in which it may read.
    :param changes: Folders in which it may change files, too.
    :param passed_over: Folders in which it may do anything, without a word.
    :raises ProcessDiedError: If a signal ended it.
    :raises RuntimeError: If it raised something; has its trace.
    """
    may_change = [*map(str, changes), *map(str, passed_over), "/dev"]
    may_read = [*map(str, reads), *may_change, *OF_THE_SYSTEM]
    outside = []

    def look_at(call: Call) -> int:
        path = os.path.normpath(call.path)
        allowed = may_read if call.name in READS else may_change if call.name in CHANGES else [""]
        # A file without a name is nobody else's, and of one that is not there nothing is read.
        reads_nothing = call.name in READS and not os.path.lexists(path)
        harmless = path.endswith(" (deleted)") or _is_of_the_process(path) or reads_nothing
        if not path.startswith(tuple(allowed)) and not harmless:
            outside.append(call)
        return 0

    returned, seconds, grown = run_with_failures(lambda: _measured(function), look_at)
    return Watched(returned, seconds, grown, outside)


def _is_of_the_process(path: str) -> bool:
    """Tell whether a path says something of the process or the machine; not what is in its environment."""
    return path.startswith("/proc/") and not path.endswith(("/environ", "/mem", "/cmdline"))


def _measured(function: Callable[[], Any]) -> tuple[Any, float, int]:
    for number in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, ENDS_AFTER_CPU_SECONDS)
    signal.alarm(ENDS_AFTER_SECONDS)
    # A warning is no error where it is used.
    warnings.simplefilter("ignore")
    sys.dont_write_bytecode = True
    started, before = time.process_time(), _peak_bytes()
    returned = function()
    return returned, time.process_time() - started, _peak_bytes() - before


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
