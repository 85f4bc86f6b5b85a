"""The recordings below ``/data`` that the pages speak of, simulated."""

from __future__ import annotations

import sys
from pathlib import Path

import movies
import yaml
from described import simulate_described

from demo.recording import MARKER

sys.path.append(str(Path(__file__).parents[1] / "recordings"))

from cell_recordings import suite2p
from recording_makers import random_frames
from recording_makers.miniscope import miniscope_session
from recording_makers.scanimage import one_file, settings_of, volumes, write_file
from recording_makers.segmentations import caiman

LAB = {"NWBFile": {"institution": "Institute of Simulated Neuroscience", "lab": "Imaging"}}


def make_example_data(root: Path, two_channels: str) -> None:
    """
    Make all recordings below a folder that stands for ``/data``.

    :param root: Is not there yet.
    :param two_channels: The metadata of the recording with two channels, as a page shows them.
    """
    for name in ("nwb", "m2", "m4", "m6"):
        (root / name).mkdir(parents=True)
    (root / "lab.yaml").write_text(yaml.safe_dump(LAB))
    (simulate_described(root / "m1") / MARKER).touch()
    settings = settings_of(**{"SI.hChannels.channelSave": "[1;2]"})
    write_file(root / "m2/movie.tif", random_frames(20, "int16"), settings, channels=2)
    (root / "m2/metadata.yaml").write_text(two_channels)
    miniscope_session(root / "m3")
    movies.write_tiff(root / "m4/movie.tif")
    for make, name in ((volumes, "m5"), (one_file, "m7")):
        make(root / name).files[0].rename(root / name / "movie.tif")
    suite2p(root / "m6/suite2p", planes=2)
    caiman(root / "m6/caiman")
