"""
What watching costs: one look at many folders and at many files, and how soon a complete folder is handed over.

    make bench ONLY=acquisition            # 10,000 folders, a folder with 100,000 files
    make bench ONLY=acquisition QUICK=1    # a twentieth of that: for correctness, not for figures
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from airflow_provider_ophys.acquisition import AcquisitionOptions, AcquisitionWatch
from airflow_provider_ophys.triggers.acquisition import AcquisitionFolderTrigger
from benchmarks.rows import Row

ROUNDS = 3
FILES_PER_FOLDER = 3
SETTLE_SECONDS, POKE_INTERVAL = 2.0, 1.5


class Ledger(dict[str, Any]):
    """A ledger in memory, so that the look is measured and not the database behind it."""

    def set(self, key: str, value: Any) -> None:
        self[key] = value


def fill(folder: Path, num_files: int) -> None:
    """Make a folder with small files."""
    folder.mkdir(parents=True)
    for number in range(num_files):
        (folder / f"frame_{number:06}.tif").write_bytes(b"x")


def seconds_per_look(root: Path, *, handed_over: bool) -> list[float]:
    """Look a few times at a watched folder, whose acquisitions are new or were all handed over."""
    # They never become complete, so that every look is at new folders.
    wanted = {} if handed_over else {"marker_file": "DONE"}
    watch = AcquisitionWatch(AcquisitionOptions.create(path=root, settle_seconds=0, **wanted), Ledger())
    watch.refresh()
    for acquisition in watch.ready():
        watch.record(acquisition, "the benchmark")
    taken = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        watch.refresh()
        if watch.ready():
            raise SystemExit("A look found a folder that should not have been there.")
        taken.append(time.perf_counter() - begun)
    return taken


async def seconds_to_hand_over(root: Path) -> list[float]:
    """Put folders into a watched one, at odd moments, and wait for their events."""
    trigger = AcquisitionFolderTrigger(path=root, settle_seconds=SETTLE_SECONDS, poke_interval=POKE_INTERVAL)
    trigger.asset_state_store = Ledger()
    events = trigger.run()
    taken = []
    for number in range(5):
        awaited = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0.3 * number)
        fill(root / f"rec{number}", FILES_PER_FOLDER)
        complete = time.perf_counter()
        await awaited
        taken.append(time.perf_counter() - complete)
    await events.aclose()
    return taken


def measure(root: Path, scale: int) -> dict[str, list[float]]:
    """Take all figures, in a folder that is removed afterwards."""
    num_folders, num_files = 10_000 // scale, 100_000 // scale
    for number in range(num_folders):
        fill(root / "many" / f"rec{number:05}", FILES_PER_FOLDER)
    fill(root / "big" / "rec", num_files)
    (root / "latency").mkdir()
    of_three = f"{num_folders:,} {{}} folders of {FILES_PER_FOLDER} files, s per look"
    return {
        of_three.format("new"): seconds_per_look(root / "many", handed_over=False),
        of_three.format("handed-over"): seconds_per_look(root / "many", handed_over=True),
        f"1 new folder of {num_files:,} files, s per look": seconds_per_look(root / "big", handed_over=False),
        f"complete to event, s (settle {SETTLE_SECONDS:g}, interval {POKE_INTERVAL:g})": asyncio.run(
            seconds_to_hand_over(root / "latency")
        ),
    }


def run(*, quick: bool) -> list[Row]:
    """Measure in a folder of its own."""
    root = Path(tempfile.mkdtemp(prefix="ophys-bench-"))
    try:
        results = measure(root, scale=20 if quick else 1)
    finally:
        shutil.rmtree(root)
    return [Row("watching", name, values) for name, values in results.items()]
