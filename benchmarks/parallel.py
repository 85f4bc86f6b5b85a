"""
One movie written to Zarr by many tasks: what that costs beside one task, and how it grows with the workers.

    make bench ONLY=parallel            # a movie of 1 GB, three rounds
    make bench ONLY=parallel QUICK=1    # a movie of 0.1 GB, one round: for correctness, not for figures

Measured here are one task, and one and two workers with one encoding thread each. What more workers would do, on
cores and hosts that are not here, is modelled from what was measured; ``benchmarks/results/parallel.png`` shows
which is which. The model: of a recording of N shards,

    time = plan + start of a task + max(N x CPU time of a shard / workers, N x bytes of a shard / bandwidth)
           + publish + N x look at a shard

where a shard's times and bytes (raw ones read, compressed ones written), plan, start and publish are measured, and
the bandwidth, shared by all workers, is given. It leaves out what it cannot know: waiting for Airflow to start
tasks, file servers that slow down under many clients, and workers of different speed.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.inputs import HOME, two_photon_movie
from benchmarks.processes import Figures, in_turn, remove, run_script
from benchmarks.rows import Row

SCRIPT = Path(__file__).with_name("parallel_step.py")
RESULTS = Path(__file__).parent / "results"
OUTPUT = HOME / "parallel" / "movie.nwb.zarr"
WORKERS = [1, 2, 4, 8, 16, 32, 64]
BANDWIDTHS = {"0.5 GB/s": 0.5e9, "2 GB/s": 2e9, "10 GB/s": 10e9}
RECORDING_BYTES = 10**12


def step(name: str, told: dict[str, Any], *arguments: object) -> Figures:
    """Run one step in a process of its own."""
    return run_script(Path(sys.executable), SCRIPT, name, json.dumps(told), *arguments)


def conversion(source: Path, **options: Any) -> dict[str, Any]:
    """Return the options of the conversion, as the operators have them."""
    return {
        "extractor": "ScanImageImagingExtractor",
        "extractor_kwargs": {"file_path": str(source)},
        "nwbfile_path": str(OUTPUT),
        "metadata": {"NWBFile": {"session_start_time": "2026-11-22T09:30:00+00:00"}},
        "backend": "zarr",
    } | options


def by_one(source: Path) -> Figures:
    """Write by one task."""
    figures = step("one", conversion(source))
    remove(OUTPUT)
    return figures


def by_many(source: Path, workers: int, **options: Any) -> Figures:
    """
    Plan, fill with so many workers at once, and publish.

    ``wall_seconds`` is the sum of the three; the filling counts from the first task that is ready to the last that
    is done, without the start of the processes.
    """
    plan = step("plan", conversion(source, num_tasks=workers, **options))
    told: Any = plan["plan"]
    with ThreadPoolExecutor(workers) as pool:
        fills = list(pool.map(lambda number: step("fill", told, number), range(len(told["shares"]))))
    filling = max(fill["wall_seconds"] for fill in fills)
    publish = step("publish", told)
    shards = [file for file in OUTPUT.rglob("c/*/*/*") if file.is_file()]
    figures = {
        "wall_seconds": plan["wall_seconds"] + filling + publish["wall_seconds"],
        "plan_seconds": plan["wall_seconds"],
        "fill_seconds": filling,
        "fill_cpu_seconds": sum(fill["cpu_seconds"] for fill in fills),
        "publish_seconds": publish["wall_seconds"],
        "look_seconds": publish["look_seconds"],
        "cpu_seconds": sum(figures["cpu_seconds"] for figures in (plan, *fills, publish)),
        "start_seconds": max(fill["process_wall_seconds"] - fill["wall_seconds"] for fill in fills),
        "shards": float(len(shards)),
        "stored_bytes": float(sum(file.stat().st_size for file in shards)),
    }
    remove(OUTPUT)
    return figures


@dataclass(frozen=True)
class Model:
    """Medians of what one worker of one thread took; plan, start and publish as a whole, the rest of one shard."""

    plan_seconds: float
    start_seconds: float
    shard_seconds: float
    publish_seconds: float
    look_seconds: float
    raw_bytes: float
    stored_bytes: float

    def seconds(self, workers: int, bandwidth: float, recording_bytes: int = RECORDING_BYTES) -> float:
        """Return how long a recording takes."""
        shards = recording_bytes / self.raw_bytes
        computing = shards * self.shard_seconds / workers
        moving = shards * (self.raw_bytes + self.stored_bytes) / bandwidth
        publishing = self.publish_seconds + shards * self.look_seconds
        return self.plan_seconds + self.start_seconds + max(computing, moving) + publishing

    @classmethod
    def of(cls, runs: Sequence[Figures], raw_bytes: int) -> Model:
        """Take the medians of runs with one worker."""

        def median(key: str) -> float:
            return statistics.median(run[key] for run in runs)

        shards = median("shards")
        return cls(
            plan_seconds=median("plan_seconds"),
            start_seconds=median("start_seconds"),
            shard_seconds=median("fill_cpu_seconds") / shards,
            publish_seconds=median("publish_seconds"),
            look_seconds=median("look_seconds") / shards,
            raw_bytes=raw_bytes / shards,
            stored_bytes=median("stored_bytes") / shards,
        )


def plot(model: Model, measured: dict[int, list[Figures]], raw_bytes: int, file: Path) -> None:
    """Draw measured and modelled throughput over the number of workers."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for name, bandwidth in BANDWIDTHS.items():
        speeds = [RECORDING_BYTES / model.seconds(workers, bandwidth) / 1e6 for workers in WORKERS]
        axes.plot(WORKERS, speeds, "--", marker=".", label=f"modelled, 1 TB, storage of {name}")
    for workers, runs in measured.items():
        speeds = [raw_bytes / run["fill_seconds"] / 1e6 for run in runs]
        axes.plot(
            [workers] * len(speeds), speeds, "o", color="black",
            label="measured here, filling alone" if workers == 1 else None,
        )  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(WORKERS, [str(workers) for workers in WORKERS])
    axes.set_xlabel("workers, one encoding thread each")
    axes.set_ylabel("uncompressed MB/s")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8)
    figure.savefig(file, dpi=130)


def run(*, quick: bool) -> list[Row]:
    """Measure one task and one and two workers; model more."""
    num_samples, rounds = (200, 1) if quick else (2048, 3)
    source = two_photon_movie(num_samples)
    raw_bytes = num_samples * 512 * 512 * 2
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    try:
        found = in_turn(
            rounds,
            {
                "one task": lambda: by_one(source),
                "group of one": lambda: by_many(source, 1),
                "1 worker": lambda: by_many(source, 1, threads=1),
                "2 workers": lambda: by_many(source, 2, threads=1),
            },
        )
    finally:
        remove(OUTPUT.parent)
    model = Model.of(found["1 worker"], raw_bytes)
    RESULTS.mkdir(exist_ok=True)
    plot(model, {1: found["1 worker"], 2: found["2 workers"]}, raw_bytes, RESULTS / "parallel.png")
    return [*_measured(found, f"one movie by many tasks, Zarr, {raw_bytes / 1e9:.2f} GB"), *_modelled(model)]


def _measured(found: dict[str, list[Figures]], section: str) -> list[Row]:
    def values(who: str, key: str) -> list[float]:
        return [figures[key] for figures in found[who]]

    walls = zip(values("group of one", "wall_seconds"), values("one task", "wall_seconds"), strict=True)
    cpus = zip(values("group of one", "cpu_seconds"), values("one task", "cpu_seconds"), strict=True)
    fills = zip(values("1 worker", "fill_seconds"), values("2 workers", "fill_seconds"), strict=True)
    return [
        Row(section, "WriteImagingOperator's work, wall, s", values("one task", "wall_seconds")),
        Row(section, "plan + one share + publish, wall, s", values("group of one", "wall_seconds")),
        Row(section, "that / WriteImagingOperator's, wall", [many / one for many, one in walls]),
        Row(section, "that / WriteImagingOperator's, CPU", [many / one for many, one in cpus]),
        Row(section, "start of a task's process, s", values("group of one", "start_seconds")),
        Row(section, "fill, 1 worker of 1 thread, s", values("1 worker", "fill_seconds")),
        Row(section, "fill, 2 workers of 1 thread, s", values("2 workers", "fill_seconds")),
        Row(section, "gain of the second worker", [one / two for one, two in fills]),
    ]


def _modelled(model: Model) -> list[Row]:
    section = "1 TB by many tasks, MODELLED, minutes"
    return [
        Row(section, f"{workers} workers, storage of {name}", [model.seconds(workers, bandwidth) / 60])
        for name, bandwidth in BANDWIDTHS.items()
        for workers in WORKERS[2:]
    ]
