"""ScanImage's BigTIFF: settings in front of the pages, a description with number and time in each page."""

from __future__ import annotations

import json
import struct
from datetime import datetime
from pathlib import Path

import numpy as np

from recording_makers import COLUMNS, ROWS, Made, makes, random_frames

EXTRACTOR = "ScanImageImagingExtractor"
RATE = 30.0
# The machine's zone, which the headers do not say.
START = datetime(2024, 5, 6, 7, 8, 9, 500_000)  # noqa: DTZ001
ENTRY = struct.Struct("<HHQQ")

FACTS = {
    "NWBFile.session_start_time": "2024-05-06T07:08:09.500000",
    "device.description": "ScanImage: 2022.0; Imaging system: Rig 7",
    "plane.grid_spacing": [20e-6, 15e-6],
    "plane.grid_spacing_unit": "meters",
    "plane.imaging_rate": RATE,
    "plane.origin_coords": [12e-6, -34.5e-6, 250e-6],
    "plane.optical_channel": [
        {"name": "Green", "description": 'Channel "Green" of the recording.', "emission_lambda": "nan"}
    ],
    "series.scan_line_rate": 20_000.0,
    "series.pmt_gain": 0.5,
    "series.field_of_view": [400e-6, 180e-6],
    "series.description": "Zoom: 3",
}


def settings_of(**changed: str) -> str:
    settings = {
        "SI.VERSION_MAJOR": "2022",
        "SI.VERSION_MINOR": "0",
        "SI.acqState": "'grab'",
        "SI.hBeams.powers": "17.5",
        "SI.hChannels.channelName": "{'Green' 'Red' 'Far'}",
        "SI.hChannels.channelSave": "1",
        "SI.hMotors.samplePosition": "[12 -34.5 250]",
        "SI.hPmts.gains": "[0.5 0.75 0]",
        "SI.hPmts.names": "{'GaAsP 1' 'GaAsP 2' ''}",
        "SI.hRoiManager.imagingFovUm": "[-200 -90;200 -90;200 90;-200 90]",
        "SI.hRoiManager.linePeriod": "5e-05",
        "SI.hRoiManager.scanFrameRate": str(RATE),
        "SI.hRoiManager.scanVolumeRate": "30",
        "SI.hRoiManager.scanZoomFactor": "3",
        "SI.hScan2D.logFramesPerFile": "Inf",
        "SI.hStackManager.enable": "false",
        "SI.hStackManager.framesPerSlice": "1",
        "SI.hStackManager.numFramesPerVolume": "1",
        "SI.hStackManager.numFramesPerVolumeWithFlyback": "1",
        "SI.hStackManager.numSlices": "1",
        "SI.hStackManager.stackMode": "'fast'",
        "SI.hStackManager.stackZStepSize": "25",
        "SI.hStackManager.zs": "0",
        "SI.imagingSystem": "'Rig 7'",
        "SI.objectiveResolution": "16",
    }
    return "\n".join(f"{name} = {value}" for name, value in (settings | changed).items())


def write_file(path: Path, frames: np.ndarray, settings: str, channels: int = 1, first: int = 1) -> None:
    """Write pages, of which ``channels`` in turn are of one moment; ``first`` is the number of the first frame."""
    static = settings.encode() + b"\0"
    size = {"sizeXY": [25, 11.25], "centerXY": [0.5, -0.25], "pixelResolutionXY": [COLUMNS, ROWS]}
    field = {"scanfields": size}
    rois = json.dumps({"RoiGroups": {"imagingRoiGroup": {"rois": field}}}).encode()
    begin = 32 + len(static) + len(rois)
    out = bytearray(struct.pack("<2sHHHQ4I", b"II", 43, 8, 0, begin, 0x07030301, 4, len(static), len(rois)))
    out += static + rois
    for index, frame in enumerate(frames):
        number = first + index // channels
        text = (
            f"frameNumbers = {number}\nframeNumberAcquisition = {number}\n"
            f"frameTimestamps_sec = {(number - 1) / RATE:.9f}\nepoch = [2024  5  6  7  8  9.500]\n"
        ).encode()
        rows, columns = frame.shape
        text_at = len(out) + 8 + 10 * ENTRY.size + 8
        pixels_at = text_at + len(text)
        tags = [(256, 4, 1, columns), (257, 4, 1, rows), (258, 3, 1, 16), (259, 3, 1, 1), (262, 3, 1, 1)]
        tags += [(270, 2, len(text), text_at), (273, 16, 1, pixels_at), (279, 16, 1, frame.nbytes)]
        tags += [(305, 2, len(static), 32), (339, 3, 1, 2)]
        following = 0 if index == len(frames) - 1 else pixels_at + frame.nbytes
        out += struct.pack("<Q", len(tags)) + b"".join(ENTRY.pack(*tag) for tag in tags)
        out += struct.pack("<Q", following) + text + frame.astype("<i2").tobytes()
    path.write_bytes(out)


@makes("ScanImage, one file")
def one_file(folder: Path) -> Made:
    folder.mkdir(parents=True)
    frames, path = random_frames(7, "int16"), folder / "m1_00001.tif"
    write_file(path, frames, settings_of())
    return Made(folder, EXTRACTOR, {"file_path": str(path)}, [path], frames, rate=RATE, start=START, facts=FACTS)


@makes("ScanImage, three files")
def three_files(folder: Path) -> Made:
    folder.mkdir(parents=True)
    frames = random_frames(8, "int16")
    files = [folder / f"m1_00002_{number:05d}.tif" for number in (1, 2, 3)]
    settings = settings_of(**{"SI.hScan2D.logFramesPerFile": "3"})
    for index, file in enumerate(files):
        write_file(file, frames[3 * index : 3 * index + 3], settings, first=1 + 3 * index)
    (folder / "m1_00002_notes.txt").write_text("no part of it")
    # Nobody knows that it did not end with the second file.
    made = Made(folder, EXTRACTOR, {"file_path": str(files[0])}, files, frames, rate=RATE, start=START)
    made.dispensable = [files[2]]
    return made


def write_volumes(folder: Path, frames: np.ndarray) -> Path:
    """Write frames of two channels in turn, three planes and one of flight back."""
    folder.mkdir(parents=True)
    path = folder / "m1_00001.tif"
    settings = settings_of(
        **{
            "SI.hChannels.channelSave": "[1;3]",
            "SI.hRoiManager.scanVolumeRate": "7.5",
            "SI.hStackManager.enable": "true",
            "SI.hStackManager.numSlices": "3",
            "SI.hStackManager.numFramesPerVolume": "3",
            "SI.hStackManager.numFramesPerVolumeWithFlyback": "4",
            "SI.hStackManager.zs": "[0 25 50]",
        }
    )
    write_file(path, frames, settings, channels=2)
    return path


@makes("ScanImage, volumes of two channels")
def volumes(folder: Path) -> Made:
    """Three planes and a frame of flight back, of two channels that the settings name in a column."""
    frames = random_frames(5 * 4 * 2, "int16")
    path = write_volumes(folder, frames)
    truth = frames.reshape(5, 4, 2, ROWS, COLUMNS)[:, :3, 0].transpose(0, 2, 3, 1)
    made = Made(folder, EXTRACTOR, {"file_path": str(path)}, [path], truth, rate=7.5, num_movies=2)
    made.facts = {
        "plane.grid_spacing": [20e-6, 15e-6, 25e-6],
        "plane.imaging_rate": 7.5,
        "plane.description": "0, 25, 50 um",
    }
    return made
