"""
One conversion, with or without a report, in a process of its own; prints what each cost, as JSON.

Called with a ScanImage file, how many times over to convert it and 1 for a report; or with ``terabyte``.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

MEMORY, SAMPLE = 256 * 2**20, 128 * 2**20
SHAPE = (2_000_000, 512, 512)
METADATA = {"NWBFile": {"session_start_time": "2026-11-22T09:30:00+00:00"}}


def main() -> None:
    """Run what the command line says."""
    with tempfile.TemporaryDirectory(prefix="ophys-bench-") as folder:
        path = Path(folder) / "movie.nwb"
        if sys.argv[1] == "terabyte":
            figures = report(write_terabyte(path), sample=SAMPLE)
        else:
            figures = convert(Path(sys.argv[1]), int(sys.argv[2]), path, with_report=sys.argv[3] == "1")
    print(json.dumps(figures))


def timed(work: Any) -> dict[str, float]:
    """Tell what some work costs."""
    wall, cpu = time.monotonic(), time.process_time()
    work()
    return {"wall": time.monotonic() - wall, "cpu": time.process_time() - cpu}


def convert(source: Path, times: int, path: Path, *, with_report: bool) -> dict[str, float]:
    """Write the movie, taking statistics of its frames if there is to be a report, and make that."""
    # Beside this script, which runs by its path.
    from convert import repeated
    from roiextractors import ScanImageImagingExtractor

    from airflow_provider_ophys.conversion.additions import MovieAddition
    from airflow_provider_ophys.conversion.movie_statistics import STATISTICS_SUFFIX
    from airflow_provider_ophys.conversion.output import WriteOptions, prepare_output, write_nwbfile
    from airflow_provider_ophys.models.metadata import validate_metadata
    from airflow_provider_ophys.writing.memory import PeakMemory

    movie = ScanImageImagingExtractor(file_path=source)
    addition = MovieAddition(repeated(movie, times) if times > 1 else movie, METADATA, {})
    options = WriteOptions(watch=with_report)
    metadata = validate_metadata(METADATA)
    with PeakMemory() as memory:
        cost = timed(
            lambda: write_nwbfile(prepare_output(path, [addition], metadata=metadata, options=options), options)
        )
    figures = {
        "wall_seconds": cost["wall"],
        "conversion_seconds": cost["cpu"],
        "peak_mib": memory.peak_bytes / 2**20,
    }
    if with_report:
        drawn = report(path, statistics=path.with_name(path.name + STATISTICS_SUFFIX))
        figures |= {name: drawn[name] for name in ("report_seconds", "imports_seconds")}
    return figures


def report(path: Path, **options: Any) -> dict[str, float]:
    """Report on a file."""
    import pynwb  # noqa: F401 - the conversion has it already

    from airflow_provider_ophys.writing.memory import PeakMemory

    started = time.process_time()
    from airflow_provider_ophys.report.files import write_report
    from airflow_provider_ophys.writing.sharing import Resources

    imported = time.process_time() - started
    with PeakMemory() as memory:
        cost = timed(lambda: write_report(path, path.parent, path.name, Resources(MEMORY, 1), **options))
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
