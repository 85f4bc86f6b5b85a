"""
suite2p's results: a folder ``suite2p`` with one folder of NumPy arrays per plane.

A plane in which suite2p found no ROI has its options, with the mean image, and neither traces nor classification.
``combined``, which repeats the ROIs of all planes in one mosaic, is read if it is asked for by name only.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from airflow_provider_ophys.exceptions import SourceDataError
from airflow_provider_ophys.models.recording import Contents, FoundRecording, HeaderMetadata, SegmentedPlane
from airflow_provider_ophys.recordings.headers import Headers
from airflow_provider_ophys.recordings.npy_header import read_npy_header
from airflow_provider_ophys.recordings.pickles import check_pickle
from airflow_provider_ophys.recordings.recording import Recording, require_regular, require_within
from airflow_provider_ophys.recordings.wholeness import not_whole

OPTIONS, STATISTICS, CLASSES, RED_CELLS = "ops.npy", "stat.npy", "iscell.npy", "redcell.npy"
NUMBERS = ("nframes", "fs", "Ly", "Lx")
ROI_FIELDS = {"ypix": "iu", "xpix": "iu", "lam": "iuf"}
TRACES = {"chan1": ("F.npy", "Fneu.npy", "spks.npy"), "chan2": ("F_chan2.npy", "Fneu_chan2.npy")}
# What suite2p adds to the options when a plane is done: without ROIs, the only sign that it was.
SIGNS_OF_THE_END = ("timing", "plane_times")
PLANE = re.compile(r"plane(\d+)")
LARGEST = 1 << 40
WORTH_TELLING = {
    "suite2p_version": ("suite2p", ""),
    "version": ("suite2p", ""),
    "date_proc": ("Processed", ""),
    "nplanes": ("Planes", ""),
    "tau": ("Time constant of the sensor", "s"),
    "diameter": ("Diameter of cells", "pixels"),
}


class Suite2pRecording(Recording):
    """One plane of a suite2p folder: the one that is named, else the first by number."""

    @classmethod
    def find(cls, folder: Path) -> list[FoundRecording]:
        """Find the folder itself, if there are folders of planes in it."""
        if not any((folder / name / OPTIONS).is_file() for name in _plane_names(folder)):
            return []
        arguments = {"folder_path": str(folder)}
        return [
            FoundRecording(
                kind="segmentation", extractor="Suite2pSegmentationExtractor", extractor_kwargs=arguments
            )
        ]

    @cached_property
    def folder(self) -> Path:
        """The folder with those of the planes."""
        if "folder_path" not in self.paths:
            raise SourceDataError(f"{self.describe()} names no folder. Give the folder that has plane0.")
        return self.paths["folder_path"]

    @cached_property
    def plane_name(self) -> str:
        """Name of the plane's folder."""
        named = self.arguments.get("plane_name")
        if named is None:
            names = _plane_names(self.folder)
            if not names:
                raise SourceDataError(
                    f"{self.folder} is no suite2p folder: it has no plane0. Give the folder that has it."
                )
            return names[0]
        is_name = isinstance(named, str) and named != "" and Path(named).name == named
        if not is_name or not (self.folder / named).is_dir():
            known = ", ".join(_plane_names(self.folder)) or "none"
            raise SourceDataError(f"{self.folder} has no plane {named!r} (known: {known}). Correct plane_name.")
        return str(named)

    @property
    def plane(self) -> Path:
        """The plane's folder."""
        return self.folder / self.plane_name

    @property
    def channel_name(self) -> str:
        """``"chan1"`` or ``"chan2"``, if the arguments are right."""
        channel: str = self.arguments.get("channel_name") or "chan1"
        return channel

    def reading(self) -> tuple[str, Mapping[str, Any]]:
        """Name the plane that is meant, which roiextractors would choose in an order of its own."""
        return self.extractor, {**self.arguments, "plane_name": self.plane_name}

    @cached_property
    def files(self) -> list[Path]:
        """The plane's arrays that are read, as far as they are there."""
        names = (OPTIONS, STATISTICS, *TRACES.get(self.channel_name, ()), RED_CELLS, CLASSES)
        found = [self.plane / name for name in names if (self.plane / name).exists()]
        if not found:
            raise SourceDataError(f"{self.plane} has no {OPTIONS}, which suite2p always writes. Copy it again.")
        for file in found:
            require_within(file, self.folder.resolve())
            require_regular(file)
        return found

    def check(self) -> None:
        """
        Check that the plane's arrays are there and belong together.

        :raises SourceDataError: Names every array that is missing, damaged or does not fit.
        :raises SourceChangedError: If suite2p may still be writing.
        """
        if self.channel_name not in TRACES:
            raise SourceDataError(f"suite2p has no channel {self.channel_name!r}: give 'chan1' or 'chan2'.")
        names = {file.name for file in self.files}
        wanted = {OPTIONS, STATISTICS, *TRACES[self.channel_name], CLASSES}
        if self.channel_name == "chan2" and RED_CELLS in names:
            # The extractor takes the second channel's classes from there.
            wanted = wanted - {CLASSES} | {RED_CELLS}
        if OPTIONS in names and self.is_empty:
            wanted = {OPTIONS}
        if missing := [name for name in _in_order(wanted) if name not in names]:
            raise not_whole(
                self.plane,
                f"it lacks {', '.join(missing)}, which suite2p always writes",
                remedy="Copy the folder again, or run suite2p again.",
            )
        if problems := list(self._problems(names & wanted)):
            listed = "\n".join(f"  {problem}" for problem in problems)
            raise SourceDataError(
                f"The arrays in {self.plane} do not belong together. Copy the folder again, or run suite2p again."
                f"\n{listed}"
            )

    def contents(self) -> Contents:
        """Tell what is in each plane that has options, by channel."""
        planes = [name for name in _plane_names(self.folder) if (self.folder / name / OPTIONS).exists()]
        if "plane_name" in self.arguments:
            planes = [self.plane_name]
        found, remarks = [], []
        for name in planes:
            plane = self.with_arguments(plane_name=name)
            channels = ["chan1"]
            if (plane.plane / TRACES["chan2"][0]).exists():
                channels.append("chan2")
            if "channel_name" in self.arguments:
                channels = [self.channel_name]
            for channel in channels:
                arguments = {"plane_name": name} | ({"channel_name": channel} if len(channels) > 1 else {})
                found.append(
                    plane.with_arguments(**arguments).segmented_plane(
                        several_planes=len(planes) > 1, several_channels=len(channels) > 1
                    )
                )
            if plane.is_empty:
                remarks.append(f"suite2p found no ROI in {name}.")
        if (self.folder / "combined").is_dir() and "plane_name" not in self.arguments:
            remarks.append("combined repeats the ROIs of all planes, and is left out.")
        return Contents(segmentations=found, remarks=remarks)

    def metadata(self) -> HeaderMetadata:
        """Tell the plane's rate, and what suite2p was told of the recording."""
        headers = Headers()
        headers.add("plane", "imaging_rate", self._number("fs"), f"{OPTIONS}: fs")
        for name, (label, unit) in WORTH_TELLING.items():
            value = self.options.get(name)
            if isinstance(value, dt.date):
                value = value.isoformat()
            if isinstance(value, (str, int, float, np.number)):
                fact = value.item() if isinstance(value, np.number) else value
                headers.describe("plane", label, fact, f"{OPTIONS}: {name}", unit)
        return headers.result()

    def _own(self, name: str) -> Path:
        """Return where one of the plane's arrays is: nothing is opened before :attr:`files` has looked at all."""
        _ = self.files
        return self.plane / name

    @cached_property
    def options_array(self) -> Any:
        """``ops.npy`` as it is given to the extractor."""
        return check_pickle(self._own(OPTIONS), allow_pickle=self.allow_pickle)

    @cached_property
    def statistics(self) -> Any:
        """``stat.npy`` as it is given to the extractor: one dict per ROI; of a plane without ROIs, none."""
        if not (self.plane / STATISTICS).exists():
            return np.empty(0, dtype=object)
        return check_pickle(self._own(STATISTICS), allow_pickle=self.allow_pickle)

    @cached_property
    def options(self) -> Mapping[str, Any]:
        """What ``ops.npy`` holds."""
        array = self.options_array
        options = array.item() if isinstance(array, np.ndarray) and array.size == 1 else array
        if not isinstance(options, Mapping):
            raise SourceDataError(
                f"{self.plane / OPTIONS} holds no options of suite2p. Take it from suite2p again."
            )
        if lacking := [name for name in NUMBERS if name not in options]:
            raise SourceDataError(
                f"{self.plane / OPTIONS} has no {', '.join(lacking)}. Take it from suite2p again."
            )
        return options

    @cached_property
    def is_empty(self) -> bool:
        """Whether suite2p found no ROI: the statistics are of none, or not there although the plane is done."""
        traces = [name for name in TRACES[self.channel_name] if (self.plane / name).exists()]
        if (self.plane / STATISTICS).exists():
            return np.shape(self.statistics) == (0,) and not traces
        return not traces and any(name in self.options for name in SIGNS_OF_THE_END)

    def with_arguments(self, **arguments: Any) -> Suite2pRecording:
        """Return the same recording, and what is read of it, with other arguments."""
        changed = Suite2pRecording(self.extractor, {**self.arguments, **arguments}, allow_pickle=self.allow_pickle)
        if changed.plane == self.plane:
            for read in ("options_array", "statistics"):
                if read in vars(self):
                    vars(changed)[read] = vars(self)[read]
        return changed

    def segmented_plane(self, *, several_planes: bool, several_channels: bool) -> SegmentedPlane:
        """Tell what is in the plane; it needs a number or a channel's name if there are several."""
        number = PLANE.fullmatch(self.plane_name)
        num_rois, num_samples = 0, None
        if not self.is_empty:
            num_rois, num_samples = (*read_npy_header(self._own(TRACES[self.channel_name][0])).shape, 0, 0)[:2]
        return SegmentedPlane(
            extractor_kwargs=self.arguments,
            channel=self.channel_name if several_channels else None,
            plane=int(number[1]) if several_planes and number else None,
            num_rois=num_rois,
            num_samples=num_samples,
            image_shape=(int(self._number("Ly")), int(self._number("Lx"))),
            rate=self._number("fs"),
        )

    def _number(self, name: str) -> float:
        value = self.options[name]
        try:
            number = float(np.asarray(value).item())
        except (TypeError, ValueError) as error:
            raise SourceDataError(
                f"{self.plane / OPTIONS} has no number as {name} but {str(value)[:80]!r}. Take it from suite2p "
                "again."
            ) from error
        if not 0 < number < LARGEST:
            raise SourceDataError(
                f"{self.plane / OPTIONS} says that {name} is {number}. Take it from suite2p again."
            )
        return number

    def _problems(self, names: set[str]) -> Iterator[str]:
        num_samples, rows, columns = (int(self._number(name)) for name in ("nframes", "Ly", "Lx"))
        self._number("fs")
        if np.ndim(self.statistics) != 1:
            yield f"{STATISTICS} is no list of ROIs"
            return
        num_rois = len(self.statistics)
        for name in _in_order(names - {OPTIONS, STATISTICS}):
            shape = read_npy_header(self._own(name)).shape
            if len(shape) != 2 or shape[0] != num_rois:  # noqa: PLR2004
                yield f"{name} has the shape {shape}, but {STATISTICS} has {num_rois} ROIs"
            elif name not in (CLASSES, RED_CELLS) and shape[1] != num_samples:
                yield f"{name} has {shape[1]} frames, but {OPTIONS} says {num_samples} (nframes)"
        yield from _wrong_rois(self.statistics, {"ypix": rows, "xpix": columns})


def _plane_names(folder: Path) -> list[str]:
    """Return the names of a folder's planes, by number."""
    if not folder.is_dir():
        return []
    numbers = {path.name: PLANE.fullmatch(path.name) for path in folder.iterdir()}
    names = [(int(number[1]), name) for name, number in numbers.items() if number and (folder / name).is_dir()]
    return [name for _, name in sorted(names)]


def _in_order(names: set[str]) -> list[str]:
    order = [OPTIONS, STATISTICS, *TRACES["chan1"], *TRACES["chan2"], RED_CELLS, CLASSES]
    return [name for name in order if name in names]


def _wrong_rois(statistics: Any, image_shape: Mapping[str, int]) -> Iterator[str]:
    for index, roi in enumerate(statistics):
        lacking = [field for field in ROI_FIELDS if not isinstance(roi, Mapping) or field not in roi]
        if lacking:
            yield f"ROI {index} of {STATISTICS} has no {', '.join(lacking)}"
            continue
        values = {field: np.asarray(roi[field]) for field in ROI_FIELDS}
        lengths = {field: each.size for field, each in values.items()}
        if len(set(lengths.values())) > 1:
            yield f"ROI {index} of {STATISTICS} has fields of different lengths: {lengths}"
            continue
        for field, kinds in ROI_FIELDS.items():
            if values[field].size and values[field].dtype.kind not in kinds:
                yield f"ROI {index} of {STATISTICS} has {values[field].dtype} as {field}"
            elif values[field].size and field in image_shape:
                least, most = values[field].min(), values[field].max()
                if least < 0 or most >= image_shape[field]:
                    yield (
                        f"ROI {index} of {STATISTICS} has {field} from {least} to {most} in an image of "
                        f"{image_shape[field]}"
                    )
