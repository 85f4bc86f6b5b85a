"""Movies that are one array: a ``.npy`` file, an array in memory, or a file of nothing but pixels."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from airflow_provider_ophys.exceptions import ConfigurationError, SourceDataError, SourceNotFoundError
from airflow_provider_ophys.models.folder_contents import matching
from airflow_provider_ophys.models.recording import Contents, FoundRecording, HeaderMetadata, Movie
from airflow_provider_ophys.recordings.headers import Headers
from airflow_provider_ophys.recordings.npy_header import read_npy_header
from airflow_provider_ophys.recordings.recording import Recording, require_regular
from airflow_provider_ophys.recordings.wholeness import not_whole

READER = "NumpyImagingExtractor"
SUFFIX = ".npy"
# samples, rows, columns; channels
NUM_AXES = (3, 4)
AXES = ("frame_axis", "rows_axis", "columns_axis", "channels_axis")
SIZES = ("num_rows", "num_columns", "num_channels")
# Arrays that belong to a segmentation.
OTHER_ARRAYS = ("mask", "roi", "trace", "image")


class NumpyRecording(Recording):
    """What ``NumpyImagingExtractor`` reads: (samples, rows, columns[, channels])."""

    @classmethod
    def find(cls, folder: Path) -> list[FoundRecording]:
        """Find arrays of numbers with the axes of a movie; the rate has to be given. suite2p's are none."""
        if (folder / "ops.npy").exists():
            return []
        found = []
        for file in matching(folder, f"*{SUFFIX}"):
            if any(word in file.name.lower() for word in OTHER_ARRAYS):
                continue
            try:
                shape, dtype = read_npy_header(file)
            except (SourceDataError, SourceNotFoundError):
                continue
            if len(shape) in NUM_AXES and dtype.kind in "iuf":
                found.append(
                    FoundRecording(kind="imaging", extractor=READER, extractor_kwargs={"timeseries": str(file)})
                )
        return found

    @cached_property
    def files(self) -> list[Path]:
        """The file; none for an array in memory."""
        return [path for place, path in self.paths.items() if place == "timeseries"]

    def check(self) -> None:
        """
        Check that all of the array is there, and that it has the axes of a movie.

        :raises SourceDataError: If not; says which axes it should have.
        :raises SourceChangedError: If the file may still be growing.
        """
        shape, _ = self.header
        if len(shape) not in NUM_AXES:
            raise SourceDataError(
                f"{self.place} has the shape {shape}, but a movie has (samples, rows, columns) or (samples, rows, "
                "columns, channels). Reshape the array, and save it again."
            )

    def reading(self) -> tuple[str, Mapping[str, Any]]:
        """Name what reads it: roiextractors needs the channel axis, also of one channel."""
        shape, _ = self.header
        if len(shape) == len(AXES):
            return self.extractor, self.arguments
        array = np.load(self.files[0], mmap_mode="r") if self.files else self.arguments["timeseries"]
        return self.extractor, {**self.arguments, "timeseries": array[..., np.newaxis]}

    def contents(self) -> Contents:
        """Tell the shape of the first channel, which is what the extractor reads."""
        self.check()
        shape, dtype = self.header
        rate = self.arguments.get("sampling_frequency")
        rate = float(rate) if isinstance(rate, (int, float)) and rate > 0 else None
        names = self.arguments.get("channel_names")
        movie = Movie(
            extractor_kwargs=dict(self.arguments),
            channel=str(names[0]) if isinstance(names, (list, tuple)) and names else None,
            num_samples=shape[0],
            sample_shape=shape[1:3],
            dtype=dtype.name,
            rate=rate,
            duration=shape[0] / rate if rate else None,
        )
        channels = shape[3] if len(shape) == len(AXES) else 1
        lost = f"{self.place} has {channels} channels, of which roiextractors reads only the first."
        return Contents(movies=[movie], remarks=[lost] if channels > 1 else [])

    def metadata(self) -> HeaderMetadata:
        """Tell nothing: an array has no headers."""
        return Headers().result()

    @property
    def place(self) -> str:
        """Where the array is, for messages."""
        return str(self.files[0]) if self.files else f"The array given to {self.extractor}"

    @cached_property
    def header(self) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """
        Shape and type of the array.

        :raises SourceNotFoundError: If the file does not exist.
        :raises SourceDataError: If it is no whole ``.npy`` file of numbers.
        """
        if not self.files:
            array = self.arguments.get("timeseries")
            if isinstance(array, np.ndarray):
                return array.shape, array.dtype
            raise SourceDataError(f"timeseries is {str(array)[:200]!r}, which is no file. Give a {SUFFIX} file.")
        if self.files[0].suffix != SUFFIX:
            raise SourceDataError(f"{self.files[0]} is no {SUFFIX} file. Save the array with numpy.save.")
        return read_npy_header(self.files[0])


class MemmapRecording(NumpyRecording):
    """What ``NumpyMemmapImagingExtractor`` is for: pixels without a header, whose axes and sizes are given."""

    @classmethod
    def find(cls, folder: Path) -> list[FoundRecording]:  # noqa: ARG003
        """Find none: nothing tells such a file from another."""
        return []

    @cached_property
    def files(self) -> list[Path]:
        """The file."""
        found = [path for place, path in self.paths.items() if place == "file_path"]
        if not found:
            raise SourceDataError("file_path is missing. Give the file of the recording.")
        require_regular(found[0])
        return found

    def check(self) -> None:
        """
        Check that the file has whole frames.

        :raises ConfigurationError: If an argument makes no sense.
        :raises SourceDataError: If there is a part of a frame; names counts.
        """
        size, frame_bytes = self.files[0].stat().st_size - self.offset, self.frame_bytes
        if size < 0 or size % frame_bytes:
            raise not_whole(
                self.files[0],
                f"after {self.offset:,} bytes there are {size:,}, which are {size / frame_bytes:.2f} frames of "
                f"{frame_bytes:,} bytes",
                remedy="Copy it again, or correct video_structure, dtype or offset.",
            )

    def reading(self) -> tuple[str, Mapping[str, Any]]:
        """Name what reads it: roiextractors' own class gives frames an axis of channels, which they have not."""
        structure, (shape, dtype) = self.structure, self.header
        stored = [0] * len(AXES)
        for axis, length in zip(AXES, shape, strict=True):
            stored[structure[axis]] = length
        array = np.memmap(self.files[0], dtype, "r", self.offset, tuple(stored))
        movie = array.transpose([structure[axis] for axis in AXES])
        return READER, {"timeseries": movie, "sampling_frequency": self.arguments.get("sampling_frequency")}

    @cached_property
    def header(self) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Shape (samples, rows, columns, channels) and type of the array."""
        sizes = tuple(self.structure[name] for name in SIZES)
        return ((self.files[0].stat().st_size - self.offset) // self.frame_bytes, *sizes), self.dtype

    @property
    def frame_bytes(self) -> int:
        """Bytes of a frame."""
        return int(np.prod([self.structure[name] for name in SIZES])) * self.dtype.itemsize

    @property
    def offset(self) -> int:
        """Bytes before the first frame."""
        offset = self.arguments.get("offset", 0)
        if not isinstance(offset, int) or offset < 0:
            raise ConfigurationError(f"offset is {offset!r}. Give the number of bytes before the first frame.")
        return offset

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """
        Type of a pixel.

        :raises ConfigurationError: If the argument is none.
        """
        given = self.arguments.get("dtype")
        try:
            dtype = np.dtype(given)
        except TypeError as error:
            raise ConfigurationError(f"dtype is {given!r}. Give a type of numbers, such as 'uint16'.") from error
        if given is None or dtype.kind not in "iuf":
            raise ConfigurationError(f"dtype is {given!r}. Give a type of numbers, such as 'uint16'.")
        return dtype

    @cached_property
    def structure(self) -> dict[str, int]:
        """
        Sizes and axes: those of a ``VideoStructure`` of roiextractors, or of a mapping with the same names.

        :raises ConfigurationError: If one is missing or makes no sense.
        """
        given = self.arguments.get("video_structure")
        values = given if isinstance(given, Mapping) else getattr(given, "__dict__", {})
        found = {
            name: value
            for name in (*SIZES, *AXES)
            if isinstance(value := values.get(name), int) and not isinstance(value, bool)
        }
        axes, sizes = ([found.get(name, -1) for name in names] for names in (AXES, SIZES))
        if sorted(axes) != list(range(len(AXES))) or min(sizes) < 1:
            raise ConfigurationError(
                f"video_structure is {str(given)[:500]}. Give {', '.join(SIZES)} of at least 1, and "
                f"{', '.join(AXES)}: each of 0 to {len(AXES) - 1} once."
            )
        return found


class AbstractMemmapRecording(Recording):
    """What ``MemmapImagingExtractor`` is not: it is only what others are made of."""

    def check(self) -> None:
        """
        Refuse it.

        :raises ConfigurationError: Always; names what to use.
        """
        raise ConfigurationError(
            f"{self.extractor} is incomplete in roiextractors: it is what other extractors are made of. Use "
            "NumpyMemmapImagingExtractor for a file of pixels, or NumpyImagingExtractor for a .npy file."
        )
