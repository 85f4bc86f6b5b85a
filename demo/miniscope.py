"""
Write a recording as the Miniscope DAQ software does: short movies, the time of each frame, and two JSON files.

The movies are 8 bits deep and compressed without loss (FFV1).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import batched
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

DEVICE = "My_V4_Miniscope"
FRAMES_PER_FILE = 1000
# Half past two in the afternoon of 17 January 2026, at eight hours west of Greenwich.
STARTED = {"year": 2026, "month": 1, "day": 17, "hour": 14, "minute": 30, "second": 0, "msec": 250}
STARTED_SINCE_1970_MS = 1_768_689_000_250


def write_miniscope(
    session: Path, frames: Iterable[npt.NDArray[np.uint8]], *, sampling_frequency: int, animal: str
) -> None:
    """
    Write a session of one Miniscope.

    :param session: The session's folder, created.
    :param frames: Each of the shape (rows, columns); those of one file are in memory at a time.
    :param sampling_frequency: Frames per second, a whole number.
    :param animal: The subject's name.
    """
    device = session / DEVICE
    device.mkdir(parents=True)
    num_samples, shape = 0, (0, 0)
    for number, block in enumerate(batched(frames, FRAMES_PER_FILE)):
        shape = block[0].shape
        size = (shape[1], shape[0])
        writer = cv2.VideoWriter(
            str(device / f"{number}.avi"), cv2.VideoWriter.fourcc(*"FFV1"), sampling_frequency, size, isColor=False
        )
        for frame in block:
            writer.write(frame)
        writer.release()
        num_samples += len(block)
    stamps = [f"{number},{round(1000 * number / sampling_frequency)},0" for number in range(num_samples)]
    (device / "timeStamps.csv").write_text("\n".join(["Frame Number,Time Stamp (ms),Buffer Index", *stamps, ""]))
    settings = {
        "deviceName": DEVICE.replace("_", " "),
        "deviceType": "Miniscope_V4_BNO",
        "deviceID": 0,
        "frameRate": f"{sampling_frequency}FPS",
        "framesPerFile": FRAMES_PER_FILE,
        "gain": "Medium",
        "led0": 12,
        "ewl": 8,
        "compression": "FFV1",
        "ROI": {"width": shape[1], "height": shape[0], "leftEdge": 0, "topEdge": 0},
    }
    about = {
        "animalName": animal,
        "researcherName": "Doe, Jane",
        "experimentName": "open field",
        "miniscopes": [settings["deviceName"]],
        "cameras": [],
        "recordingStartTime": STARTED | {"msecSinceEpoch": STARTED_SINCE_1970_MS},
    }
    for folder, content in ((device, settings), (session, about)):
        (folder / "metaData.json").write_text(json.dumps(content, indent=4))
