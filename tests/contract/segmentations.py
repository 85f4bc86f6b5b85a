"""Segmentations in memory, with everything that roiextractors' own formats may have."""

from __future__ import annotations

import numpy as np
from roiextractors.segmentationextractor import SegmentationExtractor, _ROIMasks, _RoiResponse

SAMPLING_FREQUENCY = 10.0


class InMemorySegmentation(SegmentationExtractor):
    """
    A segmentation from arrays.

    :param masks: For ``"image"`` (rows, columns, ROIs[, planes]); otherwise one array of (row, column[, plane],
        weight) for each ROI. Those of background components come last. ``None``: traces only.
    :param shape: (rows, columns[, planes]).
    :param traces: By role: (samples, ROIs or background components).
    """

    extractor_name = "InMemorySegmentation"

    def __init__(
        self, masks, mask_type="pixel", shape=(13, 29), traces=None, images=None, num_background=0, ids=None
    ):
        super().__init__()
        count = 0 if masks is None else masks.shape[2] if mask_type == "image" else len(masks)
        self._shape = shape
        self._sampling_frequency = SAMPLING_FREQUENCY
        self._summary_images = images or {}
        if masks is not None:
            self._roi_ids = list(range(count - num_background)) if ids is None else ids
            all_ids = [*self._roi_ids, *(f"background{place}" for place in range(num_background))]
            self._roi_masks = _ROIMasks(
                masks, f"nwb-{mask_type}_mask", shape, {roi_id: place for place, roi_id in enumerate(all_ids)}
            )
        for role, trace in (traces or {}).items():
            of_rois = masks is not None and trace.shape[1] == count - num_background
            columns = self._roi_ids if of_rois else range(trace.shape[1])
            self._roi_responses.append(_RoiResponse(role, trace, list(columns)))

    def get_frame_shape(self):
        return self._shape[:2]

    def get_native_timestamps(self, start_sample=None, end_sample=None):  # noqa: ARG002
        return None

    def with_property(self, name, values):
        self.set_property(name, values, self.get_roi_ids())
        return self


def traces(num_rois, num_samples=20, seed=0):
    """Traces of (samples, ROIs), float32."""
    return np.random.default_rng(seed).random((num_samples, num_rois), dtype=np.float32)


# Far from the diagonal and of no symmetry: 2 rows by 5 columns, and a single pixel. (row, column, weight)
BAR = np.array(
    [(row, column, 1 + column - 20 + 5 * (row - 3)) for row in (3, 4) for column in range(20, 25)], float
)
DOT = np.array([(11, 2, 0.5)])


def dense(masks, shape=(13, 29)):
    """Sparse masks as an array of (rows, columns, ROIs[, planes])."""
    images = np.zeros((*shape[:2], len(masks), *shape[2:]), dtype=np.float32)
    for roi, mask in enumerate(masks):
        for row, column, *plane, weight in mask:
            images[int(row), int(column), roi, *map(int, plane)] = weight
    return images


def in_volume(mask, plane):
    """The same mask in one plane of a volume, and its first member in the next."""
    flat = np.insert(mask, 2, plane, axis=1)
    above = flat[:1] + np.array([0, 0, 1, 0])
    return np.concatenate([flat, above])
