"""Segmentations in NWB files: the table ``PlaneSegmentation`` of the module ``ophys``, and its traces."""

from __future__ import annotations

from typing import Any

from airflow_provider_ophys.exceptions import SourceDataError
from airflow_provider_ophys.models.recording import Contents, HeaderMetadata, SegmentedPlane
from airflow_provider_ophys.recordings.hdf5_references import member, open_hdf5
from airflow_provider_ophys.recordings.headers import Headers
from airflow_provider_ophys.recordings.nwb_movie import NwbRecording

TABLE = "/processing/ophys/ImageSegmentation/PlaneSegmentation"
# What the extractor takes for traces: by container and name.
TRACES = {
    "/processing/ophys/Fluorescence": (
        *("RoiResponseSeries", "Neuropil", "Deconvolved", "Denoised", "Baseline", "Background"),
    ),
    "/processing/ophys/DfOverF": ("RoiResponseSeries",),
}
NUM_AXES = (3, 4)  # ROIs, columns, rows; planes


class NwbCellsRecording(NwbRecording):
    """What ``NwbSegmentationExtractor`` reads. Such files are not found by themselves: they may be results."""

    def check(self) -> None:
        """
        Check that masks and traces are there, in the file, and of the same ROIs.

        :raises SourceDataError: If not; or if the file refers to what lies outside of its folder.
        """
        if self.file.is_dir():
            super().check()
        else:
            _ = self.contents()

    def num_samples(self) -> int | None:
        """Leave the count to the file."""
        return None

    def contents(self) -> Contents | None:
        """Tell the number of ROIs, the length of their traces and their rate; ``None`` of a Zarr store."""
        if self.file.is_dir():
            return None
        _ = self.files
        with open_hdf5(self.file, refers=self.refers) as opened:
            masks = _shape(member(opened, f"{TABLE}/image_mask"))
            traces = _first_traces(opened)
            shape = _shape(member(opened, f"{traces}/data")) if traces else ()
            start = member(opened, f"{traces}/starting_time") if traces else None
            rate = member(getattr(start, "attrs", {}), "rate")
        if len(masks) not in NUM_AXES or len(shape) != 2:  # noqa: PLR2004
            raise SourceDataError(
                f"{self.file} has no {TABLE}/image_mask with traces of its ROIs beside it, which is what "
                f"{self.extractor} reads. Check that it is the right file."
            )
        if shape[1] != masks[0]:
            raise SourceDataError(
                f"{self.file}: {TABLE} has {masks[0]} ROIs, but {traces} is of {shape[1]}. Copy it again."
            )
        rois, columns, rows, *planes = masks
        plane = SegmentedPlane(
            extractor_kwargs=dict(self.arguments),
            num_rois=rois,
            num_samples=shape[0],
            image_shape=(rows, columns, *planes),
            rate=float(rate) if rate is not None and rate > 0 else None,
        )
        return Contents(segmentations=[plane])

    def metadata(self) -> HeaderMetadata:
        """Tell what the file says of the session, the subject, the imaging plane and its device."""
        headers = Headers()
        if not self.file.is_dir():
            _ = self.files
            with open_hdf5(self.file, refers=self.refers) as opened:
                self._add_session(headers, opened)
                self._add_plane(headers, opened, f"{TABLE}/imaging_plane")
        return headers.result()


def _shape(dataset: Any) -> tuple[int, ...]:
    return tuple(getattr(dataset, "shape", None) or ())


def _first_traces(opened: Any) -> str | None:
    places = (f"{container}/{name}" for container, names in TRACES.items() for name in names)
    return next((place for place in places if member(opened, place) is not None), None)
