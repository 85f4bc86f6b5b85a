"""Both sides in turn, each run in a process of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

Figures = dict[str, float]


def run_script(python: Path, script: Path, *arguments: object, under: tuple[object, ...] = ()) -> Figures:
    """
    Run a script that prints its figures as JSON in its last line.

    :param under: Command that starts the process, such as one that puts it into a control group.
    """
    command = [str(word) for word in (*under, python, "-W", "ignore", script, *arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed with {done.returncode}:\n{done.stderr}")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def in_turn(rounds: int, sides: Mapping[str, Callable[[], Figures]]) -> dict[str, list[Figures]]:
    """Run each side once a round, A B A B, so that what else the machine does falls on both."""
    found: dict[str, list[Figures]] = {who: [] for who in sides}
    for _ in range(rounds):
        for who, run in sides.items():
            found[who].append(run())
            print(f"  {who:6} {found[who][-1].get('wall_seconds', float('nan')):8.2f} s", flush=True)
    return found


def remove(path: Path) -> None:
    """Remove what a run wrote: a file or a tree."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
