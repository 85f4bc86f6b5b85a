"""
Kills a process that publishes an output between any two of its system calls, and looks at what is left.

It is stopped before every call that may change something, and at no other (by a seccomp filter). Where the
folder is still what it was at the stop before, a kill leaves what a kill there has left. So one run to the end
tells at which stops the folder is another one, and a publisher is killed at each of these.

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
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

from failing_calls import CALLS, MACHINES

from airflow_provider_ophys.conversion.publishing import publishing, sole_writer
from airflow_provider_ophys.conversion.repair import repair
from airflow_provider_ophys.nwb.existing import backend_of
from airflow_provider_ophys.writing.network_shares import look_again
from airflow_provider_ophys.writing.replacement import is_settled

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
TRACEME, CONT, SET_OPTIONS, GET_CALL = 0, 7, 0x4200, 0x420E
TRACE_THREADS, STOP_AT_FILTER, STOPPED_AT_FILTER, ALSO_THREADS = 8, 0x80, 7, 0x40000000
# What is told of a call, as far as its number.
CALL_INFO = struct.Struct("24xQ")
# Calls that leave a folder as it is: memory, signals, clocks, threads and their locks, and all that only reads.
READING = ("read", "pread64", "fstat", "stat", "lstat", "newfstatat", "statx", "lseek", "mmap", "getdents64")
READING += ("access", "faccessat", "faccessat2", "readlink", "readlinkat", "listxattr", "getxattr", "fsync")
MACHINE = platform.machine()
OTHERS = {
    "x86_64": {10, 11, 12, 13, 14, 28, 35, 56, 72, 96, 202, 228, 230, 435},
    "aarch64": {25, 98, 101, 113, 115, 134, 135, 169, 214, 215, 220, 226, 233, 435},
}
CHANGING_NOTHING = OTHERS[MACHINE] | {CALLS[name][MACHINES.index(MACHINE)] for name in READING} - {None}
RENAMEAT2, OPENAT = (CALLS[name][MACHINES.index(MACHINE)] for name in ("renameat2", "openat"))
# Without them, a file that is opened stays as it is, and none appears.
MAKING_FILES = os.O_CREAT | os.O_TRUNC
NO_NEW_PRIVS, SECCOMP, FILTER = 38, 22, 2
# The instructions of a filter: load a word of the call, jump if it is equal or has a bit in common, answer.
LOAD, JUMP_IF_EQUAL, JUMP_IF_ANY_BIT, ANSWER = 0x20, 0x15, 0x45, 0x06
CALL_NUMBER, THIRD_ARGUMENT = 0, 32
ALLOW, STOP, FAIL = 0x7FFF0000, 0x7FF00000, 0x00050000


def filter_calls(*program: tuple[int, int, int, int]) -> None:
    """Have the kernel answer this process's calls so, from here on."""
    instructions = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    code = ctypes.create_string_buffer(instructions)
    head = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
    if LIBC.prctl(NO_NEW_PRIVS, 1, 0, 0, 0) or LIBC.prctl(SECCOMP, FILTER, head, 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


def deny_renameat2() -> None:
    """Have the kernel answer as for a file system that can neither exchange nor look and rename at once."""
    filter_calls(
        (LOAD, 0, 0, CALL_NUMBER),
        (JUMP_IF_EQUAL, 0, 1, RENAMEAT2),
        (ANSWER, 0, 0, FAIL | errno.EINVAL),
        (ANSWER, 0, 0, ALLOW),
    )


def stop_at_changes() -> None:
    """Have the kernel stop this process, which is traced, before every call that may change a folder."""
    numbers = sorted(CHANGING_NOTHING)
    filter_calls(
        (LOAD, 0, 0, CALL_NUMBER),
        *((JUMP_IF_EQUAL, len(numbers) - index + 3, 0, number) for index, number in enumerate(numbers)),
        (JUMP_IF_EQUAL, 0, 2, OPENAT),
        (LOAD, 0, 0, THIRD_ARGUMENT),
        (JUMP_IF_ANY_BIT, 0, 1, MAKING_FILES),
        (ANSWER, 0, 0, STOP),
        (ANSWER, 0, 0, ALLOW),
    )


def copy(source: Path, target: Path) -> None:
    """Copy a file or a folder, with its times: they are part of its state."""
    shutil.copytree(source, target) if source.is_dir() else shutil.copy2(source, target)


def publish(path: Path, new: Path, begin: Callable[[], None]) -> None:
    """Publish; the part that counts begins as the new output is complete."""
    with publishing(path, replace=True) as part:
        copy(new, part)
        begin()


class Publisher:
    """
    A process that publishes, and is stopped before every call that may change something.

    Its threads run on, for they only bring files to the disk; how many there are is a matter of speed.
    """

    def __init__(self, path: Path, new: Path, *, steps: bool) -> None:
        self.process = os.fork()
        if self.process == 0:
            publish_as_a_child(path, new, steps=steps)
        _, status = os.waitpid(self.process, 0)
        if not os.WIFSTOPPED(status):
            sys.exit(f"the publisher ended with {status} before it began")
        trace(SET_OPTIONS, self.process, 0, STOP_AT_FILTER | TRACE_THREADS)

    def stops(self) -> Iterator[int]:
        """Give the number of each call that it is about to make; it makes it when the next one is asked for."""
        trace(CONT, self.process, 0, 0)
        while True:
            thread, status = os.waitpid(-1, ALSO_THREADS)
            if not os.WIFSTOPPED(status):
                if status != 0:
                    sys.exit(f"the publisher ended with {status}")
                if thread == self.process:
                    return
                continue
            if thread == self.process and status >> 16 == STOPPED_AT_FILTER:
                info = ctypes.create_string_buffer(CALL_INFO.size)
                trace(GET_CALL, thread, CALL_INFO.size, ctypes.addressof(info))
                yield CALL_INFO.unpack(info)[0]
            sent = os.WSTOPSIG(status)
            trace(CONT, thread, 0, 0 if sent in (signal.SIGSTOP, signal.SIGTRAP) else sent)

    def kill(self) -> None:
        os.kill(self.process, signal.SIGKILL)
        while os.waitpid(-1, ALSO_THREADS)[0] != self.process:
            pass


def trace(request: int, thread: int, address: int, data: int) -> None:
    if LIBC.ptrace(request, thread, address, data) < 0:
        raise OSError(ctypes.get_errno(), f"ptrace {request:#x}")


def publish_as_a_child(path: Path, new: Path, *, steps: bool) -> None:
    def begin() -> None:
        os.kill(os.getpid(), signal.SIGSTOP)
        stop_at_changes()

    try:
        if steps:
            deny_renameat2()
        LIBC.ptrace(TRACEME, 0, None, None)
        publish(path, new, begin)
    except BaseException as error:  # noqa: BLE001 - nothing of the parent may run on in the child
        os.write(2, repr(error).encode())
        os._exit(1)
    os._exit(0)


def changing_calls(path: Path, new: Path, *, steps: bool) -> tuple[list[int], list[int]]:
    """Publish; return all calls that may change something, and at which of them the folder is another one."""
    calls, changed, known = [], [], None
    for call in Publisher(path, new, steps=steps).stops():
        calls.append(call)
        state = snapshot(path.parent)
        if state != known:
            changed.append(len(calls))
        known = state
    return calls, changed


def publish_until(path: Path, new: Path, calls: list[int], *, steps: bool) -> None:
    """Publish in another process, and kill it before the last one of these calls."""
    publisher = Publisher(path, new, steps=steps)
    made = []
    for call in publisher.stops():
        made.append(call)
        if len(made) == len(calls):
            break
    if made != calls:
        sys.exit(f"a publisher made other calls than the one before it: {made}, {calls}")
    publisher.kill()


def snapshot(folder: Path) -> list[tuple[str, int, int]]:
    """Return all that is in a folder; without ``Path``, for it is called at each of hundreds of stops."""
    found, folders = [], [str(folder)]
    for here in folders:
        with os.scandir(here) as entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:  # NFS removes a .nfs* file, which somebody had open, when it likes.
                    continue
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


def begin_with(old: Path, path: Path) -> None:
    """Have a folder of a path's own, with the old output in it or, if that is not there, nothing."""
    shutil.rmtree(path.parent, ignore_errors=True)
    path.parent.mkdir()
    if old.name != "nothing":
        copy(old, path)


def main(made: Path, old_name: str, new_name: str, how: str, again: str = "") -> None:
    """Kill in every state that the folder goes through, and have each of those come next that may."""
    folder, old, new = made / "run", made / old_name, made / new_name
    path, seen = folder / "a.nwb", Path(again or made) / "run" / "a.nwb"
    contents = {"nothing": None, new_name: content(new)}
    if old_name != "nothing":
        contents[old_name] = content(old)
    before: Counter[str] = Counter()
    after: Counter[str] = Counter()
    # Here, for all that is imported on first use: not again in each publisher.
    begin_with(old, path)
    for _ in range(2):
        publish(path, new, lambda: None)
    begin_with(old, path)
    calls, changed = changing_calls(path, new, steps=how == "steps")
    if content(seen) != contents[new_name]:
        sys.exit("what was published is not at its path")
    for comes_next in (read, mend, write):
        for number in changed:
            begin_with(old, path)
            publish_until(path, new, calls[:number], steps=how == "steps")
            before["there" if os.path.lexists(path) else "absent"] += 1
            look_again(seen.parent)
            comes_next(seen)
            found = [name for name, known in contents.items() if known == content(seen)]
            if not found or (found == ["nothing"] and old_name != "nothing"):
                sys.exit(f"killed at stop {number}: {sorted(entry.name for entry in folder.iterdir())}")
            after[found[0]] += 1
    print(json.dumps({"before": before, "after": after}))  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
