"""
Kills a process that publishes an output between any two of its system calls, and looks at what is left.

It is stopped after every call that may change something. Where the folder is still what it was at the stop before,
a kill leaves what a kill there has left; so it is killed once in every state of the folder that it goes through.

A process of its own, for what it forks has to be single-threaded: ``python killed_publishing.py FOLDER OLD NEW
exchange|steps [AGAIN]``, where OLD and NEW are outputs that the folder has in it, or OLD is "nothing", and AGAIN
is the same folder mounted a second time, from where it is looked at. Prints as JSON how many kills there were, and
what was at the path after each of them.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import shutil
import signal
import struct
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

from failing_calls import CALLS, MACHINES

from airflow_provider_ophys.conversion.publishing import publishing, sole_writer
from airflow_provider_ophys.conversion.repair import repair
from airflow_provider_ophys.nwb.existing import backend_of
from airflow_provider_ophys.writing.replacement import is_settled

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
TRACEME, CONT, SYSCALL = 0, 7, 24
SET_OPTIONS, TELL_CALLS, GET_CALL = 0x4200, 1, 0x420E
CALL_STOP = signal.SIGTRAP | 0x80
# Whether it is before or after the call; of one before, its number.
CALL_INFO = struct.Struct("B3xIQQQ")
BEFORE = 1
# Calls after which a folder is what it was: memory, signals, locks between threads, and all that only reads.
READING = ("read", "pread64", "fstat", "stat", "lstat", "newfstatat", "statx", "lseek", "mmap", "getdents64")
READING += ("access", "faccessat", "faccessat2", "readlink", "readlinkat", "listxattr", "getxattr", "fsync")
MACHINE = platform.machine()
OTHERS = {"x86_64": {10, 11, 12, 13, 14, 28, 72, 202}, "aarch64": {25, 98, 134, 135, 214, 215, 226, 233}}
CHANGING_NOTHING = OTHERS[MACHINE] | {CALLS[name][MACHINES.index(MACHINE)] for name in READING}
RENAMEAT2 = {"x86_64": 316, "aarch64": 276}[MACHINE]
NO_NEW_PRIVS, SECCOMP, FILTER = 38, 22, 2


def deny_renameat2() -> None:
    """Have the kernel answer as for a file system that can neither exchange nor look and rename at once."""
    program = b"".join(
        struct.pack("HBBI", *instruction)
        for instruction in (
            (0x20, 0, 0, 0),  # the call's number
            (0x15, 0, 1, RENAMEAT2),
            (0x06, 0, 0, 0x00050000 | errno.EINVAL),
            (0x06, 0, 0, 0x7FFF0000),
        )
    )
    code = ctypes.create_string_buffer(program)
    head = ctypes.create_string_buffer(struct.pack("HxxxxxxP", 4, ctypes.addressof(code)))
    if LIBC.prctl(NO_NEW_PRIVS, 1, 0, 0, 0) or LIBC.prctl(SECCOMP, FILTER, head, 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


def copy(source: Path, target: Path) -> None:
    """Copy a file or a folder, with its times: they are part of its state."""
    shutil.copytree(source, target) if source.is_dir() else shutil.copy2(source, target)


def publish(path: Path, new: Path, begin: Callable[[], None]) -> None:
    """Publish; the part that counts begins as the new output is complete."""
    with publishing(path, replace=True) as part:
        copy(new, part)
        begin()


def publish_until(path: Path, new: Path, changes: int, *, steps: bool) -> bool:
    """Publish in another process, and kill it when it has changed the folder so often; tell whether it was."""
    process = start_publisher(path, new, steps=steps)
    stopped, known, call = False, None, None
    while True:
        _, status = os.waitpid(process, 0)
        if not os.WIFSTOPPED(status):
            if status != 0:
                sys.exit(f"the publisher ended with {status}")
            return False
        number = os.WSTOPSIG(status)
        may_have_changed = number == signal.SIGSTOP
        if number == signal.SIGSTOP:
            stopped = True
            LIBC.ptrace(SET_OPTIONS, process, None, TELL_CALLS)
        elif number == CALL_STOP:
            made, call = call, call_begun(process)
            may_have_changed = call is None and made not in CHANGING_NOTHING
        if may_have_changed:
            state = snapshot(path.parent)
            changes -= known not in (None, state)
            known = state
            if changes < 0:
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)
                return True
        passed_on = None if number in (signal.SIGSTOP, CALL_STOP) else number
        LIBC.ptrace(SYSCALL if stopped else CONT, process, None, passed_on)


def start_publisher(path: Path, new: Path, *, steps: bool) -> int:
    process = os.fork()
    if process:
        return process
    try:
        if steps:
            deny_renameat2()
        LIBC.ptrace(TRACEME, 0, None, None)
        publish(path, new, lambda: os.kill(os.getpid(), signal.SIGSTOP))
    except BaseException as error:  # noqa: BLE001 - nothing of the parent may run on in the child
        os.write(2, repr(error).encode())
        os._exit(1)
    os._exit(0)


def call_begun(process: int) -> int | None:
    """Return the number of the call that a stopped process is about to make; ``None`` if it has just made one."""
    info = ctypes.create_string_buffer(CALL_INFO.size)
    LIBC.ptrace(GET_CALL, process, CALL_INFO.size, ctypes.addressof(info))
    where, *_, number = CALL_INFO.unpack(info)
    return number if where == BEFORE else None


def snapshot(folder: Path) -> list[tuple[str, int, int]]:
    """Return all that is in a folder; without ``Path``, for it is called at each of thousands of stops."""
    found, folders = [], [str(folder)]
    for here in folders:
        with os.scandir(here) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                found.append((entry.path, status.st_ino, status.st_size))
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
    return sorted(found)


def content(path: Path) -> dict[str, bytes] | None:
    """Return all files of an output by their names in it; ``None`` if there is none."""
    if not os.path.lexists(path):
        return None
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}


def read(path: Path) -> None:
    """Come next as a reader, if there is an output."""
    if os.path.lexists(path) or not is_settled(path):
        backend_of(path)


def mend(path: Path) -> None:
    """Come next as who calls for a repair."""
    if os.path.lexists(path) or not is_settled(path):
        repair(path)


def write(path: Path) -> None:
    """Come next as another writer; it leaves nothing beside the output."""
    with sole_writer(path):
        pass
    left = [entry.name for entry in path.parent.iterdir() if entry.name.startswith(".")]
    if left:
        sys.exit(f"left by the next writer: {left}")


def main(made: Path, old_name: str, new_name: str, how: str, again: str = "") -> None:
    """Kill before any change, after one, after two ... until the publisher ends by itself."""
    folder, old, new = made / "run", made / old_name, made / new_name
    path, seen = folder / "a.nwb", Path(again or made) / "run" / "a.nwb"
    contents = {"nothing": None, new_name: content(new)}
    if old_name != "nothing":
        contents[old_name] = content(old)
    before: Counter[str] = Counter()
    after: Counter[str] = Counter()
    # Once for all that is imported on first use.
    folder.mkdir()
    for output in (path, path):
        publish(output, new, lambda: None)
    for comes_next in (read, mend, write):
        number, killed = -1, True
        while killed:
            shutil.rmtree(folder)
            folder.mkdir()
            if old_name != "nothing":
                copy(old, path)
            killed = publish_until(path, new, number, steps=how == "steps")
            before["there" if os.path.lexists(path) else "absent"] += 1
            comes_next(seen)
            found = [name for name, known in contents.items() if known == content(seen)]
            if not found or (found == ["nothing"] and old_name != "nothing"):
                sys.exit(f"after {number + 1} changes: {sorted(entry.name for entry in folder.iterdir())}")
            after[found[0]] += 1
            number += 1
    print(json.dumps({"before": before, "after": after}))  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
