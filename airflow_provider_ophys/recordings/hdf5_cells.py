"""What the formats of segmentations that are one HDF5 file (or MATLAB 7.3, which is HDF5) have in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from airflow_provider_ophys.exceptions import OphysError, SourceAccessError, SourceDataError
from airflow_provider_ophys.models.recording import Contents, FoundRecording, SegmentedPlane
from airflow_provider_ophys.recordings.hdf5_movie import Hdf5File
from airflow_provider_ophys.recordings.hdf5_references import member, open_hdf5
from airflow_provider_ophys.recordings.wholeness import not_whole

NUMBERS = "biuf"
# Deflate makes nothing smaller than by this; so what is announced beyond was never written.
MOST_COMPRESSED, SURELY_FINE_BYTES = 1100, 1 << 26
LONGEST_TEXT = 1000


class Hdf5Cells(Hdf5File):
    """A segmentation in one HDF5 file; a format says in ``_look`` what it holds."""

    suffixes: ClassVar[tuple[str, ...]] = ()
    extractor_name: ClassVar[str] = ""

    @classmethod
    def find(cls, folder: Path) -> list[FoundRecording]:
        """Find files by their suffix and what is in them."""
        if not folder.is_dir():
            return []
        found = []
        for file in sorted(path for path in folder.iterdir() if path.suffix in cls.suffixes):
            recording = cls(cls.extractor_name, {"file_path": str(file)})
            try:
                arguments = recording.arguments_if_known()
            except SourceAccessError:
                raise
            except OphysError:
                continue
            if arguments is not None:
                found.append(
                    FoundRecording(kind="segmentation", extractor=cls.extractor_name, extractor_kwargs=arguments)
                )
        return found

    def arguments_if_known(self) -> dict[str, Any] | None:
        """Return the arguments with which the file is read; ``None`` if it is of another format."""
        raise NotImplementedError

    def check(self) -> None:
        """
        Check that all that the extractor reads is there, and that its parts belong together.

        :raises SourceDataError: Names what is missing or does not fit; or if the file refers to what lies outside.
        """
        _ = self.cells

    def contents(self) -> Contents:
        """Tell the number of ROIs, the length of their traces and their rate."""
        return Contents(segmentations=[self.cells])

    @cached_property
    def cells(self) -> SegmentedPlane:
        """
        What is in the file.

        :raises SourceDataError: If it is not what the format has.
        """
        with self.opened() as parts:
            return self._look(parts)

    def _look(self, parts: Hdf5Parts) -> SegmentedPlane:
        raise NotImplementedError

    @contextmanager
    def opened(self) -> Iterator[Hdf5Parts]:
        """Open the file, of which it is known by then that all of it lies in its folder."""
        _ = self.files
        with open_hdf5(self.file, refers=self.refers) as opened:
            yield Hdf5Parts(self.file, opened)


class Hdf5Parts:
    """The datasets of an open file, looked at by name."""

    def __init__(self, file: Path, opened: Any) -> None:
        self.file = file
        self.opened = opened

    def has(self, path: str) -> bool:
        """Tell whether something is there, in the file itself."""
        return member(self.opened, path) is not None

    def shape(self, path: str, num_axes: int) -> tuple[int, ...]:
        """
        Return the shape of numbers.

        :raises SourceDataError: If they are not there, of another kind, or were never written.
        """
        dataset = member(self.opened, path)
        shape = getattr(dataset, "shape", None)
        if dataset is None or shape is None:
            raise not_whole(self.file, f"it has no {path}")
        if len(shape) != num_axes or dataset.dtype.kind not in NUMBERS:
            raise SourceDataError(
                f"{self.file}: {path} is {dataset.dtype} of the shape {shape}, not numbers of {num_axes} axes. "
                "Check that it is of this format."
            )
        stored = dataset.id.get_storage_size()
        if dataset.nbytes > SURELY_FINE_BYTES + MOST_COMPRESSED * stored:
            raise not_whole(self.file, f"{path} should have {dataset.nbytes:,} bytes, but {stored:,} are there")
        return tuple(map(int, shape))

    def is_computed(self, path: str) -> bool:
        """Tell whether there is more than a single value, such as the name of none."""
        shape = getattr(member(self.opened, path), "shape", None)
        return shape not in (None, (), (0,))

    def values(self, path: str, num_axes: int) -> Any:
        """Read numbers, as an array."""
        self.shape(path, num_axes)
        return np.asarray(self.opened[path][()])

    def number(self, path: str) -> float | None:
        """Read a single number, whatever its axes; ``None`` if it is not there, or no number."""
        dataset = member(self.opened, path)
        if getattr(dataset, "size", None) != 1 or dataset.dtype.kind not in NUMBERS:
            return None
        return float(np.asarray(dataset[()]).reshape(-1)[0])

    def text(self, path: str) -> str | None:
        """Read a short text: HDF5's, or MATLAB's array of characters; ``None`` if there is none."""
        dataset = member(self.opened, path)
        size = getattr(dataset, "size", None)
        if not size or size > LONGEST_TEXT:
            return None
        if dataset.dtype.kind in "ui" and dataset.dtype.itemsize <= 2:  # noqa: PLR2004 - MATLAB's characters
            return "".join(map(chr, np.asarray(dataset[()]).reshape(-1).tolist()))
        value = dataset[()] if dataset.shape == () else None
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else None

    def require(self, condition: bool, what: str) -> None:  # noqa: FBT001
        """
        Refuse the file if its parts do not belong together.

        :raises SourceDataError: If so.
        """
        if not condition:
            raise SourceDataError(f"{self.file}: {what}. Copy it again, or make it again.")
