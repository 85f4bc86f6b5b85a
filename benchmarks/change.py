"""
One step of what happens to a session over time, in a process of its own; prints its cost.

``append WHO ROUNDS FILE ...`` adds 100 ROIs to a copy of each file, by this package or the reference ("ours",
"theirs"), once more before that is measured, as in a worker that has all loaded. ``session``, ``movie`` and
``cells`` convert a simulated acquisition, or a part of it: ``session FOLDER FILE``. ``repeat FOLDER FILE
DESTINATION`` converts and stages it as tasks do that are cleared.

Runs in either environment, so it imports nothing but the standard library before it knows which.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.segment import START_TIME, simulate, start_of_peak_kib, status_kib

NUM_ROIS, NUM_SAMPLES = 100, 1000
METADATA = {"NWBFile": {"session_start_time": START_TIME}}

Step = Callable[[], Any]


def append(who: str, rounds: int, outputs: list[Path]) -> dict[str, list[dict[str, float]]]:
    """Add cells to copies of files, which are made before; return what each took, by the file's name."""
    if who == "ours":
        from airflow_provider_ophys.nwb import write_segmentation_to_nwbfile as write
    else:
        from neuroconv.tools.roiextractors import write_segmentation_to_nwbfile as write
    segmentation = simulate("pixel", NUM_ROIS, NUM_SAMPLES)
    found: dict[str, list[dict[str, float]]] = {output.name: [] for output in outputs}
    warm_up = {output.suffixes[-1]: output for output in reversed(outputs)}.values()
    for output in [*warm_up, *outputs * rounds]:
        copy = output.with_name(f"changed-{output.name}")
        subprocess.run(["cp", "-r", "--reflink=auto", output, copy], check=True)
        os.sync()
        add = partial(write, segmentation, nwbfile_path=copy, metadata={}, append_on_disk_nwbfile=True)
        found[output.name].append(measure(add))
        subprocess.run(["rm", "-r", copy], check=True)
    for output in warm_up:
        del found[output.name][0]
    return found


def parts_of(acquisition: Path) -> dict[str, list[dict[str, Any]]]:
    """Say what a simulated acquisition holds."""
    movie = {"file_path": str(acquisition / "movie.tif")}
    cells = {"folder_path": str(acquisition / "suite2p")}
    return {
        "imaging": [{"extractor": "ScanImageImagingExtractor", "extractor_kwargs": movie}],
        "segmentation": [{"extractor": "Suite2pSegmentationExtractor", "extractor_kwargs": cells}],
    }


def prepare_session(what: str, acquisition: Path, output: Path) -> Step:
    """Import what converts; return what converts a session, its movie, or adds its cells."""
    from airflow_provider_ophys.conversion import write_session

    parts = parts_of(acquisition)
    if what != "session":
        del parts["segmentation" if what == "movie" else "imaging"]
    how = "append" if what == "cells" else "reuse"

    def convert() -> None:
        write_session({**parts, "metadata": METADATA}, output, if_exists=how)

    return convert


def prepare_repeat(acquisition: Path, output: Path, destination: str) -> Step:
    """Import what converts and stages; return what does both, and tells how long each took."""
    from airflow.sdk.lineage import get_hook_lineage_collector

    from airflow_provider_ophys.conversion import write_session
    from airflow_provider_ophys.hooks.s3 import OphysS3Hook

    get_hook_lineage_collector()
    session = {**parts_of(acquisition), "metadata": METADATA}

    def repeat() -> dict[str, float]:
        begun = time.monotonic()
        write_session(session, output)
        written = time.monotonic()
        result = OphysS3Hook().publish(output, destination)
        staged = time.monotonic()
        return {
            "write_seconds": written - begun,
            "stage_seconds": staged - written,
            "sent_bytes": result.sent_bytes,
            "copied_bytes": result.copied_bytes,
        }

    return repeat


def io_bytes(name: str) -> int:
    """Read from the kernel how much this process has read, or given to a disk."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def measure(step: Step) -> dict[str, float]:
    """Do one step; its cost without the imports."""
    gc.collect()
    held = start_of_peak_kib()
    read, given = io_bytes("rchar"), io_bytes("write_bytes")
    cpu, wall = time.process_time(), time.monotonic()
    found = step()
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    return {
        "wall_seconds": wall,
        "cpu_seconds": cpu,
        "peak_mib": (status_kib("VmHWM") - held) / 1024,
        "read_mb": (io_bytes("rchar") - read) / 1e6,
        "written_mb": (io_bytes("write_bytes") - given) / 1e6,
        **(found if isinstance(found, dict) else {}),
    }


def main(what: str, first: str, *others: str) -> None:
    """Prepare and measure."""
    if what == "append":
        print(json.dumps({"runs": append(first, int(others[0]), [Path(output) for output in others[1:]])}))
        return
    if what == "repeat":
        step = prepare_repeat(Path(first), Path(others[0]), others[1])
    else:
        step = prepare_session(what, Path(first), Path(others[0]))
    print(json.dumps(measure(step)))


if __name__ == "__main__":
    main(*sys.argv[1:])
