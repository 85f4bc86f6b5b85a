"""
One conversion and its report in a process of its own; prints what each cost, as JSON.

Called with a ScanImage file and how many times over to convert it; or with ``terabyte``.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

MEMORY = 256 * 2**20
SHAPE = (2_000_000, 512, 512)
METADATA = {"NWBFile": {"session_start_time": "2026-11-22T09:30:00+00:00"}}


def main() -> None:
    """Run what the command line says."""
    with tempfile.TemporaryDirectory(prefix="ophys-bench-") as folder:
        path = Path(folder) / "movie.nwb"
        if sys.argv[1] == "terabyte":
            figures = report(write_terabyte(path))
        else:
            conversion = timed(lambda: convert(Path(sys.argv[1]), int(sys.argv[2]), path))
            figures = report(path)
            figures |= {
                "wall_seconds": conversion["wall"],
                "conversion_seconds": conversion["cpu"],
                "share_percent": 100 * figures["report_seconds"] / conversion["cpu"],
                "wall_share_percent": 100 * figures["report_wall_seconds"] / conversion["wall"],
            }
    print(json.dumps(figures))


def timed(work: Any) -> dict[str, float]:
    """Tell what some work costs."""
    wall, cpu = time.monotonic(), time.process_time()
    work()
    return {"wall": time.monotonic() - wall, "cpu": time.process_time() - cpu}


def convert(source: Path, times: int, path: Path) -> None:
    """Write the movie."""
    # Beside this script, which runs by its path.
    from convert import repeated
    from roiextractors import ScanImageImagingExtractor

    from airflow_provider_ophys.nwb import write_imaging_to_nwbfile

    movie = ScanImageImagingExtractor(file_path=source)
    write_imaging_to_nwbfile(repeated(movie, times) if times > 1 else movie, path, metadata=METADATA)


def report(path: Path) -> dict[str, float]:
    """Report on a file."""
    import pynwb  # noqa: F401 - the conversion has it already

    from airflow_provider_ophys.writing.memory import PeakMemory

    started = time.process_time()
    from airflow_provider_ophys.report.files import write_report
    from airflow_provider_ophys.writing.sharing import Resources

    imported = time.process_time() - started
    with PeakMemory() as memory:
        cost = timed(lambda: write_report(path, path.parent, path.name, Resources(MEMORY, 1)))
    return {
        "imports_seconds": imported,
        "report_seconds": cost["cpu"],
        "report_wall_seconds": cost["wall"],
        "peak_mib": memory.peak_bytes / 2**20,
    }


def write_terabyte(path: Path) -> Path:
    """Write a movie of which all chunks are the same few on the disk."""
    import h5py
    import numpy as np
    from roiextractors import NumpyImagingExtractor

    from airflow_provider_ophys.nwb import write_imaging_to_nwbfile

    few = np.random.default_rng(0).poisson(100, (16, 512, 512, 1)).astype("uint16")
    write_imaging_to_nwbfile(NumpyImagingExtractor(few, sampling_frequency=30.0), path, metadata=METADATA)
    with h5py.File(path, "r+") as file:
        group = file["acquisition/TwoPhotonSeries"]
        attributes = dict(group["data"].attrs)
        file.move("acquisition/TwoPhotonSeries/data", "frames")
        layout = h5py.VirtualLayout(SHAPE, "uint16")
        for start in range(0, SHAPE[0], 2000):
            layout[start : start + 16] = h5py.VirtualSource(file["frames"])
        group.create_virtual_dataset("data", layout)
        group["data"].attrs.update(attributes)
    return path


if __name__ == "__main__":
    main()
