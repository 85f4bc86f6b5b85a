"""
One segmentation, made up in memory, written in a process of its own by this package or the reference ("ours",
"theirs"); prints its cost.

Runs in either environment, so it imports nothing but the standard library before it knows which.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

START_TIME = "2026-11-22T09:30:00+00:00"
FRAME_SHAPE = (512, 512)
RADIUS = 6  # 113 pixels


def simulate(mask_type: str, num_rois: int, num_samples: int) -> Any:
    """
    Make a segmentation: discs of 113 pixels at random places, and noisy float32 traces.

    :param mask_type: ``"pixel"`` or ``"image"``: how the extractor itself has the masks.
    :returns: A roiextractors ``SegmentationExtractor``.
    """
    import numpy as np
    from roiextractors.segmentationextractor import SegmentationExtractor, _ROIMasks, _RoiResponse

    class SimulatedSegmentation(SegmentationExtractor):
        extractor_name = "SimulatedSegmentation"

        def get_frame_shape(self) -> tuple[int, int]:
            return FRAME_SHAPE

        def get_native_timestamps(self, start_sample: Any = None, end_sample: Any = None) -> None:  # noqa: ARG002
            return None

    random = np.random.default_rng(0)
    steps = np.arange(-RADIUS, RADIUS + 1)
    rows, columns = np.nonzero(steps[:, None] ** 2 + steps**2 <= RADIUS**2)
    disc = np.column_stack([rows, columns, np.ones(len(rows))])
    corners = random.integers(0, FRAME_SHAPE[0] - 2 * RADIUS, (num_rois, 2))
    discs = [disc + np.array([row, column, 0]) for row, column in corners]
    for mask in discs:
        mask[:, 2] = random.random(len(mask))
    masks: Any = discs
    if mask_type == "image":
        masks = np.zeros((*FRAME_SHAPE, num_rois), dtype=np.float32)
        for roi, mask in enumerate(discs):
            masks[mask[:, 0].astype(int), mask[:, 1].astype(int), roi] = mask[:, 2]
    ids = list(range(num_rois))
    segmentation = SimulatedSegmentation()
    segmentation._sampling_frequency = 30.0  # noqa: SLF001 - roiextractors has no other way in
    segmentation._roi_ids = ids  # noqa: SLF001
    segmentation._roi_masks = _ROIMasks(  # noqa: SLF001
        masks, f"nwb-{mask_type}_mask", FRAME_SHAPE, {roi: roi for roi in ids}
    )
    traces = random.poisson(50, (num_samples, num_rois)).astype(np.float32)
    segmentation._roi_responses = [_RoiResponse("raw", traces, ids)]  # noqa: SLF001
    return segmentation


def prepare(who: str, mask_type: str, output: Path) -> Any:
    """Import what does the work; return what does it to a segmentation."""
    if who == "ours":
        from airflow_provider_ophys.nwb import write_segmentation_to_nwbfile

        def write(segmentation: Any) -> None:
            metadata = {"NWBFile": {"session_start_time": START_TIME}}
            write_segmentation_to_nwbfile(segmentation, output, metadata=metadata, mask_type=mask_type)

        return write
    from datetime import datetime

    from neuroconv.tools.roiextractors import write_segmentation_to_nwbfile as theirs

    def write_with_neuroconv(segmentation: Any) -> None:
        metadata = {"NWBFile": {"session_start_time": datetime.fromisoformat(START_TIME)}}
        # It writes the masks as the extractor has them, whatever mask_type says.
        theirs(segmentation, nwbfile_path=output, metadata=metadata, mask_type=mask_type, backend="hdf5")

    return write_with_neuroconv


def start_of_peak_kib() -> int:
    """Forget the peak of the simulation, which is more than that of the writing; return what is held now."""
    Path("/proc/self/clear_refs").write_text("5")
    return status_kib("VmRSS")


def status_kib(field: str) -> int:
    """Read a size of this process from the kernel, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def measure(who: str, mask_type: str, num_rois: int, num_samples: int, output: Path) -> dict[str, float]:
    """Write one segmentation; wall and CPU seconds without imports and simulation, peak memory over them."""
    write = prepare(who, mask_type, output)
    segmentation = simulate(mask_type, num_rois, num_samples)
    held = start_of_peak_kib()
    cpu, wall = time.process_time(), time.monotonic()
    write(segmentation)
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    return {
        "wall_seconds": wall,
        "cpu_seconds": cpu,
        "peak_mib": (status_kib("VmHWM") - held) / 1024,
        "size_mb": output.stat().st_size / 1e6,
        "files": 1,
    }


if __name__ == "__main__":
    _, who, mask_type, num_rois, num_samples, output = sys.argv
    print(json.dumps(measure(who, mask_type, int(num_rois), int(num_samples), Path(output))))
