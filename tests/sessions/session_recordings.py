"""Sessions as they lie on a rig's disk: recordings of makers, without a file that describes them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parents[1] / "recordings"))

from cell_recordings import RATE as CELLS_RATE
from cell_recordings import suite2p, traces
from recording_makers import COLUMNS, MAKERS, ROWS, Made, random_frames
from recording_makers.scanimage import write_volumes

__all__ = ["CELLS_RATE", "CHANNELS", "MAKERS", "PLANES", "VOLUMES", "Made", "random_frames", "recording"]
__all__ += ["suite2p", "traces", "two_channels_of_three_planes", "write_volumes"]

CHANNELS = ("Green", "Far")
PLANES, VOLUMES = 3, 5


def two_channels_of_three_planes(folder: Path) -> np.ndarray:
    """
    Make a ScanImage recording, and suite2p's cells of each plane.

    :returns: (volumes, planes, channels, rows, columns).
    """
    made = recording("ScanImage, volumes of two channels", folder)
    suite2p(folder / "suite2p", planes=PLANES, samples=VOLUMES)
    frames = random_frames(VOLUMES * 4 * 2, "int16").reshape(VOLUMES, 4, 2, ROWS, COLUMNS)[:, :PLANES]
    assert np.array_equal(frames[:, :, 0].transpose(0, 2, 3, 1), made.truth)
    return frames


def recording(name: str, folder: Path) -> Made:
    return MAKERS[name](folder)
