"""
Masks of many ROIs, read some ROIs at a time, and written as images or as lists of pixels.

Whatever form an extractor has them in, they are read as coordinates and weights, from which everything else is
made: counts, centroids, dense images, records. So all of it is the same place, and no memory is spent on zeros.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from airflow_provider_ophys.exceptions import ConfigurationError, OphysError, SourceDataError, unreadable
from airflow_provider_ophys.writing.iterator import BulkDataChunkIterator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

Components = Literal["roi", "background"]
SparseType = Literal["pixel", "voxel"]

# Axes of roiextractors' coordinates, and the order in which NWB has them: x is the image column.
EXTRACTOR_AXES = ("y", "x", "z")
NWB_ORDER = (1, 0, 2)
ROI_AXIS = 2

PLANE, VOLUME = 2, 3

# Of dense masks: gathering fewer ROIs at a time reads each line of memory more often, more need more memory.
MOST_GATHERED_BYTES = 16 * 2**20
MOST_KEPT_BYTES = 16 * 2**20
SPARSE_BATCH = 512

MASK_CHUNK_MB = 1.0


@dataclass(frozen=True)
class Coordinates:
    """
    The members of some ROIs, sorted by ROI.

    :param roi: Which ROI each member is of, counted from the first one read.
    :param axes: Row, column[, plane] of each member, as roiextractors has them.
    :param weights: Of each member.
    """

    roi: Array
    axes: tuple[Array, ...]
    weights: Array

    @property
    def num_bytes(self) -> int:
        """Memory held."""
        return sum(array.nbytes for array in (self.roi, *self.axes, self.weights))

    def slice(self, start: int, stop: int) -> Coordinates:
        """Return those of ROIs [start, stop), counted from ``start``."""
        members = slice(*np.searchsorted(self.roi, (start, stop)))
        return Coordinates(
            self.roi[members] - start, tuple(axis[members] for axis in self.axes), self.weights[members]
        )


class RoiMasks:
    """
    The masks of all ROIs, or of all background components, of a segmentation.

    :param extractor: A roiextractors ``SegmentationExtractor``.
    :param components: Which of the two.
    """

    def __init__(self, extractor: Any, components: Components = "roi") -> None:
        self.name = type(extractor).__name__
        ids = extractor.get_roi_ids() if components == "roi" else extractor.get_background_ids()
        self._ids = list(ids)
        self._read_images: Callable[[Sequence[Any]], Any] = (
            (lambda ids: extractor.get_roi_image_masks(roi_ids=ids))
            if components == "roi"
            else (lambda ids: extractor.get_background_image_masks(background_ids=ids))
        )
        self._read_lists: Callable[[Sequence[Any]], Any] = (
            (lambda ids: extractor.get_roi_pixel_masks(roi_ids=ids))
            if components == "roi"
            else (lambda ids: extractor.get_background_pixel_masks(background_ids=ids))
        )
        self._stack = _dense_stack(extractor, self._ids)
        self._kept: dict[int, Coordinates] = {}

    def __len__(self) -> int:
        """Return how many masks there are."""
        return len(self._ids)

    @cached_property
    def exist(self) -> bool:
        """Whether the extractor has masks; some have traces only."""
        if not self._ids:
            return False
        try:
            return len(self._read_lists(self._ids[:1])) == 1
        except NotImplementedError:
            return False
        except Exception as error:
            raise self._unreadable(0, 1, error) from error

    @cached_property
    def _first_image(self) -> Array:
        """The first mask as an image, (rows, columns[, planes]): all of them have its shape and type."""
        try:
            masks = np.asarray(self._read_images(self._ids[:1]))
        except Exception as error:
            raise self._unreadable(0, 1, error) from error
        # Of volumes, roiextractors has the ROIs between the columns and the planes.
        axis = ROI_AXIS if masks.shape[ROI_AXIS] == 1 else -1
        image: Array = np.take(masks, 0, axis=axis)
        return image

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of a mask as an image: (rows, columns[, planes])."""
        return tuple(self._first_image.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a mask as an image, in the machine's byte order."""
        return self._first_image.dtype.newbyteorder("=")

    @cached_property
    def _batch(self) -> int:
        """How many ROIs are read at a time."""
        if self._stack is None:
            return SPARSE_BATCH
        return max(1, MOST_GATHERED_BYTES // max(1, math.prod(self.image_shape)))

    def read(self, start: int, stop: int) -> Coordinates:
        """
        Read the members of ROIs [start, stop).

        :raises SourceDataError: If the extractor cannot, or what it gives makes no sense.
        """
        parts = []
        for first in range(start - start % self._batch, stop, self._batch):
            part = self._read_batch(first)
            part = part.slice(max(start - first, 0), min(stop - first, self._batch))
            parts.append(Coordinates(part.roi + (max(start, first) - start), part.axes, part.weights))
        return _joined(parts)

    def batches(self) -> Iterator[tuple[int, int, Coordinates]]:
        """Yield all masks in turn: the first ROI, the one after the last, and their members."""
        for start in range(0, len(self), self._batch):
            stop = min(start + self._batch, len(self))
            yield start, stop, self.read(start, stop)

    def _read_batch(self, start: int) -> Coordinates:
        if start in self._kept:
            return self._kept[start]
        stop = min(start + self._batch, len(self))
        try:
            read = self._from_lists(start, stop) if self._stack is None else self._from_stack(start, stop)
        except OphysError:
            raise
        except Exception as error:
            raise self._unreadable(start, stop, error) from error
        # Going through dense masks is what costs time, so what was found there is kept if it is little.
        if self._stack is not None and self._kept_bytes() + read.num_bytes <= MOST_KEPT_BYTES:
            self._kept[start] = read
        return read

    def _kept_bytes(self) -> int:
        return sum(part.num_bytes for part in self._kept.values())

    def _from_lists(self, start: int, stop: int) -> Coordinates:
        masks = [np.asarray(mask) for mask in self._read_lists(self._ids[start:stop])]
        full = [mask for mask in masks if mask.size]
        if not full:
            nothing = np.empty(0, dtype=np.int64)
            return Coordinates(nothing, (nothing, nothing), nothing)
        if len({mask.shape[1] for mask in full}) != 1:
            raise SourceDataError(f"{self.name} has ROIs of a plane beside ROIs of a volume. Check its files.")
        rows = np.concatenate(full)
        axes = tuple(rows[:, axis] for axis in range(rows.shape[1] - 1))
        if any(axis.min() < 0 or axis.max() >= 2**32 for axis in axes):
            raise SourceDataError(
                f"{self.name} has pixels at negative or impossible places among the ROIs {start} to {stop - 1}. "
                "Check that the segmentation is complete."
            )
        return Coordinates(
            np.repeat(np.arange(len(masks)), [len(mask) if mask.size else 0 for mask in masks]),
            tuple(axis.astype(np.uint32) for axis in axes),
            rows[:, -1],
        )

    def _from_stack(self, start: int, stop: int) -> Coordinates:
        assert self._stack is not None  # noqa: S101 - for the type checker
        stack, first = self._stack
        block = np.asarray(stack[:, :, first + start : first + stop])
        found = block != 0
        # Dense masks of a whole batch would need many times its memory as coordinates.
        if stop - start > 1 and np.count_nonzero(found) * 8 > found.size:
            middle = (start + stop) // 2
            left, right = self._from_stack(start, middle), self._from_stack(middle, stop)
            return _joined([left, Coordinates(right.roi + (middle - start), right.axes, right.weights)])
        row, column, roi, *plane = np.unravel_index(np.flatnonzero(found), found.shape)
        order = np.argsort(roi, kind="stable")
        weights = block[row, column, roi, *plane]
        return Coordinates(
            roi[order].astype(np.int64),
            tuple(axis[order].astype(np.uint32) for axis in (row, column, *plane)),
            weights[order],
        )

    def _unreadable(self, start: int, stop: int, error: Exception) -> OphysError:
        return unreadable(
            f"{self.name} cannot read the masks of ROIs {start} to {stop - 1}: {type(error).__name__}: {error}. "
            "Check that the segmentation is complete.",
            error,
        )


def _joined(parts: Sequence[Coordinates]) -> Coordinates:
    # ROIs without members do not tell whether they are of a plane or of a volume.
    full = [part for part in parts if part.weights.size] or list(parts[:1])
    return Coordinates(
        np.concatenate([part.roi for part in full]),
        tuple(map(np.concatenate, zip(*(part.axes for part in full), strict=True))),
        np.concatenate([part.weights for part in full]),
    )


def _dense_stack(extractor: Any, ids: Sequence[Any]) -> tuple[Any, int] | None:
    """
    Return an extractor's own array of dense masks, (rows, columns, ROIs[, planes]), and where these ROIs begin.

    Its methods make a copy for each ROI, which takes fifty times as long as going through the array; so it is
    used where nothing stands between the two, and the ROIs are in its order.
    """
    masks = getattr(extractor, "_roi_masks", None)
    if masks is None or masks.mask_tpe != "nwb-image_mask" or not ids:
        return None
    methods = ("get_roi_image_masks", "get_roi_pixel_masks")
    if any(getattr(type(extractor), name).__qualname__ != f"SegmentationExtractor.{name}" for name in methods):
        return None
    places = [masks.roi_id_map.get(roi_id) for roi_id in ids]
    if places[0] is None or places != list(range(places[0], places[0] + len(ids))):
        return None
    return masks.data, places[0]


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
        found = self._masks.read(start, stop)
        images = np.zeros((stop - start, *self.maxshape[1:]), dtype=self.dtype)
        if not found.weights.size:
            return images
        try:
            images[found.roi, *_nwb_order(found.axes)] = found.weights
        except IndexError as error:
            raise SourceDataError(
                f"{self._masks.name} has pixels outside of its images, which are {self._masks.image_shape}, among "
                f"the ROIs {start} to {stop - 1}: {error}. Check that the segmentation is complete."
            ) from error
        return images

    def _get_maxshape(self) -> tuple[int, ...]:
        return (len(self._masks), *_nwb_order(self._masks.image_shape))

    def _get_dtype(self) -> np.dtype[Any]:
        return self._masks.dtype

    def _get_default_chunk_shape(self, chunk_mb: float) -> tuple[int, ...]:
        num_rois, *mask_shape = self.maxshape
        fitting = int(chunk_mb * 1e6 / (math.prod(mask_shape) * self.dtype.itemsize))
        return (max(1, min(fitting, num_rois)), *mask_shape)


class SparseMaskDataChunkIterator(BulkDataChunkIterator):
    """
    Masks as one list of the members of all ROIs, in records of x, y[, z] and weight.

    pynwb goes through a column of records row by row; so this is a sequence of rows too, and shows pynwb a single
    one when it is filled later.

    :param masks: Of at least one ROI that has members.
    :param sparse_type: ``"pixel"`` or ``"voxel"``.
    :param ends: Where the members of each ROI end.
    :param options: As for :class:`BulkDataChunkIterator`; ``chunk_mb`` is 1 by default.
    """

    default_chunk_mb = MASK_CHUNK_MB

    def __init__(self, masks: RoiMasks, sparse_type: SparseType, ends: Array, **options: Any) -> None:
        self._masks = masks
        self._ends = ends
        self._record = record_dtype(sparse_type)
        super().__init__(**options)

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

    def _get_maxshape(self) -> tuple[int, ...]:
        return (int(self._ends[-1]),)

    def _get_dtype(self) -> np.dtype[Any]:
        return self._record


def record_dtype(sparse_type: SparseType) -> np.dtype[Any]:
    """Return the type of NWB's pixel and voxel masks (``pixel_mask``, ``voxel_mask`` of its schema)."""
    axes = ["x", "y", "z"][: PLANE if sparse_type == "pixel" else VOLUME]
    return np.dtype([*((axis, np.uint32) for axis in axes), ("weight", np.float32)])


def _nwb_order[Value](axes: Sequence[Value]) -> tuple[Value, ...]:
    """Order what is given for row, column[, plane] as NWB does: x (column), y (row)[, z (plane)]."""
    return tuple(axes[axis] for axis in NWB_ORDER[: len(axes)])


@dataclass(frozen=True)
class MaskStatistics:
    """
    What is known of masks after going through them once.

    :param counts: How many members each ROI has.
    :param centroids: Mean place of the members of each ROI, (ROIs, 2 or 3): x, y[, z]; NaN without members.
    """

    counts: Array
    centroids: Array


def measure_masks(masks: RoiMasks) -> MaskStatistics:
    """
    Count the members of each ROI and find their middle.

    :raises SourceDataError: If the masks cannot be read.
    """
    num_axes = PLANE
    counts = np.zeros(len(masks), dtype=np.int64)
    sums = np.zeros((len(masks), VOLUME))
    for start, stop, found in masks.batches():
        num_axes = max(num_axes, len(found.axes))
        counts[start:stop] = np.bincount(found.roi, minlength=stop - start)
        for place, axis in enumerate(_nwb_order(found.axes)):
            sums[start:stop, place] = np.bincount(found.roi, weights=axis, minlength=stop - start)
    with np.errstate(invalid="ignore"):
        return MaskStatistics(counts, sums[:, :num_axes] / counts[:, None])


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
