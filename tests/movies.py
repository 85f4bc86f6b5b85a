"""Small TIFF movies; samples, rows and columns differ in number, so that a swapped axis shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tifffile

METADATA = {"NWBFile": {"session_start_time": "2026-11-22T09:30:00+01:00"}}


def photons(*shape: int, seed: int = 0) -> np.ndarray:
    """Shot noise around 100 photons, as uint16."""
    return np.random.default_rng(seed).poisson(100, shape).astype("uint16")


def write_tiff(path: Path, pixels: np.ndarray | None = None) -> Path:
    """
    Write a movie of one page per sample.

    :param pixels: Samples by rows by columns. Default: 20 of 13 by 29 photon counts.
    :returns: Its path.
    """
    tifffile.imwrite(path, photons(20, 13, 29) if pixels is None else pixels, photometric="minisblack")
    return path


def imaging(movie: Path, nwbfile_path: Path, **more: Any) -> dict[str, Any]:
    """The options of a conversion of such a movie, with more of them or others."""
    arguments = {"file_path": str(movie), "sampling_frequency": 30.0}
    known = {"extractor": "Tiff", "extractor_kwargs": arguments, "nwbfile_path": str(nwbfile_path)}
    return known | {"metadata": METADATA} | more
