"""Writing masks and traces: many ROIs as lists of pixels with long traces, and dense masks as images."""

from __future__ import annotations

from pathlib import Path

from benchmarks.inputs import HOME, pythons
from benchmarks.processes import Figures, in_turn, remove, run_script
from benchmarks.rows import Row, rows_of

SCRIPT = Path(__file__).with_name("segment.py")

NAMES = {
    "wall_seconds": "wall, s",
    "cpu_seconds": "CPU, s",
    "peak_mib": "peak memory over the segmentation, MiB",
    "size_mb": "size, MB",
}
TARGETS = {
    "pixel": {"wall_seconds": 12.0, "size_mb": 1.0},
    "image": {"wall_seconds": 15.0, "peak_mib": 10.0, "size_mb": 1.0},
}


def write(python: Path, who: str, mask_type: str, num_rois: int, num_samples: int) -> Figures:
    """Write a segmentation in a new process, and remove what it wrote."""
    output = HOME / f"{who}-{mask_type}.nwb"
    HOME.mkdir(exist_ok=True)
    try:
        return run_script(python, SCRIPT, who, mask_type, num_rois, num_samples, output)
    finally:
        remove(output)


def run(*, quick: bool) -> list[Row]:
    """Measure both kinds of masks, each as the extractor has them."""
    cases = {"pixel": (20_000, 3_000), "image": (1_000, 300)}
    if quick:
        cases = {"pixel": (500, 300), "image": (50, 100)}
    rows = []
    for mask_type, (num_rois, num_samples) in cases.items():
        sides = {
            who: lambda who=who, python=python: write(python, who, mask_type, num_rois, num_samples)  # noqa: B023
            for who, python in pythons().items()
        }
        section = f"{num_rois} {mask_type} masks of 512 x 512, {num_samples} samples"
        runs = in_turn(1 if quick else 3, sides)
        rows += rows_of(section, runs, NAMES, TARGETS[mask_type])
    return rows
