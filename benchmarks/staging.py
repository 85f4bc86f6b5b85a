"""
Staging to S3 beside the AWS CLI and the Amazon provider's operator, in turn, on one SeaweedFS server.

    make bench ONLY=staging            # a file of 1 GB and a tree of 2,000 objects of 4-40 KiB, three rounds
    make bench ONLY=staging QUICK=1    # a file of 50 MB and a tree of 100 objects, one round

All is without imports and the garbage that they leave. The Amazon operator takes one file a task: it is executed
for a few files of the tree, one after the other, without what Airflow adds to each task, and its time is
extrapolated to all of them. The CLI lives in an environment of its own below ``.bench``, never among this
project's dependencies.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

from benchmarks.inputs import HOME
from benchmarks.processes import Figures, in_turn, run_script
from benchmarks.rows import Row, rows_of
from demo.s3_server import REGION, S3Server

SCRIPT = Path(__file__).with_name("stage.py")
AWSCLI = "awscli==1.46.3"
FILE, TREE, FEW = "file.nwb", "tree.nwb.zarr", "few.nwb.zarr"
NAMES = {"wall_seconds": "wall, s", "cpu_seconds": "CPU, s", "peak_mib": "peak memory over imports, MiB"}


def awscli_python() -> Path:
    """Return the Python of the CLI's environment, which is built once."""
    folder = HOME / "awscli"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        print(f"Setting up {AWSCLI} in an environment of its own", flush=True)
        HOME.mkdir(exist_ok=True)
        uv = Path(sys.executable).with_name("uv")
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", python, AWSCLI], check=True)
        (folder / "ready").touch()
    return python


def make_sources(folder: Path, *, file_mb: int, num_objects: int, num_few: int) -> None:
    """Make a file, a tree of small files, and a tree that has only a few of them; none can be compressed."""
    with (folder / FILE).open("wb") as file:
        for _ in range(file_mb):
            file.write(os.urandom(1_000_000))
    sizes = random.Random(1)  # noqa: S311 -- reproducible, not secret
    for name, number in ((TREE, num_objects), (FEW, num_few)):
        chunks = folder / name / "acquisition" / "data" / "c"
        chunks.mkdir(parents=True)
        (folder / name / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
        for chunk in range(number - 1):
            (chunks / str(chunk)).write_bytes(os.urandom(sizes.randint(4096, 40960)))


class Stager:
    """
    Uploads in processes of their own, each to a place of its own.

    :param sources: Folder of what is uploaded.
    :param server: Where to.
    """

    def __init__(self, sources: Path, server: S3Server) -> None:
        self._sources = sources
        self._server = server
        self._pythons = dict.fromkeys(("ours", "each", "amazon"), Path(sys.executable)) | {"aws": awscli_python()}
        self._places = 0

    def append_to(self, name: str, size: int) -> None:
        """Add to a source, and change its beginning, as libraries do that append to HDF5."""
        with (self._sources / name).open("r+b") as file:
            file.write(os.urandom(100))
            file.seek(0, os.SEEK_END)
            file.write(os.urandom(size))

    def stage(self, who: str, name: str, *, again: bool = False) -> Figures:
        """Upload a source; ``again`` to the same place as the last time."""
        self._places += not again
        # What an earlier run left to be written to the disk must not fall on this one.
        os.sync()
        destination = f"s3://{self._server.bucket}/{self._places}/"
        return run_script(self._pythons[who], SCRIPT, who, self._sources / name, destination)


def environment(server: S3Server) -> dict[str, str]:
    """Give what all sides find the server by."""
    return {
        "AIRFLOW_CONN_AWS_DEFAULT": server.connection_json(),
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key,
        "AWS_ENDPOINT_URL": server.endpoint_url,
        "AWS_DEFAULT_REGION": REGION,
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }


def measure_file(stager: Stager, rounds: int, size: str) -> list[Row]:
    """One big file beside ``aws s3 cp``, twice as often as the rest: its time varies most."""
    sides = {"theirs": lambda: stager.stage("aws", FILE), "ours": lambda: stager.stage("ours", FILE)}
    # Whoever came after the CLI took some 5 % longer.
    found = in_turn(2 * rounds, sides, both_ways=True)
    return rows_of(f"staging {size}", found, NAMES, {"wall_seconds": 1}, reference="aws s3 cp")


def measure_changed(stager: Stager, rounds: int, size: str) -> list[Row]:
    """One big file that was appended to beside the same as new: what is sent, and how long that takes."""

    def append_and_stage_again() -> Figures:
        stager.append_to(FILE, 5_000_000)
        return stager.stage("ours", FILE, again=True)

    found = in_turn(rounds, {"theirs": lambda: stager.stage("ours", FILE), "ours": append_and_stage_again})
    names = {"publish_seconds": "wall without making the client, s", "sent_bytes": "bytes sent"}
    # A server on this machine copies no faster than it takes; far from it, what is sent is what takes the time.
    return rows_of(
        f"staging {size} with 5 MB appended", found, names, {"sent_bytes": 20}, reference="the same as new"
    )


def measure_tree(stager: Stager, rounds: int, num_objects: int, num_few: int) -> list[Row]:
    """A tree of small objects beside others, beside no repetition of requests, and once more."""
    found = in_turn(
        rounds,
        {
            "theirs": lambda: stager.stage("aws", TREE),
            "ours": lambda: stager.stage("ours", TREE),
            "again": lambda: stager.stage("ours", TREE, again=True),
            "each": lambda: stager.stage("each", TREE),
            "amazon": lambda: stager.stage("amazon", FEW),
        },
    )
    if any(run["uploaded"] for run in found["again"]):
        raise SystemExit("What was staged was staged again.")
    section = f"staging {num_objects:,} objects"
    per_file = [run["wall_seconds"] / num_few * num_objects for run in found["amazon"]]
    return [
        *rows_of(section, found, NAMES, {"wall_seconds": 2}, reference="aws s3 sync"),
        Row(
            f"{section} one by one",
            f"wall, s (theirs from {num_few})",
            _values(found["ours"], "wall_seconds"),
            per_file,
            50,
            reference="LocalFilesystemToS3Operator",
        ),
        # What the package's own repetition of requests is kept for.
        Row(
            f"{section} repeated",
            "CPU, s",
            _values(found["ours"], "cpu_seconds"),
            _values(found["each"], "cpu_seconds"),
            1.3,
            reference="each request by boto3",
        ),
        Row(
            f"{section} again",
            "wall without making the client, s",
            _values(found["again"], "publish_seconds"),
            _values(found["ours"], "publish_seconds"),
            10,
            reference="the first time",
        ),
    ]


def _values(runs: Sequence[Figures], key: str) -> list[float]:
    return [run[key] for run in runs]


def run(*, quick: bool) -> list[Row]:
    """Measure a file and a tree."""
    file_mb, num_objects, num_few, rounds = (50, 100, 5, 1) if quick else (1000, 2000, 50, 3)
    HOME.mkdir(exist_ok=True)
    # Beside the other inputs and not in /tmp, which may be held in memory.
    folder = Path(tempfile.mkdtemp(prefix="staging-", dir=HOME))
    try:
        make_sources(folder, file_mb=file_mb, num_objects=num_objects, num_few=num_few)
        with S3Server(folder / "s3") as server, mock.patch.dict(os.environ, environment(server)):
            stager = Stager(folder, server)
            return [
                *measure_file(stager, rounds, f"{file_mb} MB"),
                *measure_changed(stager, rounds, f"{file_mb} MB"),
                *measure_tree(stager, rounds, num_objects, num_few),
            ]
    finally:
        shutil.rmtree(folder)
