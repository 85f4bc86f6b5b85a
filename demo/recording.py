"""
Make an acquisition as a two-photon microscope and its analysis leave it, and drop one into a watched folder.

An acquisition is a folder with ``movie.tif`` (ScanImage), ``suite2p/`` (the segmentation), ``session.yaml`` (what
to convert), ``metadata.yaml`` (of the NWB file) and, last of all, an empty file ``DONE`` that says that everything
has arrived.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from demo.detector import Detector
from demo.scanimage import ScanImageWriter
from demo.session import simulated_session
from demo.suite2p import Suite2pFolder
from demo.tissue import Tissue

MARKER = "DONE"
COPY_BLOCK = 1024 * 1024


def simulate_acquisition(
    folder: Path,
    *,
    num_samples: int = 200,
    num_rows: int = 96,
    num_columns: int = 128,
    num_rois: int = 12,
    sampling_frequency: float = 30.0,
    seed: int = 0,
) -> Path:
    """
    Simulate a two-photon recording of calcium in neurons, with its segmentation and metadata.

    Frames are made and written one after the other, so memory does not grow with the length of the movie.

    :param folder: The acquisition's folder, created; it may not exist yet.
    :param num_samples: Number of frames.
    :param num_rows: Height of a frame, in pixels.
    :param num_columns: Width of a frame, in pixels.
    :param num_rois: Number of structures in the segmentation, of which about a fifth are rejected.
    :param sampling_frequency: Frames per second.
    :param seed: The same arguments give the same bytes.
    :raises FileExistsError: When the folder exists.
    :raises ValueError: When the neurons do not fit into the frame, or the frames not into the file.
    """
    folder = Path(folder)
    folder.mkdir(parents=True)
    shape = (num_rows, num_columns)
    tissue = Tissue(
        num_samples=num_samples,
        num_rows=num_rows,
        num_columns=num_columns,
        num_rois=num_rois,
        sampling_frequency=sampling_frequency,
        seed=seed,
    )
    detector = Detector(seed)
    segmentation = Suite2pFolder(tissue, num_samples)
    with ScanImageWriter(
        folder / "movie.tif", num_samples=num_samples, shape=shape, sampling_frequency=sampling_frequency
    ) as movie:
        for sample in range(num_samples):
            frame = detector.expose(tissue.photons(sample), sample)
            movie.add(frame)
            segmentation.add(sample, frame)
    segmentation.save(folder / "suite2p", sampling_frequency)
    for name, text in simulated_session(seed).items():
        (folder / name).write_text(text)
    (folder / MARKER).touch()
    return folder


def drop_like_a_microscope(
    source_folder: Path, watched_root: Path, seconds: float, *, more_files: Mapping[str, str] | None = None
) -> Path:
    """
    Copy an acquisition into a watched folder as a microscope would: growing files, then the marker.

    :param source_folder: The acquisition; nothing in it is changed.
    :param watched_root: The folder that Airflow watches; the copy gets the source's name in it.
    :param seconds: How long the copy takes at least; large recordings take what the disk takes.
    :param more_files: Texts of files that the source does not have, by name.
    :returns: The folder of the copy.
    :raises FileExistsError: When the watched folder has an acquisition of that name.
    """
    source_folder = Path(source_folder).resolve()
    target = Path(watched_root) / source_folder.name
    target.mkdir(parents=True)
    for name, text in (more_files or {}).items():
        (target / name).write_text(text)
    files = [file for file in sorted(source_folder.rglob("*")) if file.is_file() and file.name != MARKER]
    total = sum(file.stat().st_size for file in files)
    started, copied = time.monotonic(), 0
    for file in files:
        destination = target / file.relative_to(source_folder)
        destination.parent.mkdir(parents=True, exist_ok=True)
        with file.open("rb") as taken, destination.open("wb") as given:
            while block := taken.read(COPY_BLOCK):
                given.write(block)
                given.flush()
                copied += len(block)
                time.sleep(max(0.0, started + seconds * copied / total - time.monotonic()))
    (target / MARKER).touch()
    return target
