"""
Run a function whose system calls fail where a test says so, in whatever library they are made.

The kernel hands each call of a forked process to this one before it is made (seccomp's user notification), and
this one answers: go on, or fail with a number. Nothing has to be compiled, mounted or preloaded.
"""

from __future__ import annotations

import ctypes
import errno
import faulthandler
import fcntl
import gc
import json
import mmap
import os
import platform
import select
import signal
import socket
import struct
import sys
import traceback
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Number of each call on the processors that are known, and which of its arguments names the file: that of a
# descriptor, or of a text. ``*at`` calls have the folder's descriptor before the text.
DESCRIPTOR, TEXT, TEXT_AT = "descriptor", "text", "text at"
CALLS: dict[str, tuple[int | None, int | None, str, int]] = {
    "read": (0, 63, DESCRIPTOR, 0),
    "pread64": (17, 67, DESCRIPTOR, 0),
    "readv": (19, 65, DESCRIPTOR, 0),
    "preadv": (295, 69, DESCRIPTOR, 0),
    "write": (1, 64, DESCRIPTOR, 0),
    "pwrite64": (18, 68, DESCRIPTOR, 0),
    "writev": (20, 66, DESCRIPTOR, 0),
    "pwritev": (296, 70, DESCRIPTOR, 0),
    "sendfile": (40, 71, DESCRIPTOR, 0),
    "copy_file_range": (326, 285, DESCRIPTOR, 2),
    "fsync": (74, 82, DESCRIPTOR, 0),
    "fdatasync": (75, 83, DESCRIPTOR, 0),
    "ftruncate": (77, 46, DESCRIPTOR, 0),
    "fallocate": (285, 47, DESCRIPTOR, 0),
    "flock": (73, 32, DESCRIPTOR, 0),
    "fchmod": (91, 52, DESCRIPTOR, 0),
    "fchown": (93, 55, DESCRIPTOR, 0),
    "fstat": (5, 80, DESCRIPTOR, 0),
    "getdents64": (217, 61, DESCRIPTOR, 0),
    "lseek": (8, 62, DESCRIPTOR, 0),
    "mmap": (9, 222, DESCRIPTOR, 4),
    "open": (2, None, TEXT, 0),
    "openat": (257, 56, TEXT_AT, 0),
    "stat": (4, None, TEXT, 0),
    "lstat": (6, None, TEXT, 0),
    "newfstatat": (262, 79, TEXT_AT, 0),
    "statx": (332, 291, TEXT_AT, 0),
    "access": (21, None, TEXT, 0),
    "faccessat": (269, 48, TEXT_AT, 0),
    "faccessat2": (439, 439, TEXT_AT, 0),
    "readlink": (89, None, TEXT, 0),
    "readlinkat": (267, 78, TEXT_AT, 0),
    "statfs": (137, 43, TEXT, 0),
    "rename": (82, None, TEXT, 0),
    "renameat": (264, 38, TEXT_AT, 0),
    "renameat2": (316, 276, TEXT_AT, 0),
    "link": (86, None, TEXT, 0),
    "linkat": (265, 37, TEXT_AT, 0),
    "unlink": (87, None, TEXT, 0),
    "unlinkat": (263, 35, TEXT_AT, 0),
    "rmdir": (84, None, TEXT, 0),
    "mkdir": (83, None, TEXT, 0),
    "mkdirat": (258, 34, TEXT_AT, 0),
    "symlink": (88, None, TEXT, 1),
    "chmod": (90, None, TEXT, 0),
    "fchmodat": (268, 53, TEXT_AT, 0),
    "chown": (92, None, TEXT, 0),
    "fchownat": (260, 54, TEXT_AT, 0),
    "utimensat": (280, 88, TEXT_AT, 0),
    "listxattr": (194, 11, TEXT, 0),
    "getxattr": (191, 8, TEXT, 0),
    "setxattr": (188, 5, TEXT, 0),
}
MACHINES = ("x86_64", "aarch64")
MACHINE = platform.machine()

LIBC = ctypes.CDLL(None, use_errno=True)
NO_NEW_PRIVS, SET_FILTER, NEW_LISTENER = 38, 1, 8
ALLOW, NOTIFY = 0x7FFF0000, 0x7FC00000
# In what a filter sees of a call: after number, processor and place, the fourth of six arguments.
MAPPING_FLAGS_AT = 16 + 3 * 8
RECEIVE, SEND, CONTINUE = 0xC0502100, 0xC0182101, 1
NOTICE, ANSWER = struct.Struct("QIIiIQ6Q"), struct.Struct("QqiI")
LONGEST_PATH = 4096
HERE = -100

# In place of a number: the call goes well, and there is nothing more to read.
END_OF_FILE = -1


@dataclass(frozen=True)
class Call:
    """
    A call that a process is about to make.

    :param name: Of the call.
    :param path: Of the file, or of the folder.
    """

    name: str
    path: str


class ProcessDiedError(RuntimeError):
    """A signal ended the process; its name is the message."""


def why_not() -> str | None:
    """Say why calls cannot be made to fail on this machine."""
    if MACHINE not in MACHINES:
        return "knows the calls of two processors only"
    try:
        run_with_failures(lambda: None, lambda _: 0)
    except OSError as error:
        return f"the kernel hands no calls over: {error}"
    return None


def run_with_failures(function: Callable[[], Any], fails: Callable[[Call], int]) -> Any:
    """
    Run a function in a forked process, and decide on each of its calls.

    :param function: Returns something that is plain JSON.
    :param fails: Returns the number with which the call fails, ``END_OF_FILE``, or 0 for a call that is made.
    :returns: What the function returns.
    :raises ProcessDiedError: If a signal ended the process.
    :raises RuntimeError: If the process ended otherwise; has its trace.
    :raises OSError: If the kernel does not hand calls over.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    results, answers = os.pipe()
    process = os.fork()
    if process == 0:
        _run(function, theirs, answers)
    theirs.close()
    os.close(answers)
    with ours, os.fdopen(results, "rb") as stream:
        listener = _receive(ours)
        text = _decide(listener, fails, stream) if listener is not None else stream.read()
    _, status = os.waitpid(process, 0)
    if listener is None:
        raise OSError(int(text or errno.ENOSYS), os.strerror(int(text or errno.ENOSYS)))
    if os.WIFSIGNALED(status):
        raise ProcessDiedError(signal.Signals(os.WTERMSIG(status)).name)
    if status != 0:
        raise RuntimeError(f"ended with {os.waitstatus_to_exitcode(status)}: {text.decode()}")
    return json.loads(text)


def _run(function: Callable[[], Any], theirs: socket.socket, answers: int) -> None:
    """Be the process; never return."""
    code = 1
    # Some library's own handler would come back to the fault for ever.
    faulthandler.disable()
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)
    # What is collected may call, too.
    gc.disable()
    try:
        # The last thing that this process writes has to be written whatever happens.
        listener = _filter()
        if listener < 0:
            os.write(answers, str(ctypes.get_errno()).encode())
            os._exit(code)
        theirs.sendmsg([b"l"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [listener]))])
        os.close(listener)
        gc.enable()
        os.write(answers, json.dumps(function()).encode())
        code = 0
    except BaseException:  # noqa: BLE001 - nothing of the parent may run on in the child
        os.write(answers, traceback.format_exc().encode())
    finally:
        os._exit(code)


def _filter() -> int:
    """Have all known calls of this process handed over; return the descriptor on which they are."""
    known = {name: numbers[MACHINES.index(MACHINE)] for name, numbers in CALLS.items()}
    mapping = known.pop("mmap")
    numbers = sorted(number for number in known.values() if number is not None)
    # Load the call's number; jump to the last instruction where it is one of these.
    program = [(0x20, 0, 0, 0)]
    program += [(0x15, len(numbers) + 3 - at, 0, number) for at, number in enumerate(numbers)]
    # Memory without a file is nobody's matter. Python takes some whenever it likes, so also before there is
    # anybody to answer, who would then be waited for for ever.
    program += [(0x15, 0, 2, mapping), (0x20, 0, 0, MAPPING_FLAGS_AT), (0x45, 0, 1, mmap.MAP_ANONYMOUS)]
    program += [(0x06, 0, 0, ALLOW), (0x06, 0, 0, NOTIFY)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in program))
    head = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
    LIBC.prctl(NO_NEW_PRIVS, 1, 0, 0, 0)
    seccomp = {"x86_64": 317, "aarch64": 277}[MACHINE]
    return int(LIBC.syscall(seccomp, SET_FILTER, NEW_LISTENER, head))


def _receive(ours: socket.socket) -> int | None:
    message, ancillary, _, _ = ours.recvmsg(1, socket.CMSG_SPACE(4))
    return array("i", ancillary[0][2])[0] if message else None


def _decide(listener: int, fails: Callable[[Call], int], results: Any) -> bytes:
    """Answer to the calls until the process has written its result and ended."""
    names = {known[MACHINES.index(MACHINE)]: name for name, known in CALLS.items()}
    text, poll = b"", select.poll()
    poll.register(listener, select.POLLIN)
    poll.register(results.fileno(), select.POLLIN)
    try:
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == listener:
                    _answer(listener, names, fails)
                else:
                    piece = os.read(descriptor, 1 << 16)
                    if not piece:
                        return text
                    text += piece
    finally:
        os.close(listener)


def _answer(listener: int, names: dict[int | None, str], fails: Callable[[Call], int]) -> None:
    notice = bytearray(NOTICE.size)
    try:
        fcntl.ioctl(listener, RECEIVE, notice)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINTR):
            return  # the thread has ended
        raise
    number, thread, _, call, _, _, *arguments = NOTICE.unpack(notice)
    path = _path(thread, names[call], arguments)
    fault = fails(Call(names[call], path)) if path is not None else 0
    if fault == END_OF_FILE:
        answer = ANSWER.pack(number, 0, 0, 0)
    else:
        answer = ANSWER.pack(number, 0, -fault, 0 if fault else CONTINUE)
    try:
        fcntl.ioctl(listener, SEND, answer)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise


def _path(thread: int, call: str, arguments: list[int]) -> str | None:
    """Return the path of a call's file; ``None`` if it has none."""
    *_, kind, place = CALLS[call]
    try:
        if kind == DESCRIPTOR:
            path = str(Path(f"/proc/{thread}/fd/{_signed(arguments[place])}").readlink())
            return path if path.startswith("/") else None
        base = _signed(arguments[place]) if kind == TEXT_AT else HERE
        pointer = arguments[place + 1] if kind == TEXT_AT else arguments[place]
        text = _text(thread, pointer)
        folder = Path(f"/proc/{thread}/cwd" if base == HERE else f"/proc/{thread}/fd/{base}")
        return text if text.startswith("/") else str(folder.readlink() / text)
    except (OSError, ValueError, OverflowError):
        return None


def _signed(value: int) -> int:
    return ctypes.c_int(value & 0xFFFFFFFF).value


def _text(thread: int, pointer: int) -> str:
    with Path(f"/proc/{thread}/mem").open("rb", buffering=0) as memory:
        memory.seek(pointer)
        # The next page may not be there.
        content = memory.read(min(LONGEST_PATH, 4096 - pointer % 4096))
        if b"\0" not in content:
            content += memory.read(LONGEST_PATH)
    return os.fsdecode(content.split(b"\0")[0])


if __name__ == "__main__":
    sys.exit(why_not())
