"""What Minian leaves: Zarr stores of format 2, as xarray writes them, and the Miniscope's time stamps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import zarr
from cell_recordings import COLUMNS, RATE, ROWS, masks, traces
from numcodecs import Blosc

from recording_makers import Made, makes

ROIS, SAMPLES, SURPLUS = 5, 8, 2
FRAMES = np.arange(SURPLUS, SURPLUS + SAMPLES)
READ = ("A", "C", "S", "b0", "b", "f", "max_proj")


def variables(seed: int = 0) -> dict[str, dict[str, np.ndarray]]:
    """Return the arrays of each store."""
    units, session = {"unit_id": np.arange(ROIS)}, {"animal": np.array("mouse7"), "session_id": np.array("day1")}
    pixels, frames = {"height": np.arange(ROWS), "width": np.arange(COLUMNS)}, {"frame": FRAMES}
    found = {"A": {"A": masks(ROIS)} | units | pixels | session}
    for number, name in enumerate(("C", "S", "b0", "c0")):
        found[name] = {name: traces(ROIS, SAMPLES, seed + number)} | units | frames
    found["b"] = {"b": np.ones((ROWS, COLUMNS))} | pixels
    found["f"] = {"f": traces(1, SAMPLES, 9)[0]} | frames
    found["max_proj"] = {"max_proj": np.full((ROWS, COLUMNS), 2.0)} | pixels
    return found


def write_stores(folder: Path, zarr_format: int = 2) -> None:
    options = {"compressors": Blosc()} if zarr_format == 2 else {}
    for name, arrays in variables().items():
        group = zarr.open_group(str(folder / f"{name}.zarr"), mode="w", zarr_format=zarr_format)
        for key, values in arrays.items():
            chunks = tuple(max(1, length // 2) for length in values.shape)
            made = group.create_array(
                key,
                shape=values.shape,
                dtype=values.dtype,
                chunks=chunks,
                fill_value=None if chunks else "",
                **options,
            )
            made[...] = values


def write_stamps(folder: Path, first: int = 0, number: int = SURPLUS + SAMPLES) -> None:
    lines = [f"{frame},{round(1000 * frame / RATE)},0" for frame in range(first, first + number)]
    (folder / "timeStamps.csv").write_text("\n".join(["Frame Number,Time Stamp (ms),Buffer Index", *lines]) + "\n")


@makes("Minian")
def minian(folder: Path) -> Made:
    """Of chunks, it does not show that they are missing: zeros are not written."""
    folder.mkdir()
    write_stores(folder)
    write_stamps(folder)
    files = [file for name in READ for file in (folder / f"{name}.zarr").rglob("*") if file.is_file()]
    stamps, needed = folder / "timeStamps.csv", [folder / f"{name}.zarr" / name / ".zarray" for name in "Abf"]
    return Made(
        folder,
        "MinianSegmentationExtractor",
        {"folder_path": str(folder)},
        [stamps, *files],
        traces(ROIS, SAMPLES).T,
        RATE,
        kind="segmentation",
        facts={"NWBFile.session_id": "day1", "Subject.subject_id": "mouse7", "plane.imaging_rate": RATE},
        dispensable=[file for file in files if file not in needed],
        # Of the rest, attributes and coordinates, the extractor reads nothing; and a text may end anywhere.
        uncut=[stamps, *(file for file in files if file.name == ".zattrs" or file.parent.name not in READ)],
    )
