"""
Conversions disturbed at random moments: afterwards the old output is there or the new one, and a retry works.

``CHAOS_CONVERSIONS`` (default 15) and ``CHAOS_SEED`` say how many and which; ``make chaos`` does several hundred.
Outputs go to ``CHAOS_FOLDER``, if that is set, and else to a small tmpfs. Only a small disk is filled.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pynwb
import pytest
from forked_processes import ForkedProcesses
from forked_tasks import FAILED, SUCCEEDED, TIMED_OUT, run_task
from shares import FOLDER, on_two_hosts

from airflow_provider_ophys.conversion.storages import open_storage
from airflow_provider_ophys.nwb.existing import backend_of
from demo.recording import simulate_acquisition

CONVERSIONS = int(os.environ.get("CHAOS_CONVERSIONS", "15"))
SEED = int(os.environ.get("CHAOS_SEED", "7"))
METADATA = {"NWBFile": {"session_start_time": "2026-11-22T09:30:00+01:00"}}
OTHER = METADATA | {"Ophys": {"MicroscopySeries": {"m": {"name": "Other", "unit": "n.a."}}}}
# As Airflow's supervisor does after SIGTERM.
GRACE_SECONDS = 5.0
DISK_BYTES = 40_000_000
MOST_TO_FILL_BYTES = 200_000_000


@dataclass(frozen=True)
class Case:
    """One conversion and what happens to it."""

    kind: str
    backend: str
    mode: str
    disturbance: str
    moment: float
    """When, as a share of how long it takes undisturbed; from the start, or from when it begins to write."""
    while_writing: bool

    @property
    def location(self) -> str:
        """Of the array that is compared with the recording."""
        if self.kind == "imaging":
            return "acquisition/TwoPhotonSeries/data"
        return "processing/ophys/Fluorescence/RoiResponseSeries/data"


def random_case(chance: random.Random) -> Case:
    return Case(
        kind=chance.choice(["imaging", "segmentation"]),
        backend=chance.choice(["hdf5", "zarr"]),
        mode=chance.choice(["new", "overwrite", "append", "reuse"]),
        disturbance=chance.choice(["SIGKILL", "SIGTERM", "timeout", "disk full", "clear"]),
        moment=chance.uniform(0, 1.1),
        while_writing=chance.random() < 0.6,
    )


class Chaos:
    """
    Runs cases one after the other.

    :param tasks: Starts tasks.
    :param folder: For outputs; of a disk of :data:`DISK_BYTES`, if it could be mounted and none was given.
    :param session: The acquisition that is converted.
    """

    def __init__(self, tasks: ForkedProcesses, folder: Path, session: Path, templates: Path) -> None:
        self.tasks, self.folder, self.session, self.templates = tasks, folder, session, templates
        self.path = folder / "a.nwb"
        self.report = templates / "report"
        self.counts: Counter[str] = Counter()
        self.slowest_stop = 0.0
        self._duration: dict[tuple[str, str, str], float] = {}
        self._expected: dict[str, Any] = {}
        self._whole: set[tuple[str | None, str, str]] = set()

    def options(self, kind: str, **more: Any) -> dict[str, Any]:
        if kind == "imaging":
            extractor, arguments = "ScanImage", {"file_path": str(self.session / "movie.tif")}
        else:
            extractor, arguments = "Suite2p", {"folder_path": str(self.session / "suite2p")}
        known = {"extractor": extractor, "extractor_kwargs": arguments, "nwbfile_path": str(self.path)}
        return known | {"metadata": METADATA, "backend": "hdf5"} | more

    def convert(self, kind: str, **more: Any) -> dict[str, Any]:
        """Convert undisturbed; it has to succeed."""
        code = self.tasks.wait(self.start(kind, self.options(kind, **more), self.report))
        assert code == SUCCEEDED, self.report.read_text()
        result: dict[str, Any] = json.loads(self.report.read_text())
        return result

    def start(self, kind: str, options: dict[str, Any], report: Path, *, timeout: float | None = None) -> int:
        return self.tasks.start(operator=kind, options=options, report=str(report), timeout=timeout)

    def set_up(self, case: Case) -> None:
        """Put what is there before; made once for each kind and copied."""
        for entry in self.folder.iterdir():
            remove(entry)
        if case.mode == "new":
            return
        same = case.mode == "reuse"
        template = self.templates / f"{'same' if same else 'other'}-{case.kind if same else ''}-{case.backend}.nwb"
        if not template.exists():
            kind, metadata = (case.kind, METADATA) if same else ("imaging", OTHER)
            self.convert(kind, nwbfile_path=str(template), backend=case.backend, metadata=metadata)
        (shutil.copytree if template.is_dir() else shutil.copyfile)(template, self.path)

    def duration(self, case: Case) -> float:
        key = (case.kind, case.backend, case.mode)
        if key not in self._duration:
            self.set_up(case)
            started = time.monotonic()
            self.convert(case.kind, **self.arguments(case))
            self._duration[key] = time.monotonic() - started
        return self._duration[key]

    def arguments(self, case: Case) -> dict[str, Any]:
        return {"backend": case.backend, "if_exists": "reuse" if case.mode == "new" else case.mode}

    def run(self, case: Case) -> None:
        duration = self.duration(case)
        self.set_up(case)
        before = digest(self.path)
        codes = self.disturb(case, case.moment * duration)
        self.check_after(case, before, codes)
        for ballast in self.folder.glob("ballast"):
            ballast.unlink()
        result = self.convert(case.kind, **self.arguments(case))
        self.counts["retry found it done" if result["reused"] else "retry wrote it"] += 1
        assert [entry.name for entry in self.folder.iterdir()] == ["a.nwb"], "nothing is left beside the output"
        self.check_whole(case)

    def disturb(self, case: Case, seconds: float) -> list[int]:
        """Start the conversion, disturb it, and return how all its tries that were started ended."""
        options = self.options(case.kind, **self.arguments(case))
        timeout = max(seconds, 0.01) if case.disturbance == "timeout" else None
        pid = self.start(case.kind, options, self.report, timeout=timeout)
        if case.while_writing and timeout is None:
            wait_until_it_writes(self.folder, pid)
            seconds /= 2
        if timeout is None:
            time.sleep(seconds)
        if case.disturbance == "SIGKILL":
            send(pid, signal.SIGKILL)
        elif case.disturbance == "SIGTERM":
            self.stop(pid)
        elif case.disturbance == "disk full":
            fill_up(self.folder)
        elif case.disturbance == "clear":
            # A cleared task is told to stop, and its next try may start before it has.
            send(pid, signal.SIGTERM)
            again = self.start(case.kind, options, self.templates / "again")
            self.stop(pid)
            return [self.tasks.wait(pid), self.tasks.wait(again)]
        return [self.tasks.wait(pid)]

    def stop(self, pid: int) -> None:
        """Ask a task to stop, and kill it when its grace is over, as Airflow does."""
        started = time.monotonic()
        send(pid, signal.SIGTERM)
        while is_running(pid) and time.monotonic() - started < GRACE_SECONDS:
            time.sleep(0.01)
        self.slowest_stop = max(self.slowest_stop, time.monotonic() - started)
        if is_running(pid):
            self.counts["needed SIGKILL after SIGTERM"] += 1
            send(pid, signal.SIGKILL)

    def check_after(self, case: Case, before: str | None, codes: list[int]) -> None:
        for code in codes:
            if code == -signal.SIGSEGV and (case.backend, case.disturbance) == ("hdf5", "disk full"):
                self.counts["disk full: HDF5 ended the process"] += 1
                continue
            assert code in (SUCCEEDED, FAILED, TIMED_OUT, -signal.SIGKILL, -signal.SIGTERM), (
                f"{case}: {self.report.read_text()}"
            )
        after = digest(self.path)
        if after == before:
            self.counts[f"{case.disturbance}: {'absent' if after is None else 'old'}"] += 1
        else:
            assert case.mode != "reuse", f"{case}: what was there already was written again"
            self.check_whole(case)
            self.counts[f"{case.disturbance}: new"] += 1

    def check_whole(self, case: Case) -> None:
        """Check that the output is valid and has what was converted, once, beside what was appended to."""
        # What was found whole before, and is the same to the last byte, need not be validated again.
        found = (digest(self.path), case.kind, case.mode)
        if found in self._whole:
            return
        storage = open_storage(self.path)
        assert backend_of(self.path) == case.backend
        with storage.io(self.path, "r") as io:
            assert pynwb.validate(io=io) == []
        with storage.open_groups(self.path, "r") as root:
            np.testing.assert_array_equal(root[case.location][:], self.expected(case.kind))
            series = set(root["acquisition"])
        wanted = {"TwoPhotonSeries"} if case.kind == "imaging" else set()
        assert series == wanted | ({"Other"} if case.mode == "append" else set())
        self._whole.add(found)

    def expected(self, kind: str) -> Any:
        """What the recording has, in the file's order of axes; read once for each kind."""
        if kind not in self._expected:
            if kind == "segmentation":
                self._expected[kind] = np.load(self.session / "suite2p" / "plane0" / "F.npy").T
            else:
                from roiextractors import ScanImageImagingExtractor

                series = ScanImageImagingExtractor(file_path=self.session / "movie.tif").get_series()
                self._expected[kind] = series.transpose(0, 2, 1)
        return self._expected[kind]


def digest(path: Path) -> str | None:
    if not path.exists():
        return None
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    total = hashlib.sha256()
    for file in files:
        total.update(str(file.relative_to(path.parent)).encode() + file.read_bytes())
    return total.hexdigest()


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def is_running(pid: int) -> bool:
    """Tell whether it runs: one that nobody has waited for yet is a zombie."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def send(pid: int, number: signal.Signals) -> None:
    # Nobody has waited for it, so the number is its own even if it has ended.
    os.kill(pid, number)


def wait_until_it_writes(folder: Path, pid: int) -> None:
    while is_running(pid) and not any(".part" in name for name in os.listdir(folder)):  # noqa: PTH208 -- often
        time.sleep(0.002)


def fill_up(folder: Path) -> None:
    """Leave no space on the disk, all at once; other tasks may do the same to it at any time."""
    with (folder / "ballast").open("wb") as stream:
        free = shutil.disk_usage(folder).free
        while free > 0:
            try:
                os.posix_fallocate(stream.fileno(), 0, os.fstat(stream.fileno()).st_size + free)
            except OSError:
                free = shutil.disk_usage(folder).free // 2
            else:
                free = shutil.disk_usage(folder).free


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("disk")
    if FOLDER:
        with on_two_hosts(folder) as (share, _):
            yield share
        return
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", folder]
    mounted = subprocess.run(command, check=False, capture_output=True).returncode == 0
    yield folder
    if mounted:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.filterwarnings(
    # roiextractors reads the head of a ScanImage file through a second handle, which it never closes.
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)
def test_whatever_happens_the_output_is_whole_and_a_retry_succeeds(small_disk, tmp_path):
    session = simulate_acquisition(tmp_path / "session", num_samples=120)
    templates = tmp_path / "templates"
    templates.mkdir()
    chance = random.Random(SEED)  # noqa: S311
    can_fill_up = shutil.disk_usage(small_disk).free < MOST_TO_FILL_BYTES
    with ForkedProcesses(run_task) as tasks:
        chaos = Chaos(tasks, small_disk, session, templates)
        for number in range(CONVERSIONS):
            case = random_case(chance)
            if case.disturbance == "disk full" and not can_fill_up:
                continue
            print(f"{number}: {case}", flush=True)  # noqa: T201 -- which it was, should it fail
            chaos.run(case)
    print(json.dumps(dict(sorted(chaos.counts.items())), indent=2))  # noqa: T201
    print(f"slowest stop after SIGTERM: {chaos.slowest_stop:.2f} s")  # noqa: T201
    assert sum(number for name, number in chaos.counts.items() if name.startswith("retry")) > 0
