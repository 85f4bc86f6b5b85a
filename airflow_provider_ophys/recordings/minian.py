"""
Minian's results: a folder with one Zarr store per variable, and the time stamps of the Miniscope.

The stores are a part of the recording, though elsewhere a folder ``.zarr`` may be what a conversion wrote.
"""

from __future__ import annotations

import csv
import sys
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from airflow_provider_ophys.exceptions import ConfigurationError, SourceDataError, is_passing, unreadable
from airflow_provider_ophys.models.recording import Contents, FoundRecording, HeaderMetadata, SegmentedPlane
from airflow_provider_ophys.recordings.headers import Headers
from airflow_provider_ophys.recordings.recording import Recording, require_regular, require_within
from airflow_provider_ophys.recordings.wholeness import not_whole
from airflow_provider_ophys.recordings.zarr_store import (
    array_of,
    check_chunks,
    check_codecs,
    store_files,
)

MASKS, STAMPS = "A", "timeStamps.csv"
# Per ROI and frame; of them, the extractor needs one.
TRACES = ("C", "b0", "S")
BACKGROUND, BACKGROUND_TRACE = "b", "f"
VARIABLES = {MASKS: 3, "C": 2, "b0": 2, "S": 2, BACKGROUND_TRACE: None, BACKGROUND: 2, "max_proj": 2}
REQUIRED = (MASKS, BACKGROUND, BACKGROUND_TRACE)
NUMBER, TIME = "Frame Number", "Time Stamp (ms)"
MOST_STAMP_BYTES = 1 << 28


class MinianRecording(Recording):
    """What ``MinianSegmentationExtractor`` reads."""

    @classmethod
    def find(cls, folder: Path) -> list[FoundRecording]:
        """Find the folder itself, if masks and traces are in it."""
        if not all((folder / f"{name}.zarr").is_dir() for name in (MASKS, TRACES[0])):
            return []
        return [
            FoundRecording(
                kind="segmentation",
                extractor="MinianSegmentationExtractor",
                extractor_kwargs={"folder_path": str(folder)},
            )
        ]

    @cached_property
    def folder(self) -> Path:
        """The folder with the stores."""
        if "folder_path" not in self.paths:
            raise SourceDataError(f"{self.describe()} names no folder. Give the folder that has A.zarr.")
        return self.paths["folder_path"]

    @cached_property
    def stamps_file(self) -> Path:
        """The time stamps: those that are named, or those in the folder."""
        return self.paths.get("timestamps_path", self.folder / STAMPS)

    @cached_property
    def files(self) -> list[Path]:
        """
        The files of all stores that are read, and the time stamps, if there are any.

        :raises SourceDataError: If one leads out of the folder.
        """
        root = self.folder.resolve()
        found = [self.stamps_file] if self.stamps_file.exists() else []
        if found:
            require_regular(self.stamps_file)
            if "timestamps_path" not in self.paths:
                require_within(self.stamps_file, root)
        for name in VARIABLES:
            if (self.folder / f"{name}.zarr").exists():
                found += store_files(self.folder / f"{name}.zarr", root)
        return found

    def check(self) -> None:
        """
        Check that nothing but data is decoded, that chunks are whole, and that arrays and stamps belong together.

        :raises SourceDataError: Names the store, and counts.
        """
        _ = self.shapes
        for name in self.shapes:
            for variable in (name, *(("unit_id", "height", "width") if name == MASKS else ("frame",))):
                array = array_of(self.folder / f"{name}.zarr" / variable)
                if array is not None:
                    check_chunks(array)
        samples = self._num_samples()
        if self.stamps is not None and len(self.stamps) != samples:
            raise SourceDataError(
                f"{self.stamps_file} has {len(self.stamps)} stamps of the {samples} frames in C.zarr. Copy it "
                "again, or remove it and give the rate in sampling_frequency."
            )

    def contents(self) -> Contents:
        """Tell the number of ROIs, the length of their traces and their rate."""
        rois, *image_shape = self.shapes[MASKS]
        plane = SegmentedPlane(
            extractor_kwargs=dict(self.arguments),
            num_rois=rois,
            num_samples=self._num_samples(),
            image_shape=tuple(image_shape),
            rate=self.rate,
        )
        return Contents(segmentations=[plane])

    def metadata(self) -> HeaderMetadata:
        """Tell the session, the animal, and the rate of the time stamps."""
        headers = Headers()
        for section, field, name in (("NWBFile", "session_id", "session_id"), ("Subject", "subject_id", "animal")):
            headers.add(section, field, self._text(name), f"{MASKS}.zarr: {name}")
        if self.stamps is not None:
            headers.add("plane", "imaging_rate", self.rate, self.stamps_file.name)
        return headers.result()

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """
        The shapes of the variables that are there.

        :raises SourceDataError: If one is missing, or does not fit the others.
        """
        check_codecs(self.files)
        found = {}
        for name, num_axes in VARIABLES.items():
            array = array_of(self.folder / f"{name}.zarr" / name)
            if array is None:
                continue
            if array.dtype is None or array.dtype.kind not in "biuf" or num_axes not in (None, len(array.shape)):
                raise SourceDataError(
                    f"{array.folder} is an array of {array.dtype or 'objects'} of the shape {array.shape}, which "
                    "Minian does not write. Copy the folder again."
                )
            found[name] = array.shape
        missing = [name for name in REQUIRED if name not in found]
        if not missing and not set(TRACES) & set(found):
            missing = [TRACES[0]]
        if missing:
            stores = ", ".join(f"{name}.zarr" for name in missing)
            raise not_whole(
                self.folder, f"it lacks {stores}, which Minian writes", remedy="Copy the folder again."
            )
        self._check_shapes(found)
        return found

    def _check_shapes(self, shapes: dict[str, tuple[int, ...]]) -> None:
        rois, *image_shape = shapes[MASKS]
        lengths = {shapes[name][1] for name in TRACES if name in shapes} | {shapes[BACKGROUND_TRACE][-1]}
        for name, shape in shapes.items():
            if name in TRACES:
                fits = shape[0] == rois and len(lengths) == 1
            elif name == BACKGROUND_TRACE:
                fits = len(shape) in (1, 2) and len(lengths) == 1
            else:
                fits = shape[-2:] == tuple(image_shape)
            if not fits:
                raise SourceDataError(
                    f"The arrays in {self.folder} do not belong together: {name}.zarr has the shape {shape}, of "
                    f"{shapes}. Copy the folder again, or run Minian again."
                )

    def _num_samples(self) -> int:
        return next(self.shapes[name][1] for name in TRACES if name in self.shapes)

    @cached_property
    def rate(self) -> float | None:
        """
        Frames per second (Hz): the argument, or the median of the time stamps.

        :raises ConfigurationError: If the argument is no rate.
        """
        given = self.arguments.get("sampling_frequency")
        if given is not None:
            if isinstance(given, bool) or not isinstance(given, (int, float)) or not 0 < given < np.inf:
                raise ConfigurationError(f"sampling_frequency is {given!r}. Give the frames per second.")
            return float(given)
        if self.stamps is None or len(self.stamps) < 2:  # noqa: PLR2004
            return None
        interval = float(np.median(np.diff(self.stamps)))
        return 1 / interval if interval > 0 else None

    @cached_property
    def stamps(self) -> Any:
        """
        Times (s) of the frames that Minian kept, of which ``C.zarr`` has the numbers; ``None`` without a file.

        :raises SourceDataError: If the file is none of a Miniscope.
        """
        if not self.stamps_file.exists() or array_of(self.folder / "C.zarr" / "frame") is None:
            return None
        kept = set(np.asarray(self._read("C.zarr/frame")).reshape(-1).tolist())
        require_regular(self.stamps_file)
        if self.stamps_file.stat().st_size > MOST_STAMP_BYTES:
            raise SourceDataError(
                f"{self.stamps_file} has more than {MOST_STAMP_BYTES:,} bytes. Check what it is."
            )
        try:
            with self.stamps_file.open(encoding="utf-8-sig", newline="") as stream:
                rows = csv.DictReader(stream)
                return np.array([float(row[TIME]) / 1000 for row in rows if float(row[NUMBER]) in kept])
        except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
            raise unreadable(
                f"{self.stamps_file} has no {NUMBER!r} and {TIME!r} in each row: {type(error).__name__}: "
                f"{str(error)[:200]}. Copy it again, or give the rate in sampling_frequency.",
                error,
            ) from error

    def _text(self, name: str) -> str | None:
        array = array_of(self.folder / f"{MASKS}.zarr" / name)
        if array is None or array.shape not in ((), (1,)):
            return None
        values = np.asarray(self._read(f"{MASKS}.zarr/{name}")).reshape(-1)
        if values.dtype.kind == "U":
            codes = np.frombuffer(values.tobytes(), np.dtype("u4").newbyteorder(values.dtype.byteorder))
            return str(values[0]) if values.size and codes.max(initial=0) <= sys.maxunicode else None
        return values[0] if values.size and isinstance(values[0], str) else None

    def _read(self, place: str) -> Any:
        import zarr

        check_codecs(self.files)
        try:
            return zarr.open_array(str(self.folder / place), mode="r")[...]
        except Exception as error:
            said = f"{type(error).__name__}: {error}"[:300]
            if is_passing(error):
                raise unreadable(f"{self.folder / place} cannot be read: {said}. Try again.", error) from error
            raise not_whole(self.folder, f"Zarr cannot read {place} ({said})") from error
