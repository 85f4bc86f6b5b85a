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

from airflow_provider_ophys.exceptions import OphysError, SourceDataError, unreadable
from airflow_provider_ophys.extractor_internals import ROI_AXIS, dense_stack, only_image
from airflow_provider_ophys.writing.number_types import stored_dtype

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

Components = Literal["roi", "background"]

# roiextractors has the row before the column, NWB x (the column) before y.
NWB_ORDER = (1, 0, 2)

PLANE, VOLUME = 2, 3

# Of dense masks: gathering fewer ROIs at a time reads each line of memory more often, more need more memory.
MOST_GATHERED_BYTES = 16 * 2**20
MOST_KEPT_BYTES = 16 * 2**20
# Of the members of one batch, at about this much each: ROI, row, column and weight.
MOST_READ_BYTES = 16 * 2**20
MEMBER_BYTES = 20
SPARSE_BATCH = 512


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
        self._stack = dense_stack(extractor, self._ids)
        self._kept: dict[int, Coordinates] = {}
        self._batch = _batch_of(self._stack)

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
            return only_image(self._read_images(self._ids[:1]))
        except Exception as error:
            raise self._unreadable(0, 1, error) from error

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of a mask as an image: (rows, columns[, planes])."""
        return tuple(self._first_image.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a mask as an image: one that can be stored, in the machine's byte order."""
        dtype = self._first_image.dtype
        return dtype if dtype.kind == "b" else stored_dtype(dtype, f"The masks of {self.name}")

    def parts(self, start: int, stop: int) -> Iterator[Coordinates]:
        """
        Yield the members of ROIs [start, stop), some ROIs at a time, counted from ``start``.

        :raises SourceDataError: If the extractor cannot, or what it gives makes no sense.
        """
        at = start
        while at < stop:
            try:
                first = at - at % self._batch
                part = self._read_batch(first)
            except _TooDenseError:
                # Half of a power of two: where a batch began, one begins still.
                self._batch //= 2
                self._kept.clear()
                continue
            end = min(stop, first + self._batch)
            part = part.slice(at - first, end - first)
            yield Coordinates(part.roi + (at - start), part.axes, part.weights)
            at = end

    def read(self, start: int, stop: int) -> Coordinates:
        """
        Read the members of ROIs [start, stop).

        :raises SourceDataError: As :meth:`parts` does.
        """
        parts = list(self.parts(start, stop))
        # ROIs without members do not tell whether they are of a plane or of a volume.
        full = [part for part in parts if part.weights.size] or parts[:1]
        return Coordinates(
            np.concatenate([part.roi for part in full]),
            tuple(map(np.concatenate, zip(*(part.axes for part in full), strict=True))),
            np.concatenate([part.weights for part in full]),
        )

    def _read_batch(self, start: int) -> Coordinates:
        if start in self._kept:
            return self._kept[start]
        stop = min(start + self._batch, len(self))
        try:
            read = self._from_lists(start, stop) if self._stack is None else self._from_stack(start, stop)
        except (OphysError, _TooDenseError):
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
        if stop - start > 1 and np.count_nonzero(found) * MEMBER_BYTES > MOST_READ_BYTES:
            raise _TooDenseError
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


class _TooDenseError(Exception):
    """So many members are in a batch of ROIs that their coordinates would need too much memory."""


def _batch_of(stack: tuple[Any, int] | None) -> int:
    """Return how many ROIs are read at a time, a power of two."""
    if stack is None:
        return SPARSE_BATCH
    shape: tuple[int, ...] = stack[0].shape
    fitting: int = MOST_GATHERED_BYTES * shape[ROI_AXIS] // max(1, math.prod(shape))
    return 1 << max(0, fitting.bit_length() - 1)


def nwb_order[Value](axes: Sequence[Value]) -> tuple[Value, ...]:
    """Order what is given for row, column[, plane] as NWB does: x (column), y (row)[, z (plane)]."""
    return tuple(axes[axis] for axis in NWB_ORDER[: len(axes)])


@dataclass(frozen=True)
class MaskStatistics:
    """
    What is known of masks after going through them once.

    :param counts: How many members each ROI has.
    :param centroids: Mean place of the members of each ROI, (ROIs, 2 or 3): x, y[, z]; NaN without members.
    :param peaks: The same of its heaviest member; of several that are as heavy, the median place, rounded down.
    """

    counts: Array
    centroids: Array
    peaks: Array


def measure_masks(masks: RoiMasks, *, with_peaks: bool = False) -> MaskStatistics:
    """
    Count the members of each ROI and find their middle.

    :param with_peaks: Find the heaviest too, which takes longer; they are NaN otherwise.
    :raises SourceDataError: If the masks cannot be read.
    """
    num_axes = PLANE
    counts = np.zeros(len(masks), dtype=np.int64)
    sums = np.zeros((len(masks), VOLUME))
    peaks = np.full((len(masks), VOLUME), np.nan)
    for found in masks.parts(0, len(masks)):
        num_axes = max(num_axes, len(found.axes))
        first = int(found.roi[0]) if found.roi.size else 0
        own = found.roi - first
        here = np.bincount(own)
        counts[first : first + len(here)] += here
        for place, axis in enumerate(nwb_order(found.axes)):
            sums[first : first + len(here), place] += np.bincount(own, weights=axis, minlength=len(here))
        for roi, members in _members_by_roi(found) if with_peaks else ():
            heaviest = members.weights == members.weights.max()
            for place, axis in enumerate(nwb_order(members.axes)):
                peaks[roi, place] = np.floor(np.median(axis[heaviest]))
    with np.errstate(invalid="ignore"):
        return MaskStatistics(counts, sums[:, :num_axes] / counts[:, None], peaks[:, :num_axes])


def _members_by_roi(found: Coordinates) -> Iterator[tuple[int, Coordinates]]:
    """Yield the members of each ROI that has any."""
    rois, starts = np.unique(found.roi, return_index=True)
    for roi, start, stop in zip(rois, starts, [*starts[1:], len(found.roi)], strict=True):
        part = slice(start, stop)
        yield int(roi), Coordinates(found.roi[part], tuple(axis[part] for axis in found.axes), found.weights[part])
