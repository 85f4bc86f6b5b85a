"""
One conversion in a process of its own, by this package or the reference ("ours", "theirs"); prints its cost.

Runs in either environment, so it imports nothing but the standard library before it knows which.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

START_TIME = "2026-11-22T09:30:00+00:00"


def convert_with_ours(source: Path, output: Path, backend: str) -> Any:
    """Prepare a conversion by this package; return what does it."""
    from roiextractors import ScanImageImagingExtractor

    from airflow_provider_ophys.nwb import write_imaging_to_nwbfile

    def run() -> None:
        imaging = ScanImageImagingExtractor(file_path=source)
        metadata = {"NWBFile": {"session_start_time": START_TIME}}
        write_imaging_to_nwbfile(imaging, output, metadata=metadata, backend=backend)

    return run


def convert_with_neuroconv(source: Path, output: Path, backend: str) -> Any:
    """Prepare a conversion by neuroconv; return what does it."""
    from datetime import datetime

    from neuroconv.tools.roiextractors import write_imaging_to_nwbfile
    from neuroconv.tools.roiextractors.roiextractors import get_full_ophys_metadata
    from roiextractors import ScanImageImagingExtractor

    def run() -> None:
        imaging = ScanImageImagingExtractor(file_path=source)
        # Without metadata it stops with KeyError: 'Ophys', and it writes the series of this key only.
        metadata = get_full_ophys_metadata()
        metadata["NWBFile"] = {"session_start_time": datetime.fromisoformat(START_TIME)}
        series = metadata["Ophys"]["MicroscopySeries"]
        series["default_metadata_key"] = series.pop("my_series")
        write_imaging_to_nwbfile(imaging, nwbfile_path=output, metadata=metadata, backend=backend)

    return run


def measure(who: str, backend: str, source: Path, output: Path) -> dict[str, float]:
    """Run one conversion; wall and CPU seconds without the imports, peak memory over that after them."""
    prepare = {"ours": convert_with_ours, "theirs": convert_with_neuroconv}[who]
    begun = time.monotonic()
    run = prepare(source, output, backend)
    import_seconds = time.monotonic() - begun
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cpu, wall = time.process_time(), time.monotonic()
    run()
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    files = [output] if output.is_file() else [file for file in output.rglob("*") if file.is_file()]
    return {
        "wall_seconds": wall,
        "cpu_seconds": cpu,
        "import_seconds": import_seconds,
        "peak_mib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held) / 1024,
        "size_mb": sum(file.stat().st_size for file in files) / 1e6,
        "files": len(files),
    }


if __name__ == "__main__":
    _, who, backend, source, output = sys.argv
    print(json.dumps(measure(who, backend, Path(source), Path(output))))
