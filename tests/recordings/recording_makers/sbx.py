"""Scanbox: inverted pixels, and a MATLAB file with what was set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import savemat

from recording_makers import COLUMNS, ROWS, Made, makes, random_frames

RESONANCE = 7930.0


def write_sbx(folder: Path, movie: np.ndarray, **changed: Any) -> Path:
    """Write a recording in both directions, of the second channel; return the file of pixels."""
    folder.mkdir(exist_ok=True)
    file = folder / "m2_001_004.sbx"
    (65535 - movie).astype("<u2").tofile(file)
    config = {"lines": ROWS, "magnification": 3, "wavelength": 940, "pmt0_gain": 0.5, "pmt1_gain": 0.75}
    info = {
        "channels": 3,
        "scanmode": 0,
        "recordsPerBuffer": ROWS // 2,
        "bytesPerBuffer": ROWS * COLUMNS,
        "resfreq": RESONANCE,
        "config": config,
        "sz": np.array([ROWS, COLUMNS]),
        "scanbox_version": 2,
        "otwave": np.array([]),
        "volscan": 0,
        "objective": "Nikon_16x_dlr",
        "dxcal": 1.5,
        "dycal": 1.25,
    }
    savemat(file.with_suffix(".mat"), {"info": info | changed})
    return file


@makes("Scanbox")
def scanbox(folder: Path) -> Made:
    movie = random_frames(6)
    file = write_sbx(folder, movie)
    rate = RESONANCE / ROWS * 2
    return Made(
        folder,
        "SbxImagingExtractor",
        {"file_path": str(file)},
        [file, file.with_suffix(".mat")],
        movie,
        rate=rate,
        facts={
            "device.description": "Objective: Nikon_16x_dlr",
            "plane.imaging_rate": rate,
            "plane.excitation_lambda": 940.0,
            "plane.grid_spacing": [1.5e-6, 1.25e-6],
            "series.scan_line_rate": 2 * RESONANCE,
            "series.pmt_gain": 0.75,
            "series.description": "Magnification: 3",
        },
    )
