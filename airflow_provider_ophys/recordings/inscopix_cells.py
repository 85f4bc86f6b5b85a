"""Cell sets of Inscopix' software: ``.isxd`` files as of movies, with an image and a trace of each cell."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from airflow_provider_ophys.exceptions import SourceDataError, SourceNotFoundError
from airflow_provider_ophys.models.folder_contents import matching
from airflow_provider_ophys.models.recording import Contents, FoundRecording, SegmentedPlane
from airflow_provider_ophys.recordings.inscopix_movie import InscopixRecording
from airflow_provider_ophys.recordings.wholeness import not_whole

EXTRACTOR = "InscopixSegmentationExtractor"
CELL_SET = 1
NUMBER_BYTES = 4


class InscopixCellsRecording(InscopixRecording):
    """One cell set."""

    @classmethod
    def find(cls, folder: Path) -> list[FoundRecording]:
        """Find ``.isxd`` files that are cell sets; movies have the same name."""
        found = []
        for file in matching(folder, "*.isxd"):
            arguments = {"file_path": str(file)}
            try:
                is_cell_set = cls(EXTRACTOR, arguments).header.get("type") == CELL_SET
            except (SourceDataError, SourceNotFoundError):
                continue
            if is_cell_set:
                found.append(FoundRecording(kind="segmentation", extractor=EXTRACTOR, extractor_kwargs=arguments))
        return found

    def check(self) -> None:
        """
        Check that the image and the trace of each cell are in the file, and that their rate is known.

        :raises SourceDataError: If not; names counts.
        :raises SourceChangedError: If the file may still be growing.
        """
        _ = self.files
        self.check_rate()
        samples, (rows, columns) = self.extent
        expected = self.num_cells * NUMBER_BYTES * (rows * columns + samples)
        if self.header["pixel_bytes"] < expected:
            raise not_whole(
                self.file,
                f"its header announces {self.num_cells} cells, which take {expected:,} bytes, and it has "
                f"{self.header['pixel_bytes']:,} of them",
            )

    def num_samples(self) -> int | None:
        """Count the samples of the traces."""
        return self.extent[0]

    def contents(self) -> Contents:
        """Tell the number of cells, the length of their traces and their rate."""
        samples, image_shape = self.extent
        plane = SegmentedPlane(
            extractor_kwargs=dict(self.arguments),
            num_rois=self.num_cells,
            num_samples=samples,
            image_shape=image_shape,
            rate=self.rate,
        )
        return Contents(segmentations=[plane])

    @cached_property
    def num_cells(self) -> int:
        """Cells, whatever was decided about them."""
        names = self.header.get("CellNames")
        if self.header.get("type") != CELL_SET or not isinstance(names, list):
            raise SourceDataError(f"{self.file} is no cell set. Check the path.")
        return len(names)
