"""
One movie written to Zarr by many tasks: what that costs beside one task, and how it grows with the workers.

    make bench ONLY=parallel            # movies of 0.1, 1 and 4 GB, three rounds
    make bench ONLY=parallel QUICK=1    # movies of 0.1 and 0.2 GB, one round: for correctness, not for figures

**Beside one task.** What a task costs before it works is no part of the comparison: the start of its process,
its imports, and opening the recording anew, which the tasks that fill and publish do once each. The first two
are not in the seconds of a step; the third is measured by itself and taken off where a row says so. The
shortest and the longest movie tell what is fixed from what grows.

**More workers.** Each has one encoding thread and a core of its own: one of them already uses more than a core
where it may, since reading and writing are threads too. The cores of a virtual machine may be halves of real
ones, so what they are worth together is measured in the same rounds; more than that the workers cannot gain.

**What is not here is modelled** from what was measured, and ``benchmarks/results/parallel.png`` shows which is
which. Of a recording of a terabyte, in T shares (the default number) of equal shards, by W workers, each on a
core that is worth what one core alone is here:

    time = plan + T / W, rounded up, x (start + opening + a share) + publish
    a share = its shards x max(seconds of a shard, workers at work x bytes of a shard / bandwidth)

A shard's seconds and bytes (raw ones read, compressed ones written) and a start are measured; plan, opening and
publish are lines through these two lengths, of 512 x 512 pixels a frame; the bandwidth, shared by all, is given.
It leaves out what it cannot know: waiting for Airflow to start tasks, file servers that slow down under many
clients, and workers of different speed.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from airflow_provider_ophys.conversion.many_workers import MOST_TASKS, TASK_BYTES
from benchmarks.inputs import HOME, two_photon_movie
from benchmarks.processes import Figures, in_turn, remove, run_script
from benchmarks.rows import Row

SCRIPT = Path(__file__).with_name("parallel_step.py")
FLOOR = Path(__file__).with_name("floor.py")
RESULTS = Path(__file__).parent / "results"
OUTPUT = HOME / "parallel" / "movie.nwb.zarr"
CORES = sorted(os.sched_getaffinity(0))
MEASURED = [workers for workers in (1, 2, 4, 8, 16) if workers <= len(CORES)]
MODELLED = [4, 8, 16, 32, 64]
BANDWIDTHS = {"0.5 GB/s": 0.5e9, "2 GB/s": 2e9, "10 GB/s": 10e9}
RECORDING_BYTES = 10**12
FRAME_BYTES = 512 * 512 * 2


def step(name: str, told: dict[str, Any], *arguments: object, core: int | None = None) -> Figures:
    """Run one step in a process of its own, on a core of its own if told so."""
    under = () if core is None else ("taskset", "--cpu-list", core)
    return run_script(Path(sys.executable), SCRIPT, name, json.dumps(told), *arguments, under=under)


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


def by_many(source: Path, workers: int, *, pinned: bool = False, **options: Any) -> Figures:
    """
    Plan, fill with so many workers at once, and publish.

    ``wall_seconds`` is the sum of the three; filling takes what the slowest worker takes.

    :param pinned: Each worker that fills has a core of its own.
    """
    plan = step("plan", conversion(source, num_tasks=workers, **options))
    told: Any = plan["plan"]
    with ThreadPoolExecutor(workers) as pool:
        fills = list(
            pool.map(
                lambda number: step("fill", told, number, core=CORES[number] if pinned else None),
                range(len(told["shares"])),
            )
        )
    publish = step("publish", told)
    shards = [file for file in OUTPUT.rglob("c/*/*/*") if file.is_file()]
    slowest = max(fills, key=lambda fill: fill["wall_seconds"])
    figures = {
        "wall_seconds": plan["wall_seconds"] + slowest["wall_seconds"] + publish["wall_seconds"],
        "plan_seconds": plan["wall_seconds"],
        "fill_seconds": slowest["wall_seconds"],
        "publish_seconds": publish["wall_seconds"],
        "open_seconds": slowest["open_seconds"],
        "opened_anew_seconds": slowest["open_seconds"] + publish["open_seconds"],
        "cpu_seconds": sum(figures["cpu_seconds"] for figures in (plan, *fills, publish)),
        # Without the two times that the script opens the recording to measure that.
        "start_seconds": max(
            fill["process_wall_seconds"] - fill["wall_seconds"] - 2 * fill["open_seconds"] for fill in fills
        ),
        "shards": float(len(shards)),
        "stored_bytes": float(sum(file.stat().st_size for file in shards)),
    }
    remove(OUTPUT)
    return figures


@dataclass(frozen=True)
class Line:
    """What grows with the length of a recording: some seconds, and more for each byte."""

    fixed: float
    per_byte: float

    def seconds(self, size: int) -> float:
        """Return the seconds for a recording of so many bytes."""
        return self.fixed + self.per_byte * size

    @classmethod
    def through(cls, seconds: Mapping[int, float]) -> Line:
        """Return the line through the shortest and the longest of the measured lengths."""
        short, long = min(seconds), max(seconds)
        per_byte = max(0.0, (seconds[long] - seconds[short]) / (long - short))
        return cls(seconds[short] - per_byte * short, per_byte)


@dataclass(frozen=True)
class Model:
    """How long a recording takes; see the top of this file."""

    start_seconds: float
    plan: Line
    opening: Line
    publish: Line
    shard_seconds: float
    raw_bytes: float
    stored_bytes: float

    def seconds(self, workers: int, bandwidth: float, size: int = RECORDING_BYTES) -> float:
        """Return how long a recording of so many bytes takes."""
        tasks = min(-(-size // TASK_BYTES), MOST_TASKS)
        moving = min(workers, tasks) * (self.raw_bytes + self.stored_bytes) / bandwidth
        share = size / self.raw_bytes / tasks * max(self.shard_seconds, moving)
        filling = -(-tasks // workers) * (self.start_seconds + self.opening.seconds(size) + share)
        return 2 * self.start_seconds + self.plan.seconds(size) + filling + self.publish.seconds(size)

    @classmethod
    def of(cls, groups: Mapping[int, Sequence[Figures]], alone: Sequence[Figures], raw_bytes: int) -> Model:
        """
        Take medians.

        :param groups: Runs of a group of one share, by the bytes of the recording.
        :param alone: Runs with one worker on one core.
        :param raw_bytes: Of the recording of these.
        """

        def line(key: str) -> Line:
            return Line.through({size: _median(runs, key) for size, runs in groups.items()})

        shards = _median(alone, "shards")
        return cls(
            start_seconds=_median(alone, "start_seconds"),
            plan=line("plan_seconds"),
            opening=line("open_seconds"),
            publish=line("publish_seconds"),
            shard_seconds=(_median(alone, "fill_seconds") - _median(alone, "open_seconds")) / shards,
            raw_bytes=raw_bytes / shards,
            stored_bytes=_median(alone, "stored_bytes") / shards,
        )


def _median(runs: Sequence[Figures], key: str) -> float:
    return statistics.median(run[key] for run in runs)


def plot(model: Model, fills: Mapping[int, Sequence[Figures]], raw_bytes: int, file: Path) -> None:
    """Draw measured and modelled throughput over the number of workers."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for workers, runs in fills.items():
        axes.plot(
            [workers] * len(runs), [raw_bytes / run["fill_seconds"] / 1e6 for run in runs], "o", color="black",
            label=f"MEASURED here: filling {raw_bytes / 1e9:.1f} GB" if workers == 1 else None,
        )  # fmt: skip
    for name, bandwidth in BANDWIDTHS.items():
        speeds = [RECORDING_BYTES / model.seconds(workers, bandwidth) / 1e6 for workers in MODELLED]
        axes.plot(MODELLED, speeds, "--", marker=".", label=f"modelled: 1 TB in all, storage of {name}")
    workers = [*MEASURED, *MODELLED]
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(workers, [str(number) for number in workers])
    axes.set_xlabel("workers, one encoding thread and one core each")
    axes.set_ylabel("uncompressed MB/s")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_minor_formatter("")
    axes.set_yticks([200, 300, 500, 1000, 2000, 3000, 5000])
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8)
    figure.savefig(file, dpi=130)


def run(*, quick: bool) -> list[Row]:
    """Measure one task and a group, short and long, and as many workers as there are cores; model more."""
    lengths, rounds = ((200, 400), 1) if quick else ((200, 2048, 8192), 3)
    movies = {num_samples * FRAME_BYTES: two_photon_movie(num_samples) for num_samples in lengths}
    long = max(movies)
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    sides: dict[str, Callable[[], Figures]] = {
        "cores": partial(run_script, Path(sys.executable), FLOOR, movies[min(movies)])
    }
    for size, source in movies.items():
        sides |= {f"one, {size}": partial(by_one, source), f"group, {size}": partial(by_many, source, 1)}
    sides |= {
        f"{workers} workers": partial(by_many, movies[long], workers, pinned=True, threads=1)
        for workers in MEASURED
    }
    try:
        found = in_turn(rounds, sides)
    finally:
        remove(OUTPUT.parent)
    fills = {workers: found[f"{workers} workers"] for workers in MEASURED}
    groups = {size: found[f"group, {size}"] for size in movies}
    model = Model.of(groups, fills[1], long)
    RESULTS.mkdir(exist_ok=True)
    plot(model, fills, long, RESULTS / "parallel.png")
    singles = {size: found[f"one, {size}"] for size in movies}
    return [*_beside_one(singles, groups), *_more_workers(fills, found["cores"], long), *_modelled(model)]


def _beside_one(singles: Mapping[int, Sequence[Figures]], groups: Mapping[int, Sequence[Figures]]) -> list[Row]:
    """Return the rows of what one task and a group of one share take, round by round."""
    section = "one movie by plan, one share and publish, Zarr"
    one = {size: [run["wall_seconds"] for run in runs] for size, runs in singles.items()}
    anew = {size: [run["opened_anew_seconds"] for run in runs] for size, runs in groups.items()}
    many = {
        size: [run["wall_seconds"] - run["opened_anew_seconds"] for run in runs] for size, runs in groups.items()
    }
    rows = []
    for size in singles:
        name = f"{size / 1e9:.2f} GB"
        rows += [
            Row(section, f"{name}: WriteImagingOperator's work, wall, s", one[size]),
            Row(section, f"{name}: that of the three tasks, wall, s", many[size]),
            Row(section, f"{name}: they open the recording anew, s", anew[size]),
            Row(section, f"{name}: the three / the one, wall", _ratios(many[size], one[size])),
            Row(section, f"{name}: the three / the one, CPU", _ratios(*map(_cpu, (groups[size], singles[size])))),
        ]
    lines = {who: _lines(seconds) for who, seconds in (("one", one), ("many", many))}
    per_gb = {who: [line.per_byte * 1e9 for line in of_who] for who, of_who in lines.items()}
    fixed = {who: [line.fixed for line in of_who] for who, of_who in lines.items()}
    return [
        *rows,
        Row(section, "each further GB, the three / the one, wall", _ratios(per_gb["many"], per_gb["one"])),
        Row(section, "fixed, the one, s", fixed["one"]),
        Row(section, "fixed, the three, s", fixed["many"]),
        Row(section, "start of a task's process, imports included, s", _all(groups, "start_seconds")),
    ]


def _lines(seconds: Mapping[int, Sequence[float]]) -> list[Line]:
    """Return the line through the lengths in each round."""
    rounds = zip(*seconds.values(), strict=True)
    return [Line.through(dict(zip(seconds, of_round, strict=True))) for of_round in rounds]


def _ratios(values: Sequence[float], others: Sequence[float]) -> list[float]:
    return [value / other for value, other in zip(values, others, strict=True)]


def _cpu(runs: Sequence[Figures]) -> list[float]:
    return [run["cpu_seconds"] for run in runs]


def _all(groups: Mapping[int, Sequence[Figures]], key: str) -> list[float]:
    return [run[key] for runs in groups.values() for run in runs]


def _more_workers(fills: Mapping[int, Sequence[Figures]], cores: Sequence[Figures], size: int) -> list[Row]:
    """Return the rows of what workers take that have a core each, and of what the cores are worth."""
    section = f"filling {size / 1e9:.2f} GB, Zarr, one thread and one core per worker"
    seconds = {workers: [run["fill_seconds"] for run in runs] for workers, runs in fills.items()}
    rows = [Row(section, f"workers: {workers}, s", values) for workers, values in seconds.items()]
    rows += [
        Row(section, f"workers: {workers}, gain over 1", _ratios(seconds[1], values))
        for workers, values in seconds.items()
        if workers > 1
    ]
    worth = [run["effective_cores"] for run in cores]
    return [*rows, Row(section, f"what the {len(CORES)} cores are worth together", worth)]


def _modelled(model: Model) -> list[Row]:
    section = "1 TB by many tasks, MODELLED, minutes"
    whatever = {"plan": model.plan, "publish": model.publish}
    return [
        *(
            Row(section, f"of each, {name}", [line.seconds(RECORDING_BYTES) / 60])
            for name, line in whatever.items()
        ),
        *(
            Row(section, f"{workers} workers, storage of {name}", [model.seconds(workers, bandwidth) / 60])
            for name, bandwidth in BANDWIDTHS.items()
            for workers in MODELLED
        ),
    ]
