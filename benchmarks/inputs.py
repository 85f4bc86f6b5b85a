"""What the benchmarks run on, made once and kept below ``.bench``: the reference's environment, and movies."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from demo.recording import simulate_acquisition

HOME = Path(__file__).parents[1] / ".bench"

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


def pythons() -> dict[str, Path]:
    """Return the Python of each side: of this package, and of the reference, whose environment is built once."""
    folder = HOME / "neuroconv"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        print("Setting up neuroconv 0.10.2 in an environment of its own", flush=True)
        HOME.mkdir(exist_ok=True)
        uv = Path(sys.executable).with_name("uv")
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", python, *NEUROCONV], check=True)
        (folder / "ready").touch()
    return {"ours": Path(sys.executable), "theirs": python}


def two_photon_movie(num_samples: int, *, side: int = 512) -> Path:
    """Return a ScanImage movie of int16 with realistic noise, of ``num_samples`` frames of side x side pixels."""
    folder = HOME / (f"movie-{num_samples}" if side == 512 else f"movie-{num_samples}-{side}")  # noqa: PLR2004
    if not (folder / "DONE").exists():
        print(f"Simulating a movie of {num_samples} frames", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        HOME.mkdir(exist_ok=True)
        simulate_acquisition(
            folder, num_samples=num_samples, num_rows=side, num_columns=side, num_rois=side // 8, seed=1
        )
    return folder / "movie.tif"
