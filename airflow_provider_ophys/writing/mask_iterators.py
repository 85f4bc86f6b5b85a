"""What masks are written from: as images, and as lists of pixels or voxels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from airflow_provider_ophys.exceptions import ConfigurationError, SourceDataError
from airflow_provider_ophys.writing.iterator import BulkDataChunkIterator
from airflow_provider_ophys.writing.roi_masks import PLANE, VOLUME, RoiMasks, nwb_order

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

SparseType = Literal["pixel", "voxel"]

# NWB's names of roiextractors' coordinates: row, column[, plane].
EXTRACTOR_AXES = ("y", "x", "z")

MASK_CHUNK_MB = 1.0


class ImageMaskDataChunkIterator(BulkDataChunkIterator):
    """
    Masks as images, (ROIs, columns, rows[, planes]), made dense a few ROIs at a time.

    :param masks: Of at least one ROI.
    :param options: As for :class:`BulkDataChunkIterator`; ``chunk_mb`` is 1 by default, so that showing one
        ROI does not mean reading a hundred.
    """

    default_chunk_mb = MASK_CHUNK_MB

    def __init__(self, masks: RoiMasks, **options: Any) -> None:
        self._masks = masks
        super().__init__(**options)

    def read(self, start: int, stop: int) -> Array:
        """
        Read the masks of ROIs [start, stop).

        :raises SourceDataError: If the extractor cannot, or a member is outside the image.
        """
        images = np.zeros((stop - start, *self.maxshape[1:]), dtype=self.dtype)
        try:
            for found in self._masks.parts(start, stop):
                if found.weights.size:
                    images[found.roi, *nwb_order(found.axes)] = found.weights
        except IndexError as error:
            raise SourceDataError(
                f"{self._masks.name} has pixels outside of its images, which are {self._masks.image_shape}, among "
                f"the ROIs {start} to {stop - 1}: {error}. Check that the segmentation is complete."
            ) from error
        return images

    def _get_maxshape(self) -> tuple[int, ...]:
        return (len(self._masks), *nwb_order(self._masks.image_shape))

    def _get_dtype(self) -> np.dtype[Any]:
        return self._masks.dtype

    def _get_default_chunk_shape(self, chunk_mb: float) -> tuple[int, ...]:
        num_rois, *mask_shape = self.maxshape
        fitting = int(chunk_mb * 1e6 / (math.prod(mask_shape) * self.dtype.itemsize))
        return (max(1, min(fitting, num_rois)), *mask_shape)


class RecordDataChunkIterator(BulkDataChunkIterator):
    """
    The members of all ROIs in one list, in records of x, y[, z] and weight.

    pynwb goes through a column of records row by row; so this is a sequence of rows too, and shows pynwb a single
    one when it is filled later.

    :param sparse_type: ``"pixel"`` or ``"voxel"``.
    :param options: As for :class:`BulkDataChunkIterator`; ``chunk_mb`` is 1 by default.
    """

    default_chunk_mb = MASK_CHUNK_MB

    def __init__(self, sparse_type: SparseType, **options: Any) -> None:
        self._record = record_dtype(sparse_type)
        super().__init__(**options)

    def __iter__(self) -> Iterator[Any]:
        if self.filled_later:
            yield np.zeros(1, dtype=self._record)[0]
            return
        for start in range(0, self.maxshape[0], self.buffer_shape[0]):
            yield from self.read(start, min(start + self.buffer_shape[0], self.maxshape[0]))

    def __len__(self) -> int:
        return int(self.maxshape[0])

    def __getitem__(self, selection: int | slice) -> Any:
        if isinstance(selection, slice):
            start, stop, step = selection.indices(len(self))
            return self.read(start, stop)[::step] if stop > start else np.empty(0, dtype=self._record)
        return self[selection : selection + 1 or None][0]

    def _get_dtype(self) -> np.dtype[Any]:
        return self._record


class SparseMaskDataChunkIterator(RecordDataChunkIterator):
    """
    The members that the masks of a segmentation have.

    :param masks: Of at least one ROI that has members.
    :param sparse_type: ``"pixel"`` or ``"voxel"``.
    :param ends: Where the members of each ROI end.
    :param options: As for :class:`RecordDataChunkIterator`.
    """

    def __init__(self, masks: RoiMasks, sparse_type: SparseType, ends: Array, **options: Any) -> None:
        self._masks = masks
        self._ends = ends
        super().__init__(sparse_type, **options)

    def read(self, start: int, stop: int) -> Array:
        """
        Read the members [start, stop).

        :raises SourceDataError: If the extractor cannot.
        """
        first, last = np.searchsorted(self._ends, (start, stop - 1), side="right")
        found = self._masks.read(int(first), int(last) + 1)
        records = np.empty(len(found.weights), dtype=self._record)
        for name, values in zip(EXTRACTOR_AXES, found.axes, strict=False):
            records[name] = values
        records["weight"] = found.weights
        before = int(self._ends[first - 1]) if first else 0
        return records[start - before : stop - before]

    def _get_maxshape(self) -> tuple[int, ...]:
        return (int(self._ends[-1]),)


class ListedMaskDataChunkIterator(RecordDataChunkIterator):
    """
    The members that a user has listed, as ``PlaneSegmentation.add_roi`` keeps them.

    :param members: Of x, y[, z] and weight; at least one.
    :param sparse_type: ``"pixel"`` or ``"voxel"``.
    :param options: As for :class:`RecordDataChunkIterator`.
    """

    def __init__(self, members: Sequence[Any], sparse_type: SparseType, **options: Any) -> None:
        self._members = members
        super().__init__(sparse_type, **options)

    def read(self, start: int, stop: int) -> Array:
        """Read the members [start, stop)."""
        return np.array([tuple(member) for member in self._members[start:stop]], dtype=self._record)

    def _get_maxshape(self) -> tuple[int, ...]:
        return (len(self._members),)


def record_dtype(sparse_type: SparseType) -> np.dtype[Any]:
    """Return the type of NWB's pixel and voxel masks (``pixel_mask``, ``voxel_mask`` of its schema)."""
    axes = ["x", "y", "z"][: PLANE if sparse_type == "pixel" else VOLUME]
    return np.dtype([*((axis, np.uint32) for axis in axes), ("weight", np.float32)])


def check_sparse_type(sparse_type: SparseType, num_axes: int) -> None:
    """
    Check that the ROIs have as many coordinates as the wanted masks.

    :raises ConfigurationError: If pixels are wanted of a volume, or voxels of a plane.
    """
    if num_axes != (PLANE if sparse_type == "pixel" else VOLUME):
        other = "voxel" if sparse_type == "pixel" else "pixel"
        raise ConfigurationError(
            f"mask_type is {sparse_type!r}, but the ROIs have {num_axes} coordinates. Write {other!r}."
        )
