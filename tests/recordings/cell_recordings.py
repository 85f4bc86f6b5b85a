"""Makes small segmentations in the layouts of the software that writes them, with what is in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

ROWS, COLUMNS = 20, 32
RATE = 12.5


def masks(rois: int, seed: int = 0) -> np.ndarray:
    """Return image masks (rois, rows, columns): one patch of 3 x 4 pixels each, which do not overlap."""
    rng, found = np.random.default_rng(seed), np.zeros((rois, ROWS, COLUMNS))
    for roi in range(rois):
        top, left = 4 * (roi // 6) + 1, 5 * (roi % 6) + 1
        found[roi, top : top + 3, left : left + 4] = rng.random((3, 4)) + 0.1
    return found


def traces(rois: int, samples: int, seed: int = 0) -> np.ndarray:
    """Return traces (rois, samples)."""
    return np.random.default_rng(seed).random((rois, samples)).astype("float32")


def suite2p_statistics(rois: int, seed: int = 0) -> np.ndarray:
    """Return what ``stat.npy`` holds."""
    found = np.empty(rois, dtype=object)
    for roi, mask in enumerate(masks(rois, seed)):
        rows, columns = np.nonzero(mask)
        found[roi] = {"ypix": rows, "xpix": columns, "lam": mask[rows, columns].astype("float32")}
        found[roi] |= {"med": [int(np.median(rows)), int(np.median(columns))], "npix": rows.size}
    return found


def suite2p_plane(
    plane: Path, *, rois: int = 5, samples: int = 8, seed: int = 0, second: bool = False, **options: Any
) -> None:
    """Make the folder of one plane; without ROIs, it is what suite2p leaves of one in which it found none."""
    plane.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    images = {"meanImg": rng.random((ROWS, COLUMNS)), "Vcorr": rng.random((ROWS, COLUMNS))}
    facts = {"Ly": ROWS, "Lx": COLUMNS, "nframes": samples, "fs": RATE, "nplanes": 1, "tau": 1.25}
    ranges = {"yrange": [0, ROWS], "xrange": [0, COLUMNS], "suite2p_version": "0.14.4"}
    if second:
        images["meanImg_chan2"] = rng.random((ROWS, COLUMNS))
    np.save(plane / "ops.npy", np.array(facts | images | ranges | options, dtype=object), allow_pickle=True)
    np.save(plane / "stat.npy", suite2p_statistics(rois, seed), allow_pickle=True)
    if not rois:
        return
    for number, name in enumerate(("F", "Fneu", "spks", *(("F_chan2", "Fneu_chan2") if second else ()))):
        np.save(plane / f"{name}.npy", traces(rois, samples, seed + number))
    for name in ("iscell", *(("redcell",) if second else ())):
        np.save(plane / f"{name}.npy", np.stack([np.arange(rois) % 2, rng.random(rois)], 1))


def suite2p(folder: Path, planes: int = 1, **options: Any) -> Path:
    """Make a folder of planes, each with other ROIs and images."""
    for plane in range(planes):
        suite2p_plane(folder / f"plane{plane}", seed=10 * plane, **options)
    return folder
