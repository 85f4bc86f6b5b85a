"""Masks are read as coordinates and weights, a few ROIs at a time, in whatever form an extractor has them."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from roiextractors import NumpySegmentationExtractor

from airflow_provider_ophys.exceptions import SourceDataError
from airflow_provider_ophys.writing.mask_iterators import ImageMaskDataChunkIterator, SparseMaskDataChunkIterator
from airflow_provider_ophys.writing.roi_masks import RoiMasks, measure_masks


def masks_of(density, num_rois=7, shape=(13, 29), dtype="float32"):
    random = np.random.default_rng(0)
    return (random.random((*shape, num_rois)) * (random.random((*shape, num_rois)) < density)).astype(dtype)


def extractor_of(masks):
    return NumpySegmentationExtractor(image_masks=masks, raw=np.zeros((3, masks.shape[2])), sampling_frequency=1.0)


class OverridingExtractor(NumpySegmentationExtractor):
    """Gives its masks by methods of its own, so that its array must not be gone through."""

    def get_roi_pixel_masks(self, roi_ids=None):
        return super().get_roi_pixel_masks(roi_ids)

    def get_roi_image_masks(self, roi_ids=None):
        return super().get_roi_image_masks(roi_ids)


def images(masks):
    return ImageMaskDataChunkIterator(masks).read(0, len(masks))


@pytest.mark.parametrize("density", [0.0, 0.03, 1.0])
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "bool"])
def test_an_array_of_masks_and_the_extractors_methods_give_the_same(density, dtype):
    masks = masks_of(density, dtype=dtype)
    own = OverridingExtractor(image_masks=masks, raw=np.zeros((3, masks.shape[2])), sampling_frequency=1.0)
    for extractor in (extractor_of(masks), own):
        found = RoiMasks(extractor)
        assert found.dtype == dtype
        np.testing.assert_array_equal(images(found), masks.transpose(2, 1, 0))
        statistics = measure_masks(found)
        np.testing.assert_array_equal(statistics.counts, np.count_nonzero(masks, axis=(0, 1)))
        for roi in range(masks.shape[2]):
            places = np.argwhere(masks[:, :, roi].T)
            wanted = places.mean(axis=0) if len(places) else [np.nan, np.nan]
            np.testing.assert_allclose(statistics.centroids[roi], wanted)


def test_any_range_of_members_is_read_across_rois_and_batches(monkeypatch):
    monkeypatch.setattr("airflow_provider_ophys.writing.roi_masks.MOST_GATHERED_BYTES", 13 * 29 * 2)
    masks = masks_of(0.1)
    found = RoiMasks(extractor_of(masks))
    ends = np.cumsum(measure_masks(found).counts)
    source = SparseMaskDataChunkIterator(found, "pixel", ends)
    whole = source.read(0, len(source))
    assert [tuple(row) for row in source] == [tuple(row) for row in whole]
    for start in range(0, len(source), 5):
        for stop in range(start + 1, len(source), 17):
            np.testing.assert_array_equal(source.read(start, stop), whole[start:stop])
    roi_3 = whole[ends[2] : ends[3]]
    rebuilt = np.zeros((29, 13), dtype="float32")
    rebuilt[roi_3["x"], roi_3["y"]] = roi_3["weight"]
    np.testing.assert_array_equal(rebuilt, masks[:, :, 3].T)


def test_little_is_held_of_dense_masks():
    """Masks without a single zero: as coordinates, all of them would be five times the array."""
    masks = np.ones((128, 128, 800), dtype="float32")
    found = RoiMasks(extractor_of(masks))
    tracemalloc.start()
    assert measure_masks(found).counts.sum() == masks.size
    source = ImageMaskDataChunkIterator(found)
    for start in range(0, 800, 20):
        np.testing.assert_array_equal(source.read(start, start + 20), 1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert masks.nbytes * 5 == 250 * 2**20
    assert peak < 100 * 2**20


@pytest.mark.parametrize("place", [(-1.0, 3.0, 1.0), (0.0, 40.0, 1.0)])
def test_pixels_outside_of_the_image_are_refused(place):
    class Outside(OverridingExtractor):
        def get_roi_pixel_masks(self, roi_ids=None):  # noqa: ARG002
            return [np.array([place])]

    outside = RoiMasks(Outside(image_masks=np.ones((13, 29, 1)), raw=np.zeros((3, 1)), sampling_frequency=1.0))
    with pytest.raises(SourceDataError, match="pixels"):
        images(outside)


def test_masks_that_cannot_be_read_are_named():
    class Broken(OverridingExtractor):
        def get_roi_pixel_masks(self, roi_ids=None):  # noqa: ARG002
            raise OSError("bad sector")

    broken = RoiMasks(Broken(image_masks=np.ones((4, 5, 3)), raw=np.zeros((3, 3)), sampling_frequency=1.0))
    with pytest.raises(SourceDataError, match="cannot read the masks of ROIs 0 to 2: OSError: bad sector"):
        broken.read(0, 3)
