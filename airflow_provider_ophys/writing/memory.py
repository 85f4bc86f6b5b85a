"""What this process may still use: memory under every limit that counts, and CPUs."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

DEFAULT_LIMIT_BYTES = 256 * 2**20
DEFAULT_FRACTION = 0.25

PROC = Path("/proc/self")

# cgroup v1 reports "no limit" as a page-rounded 2^63; anything near that is no limit.
NO_LIMIT = 2**60


def available_memory() -> int:
    """
    Return the bytes that this process may still allocate: the least that any limit leaves.

    Looks at the machine (``MemAvailable``), at every cgroup above this process, version 1 and 2, and at what
    ``ulimit`` sets for it (``RLIMIT_AS``, ``RLIMIT_DATA``). A plain ``psutil.virtual_memory()`` sees the first
    alone, so it promises a container the memory of its host.
    """
    return min(memory_left().values())


def memory_left() -> dict[str, int]:
    """Return what each limit leaves, in bytes, by what it is of: the machine, a cgroup's folder, this process."""
    left = {"machine": int(psutil.virtual_memory().available)}
    left |= {str(folder): bytes_left for folder, bytes_left in _left_in_cgroups()}
    own = list(_left_of_process_limits())
    return left | ({f"process {os.getpid()}": min(own)} if own else {})


def available_cpus(proc: Path = PROC) -> int:
    """Return how many CPUs this process may keep busy: those it may run on, within every cgroup's quota."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for version, folder in _cgroups(proc, "cpu"):
        if version == "v2":
            quota, _, period = "".join(_read_lines(folder / "cpu.max")).partition(" ")
        else:
            quota, period = (
                "".join(_read_lines(folder / name)) for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            )
        if quota.isdigit() and period.isdigit():
            # A share of a CPU is one thread's work.
            cpus = min(cpus, max(1, round(int(quota) / int(period))))
    return cpus


def _left_of_process_limits() -> Iterator[int]:
    for limit, field in ((resource.RLIMIT_AS, "VmSize:"), (resource.RLIMIT_DATA, "VmData:")):
        most, _ = resource.getrlimit(limit)
        used = _status_bytes(field)
        if most != resource.RLIM_INFINITY and used is not None:
            yield max(most - used, 0)


def _left_in_cgroups(proc: Path = PROC) -> Iterator[tuple[Path, int]]:
    for version, folder in _cgroups(proc, "memory"):
        limit_names: tuple[str, ...]
        if version == "v2":
            limit_names, usage_name = ("memory.max", "memory.high"), "memory.current"
        else:
            limit_names, usage_name = ("memory.limit_in_bytes",), "memory.usage_in_bytes"
        limits = [limit for name in limit_names if (limit := _read_number(folder / name)) is not None]
        usage = _read_number(folder / usage_name)
        if limits and usage is not None and min(limits) < NO_LIMIT:
            yield folder, max(min(limits) - (usage - _reclaimable(folder)), 0)


def _cgroups(proc: Path, controller: str) -> Iterator[tuple[str, Path]]:
    """Yield version and folder of this process's cgroup for a controller, and of all those above it."""
    mounts = dict(_cgroup_mounts(proc, controller))
    for line in _read_lines(proc / "cgroup"):
        _, controllers, path = line.split(":", 2)
        version = "v2" if controllers == "" else "v1" if controller in controllers.split(",") else None
        if version is None or version not in mounts:
            continue
        root, mount = mounts[version]
        # In a container the path may be the host's: what the mount shows starts at the mount's root.
        relative = path.removeprefix(root) if root != "/" else path
        folder = mount / relative.strip("/")
        while folder.is_relative_to(mount):
            yield version, folder
            folder = folder.parent


def _cgroup_mounts(proc: Path, controller: str) -> Iterator[tuple[str, tuple[str, Path]]]:
    for line in _read_lines(proc / "mountinfo"):
        fields, _, rest = line.partition(" - ")
        root, mount = fields.split()[3:5]
        kind, _, options = rest.split(" ", 2)
        if kind == "cgroup2":
            yield "v2", (root, Path(mount))
        elif kind == "cgroup" and controller in options.split(","):
            yield "v1", (root, Path(mount))


def _reclaimable(folder: Path) -> int:
    """Return the bytes of file cache that the kernel gives back before it refuses memory."""
    for line in _read_lines(folder / "memory.stat"):
        name, _, value = line.partition(" ")
        if name in ("total_inactive_file", "inactive_file"):
            return int(value)
    return 0


def _read_lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:
        return []


def _read_number(file: Path) -> int | None:
    text = "".join(_read_lines(file)).strip()
    return int(text) if text.isdigit() else None


class PeakMemory:
    """
    Measures the most memory that this process held beyond what it had at the start; a context manager.

    Counts anonymous memory on Linux: the pages of memory-mapped recordings are the page cache's and are given
    back on demand, so counting them would hide what a conversion really needs.
    """

    INTERVAL_SECONDS = 0.05

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._finished = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="ophys-peak-memory", daemon=True)

    def __enter__(self) -> Self:
        self._start_bytes = anonymous_bytes()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._finished.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            self.peak_bytes = max(self.peak_bytes, anonymous_bytes() - self._start_bytes)
            if self._finished.wait(self.INTERVAL_SECONDS):
                return


def anonymous_bytes(pid: int | None = None) -> int:
    """
    Return the memory that a process holds and the kernel cannot take back; 0 if there is no such process.

    :param pid: Default: this process.
    """
    held = _status_bytes("RssAnon:", pid)
    if held is not None:
        return held
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def _status_bytes(field: str, pid: int | None = None) -> int | None:
    for line in _read_lines(Path(f"/proc/{pid or 'self'}/status")):
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    return None
