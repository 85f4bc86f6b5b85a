"""
What watching costs, then side by side with neuroconv 0.10.2: time, memory and size of converting one movie,
A B A B in one run.

    make bench            # a movie of 1 GB, three rounds
    make bench QUICK=1    # a movie of 0.1 GB, one round: for correctness, not for figures

neuroconv lives in an environment of its own below ``.bench``, never among this project's dependencies.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks import acquisition
from demo.recording import simulate_acquisition

HOME = Path(__file__).parents[1] / ".bench"
RESULTS = Path(__file__).parent / "results"

# What 0.10.2 resolves to by itself cannot be imported: it needs zarr 2.
NEUROCONV = [
    "neuroconv==0.10.2",
    "zarr<3",
    "hdmf-zarr<0.14",
    "roiextractors==0.10.0",
    "tifffile",
    "natsort",
    "tqdm",
]

FIGURES = {
    "wall_seconds": "wall, s",
    "cpu_seconds": "CPU, s",
    "peak_mib": "peak memory, MiB",
    "size_mb": "size, MB",
    "files": "files",
}


def make_environment() -> Path:
    """Build the environment of neuroconv, once; return its Python."""
    folder = HOME / "neuroconv"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        print("Setting up neuroconv 0.10.2 in an environment of its own", flush=True)
        uv = Path(sys.executable).with_name("uv")
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", python, *NEUROCONV], check=True)
        (folder / "ready").touch()
    return python


def run_one(python: Path, who: str, backend: str, source: Path) -> dict[str, float]:
    """Convert in a new process, and remove what it wrote."""
    output = HOME / f"{who}.nwb{'.zarr' if backend == 'zarr' else ''}"
    script = Path(__file__).with_name("convert.py")
    command = [python, "-W", "ignore", script, who, backend, source, output]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if output.is_dir():
        shutil.rmtree(output)
    else:
        output.unlink(missing_ok=True)
    if done.returncode:
        raise SystemExit(f"{who} failed on {backend}:\n{done.stderr}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(f"  {who:10} {backend}: {figures['wall_seconds']:.2f} s", flush=True)
    return figures


def table(results: dict[str, list[dict[str, float]]], backend: str) -> str:
    """Medians with their range, and the ratio of the medians, as Markdown."""
    lines = [f"| {backend} | ours | neuroconv 0.10.2 | ratio |", "|---|---|---|---|"]
    for figure, label in FIGURES.items():
        cells, medians = [], []
        for who in ("ours", "neuroconv"):
            values = [run[figure] for run in results[f"{who} {backend}"]]
            medians.append(statistics.median(values))
            cells.append(f"{medians[-1]:.5g} ({min(values):.5g}-{max(values):.5g})")
        ratio = medians[1] / medians[0] if medians[0] else float("nan")
        lines.append(f"| {label} | {' | '.join(cells)} | {ratio:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Make the movie, run both on it in turn, print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small movie, one round")
    quick = parser.parse_args().quick
    acquisition.run(quick=quick)
    num_samples, rounds = (200, 1) if quick else (2048, 3)
    HOME.mkdir(exist_ok=True)
    neuroconv = make_environment()
    recording = HOME / f"movie-{num_samples}"
    if not (recording / "DONE").exists():
        simulate_acquisition(
            recording, num_samples=num_samples, num_rows=512, num_columns=512, num_rois=60, seed=1
        )
    source = recording / "movie.tif"
    pythons = {"ours": Path(sys.executable), "neuroconv": neuroconv}
    results: dict[str, list[dict[str, float]]] = {}
    for backend in ("hdf5", "zarr"):
        for _ in range(rounds):
            for who, python in pythons.items():
                results.setdefault(f"{who} {backend}", []).append(run_one(python, who, backend, source))
    print(f"\nA movie of {source.stat().st_size / 1e6:.0f} MB; median (range) of {rounds}; ratio: theirs / ours\n")
    print("\n\n".join(table(results, backend) for backend in ("hdf5", "zarr")))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "conversion.json").write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
