"""Movies that are one dataset of an HDF5 file: (channels, samples, rows, columns), by default called ``mov``."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from airflow_provider_ophys.exceptions import SourceDataError, SourceNotFoundError
from airflow_provider_ophys.models.recording import Contents, FoundRecording, HeaderMetadata, Movie
from airflow_provider_ophys.recordings.hdf5_references import member, open_hdf5, referenced_files
from airflow_provider_ophys.recordings.headers import Headers
from airflow_provider_ophys.recordings.recording import Recording

DEFAULT_FIELD, RATE_ATTRIBUTE = "mov", "fr"
NUM_AXES = 4
SUFFIXES = (".h5", ".hdf5")


class Hdf5File(Recording):
    """A recording in one HDF5 file; the files that it refers to belong to it."""

    @cached_property
    def file(self) -> Path:
        """The HDF5 file."""
        if "file_path" not in self.paths:
            raise SourceDataError("file_path is missing. Give the file of the recording.")
        return self.paths["file_path"]

    @cached_property
    def files(self) -> list[Path]:
        """
        The file, and those in which its content lies, mostly none.

        :raises SourceDataError: If it refers to what lies outside of its folder.
        """
        return [self.file, *referenced_files(self.file)]

    @property
    def refers(self) -> bool:
        """Whether some of its content lies in other files."""
        return len(self.files) > 1


class Hdf5Recording(Hdf5File):
    """What ``Hdf5ImagingExtractor`` reads."""

    @classmethod
    def find(cls, folder: Path) -> list[FoundRecording]:
        """Find files with a dataset ``mov`` of four axes; its rate may have to be given."""
        found = []
        for file in sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES):
            kwargs = {"file_path": str(file)}
            try:
                shape = cls("Hdf5ImagingExtractor", kwargs).header["shape"]
            except (SourceDataError, SourceNotFoundError):
                continue
            if len(shape) == NUM_AXES:
                found.append(
                    FoundRecording(kind="imaging", extractor="Hdf5ImagingExtractor", extractor_kwargs=kwargs)
                )
        return found

    def check(self) -> None:
        """
        Check that the dataset is there, and has the axes that the extractor takes it to have.

        :raises SourceDataError: If not, or if the file refers to what lies outside of its folder.
        """
        shape = self.header["shape"]
        if len(shape) != NUM_AXES:
            raise SourceDataError(
                f"{self.file}: {self.field!r} has the shape {shape}, but {self.extractor} takes it for (channels, "
                "samples, rows, columns). Store it with these four axes; of one channel, the first has length 1."
            )

    def contents(self) -> Contents:
        """Tell the shape and rate of the first channel, which is what the extractor reads."""
        self.check()
        channels, samples, rows, columns = self.header["shape"]
        names = self.arguments.get("channel_names") or [None]
        movie = Movie(
            extractor_kwargs=dict(self.arguments),
            channel=str(names[0]) if names[0] is not None else None,
            num_samples=samples,
            sample_shape=(rows, columns),
            dtype=self.header["dtype"],
            rate=self.rate,
            duration=samples / self.rate if self.rate else None,
        )
        lost = f"{self.file.name} has {channels} channels, of which roiextractors reads only the first."
        return Contents(movies=[movie], remarks=[lost] if channels > 1 else [])

    def metadata(self) -> HeaderMetadata:
        """Tell the rate, which is all that such a file says."""
        headers = Headers()
        headers.add("plane", "imaging_rate", self.rate, f"{self.file.name}: {self.field}.{RATE_ATTRIBUTE}")
        return headers.result()

    @property
    def field(self) -> str:
        """Name of the dataset."""
        return str(self.arguments.get("mov_field", DEFAULT_FIELD))

    @cached_property
    def rate(self) -> float | None:
        """Samples per second (Hz): the argument, or what the file says."""
        given = self.arguments.get("sampling_frequency")
        rate = self.header["rate"] if given is None else given
        return float(rate) if isinstance(rate, (int, float)) and rate > 0 else None

    @cached_property
    def header(self) -> dict[str, Any]:
        """
        Shape, type and rate of the dataset.

        :raises SourceDataError: If there is no such dataset.
        """
        _ = self.files
        with open_hdf5(self.file, refers=self.refers) as opened:
            dataset = member(opened, self.field)
            if not hasattr(dataset, "shape"):
                known = ", ".join(map(repr, list(opened)[:20])) or "nothing"
                raise SourceDataError(
                    f"{self.file} has no dataset {self.field!r}, only {known[:500]}. Name it in mov_field."
                )
            rate = member(dataset.attrs, RATE_ATTRIBUTE)
            rate = float(rate) if getattr(rate, "shape", None) == () and rate.dtype.kind in "iuf" else None
            return {"shape": tuple(dataset.shape or ()), "dtype": dataset.dtype.name, "rate": rate}
