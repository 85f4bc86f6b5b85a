"""
Write a movie as ScanImage does: a BigTIFF whose header describes the microscope, and one page for each frame.

The layout is the one of ScanImage's BigTIFF specification, version 4: after the TIFF header come the settings that
hold for all frames and the regions of interest; each page refers to both and has a description of its own, with
the time of the frame.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
import numpy.typing as npt

MAGIC, VERSION = 0x07030301, 4
HEADER = struct.Struct("<2sHHHQ IIII")
TAG = struct.Struct("<HHQQ")
ASCII, SHORT, LONG, LONG8 = 2, 3, 4, 16
# roiextractors keeps the number of a page in 16 bits.
MOST_PAGES = 65_536
FIELD_OF_VIEW_UM = 550


class ScanImageWriter:
    """
    A movie file that grows frame by frame; memory holds one frame at a time.

    :param path: The file, replaced.
    :param num_samples: How many samples will be added: frames, or volumes where there are several depths; each
        sample has a frame for each depth and, within that, for each channel.
    :param shape: Rows and columns of a frame.
    :param sampling_frequency: Samples per second.
    :param channels: Names of the channels that are saved, at most four.
    :param depths: Of the planes, in um; evenly spaced.
    :raises ValueError: When a single file cannot hold so many frames.
    """

    def __init__(
        self,
        path: Path,
        *,
        num_samples: int,
        shape: tuple[int, int],
        sampling_frequency: float,
        channels: Sequence[str] = ("Green",),
        depths: Sequence[int] = (0,),
    ) -> None:
        self._num_pages = num_samples * len(depths) * len(channels)
        if self._num_pages > MOST_PAGES:
            raise ValueError(
                f"{self._num_pages} frames do not go into one file: readers number its pages with 16 bits, so "
                f"{MOST_PAGES} is the largest number of frames."
            )
        self._shape = shape
        self._num_channels = len(channels)
        self._frame_rate = sampling_frequency * len(depths)
        self._settings = _settings(shape, sampling_frequency, channels, depths).encode() + b"\0"
        self._regions = json.dumps(_regions(shape)).encode() + b"\0"
        self._written = 0
        self._file: BinaryIO = path.open("wb")
        header_size = HEADER.size + len(self._settings) + len(self._regions)
        # Pages start on a multiple of 16, so that their pixels can be mapped into memory.
        self._next_page = -(-header_size // 16) * 16
        self._file.write(
            HEADER.pack(b"II", 43, 8, 0, self._next_page, MAGIC, VERSION, len(self._settings), len(self._regions))
            + self._settings
            + self._regions
        )
        self._file.write(bytes(self._next_page - header_size))

    def add(self, frame: npt.NDArray[np.int16]) -> None:
        """Append one frame, shape (rows, columns)."""
        head = self._page_head()
        pixels = np.ascontiguousarray(frame, dtype="<i2").tobytes()
        padding = bytes(-len(pixels) % 16)
        self._file.write(head + pixels + padding)
        self._next_page += len(head) + len(pixels) + len(padding)
        self._written += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if kind is None and self._written != self._num_pages:
            raise ValueError(f"{self._num_pages} frames were announced, {self._written} were added.")

    def _page_head(self) -> bytes:
        """Build what precedes the pixels of the next page: its tags and its description."""
        description = self._description().encode() + b"\0"
        num_tags = 16
        description_at = self._next_page + 8 + num_tags * TAG.size + 8
        pixels_at = -(-(description_at + len(description)) // 16) * 16
        num_bytes = self._shape[0] * self._shape[1] * 2
        is_last = self._written == self._num_pages - 1
        tags = [
            (254, LONG, 1, 0),  # a full image
            (256, LONG, 1, self._shape[1]),
            (257, LONG, 1, self._shape[0]),
            (258, SHORT, 1, 16),  # bits per pixel
            (259, SHORT, 1, 1),  # not compressed
            (262, SHORT, 1, 1),  # zero is black
            (270, ASCII, len(description), description_at),
            (273, LONG8, 1, pixels_at),
            (274, SHORT, 1, 1),  # the first row is the top one
            (277, SHORT, 1, 1),  # one value per pixel
            (278, LONG, 1, self._shape[0]),  # all rows in one strip
            (279, LONG8, 1, num_bytes),
            (284, SHORT, 1, 1),
            (305, ASCII, len(self._settings), HEADER.size),
            (315, ASCII, len(self._regions), HEADER.size + len(self._settings)),
            (339, SHORT, 1, 2),  # signed
        ]
        head = struct.pack("<Q", num_tags) + b"".join(TAG.pack(*tag) for tag in tags)
        next_page = 0 if is_last else pixels_at + num_bytes + -num_bytes % 16
        head += struct.pack("<Q", next_page) + description
        return head + bytes(pixels_at - self._next_page - len(head))

    def _description(self) -> str:
        # All channels are of one moment.
        number = self._written // self._num_channels + 1
        last = self._num_pages // self._num_channels
        return (
            f"frameNumbers = {number}\nacquisitionNumbers = 1\nframeNumberAcquisition = {number}\n"
            f"frameTimestamps_sec = {(number - 1) / self._frame_rate:.9f}\n"
            "acqTriggerTimestamps_sec = 0.000000000\nnextFileMarkerTimestamps_sec = -1.000000000\n"
            f"endOfAcquisition = {int(number == last)}\nendOfAcquisitionMode = 0\n"
            "dcOverVoltage = 0\nepoch = [2026  1 15 10 30  0.000]\n"
        )


def _settings(
    shape: tuple[int, int], sampling_frequency: float, channels: Sequence[str], depths: Sequence[int]
) -> str:
    """List the settings of the microscope, as MATLAB assignments."""
    rows, columns = shape
    frame_rate = sampling_frequency * len(depths)
    names = [*channels, *(f"Channel {number}" for number in range(len(channels) + 1, 5))]
    reach = FIELD_OF_VIEW_UM / 2
    settings = {
        "SI.VERSION_MAJOR": "2023",
        "SI.VERSION_MINOR": "1",
        "SI.acqState": "'grab'",
        "SI.hBeams.powers": "18",
        "SI.hChannels.channelName": "{" + " ".join(f"'{name}'" for name in names) + "}",
        "SI.hChannels.channelSave": _column(range(1, len(channels) + 1)),
        "SI.hChannels.channelsActive": _column(range(1, len(channels) + 1)),
        "SI.hFastZ.enable": str(len(depths) > 1).lower(),
        "SI.hMotors.samplePosition": "[1250 -840 -180]",
        "SI.hPmts.gains": "[0.62 0.7 0 0]",
        "SI.hPmts.names": "{'PMT1' 'PMT2' 'PMT3' 'PMT4'}",
        "SI.hRoiManager.imagingFovUm": f"[-{reach} -{reach};{reach} -{reach};{reach} {reach};-{reach} {reach}]",
        "SI.hRoiManager.linePeriod": f"{1 / frame_rate / rows:.12g}",
        "SI.hRoiManager.linesPerFrame": str(rows),
        "SI.hRoiManager.pixelsPerLine": str(columns),
        "SI.hRoiManager.scanFramePeriod": f"{1 / frame_rate:.12g}",
        "SI.hRoiManager.scanFrameRate": f"{frame_rate:.12g}",
        "SI.hRoiManager.scanVolumeRate": f"{sampling_frequency:.12g}",
        "SI.hRoiManager.scanZoomFactor": "2",
        # One file, however long the recording.
        "SI.hScan2D.logFramesPerFile": "Inf",
        "SI.hScan2D.scannerType": "'RG'",
        "SI.hStackManager.actualNumSlices": str(len(depths)),
        "SI.hStackManager.enable": str(len(depths) > 1).lower(),
        "SI.hStackManager.framesPerSlice": "1" if len(depths) > 1 else "Inf",
        "SI.hStackManager.numFramesPerVolume": str(len(depths)),
        "SI.hStackManager.numFramesPerVolumeWithFlyback": str(len(depths)),
        "SI.hStackManager.numSlices": str(len(depths)),
        "SI.hStackManager.stackMode": "'fast'",
        "SI.hStackManager.stackZStepSize": str(depths[1] - depths[0] if len(depths) > 1 else 0),
        "SI.hStackManager.zs": f"[{' '.join(map(str, depths))}]",
        "SI.imagingSystem": "'Imaging_RGG'",
        "SI.objectiveResolution": "15",
    }
    return "\n".join(f"{name} = {value}" for name, value in settings.items())


def _column(numbers: Iterable[int]) -> str:
    return f"[{';'.join(map(str, numbers))}]"


def _regions(shape: tuple[int, int]) -> dict[str, object]:
    scanfield = {
        "ver": 1,
        "classname": "scanimage.mroi.scanfield.fields.RotatedRectangle",
        "name": "Default Imaging ROI",
        "centerXY": [0, 0],
        "sizeXY": [9, 9],
        "pixelResolutionXY": [shape[1], shape[0]],
    }
    region = {"ver": 1, "classname": "scanimage.mroi.Roi", "zs": 0, "scanfields": scanfield}
    return {"RoiGroups": {"imagingRoiGroup": {"ver": 1, "rois": region}, "photostimRoiGroups": None}}
