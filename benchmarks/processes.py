"""Both sides in turn, each run in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

Figures = dict[str, float]


def run_script(python: Path, script: Path, *arguments: object, under: Sequence[object] = ()) -> Figures:
    """
    Run a script that prints its figures as JSON in its last line.

    Adds those of the whole process, imports included: ``process_wall_seconds``, ``process_cpu_seconds`` and
    ``process_peak_mib``.

    :param under: Command that starts the process, such as one that limits its memory.
    """
    command = [str(word) for word in (*under, python, "-W", "ignore", script, *arguments)]
    with tempfile.TemporaryFile() as printed, tempfile.TemporaryFile() as errors:
        begun = time.monotonic()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=printed, stderr=errors)
        # Unlike communicate(), this tells what this one process took.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.monotonic() - begun
        printed.seek(0)
        errors.seek(0)
        if process.returncode:
            message = errors.read().decode(errors="replace")
            raise SystemExit(f"{' '.join(command)} failed with {process.returncode}:\n{message}")
        figures: Figures = json.loads(printed.read().splitlines()[-1])
    return figures | {
        "process_wall_seconds": wall,
        "process_cpu_seconds": usage.ru_utime + usage.ru_stime,
        "process_peak_mib": usage.ru_maxrss / 1024,
    }


def in_turn(
    rounds: int, sides: Mapping[str, Callable[[], Figures]], *, both_ways: bool = False
) -> dict[str, list[Figures]]:
    """
    Run each side once a round, A B A B, so that what else the machine does falls on both.

    :param both_ways: Turn the order around in every second round, A B B A: for sides of which one leaves a server
        slower than the other does.
    """
    found: dict[str, list[Figures]] = {who: [] for who in sides}
    for number in range(rounds):
        for who in reversed(sides) if both_ways and number % 2 else sides:
            found[who].append(sides[who]())
            print(f"  {who:16} {found[who][-1].get('wall_seconds', float('nan')):8.2f} s", flush=True)
    return found


def remove(path: Path) -> None:
    """Remove what a run wrote: a file or a tree."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
