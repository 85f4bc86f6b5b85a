"""Sessions of the Miniscope DAQ software."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

import cv2
import numpy as np

from recording_makers import COLUMNS, ROWS, Made, makes, random_frames

START = {"year": 2024, "month": 2, "day": 29, "hour": 23, "minute": 5, "second": 7, "msec": 250}
# 23:05:07.250 at five and a half hours east of Greenwich.
EPOCH_MILLISECONDS = 1_709_228_107_250
HALF_PAST_FIVE = timezone(timedelta(hours=5, minutes=30))
DEVICE = {
    "deviceName": "Scope A",
    "deviceType": "Miniscope_V4_BNO",
    "deviceID": 0,
    "frameRate": "20FPS",
    "framesPerFile": 6,
    "gain": 3.5,
    "led0": 17,
    "ewl": -12,
    "compression": "FFV1",
    "ROI": {"width": COLUMNS, "height": ROWS, "leftEdge": 4, "topEdge": 2},
}


def write_avi(path: Path, frames: np.ndarray) -> None:
    size = (frames.shape[2], frames.shape[1])
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"FFV1"), 20, size, False)
    assert writer.isOpened()
    for frame in frames:
        writer.write(frame)
    writer.release()


def write_stamps(folder: Path, milliseconds: list[float]) -> None:
    lines = ["Frame Number,Time Stamp (ms),Buffer Index"]
    lines += [f"{number},{stamp},{number % 2}" for number, stamp in enumerate(milliseconds)]
    (folder / "timeStamps.csv").write_text("\n".join(lines) + "\n")


def miniscope_device(folder: Path, samples: int = 15, per_file: int = 6, seed: int = 0) -> np.ndarray:
    """Make the folder of one device; return its frames. Stamps begin at -13 ms, and one frame was dropped."""
    folder.mkdir(parents=True)
    movie = random_frames(samples, "uint8", seed)
    for number, first in enumerate(range(0, samples, per_file)):
        write_avi(folder / f"{number}.avi", movie[first : first + per_file])
    write_stamps(folder, [50 * number - 13 + (50 if number > samples // 2 else 0) for number in range(samples)])
    (folder / "metaData.json").write_text(json.dumps(DEVICE | {"framesPerFile": per_file}))
    return movie


def miniscope_session(session: Path, device: str = "Scope_A", **sizes: int) -> tuple[Path, np.ndarray]:
    """Make a session of one Miniscope and one behaviour camera; return the Miniscope's folder, and its frames."""
    movie = miniscope_device(session / device, **sizes)
    camera = session / "BehavCam_0"
    miniscope_device(camera, samples=3)
    (camera / "metaData.json").write_text(json.dumps({"deviceName": "BehavCam 0", "deviceType": "WebCam-640x480"}))
    header = {
        "animalName": "m 12",
        "researcherName": "R. Searcher",
        "experimentName": "open field",
        "miniscopes": ["Scope A"],
        "cameras": ["BehavCam 0"],
        "recordingStartTime": START | {"msecSinceEpoch": EPOCH_MILLISECONDS},
    }
    (session / "metaData.json").write_text(json.dumps(header))
    return session / device, movie


@makes("Miniscope")
def miniscope(folder: Path) -> Made:
    device, movie = miniscope_session(folder)
    names = ["0.avi", "1.avi", "2.avi", "timeStamps.csv", "metaData.json"]
    headers = [device / "metaData.json", folder / "metaData.json"]
    return Made(
        folder,
        "MiniscopeImagingExtractor",
        {"folder_path": str(device)},
        [*(device / name for name in names), folder / "metaData.json"],
        movie,
        rate=20.0,
        start=datetime(2024, 2, 29, 23, 5, 7, 237_000, HALF_PAST_FIVE),
        facts={
            "NWBFile.session_start_time": "2024-02-29T23:05:07.250000+05:30",
            "NWBFile.experimenter": ["R. Searcher"],
            "NWBFile.experiment_description": "open field",
            "Subject.subject_id": "m 12",
            "device.name": "Scope A",
            "device.description": "Gain: 3.5; LED power setting: 17; Electrowetting lens setting: -12",
            "model.name": "Miniscope_V4_BNO",
            "plane.imaging_rate": 20.0,
        },
        dispensable=headers,
        uncut=headers,
    )
