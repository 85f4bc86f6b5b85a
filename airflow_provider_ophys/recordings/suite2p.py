"""Whether a suite2p folder is whole: every array is there, and they are of the same ROIs and frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from airflow_provider_ophys.exceptions import SourceDataError
from airflow_provider_ophys.recordings.pickles import check_pickle
from airflow_provider_ophys.recordings.recording import Recording

OPTIONS = ("nframes", "fs", "Ly", "Lx")
ROI_FIELDS = ("ypix", "xpix", "lam")
TRACES = {"chan1": ("F.npy", "Fneu.npy", "spks.npy"), "chan2": ("F_chan2.npy", "Fneu_chan2.npy")}


def check_suite2p(folder: Path, plane_name: str | None = None, channel_name: str | None = None) -> None:
    """
    Check one plane of a suite2p folder.

    :param folder: With ``plane0`` and so on in it.
    :param plane_name: Default: the first.
    :param channel_name: ``"chan1"`` (the default) or ``"chan2"``.
    :raises SourceDataError: One error that names every array that is missing, damaged or does not fit.
    """
    plane = folder / (plane_name or _first_plane(folder))
    names = ("ops.npy", "stat.npy", *TRACES.get(channel_name or "chan1", ()), "iscell.npy")
    missing = [name for name in names if not (plane / name).is_file()]
    if missing:
        raise SourceDataError(
            f"{plane} lacks {', '.join(missing)}, which suite2p always writes. Copy the folder again, or wait "
            "until it is complete."
        )
    problems = list(_problems(plane, names))
    if problems:
        listed = "\n".join(f"  {problem}" for problem in problems)
        raise SourceDataError(
            f"The arrays in {plane} do not belong together. Copy the folder again, or run suite2p again.\n{listed}"
        )


def _first_plane(folder: Path) -> str:
    names = [path.stem for path in folder.glob("plane*")]
    if not names:
        raise SourceDataError(f"{folder} is no suite2p folder: it has no plane0. Give the folder that has it.")
    # plane2 comes before plane10.
    return min(names, key=lambda name: (len(name), name))


def _problems(plane: Path, names: tuple[str, ...]) -> Iterator[str]:
    options = check_pickle(plane / "ops.npy")
    options = options.item() if isinstance(options, np.ndarray) and options.size == 1 else options
    if not isinstance(options, Mapping) or not all(name in options for name in OPTIONS):
        lacking = [name for name in OPTIONS if not isinstance(options, Mapping) or name not in options]
        yield f"ops.npy has no {', '.join(lacking)}"
        return
    statistics = check_pickle(plane / "stat.npy")
    if getattr(statistics, "ndim", None) != 1:
        yield "stat.npy is no list of ROIs"
        return
    num_rois, num_frames = len(statistics), int(options["nframes"])
    for name in names[2:]:
        array = _open_array(plane / name)
        if array.ndim != 2 or array.shape[0] != num_rois:  # noqa: PLR2004
            yield f"{name} has the shape {array.shape}, but stat.npy has {num_rois} ROIs"
        elif name != "iscell.npy" and array.shape[1] != num_frames:
            yield f"{name} has {array.shape[1]} frames, but ops.npy says {num_frames} (nframes)"
    yield from _wrong_rois(statistics, (int(options["Ly"]), int(options["Lx"])))


def _open_array(file: Path) -> Any:
    try:
        return np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise SourceDataError(
            f"{file} is damaged or incomplete: {error}. Copy it again, or wait until it is complete."
        ) from error


def _wrong_rois(statistics: Any, image_shape: tuple[int, int]) -> Iterator[str]:
    for index, roi in enumerate(statistics):
        lacking = [field for field in ROI_FIELDS if not isinstance(roi, Mapping) or field not in roi]
        if lacking:
            yield f"ROI {index} of stat.npy has no {', '.join(lacking)}"
            continue
        lengths = {field: np.size(roi[field]) for field in ROI_FIELDS}
        if len(set(lengths.values())) > 1:
            yield f"ROI {index} of stat.npy has fields of different lengths: {lengths}"
            continue
        for field, limit in zip(("ypix", "xpix"), image_shape, strict=True):
            values = np.asarray(roi[field])
            if values.size and (values.min() < 0 or values.max() >= limit):
                yield f"ROI {index} of stat.npy has {field} up to {values.max()} in an image of {limit}"


class Suite2pRecording(Recording):
    """One plane of a suite2p folder."""

    def check(self) -> None:
        """
        Check that the plane's arrays are there and belong together.

        :raises SourceDataError: Names every array that is missing, damaged or does not fit.
        """
        for path in self.paths.values():
            if path.is_dir():
                check_suite2p(path, self.arguments.get("plane_name"), self.arguments.get("channel_name"))
