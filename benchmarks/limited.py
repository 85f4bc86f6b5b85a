"""
Run a command that may use only so much memory: in a control group, version 2 or 1, where one can be made.

    python limited.py 384 command ...

Making one takes root and a machine that allows it. Elsewhere the address space is limited instead, to what the
interpreter maps with all its imports plus the limit: that binds what is allocated, if not as exactly.
"""

from __future__ import annotations

import os
import resource
import sys
import uuid
from pathlib import Path

MIB = 2**20
# Libraries are mapped and hardly touched, and each thread reserves addresses that it never uses.
MAPPED_MIB = 2048


def make_group(limit_bytes: int) -> Path | None:
    """Make a control group with a memory limit beside this process's; ``None`` where that is not allowed."""
    name = f"ophys-bench-{uuid.uuid4().hex[:8]}"
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            folder, limit = Path("/sys/fs/cgroup/memory") / path.strip("/") / name, "memory.limit_in_bytes"
        elif controllers == "":
            folder, limit = Path("/sys/fs/cgroup") / path.strip("/") / name, "memory.max"
        else:
            continue
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            (folder / limit).write_text(str(limit_bytes))
        except OSError:
            folder.rmdir()
            continue
        return folder
    return None


def can_limit() -> bool:
    """Tell whether a control group can be made here."""
    group = make_group(MIB)
    if group is not None:
        group.rmdir()
    return group is not None


def main() -> int:
    """Run the command, and remove the group afterwards."""
    limit_bytes = int(sys.argv[1]) * MIB
    group = make_group(limit_bytes)
    child = os.fork()
    if child == 0:
        if group is not None:
            (group / "cgroup.procs").write_text(str(os.getpid()))
        else:
            most = limit_bytes + MAPPED_MIB * MIB
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
        os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606 - this is what the script is for
    _, status = os.waitpid(child, 0)
    if group is not None:
        group.rmdir()
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
