"""
Make acquisitions as microscopes leave them, and drop one into a watched folder.

An acquisition is a folder of a maker's files and, last of all, an empty file ``DONE`` that says that everything
has arrived. Nothing in it tells how to convert it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from demo.bruker import write_bruker
from demo.detector import Detector
from demo.miniscope import write_miniscope
from demo.scanimage import ScanImageWriter
from demo.suite2p import Suite2pFolder
from demo.tissue import Tissue

MARKER = "DONE"
COPY_BLOCK = 1024 * 1024
PLANE_DISTANCE_UM = 30
# Light of a Miniscope that comes from nowhere in particular, in the middle and relative to the distance from it.
HAZE, HAZE_FALL = 90, 0.45
COUNTS_PER_GREY_LEVEL = 10


def simulate_acquisition(
    folder: Path,
    *,
    num_samples: int = 200,
    num_rows: int = 96,
    num_columns: int = 128,
    num_rois: int = 12,
    num_planes: int = 1,
    channels: Sequence[str] = ("Green",),
    sampling_frequency: float = 30.0,
    seed: int = 0,
) -> Path:
    """
    Simulate what a two-photon microscope with ScanImage records of calcium in neurons, and suite2p makes of it.

    The folder gets ``movie.tif`` and ``suite2p/plane0``, ``plane1`` ... Frames are made and written one after the
    other, so memory does not grow with the length of the movie.

    :param folder: The acquisition's folder, created; it may not exist yet.
    :param num_samples: Number of frames, or of volumes where there are several planes.
    :param num_rows: Height of a frame, in pixels.
    :param num_columns: Width of a frame, in pixels.
    :param num_rois: Number of structures in the segmentation of each plane, of which about a fifth are rejected.
    :param num_planes: Number of planes, from top to bottom.
    :param channels: Names of the channels; the first follows the activity, others only mark the neurons.
    :param sampling_frequency: Samples per second.
    :param seed: The same arguments give the same bytes.
    :raises FileExistsError: When the folder exists.
    :raises ValueError: When the neurons do not fit into the frame, or the frames not into the file.
    """
    folder = Path(folder)
    folder.mkdir(parents=True)
    shape = (num_rows, num_columns)
    tissues = [
        _tissue(shape, num_samples, num_rois, sampling_frequency, seed + 1000 * plane)
        for plane in range(num_planes)
    ]
    detectors = [Detector(seed + 1000 * number) for number in range(num_planes * len(channels))]
    segmentations = [Suite2pFolder(tissue, num_samples) for tissue in tissues]
    with ScanImageWriter(
        folder / "movie.tif",
        num_samples=num_samples,
        shape=shape,
        sampling_frequency=sampling_frequency,
        channels=channels,
        depths=range(0, PLANE_DISTANCE_UM * num_planes, PLANE_DISTANCE_UM),
    ) as movie:
        for sample in range(num_samples):
            for plane, (tissue, segmentation) in enumerate(zip(tissues, segmentations, strict=True)):
                for channel in range(len(channels)):
                    photons = tissue.photons(sample, active=channel == 0)
                    frame = detectors[plane * len(channels) + channel].expose(photons, sample)
                    movie.add(frame)
                    if channel == 0:
                        segmentation.add(sample, frame)
    for plane, segmentation in enumerate(segmentations):
        segmentation.save(folder / "suite2p", sampling_frequency, plane=plane, num_planes=num_planes)
    (folder / MARKER).touch()
    return folder


def simulate_bruker(folder: Path, *, num_samples: int, num_rows: int, num_columns: int, num_rois: int) -> Path:
    """
    Simulate what a two-photon microscope of Bruker records, 30 frames per second.

    :param folder: The acquisition's folder, created; the maker's own lies in it. The other parameters are those of
        :func:`simulate_acquisition`.
    """
    tissue, detector = _tissue((num_rows, num_columns), num_samples, num_rois, 30.0, seed=1), Detector(1)
    frames = (detector.expose(tissue.photons(sample), sample) for sample in range(num_samples))
    write_bruker(folder / "TSeries-01162026-1405-001", frames, sampling_frequency=30.0)
    (folder / MARKER).touch()
    return folder


def simulate_miniscope(
    folder: Path, *, num_samples: int, num_rows: int, num_columns: int, num_rois: int, animal: str
) -> Path:
    """
    Simulate what a Miniscope on the head of a mouse records, 20 frames per second.

    :param folder: The session's folder, created.
    :param animal: The subject, which the software writes down. The other parameters are those of
        :func:`simulate_acquisition`.
    """
    tissue = _tissue((num_rows, num_columns), num_samples, num_rois, 20.0, seed=2)
    write_miniscope(folder, _one_photon(tissue, num_samples), sampling_frequency=20, animal=animal)
    (folder / MARKER).touch()
    return folder


def _tissue(
    shape: tuple[int, int], num_samples: int, num_rois: int, sampling_frequency: float, seed: int
) -> Tissue:
    return Tissue(
        num_samples=num_samples,
        num_rows=shape[0],
        num_columns=shape[1],
        num_rois=num_rois,
        sampling_frequency=sampling_frequency,
        seed=seed,
    )


def _one_photon(tissue: Tissue, num_samples: int) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield frames of a camera: the neurons within a haze from all depths, darker towards the edge of the lens."""
    detector = Detector(2)
    rows, columns = (np.linspace(-1, 1, side) for side in tissue.shape)
    haze = HAZE * (1 - HAZE_FALL * (rows[:, None] ** 2 + columns**2))
    for sample in range(num_samples):
        counts = detector.expose(tissue.photons(sample), sample)
        yield (haze + counts / COUNTS_PER_GREY_LEVEL).clip(0, 255).astype(np.uint8)


def drop_like_a_microscope(source_folder: Path, watched_root: Path, seconds: float) -> Path:
    """
    Copy an acquisition into a watched folder as a microscope would: growing files, then the marker.

    :param source_folder: The acquisition; nothing in it is changed.
    :param watched_root: The folder that Airflow watches; the copy gets the source's name in it.
    :param seconds: How long the copy takes at least; large recordings take what the disk takes.
    :returns: The folder of the copy.
    :raises FileExistsError: When the watched folder has an acquisition of that name.
    """
    source_folder = Path(source_folder).resolve()
    target = Path(watched_root) / source_folder.name
    target.mkdir(parents=True)
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
