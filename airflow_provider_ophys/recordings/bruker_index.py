"""The index of a Bruker recording: PrairieView's XML, which names the file of every frame."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from airflow_provider_ophys.exceptions import SourceDataError
from airflow_provider_ophys.recordings.xml_headers import Attributes, scan_xml

# Sequences of which each is one volume.
VOLUMES = ("TSeries ZSeries Element", "ZSeries")
# An interval that is so many times the usual one is a pause between bursts.
GAP = 5.0
# What PrairieView calls its TIFFs.
FRAME_NAME = re.compile(r".+_Cycle\d{5}_Ch\d+_\d{6}\.ome\.tif")


@dataclass(frozen=True)
class StateValue:
    """One of the microscope's settings: of an axis, a laser or a detector where there are several."""

    value: str
    index: str = ""
    description: str = ""


@dataclass
class BrukerIndex:
    """
    What the XML says.

    :param attributes: Of the whole: ``version``, ``date``.
    :param systems: Identity and description of the microscope.
    :param state: Settings at the start, by name.
    :param sequences: Type, and time of day, of each sequence (cycle).
    :param lengths: Number of frames of each sequence.
    :param relative: Time of each frame in seconds since its sequence began, or since the recording did.
    :param absolute: Time of each frame in seconds since the microscope started.
    :param files: File name -> frame in which it comes first, channel, and how many pages it must have.
    :param channels: Number of each channel -> its name.
    :param planes: Of the first sequence: positions of the axis of depth at each frame, in um.
    """

    attributes: Attributes = field(default_factory=dict)
    systems: list[Attributes] = field(default_factory=list)
    state: dict[str, list[StateValue]] = field(default_factory=dict)
    sequences: list[Attributes] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    relative: list[float] = field(default_factory=list)
    absolute: list[float | None] = field(default_factory=list)
    files: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    channels: dict[int, str] = field(default_factory=dict)
    planes: list[list[float]] = field(default_factory=list)

    @property
    def is_volumetric(self) -> bool:
        """Whether each sequence is a volume."""
        return bool(self.sequences) and self.sequences[0].get("type") in VOLUMES

    @property
    def num_planes(self) -> int:
        """Planes of a volume; 1 where there are no volumes."""
        return self.lengths[0] if self.is_volumetric else 1

    @property
    def num_samples(self) -> int:
        """Frames, or whole volumes."""
        return len(self.relative) // max(self.num_planes, 1)

    @cached_property
    def times(self) -> NDArray[np.float64]:
        """
        Times of the samples, in seconds since the first.

        The times of bursts begin anew with each; when a burst began is in the absolute time.
        """
        times = np.array(self.relative)
        starts = np.cumsum([0, *self.lengths])[:-1]
        if len(starts) > 1 and self.relative[starts[1]] == 0.0:
            for start, length in zip(starts, self.lengths, strict=True):
                first, now = self.absolute[0], self.absolute[start]
                if first is not None and now is not None:
                    times[start : start + length] += now - first
        return times[:: max(self.num_planes, 1)]

    @property
    def rate(self) -> float | None:
        """Rate of the samples (Hz), within bursts."""
        intervals = np.diff(self.times)
        usual = float(np.median(intervals)) if len(intervals) else 0.0
        if not 0 < usual < np.inf:
            return None
        mean = float(intervals[(intervals > 0) & (intervals <= GAP * usual)].mean())
        return 1 / mean if 0 < mean < np.inf else None

    def text(self, name: str, index: str | None = None) -> str | None:
        """Return a setting; that of an axis or device, if one is named, by its index or its number."""
        values = [value for value in self.state.get(name, []) if index in (None, value.index)]
        return values[0].value if values else None


def read_index(file: Path) -> BrukerIndex:
    """
    Read the index, once from begin to end.

    :raises SourceNotFoundError: If there is none.
    :raises SourceDataError: If it is no whole index of PrairieView.
    """
    index = BrukerIndex()
    scan_xml(file, _Scanner(index, file).start)
    if not index.files or not index.sequences or not index.lengths[0]:
        raise SourceDataError(f"{file} names no frames and files, as the index of a Bruker recording does.")
    return index


class _Scanner:
    """Takes the elements of the XML in turn."""

    def __init__(self, index: BrukerIndex, file: Path) -> None:
        self.index, self.file = index, file
        self.has_root, self.key, self.axis = False, "", ""
        self.takers = {
            "SystemIDs": self.system,
            "SystemID": self.system,
            "Sequence": self.sequence,
            "Frame": self.frame,
            "File": self.file_of_frame,
            "PVStateValue": self.value,
            "IndexedValue": self.indexed,
            "SubindexedValues": self.axis_of,
            "SubindexedValue": self.subindexed,
        }

    def start(self, name: str, attributes: Attributes) -> None:
        if not self.has_root:
            if name != "PVScan":
                raise SourceDataError(f"{self.file} is no index of PrairieView: its root is {name}, not PVScan.")
            self.has_root, self.index.attributes = True, attributes
        taker = self.takers.get(name)
        if taker:
            taker(attributes)

    def system(self, attributes: Attributes) -> None:
        self.index.systems.append(attributes)

    def sequence(self, attributes: Attributes) -> None:
        self.index.sequences.append(attributes)
        self.index.lengths.append(0)

    def frame(self, attributes: Attributes) -> None:
        index, absolute = self.index, attributes.get("absoluteTime")
        index.relative.append(float(attributes["relativeTime"]))
        index.absolute.append(None if absolute is None else float(absolute))
        index.lengths[-1] += 1

    def file_of_frame(self, attributes: Attributes) -> None:
        index, name, channel = self.index, attributes["filename"], int(attributes["channel"])
        page, known = int(attributes.get("page", "1")), index.files.get(name)
        if known is None:
            index.files[name] = (len(index.relative) - 1, channel, page)
            index.channels[channel] = attributes["channelName"]
        elif page > known[2]:
            index.files[name] = (known[0], channel, page)

    def value(self, attributes: Attributes) -> None:
        self.key, self.axis = attributes["key"], ""
        if len(self.index.lengths) == 1 and self.key == "positionCurrent":
            self.index.planes.append([])
        if "value" in attributes:
            self._note(StateValue(attributes["value"]))

    def indexed(self, attributes: Attributes) -> None:
        text = attributes.get("value")
        if text is not None:
            self._note(StateValue(text, attributes.get("index", ""), attributes.get("description", "")))

    def axis_of(self, attributes: Attributes) -> None:
        self.axis = attributes.get("index", "")

    def subindexed(self, attributes: Attributes) -> None:
        value = StateValue(attributes.get("value", ""), self.axis, attributes.get("description", ""))
        self._note(value)
        if len(self.index.lengths) == 1 and self.key == "positionCurrent" and self.axis == "ZAxis":
            self.index.planes[-1].append(float(value.value))

    def _note(self, value: StateValue) -> None:
        """Settings before the first sequence are those of the recording; the others are of single frames."""
        if not self.index.sequences:
            self.index.state.setdefault(self.key, []).append(value)
