"""
What changed is all that is paid for: adding to an output, staging it again, and repeating a task for nothing.

    make bench ONLY=changed            # outputs of 0.1, 1 and, where the disk has 40 GB, 8 GB, three rounds
    make bench ONLY=changed QUICK=1    # of 0.1 and 0.2 GB, one round

Adding is measured in the folder ``.bench`` and, by root, on XFS and btrfs in image files; neuroconv adds in place,
which a kill or a full disk leaves in pieces. The S3 server is the demo's, on this machine: it copies no faster
than it takes, so that here bytes tell more than seconds.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from airflow_provider_ophys.writing.copying import copy_output
from benchmarks import staging
from benchmarks.file_systems import PACKAGES, CannotMountError, mounted
from benchmarks.inputs import HOME, pythons, two_photon_movie
from benchmarks.processes import Figures, in_turn, remove, run_script
from benchmarks.rows import Row, rows_of
from demo.s3_server import S3Server

CHANGE = Path(__file__).with_name("change.py")
CONVERT = Path(__file__).with_name("convert.py")
HERE = "the disk of .bench"
BACKENDS = {"hdf5": "HDF5", "zarr": "Zarr"}
# Of a movie of 200 frames, not compressed.
FRAMES, MOVIE_GB = 200, 0.105
LARGE_GB, LARGE_FREE = 8, 40e9

SUFFIXES = {"hdf5": ".nwb", "zarr": ".zarr"}

# Who, backend, file system and size.
Runs = dict[tuple[str, str, str, float], list[Figures]]


@contextmanager
def folder_on(kind: str, folder: Path, gigabytes: float) -> Iterator[Path | None]:
    """Give a folder on a file system with room for some outputs; None if there can be none here."""
    if kind == HERE:
        yield folder
        return
    with ExitStack() as stack:
        try:
            point = stack.enter_context(mounted(kind, folder, int(gigabytes * 1.3 * 1000) + 500))
        except CannotMountError as error:
            print(f"  {error}", flush=True)
            yield None
        else:
            yield point


def make_output(folder: Path, backend: str, gigabytes: float) -> Path:
    """Write a movie that is not compressed."""
    output = folder / f"{gigabytes:g}-GB{SUFFIXES[backend]}"
    options = f'{{"compression": "none", "repeat": {max(1, round(gigabytes / MOVIE_GB))}}}'
    run_script(pythons()["ours"], CONVERT, "ours", backend, two_photon_movie(FRAMES), output, options)
    return output


def measure_appends(folder: Path, sizes: list[float], rounds: int) -> list[Row]:
    """Add to outputs of all sizes on all file systems."""
    runs: Runs = {}
    for size in sizes:
        outputs = {backend: make_output(folder, backend, size) for backend in BACKENDS}
        for kind in (HERE, *PACKAGES):
            with folder_on(kind, folder, 2 * size) as place:
                if place is None:
                    continue
                print(f"  {size:g} GB, {kind}", flush=True)
                there = {backend: place / output.name for backend, output in outputs.items()}
                if kind != HERE:
                    for backend, output in outputs.items():
                        copy_output(output, there[backend])
                whom = {"ours": list(BACKENDS), "theirs": ["hdf5"] if kind == HERE else []}
                for who, backends in whom.items():
                    if backends:
                        files = [there[backend] for backend in backends]
                        found: Any = run_script(pythons()[who], CHANGE, "append", who, rounds, *files)
                        for backend, file in zip(backends, files, strict=True):
                            runs[who, backend, kind, size] = found["runs"][file.name]
        for output in outputs.values():
            remove(output)
    return rows_of_appends(runs, sizes)


def rows_of_appends(runs: Runs, sizes: list[float]) -> list[Row]:
    """Compare with neuroconv in place, with a copy, and with the smallest output."""
    rows: list[Row] = []
    names = {"wall_seconds": "wall, s", "cpu_seconds": "CPU, s", "written_mb": "written, MB"}
    small, large = min(sizes), max(sizes)
    for (who, backend, kind, size), found in runs.items():
        if who == "theirs":
            continue
        section = f"append 100 ROIs to {size:g} GB, {BACKENDS[backend]}, {kind}"
        compared = {"neuroconv in place, HDF5": (runs["theirs", "hdf5", HERE, size], 1 / 1.5)}
        if (backend, kind) == ("hdf5", HERE):
            # What copying costs is told too; it has no target.
            compared = {"neuroconv in place, HDF5": (runs["theirs", "hdf5", HERE, size], None)}
        else:
            compared["copying, HDF5"] = (runs["ours", "hdf5", HERE, size], None)
            if size == large:
                compared[f"{small:g} GB"] = (runs["ours", backend, kind, small], 1 / 1.3)
        for reference, (theirs, target) in compared.items():
            targets = {"wall_seconds": target} if target else {}
            pair = {"ours": found, "theirs": theirs}
            rows += rows_of(f"{section}, beside {reference}", pair, names, targets, reference)
    return rows


def stage(output: Path, destination: str) -> Figures:
    """Stage an output in a new process."""
    os.sync()
    return run_script(pythons()["ours"], staging.SCRIPT, "ours", output, destination)


def measure_restaging(folder: Path, server: S3Server, gigabytes: float, rounds: int) -> list[Row]:
    """Stage an output, add to it, and stage it again."""
    rows: list[Row] = []
    for backend, named in BACKENDS.items():
        output = make_output(folder, backend, gigabytes)
        kept = output.with_name(f"kept-{output.name}")
        full, again = [], []
        for number in range(rounds):
            destination = f"s3://{server.bucket}/{number}/"
            copy_output(output, kept)
            full.append(stage(output, destination))
            run_script(pythons()["ours"], CHANGE, "cells", two_photon_movie(FRAMES).parent, output)
            again.append(stage(output, destination))
            remove(output)
            kept.rename(output)
        remove(output)
        names = {"publish_seconds": "wall without making the client, s", "sent_bytes": "bytes sent"}
        section = f"staging {named} of {gigabytes:g} GB with ROIs appended"
        targets = {"publish_seconds": 5, "sent_bytes": 50}
        rows += rows_of(section, {"ours": again, "theirs": full}, names, targets, "the same as new")
    return rows


def measure_session(folder: Path, acquisition: Path, rounds: int) -> list[Row]:
    """Convert a session with movie and cells in one task, and in two, processes and imports included."""
    output = folder / "session.nwb"

    def convert(*steps: str) -> Figures:
        remove(output)
        os.sync()
        found = [run_script(pythons()["ours"], CHANGE, step, acquisition, output) for step in steps]
        size = output.stat().st_size / 1e6
        summed = {name: sum(step[name] for step in found) for name in found[0]}
        peak = max(step["process_peak_mib"] for step in found)
        return {**summed, "process_peak_mib": peak, "written_ratio": summed["written_mb"] / size}

    found = in_turn(rounds, {"theirs": partial(convert, "movie", "cells"), "ours": partial(convert, "session")})
    names = {
        "process_wall_seconds": "wall, processes, s",
        "written_mb": "written, MB",
        "written_ratio": "written / size",
        "process_peak_mib": "peak memory, process, MiB",
    }
    return rows_of("session with movie and ROIs in one task", found, names, reference="two tasks")


def measure_repetition(folder: Path, server: S3Server, acquisition: Path, rounds: int) -> list[Row]:
    """Convert and stage a session, then both again, then to another place of the bucket."""
    output = folder / "repeated.nwb"
    destinations = [f"s3://{server.bucket}/sessions/", f"s3://{server.bucket}/archive/"]

    def repeat(destination: str) -> Figures:
        return run_script(pythons()["ours"], CHANGE, "repeat", acquisition, output, destination)

    first = repeat(destinations[0])
    # The file was just written as it was staged, and may be read once more.
    repeat(destinations[0])
    again = [repeat(destinations[0]) for _ in range(rounds)]
    archived = repeat(destinations[1])
    names = {
        "wall_seconds": "wall of conversion and staging, s",
        "write_seconds": "of it conversion, s",
        "stage_seconds": "of it staging, s",
        "read_mb": "read, MB",
        "sent_bytes": "bytes sent",
    }
    rows = rows_of("session repeated", {"ours": again, "theirs": [first]}, names, reference="the first time")
    names = {"stage_seconds": "wall of staging, s", "sent_bytes": "bytes sent", "read_mb": "read, MB"}
    rows += rows_of("session archived", {"ours": [archived], "theirs": [first]}, names, reference="first staging")
    return rows


def run(*, quick: bool) -> list[Row]:
    """Measure all of it."""
    HOME.mkdir(exist_ok=True)
    sizes = [0.1, 0.2] if quick else [0.1, 1]
    if not quick and shutil.disk_usage(HOME).free > LARGE_FREE:
        sizes.append(LARGE_GB)
    rounds = 1 if quick else 3
    acquisition = two_photon_movie(FRAMES if quick else 2048).parent
    folder = Path(tempfile.mkdtemp(prefix="changed-", dir=HOME))
    environment: Mapping[str, str] = {"PYTHONPATH": str(Path(__file__).parents[1])}
    try:
        with mock.patch.dict(os.environ, environment):
            rows = measure_appends(folder, sizes, rounds)
            rows += measure_session(folder, acquisition, rounds)
        with S3Server(folder / "s3") as server, mock.patch.dict(os.environ, staging.environment(server)):
            rows += measure_restaging(folder, server, 0.1 if quick else 1, rounds)
            rows += measure_repetition(folder, server, acquisition, rounds)
        return rows
    finally:
        shutil.rmtree(folder)
