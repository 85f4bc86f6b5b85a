"""What the benchmarks run on, made once and kept: the reference's environment, and below ``.bench`` movies."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from demo.recording import simulate_acquisition

HOME = Path(__file__).parents[1] / ".bench"


def pythons() -> dict[str, Path]:
    """Return the Python of each side: of this package, and of the reference, whose environment is built once."""
    root = HOME.parent
    subprocess.run(["make", "--silent", "--directory", root, "reference"], check=True)
    return {"ours": Path(sys.executable), "theirs": root / ".venv-reference/bin/python"}


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
