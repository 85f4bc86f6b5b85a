"""
One conversion in a process of its own, by this package or the reference ("ours", "theirs"); prints its cost.

Runs in either environment, so it imports nothing but the standard library before it knows which. Called with who,
backend, source (.tif of ScanImage, or .npy), output and options as JSON: ``threads``, ``compression`` and
``memory_limit`` as in this package, ``repeat`` (the movie so many times over), ``calls`` (so many files),
``fork`` (convert in a fork of a process that has imported everything, as a preloaded worker does), ``check``
(compare every frame with the source).
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

START_TIME = "2026-11-22T09:30:00+00:00"
OURS = ("threads", "compression", "memory_limit")

Conversion = Callable[[Path], object]


def open_source(source: Path, repeat: int) -> Any:
    """Open the movie."""
    if source.suffix == ".npy":
        import numpy as np
        from roiextractors import NumpyImagingExtractor

        # With an axis of planes: without one it takes the last for it.
        return NumpyImagingExtractor(np.load(source)[..., np.newaxis], sampling_frequency=30.0)
    from roiextractors import ScanImageImagingExtractor

    movie = ScanImageImagingExtractor(file_path=source)
    return repeated(movie, repeat) if repeat > 1 else movie


def repeated(movie: Any, times: int) -> Any:
    """Make a long movie of a short one, without a long file."""
    import numpy as np
    from roiextractors import ImagingExtractor

    class RepeatedMovie(ImagingExtractor):  # type: ignore[misc]
        extractor_name = "RepeatedMovie"

        def get_image_shape(self) -> Any:
            return movie.get_image_shape()

        def get_sample_shape(self) -> Any:
            return movie.get_sample_shape()

        def get_num_samples(self) -> int:
            return int(movie.get_num_samples()) * times

        def get_sampling_frequency(self) -> float:
            return float(movie.get_sampling_frequency())

        def get_dtype(self) -> Any:
            return movie.get_dtype()

        def get_native_timestamps(self, start_sample: Any = None, end_sample: Any = None) -> None:  # noqa: ARG002
            return None

        def get_series(self, start_sample: int, end_sample: int) -> Any:
            length = movie.get_num_samples()
            parts = []
            while start_sample < end_sample:
                stop = min(end_sample, (start_sample // length + 1) * length)
                parts.append(movie.get_series(start_sample % length, (stop - 1) % length + 1))
                start_sample = stop
            return parts[0] if len(parts) == 1 else np.concatenate(parts)

    return RepeatedMovie()


def convert_with_ours(source: Path, backend: str, options: dict[str, Any]) -> Conversion:
    """Import what a conversion by this package needs; return what does it."""
    import roiextractors  # noqa: F401

    from airflow_provider_ophys.nwb import write_imaging_to_nwbfile

    if backend == "zarr":
        import hdmf_zarr  # noqa: F401

    def run(output: Path) -> None:
        imaging = open_source(source, options.get("repeat", 1))
        metadata = {"NWBFile": {"session_start_time": START_TIME}}
        given = {name: options[name] for name in OURS if name in options}
        write_imaging_to_nwbfile(imaging, output, metadata=metadata, backend=backend, **given)

    return run


def convert_with_neuroconv(source: Path, backend: str, options: dict[str, Any]) -> Conversion:
    """Import what a conversion by neuroconv needs; return what does it."""
    from datetime import datetime

    from neuroconv.tools.roiextractors import write_imaging_to_nwbfile
    from neuroconv.tools.roiextractors.roiextractors import get_full_ophys_metadata

    def run(output: Path) -> None:
        imaging = open_source(source, options.get("repeat", 1))
        # Without metadata it stops with KeyError: 'Ophys', and it writes the series of this key only.
        metadata = get_full_ophys_metadata()
        metadata["NWBFile"] = {"session_start_time": datetime.fromisoformat(START_TIME)}
        series = metadata["Ophys"]["MicroscopySeries"]
        series["default_metadata_key"] = series.pop("my_series")
        write_imaging_to_nwbfile(imaging, nwbfile_path=output, metadata=metadata, backend=backend)

    return run


def measure(who: str, backend: str, source: Path, output: Path, options: dict[str, Any]) -> dict[str, float]:
    """Convert once; wall and CPU seconds without the imports, peak memory over that after them."""
    prepare = {"ours": convert_with_ours, "theirs": convert_with_neuroconv}[who]
    begun = time.monotonic()
    run = prepare(source, backend, options)
    import_seconds = time.monotonic() - begun
    if options.get("fork"):
        figures = in_a_fork(run, output)
    else:
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        cpu, wall = time.process_time(), time.monotonic()
        for call in range(options.get("calls", 1)):
            run(output.with_stem(f"{output.stem}-{call}") if call else output)
        figures = {
            "wall_seconds": time.monotonic() - wall,
            "cpu_seconds": time.process_time() - cpu,
            "peak_mib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held) / 1024,
        }
    if options.get("check"):
        compare(source, output)
    return figures | {"import_seconds": import_seconds} | on_disk(output)


def in_a_fork(run: Conversion, output: Path) -> dict[str, float]:
    """Convert as the task of a worker that has imported everything."""
    begun = time.monotonic()
    child = os.fork()
    if child == 0:
        run(output)
        os._exit(0)
    _, status, usage = os.wait4(child, 0)
    if status:
        raise SystemExit(f"the forked conversion failed with {status}")
    return {"wall_seconds": time.monotonic() - begun, "cpu_seconds": usage.ru_utime + usage.ru_stime}


def on_disk(output: Path) -> dict[str, float]:
    """Size and files, of which those of the movie itself."""
    files = [output] if output.is_file() else [file for file in output.rglob("*") if file.is_file()]
    return {
        "size_mb": sum(file.stat().st_size for file in files) / 1e6,
        "files": len(files),
        "movie_files": sum("data" in file.relative_to(output).parts for file in files),
    }


def compare(source: Path, output: Path) -> None:
    """Stop unless every frame of an output is that of the source."""
    import h5py
    import numpy as np

    movie = open_source(source, 1)
    root: Any
    if output.is_file():
        root = h5py.File(output)
    else:
        import zarr

        root = zarr.open_group(output, mode="r")
    stored = root["acquisition/TwoPhotonSeries/data"]
    for start in range(0, movie.get_num_samples(), 16):
        stop = min(start + 16, movie.get_num_samples())
        if not np.array_equal(stored[start:stop], movie.get_series(start, stop).swapaxes(1, 2)):
            raise SystemExit(f"frames {start} to {stop - 1} are not those of the source")


if __name__ == "__main__":
    _, who, backend, source, output, options = sys.argv
    print(json.dumps(measure(who, backend, Path(source), Path(output), json.loads(options))))
