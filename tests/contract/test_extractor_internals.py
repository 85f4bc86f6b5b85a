"""What roiextractors keeps to itself or has in an own way is read right, or fails with its version."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from roiextractors import CaimanSegmentationExtractor, Suite2pSegmentationExtractor
from roiextractors.testing import generate_dummy_segmentation_extractor
from segmentations import BAR, DOT, InMemorySegmentation, dense, traces

from airflow_provider_ophys.exceptions import ExtractorVersionError
from airflow_provider_ophys.extractor_internals import (
    dense_stack,
    images_of,
    parent_of,
    properties_of,
    property_values,
    roi_ids_of_trace,
    traces_of,
)
from airflow_provider_ophys.models.remarks import gathering_remarks


class ByMethodOnly(InMemorySegmentation):
    """Has its traces as Inscopix' extractor has them: one by one, whatever the name, ROIs before samples."""

    def __init__(self, values):
        super().__init__([BAR] * values.shape[1])
        self._values = values

    def get_num_samples(self):
        return len(self._values)

    def get_traces(self, roi_ids=None, start_frame=None, end_frame=None, name="raw"):  # noqa: ARG002
        return np.vstack([self._values[start_frame:end_frame, roi] for roi in roi_ids])


@pytest.mark.parametrize("num_samples", [20, 3, 1], ids=["more samples", "as many samples as ROIs", "one sample"])
def test_traces_that_only_get_traces_gives(num_samples):
    values = traces(3, num_samples=num_samples)
    found = traces_of(ByMethodOnly(values))
    assert list(found) == ["raw"]
    np.testing.assert_array_equal(found["raw"], values)


def test_those_of_a_selection_of_samples_and_rois():
    values = traces(3)
    selected = ByMethodOnly(values).select_rois([2, 0]).slice_samples(5, 9)
    np.testing.assert_array_equal(traces_of(selected)["raw"], values[5:9, [2, 0]])


def suite2p_folder(folder, yrange, xrange, shape=(12, 16)):
    plane = folder / "plane0"
    plane.mkdir(parents=True)
    rng = np.random.default_rng(0)
    size = (yrange[1] - yrange[0], xrange[1] - xrange[0])
    ops = {
        "fs": 10.0, "nframes": 4, "Ly": shape[0], "Lx": shape[1], "yrange": list(yrange), "xrange": list(xrange),
        "Vcorr": rng.random(size, dtype="float32"), "meanImg": rng.random(shape, dtype="float32"),
    }  # fmt: skip
    np.save(plane / "ops.npy", ops)
    np.save(plane / "stat.npy", np.array([{"ypix": [3], "xpix": [4], "lam": [1.0]}], dtype=object))
    np.save(plane / "F.npy", rng.random((1, 4)))
    return ops


@pytest.mark.parametrize(
    ("yrange", "xrange"), [((6, 11), (3, 12)), ((4, 12), (2, 16)), ((0, 12), (0, 16)), ((0, 7), (5, 16))]
)
def test_suite2ps_correlation_image_lies_where_registration_left_it(tmp_path, yrange, xrange):
    ops = suite2p_folder(tmp_path, yrange, xrange)
    whole = np.zeros((12, 16), "float32")
    whole[slice(*yrange), slice(*xrange)] = ops["Vcorr"]
    segmentation = Suite2pSegmentationExtractor(tmp_path)
    for extractor in (segmentation, segmentation.slice_samples(1, 3)):
        with gathering_remarks() as remarks:
            images = images_of(extractor)
        np.testing.assert_array_equal(images["correlation"], whole)
        np.testing.assert_array_equal(images["mean"], ops["meanImg"])
        assert not remarks


def test_an_image_of_another_frame_is_remarked_on():
    with gathering_remarks() as remarks:
        images_of(InMemorySegmentation([BAR, DOT], images={"mean": np.ones((12, 29))}))
    assert "mean image of InMemorySegmentation is (12, 29), but the frame of its ROIs is (13, 29)" in remarks[0]


def caiman_file(path, accepted):
    with h5py.File(path, "w") as file:
        estimates = file.create_group("estimates")
        estimates["C"] = traces(3).T
        for name, values in {
            "data": [1.0] * 3,
            "indices": [0, 1, 2],
            "indptr": [0, 1, 2, 3],
            "shape": [12, 3],
        }.items():
            estimates[f"A/{name}"] = np.array(values)
        if accepted is not None:
            estimates["idx_components"] = accepted
        file["params/data/dims"] = np.array([3, 4])
        file["params/data/fr"] = 12.5
    return CaimanSegmentationExtractor(path)


@pytest.mark.parametrize(
    ("accepted", "known"),
    [
        (np.array([0, 2]), [True, False, True]),
        (np.array([0, 1, 2]), [True, True, True]),
        (np.array([], dtype=int), [False, False, False]),
        (np.bytes_("NoneType"), None),
        (None, None),
    ],
    ids=["some", "all", "none", "not evaluated", "not there"],
)
def test_caimans_acceptance_is_what_was_evaluated(tmp_path, accepted, known):
    segmentation = caiman_file(tmp_path / "a.hdf5", accepted)
    for extractor in (segmentation, segmentation.slice_samples(2, 5)):
        assert ("is_accepted" in properties_of(extractor)) == (known is not None)
        if known is not None:
            assert property_values(extractor, "is_accepted").tolist() == known
    if known is not None:
        assert property_values(segmentation.select_rois([1, 2]), "is_accepted").tolist() == known[1:]


def test_an_acceptance_that_the_user_set_counts(tmp_path):
    segmentation = caiman_file(tmp_path / "a.hdf5", np.array([], dtype=int))
    segmentation.set_property("is_accepted", [True, False, True], segmentation.get_roi_ids())
    assert property_values(segmentation, "is_accepted").tolist() == [True, False, True]


def renamed(extractor, name):
    """The extractor of a later roiextractors, in which something private has another name."""
    extractor.__dict__[f"_new{name}"] = extractor.__dict__.pop(name)
    return extractor


def test_a_private_name_that_is_gone_is_an_error_with_the_version():
    dummy = generate_dummy_segmentation_extractor
    with pytest.raises(ExtractorVersionError, match=r"has no _roi_responses, which roiextractors \d+\.\d+"):
        roi_ids_of_trace(renamed(dummy(), "_roi_responses"), "raw")
    with pytest.raises(ExtractorVersionError, match="_roi_masks"):
        dense_stack(renamed(dummy(), "_roi_masks"), [0])
    for name in ("mask_tpe", "roi_id_map", "data"):
        extractor = InMemorySegmentation(dense([BAR, DOT]), "image")
        renamed(extractor._roi_masks, name)
        with pytest.raises(ExtractorVersionError, match=name):
            dense_stack(extractor, [0])
    for selection in (dummy().slice_samples(1, 3), dummy().select_rois(["roi_1", "roi_0"])):
        with pytest.raises(ExtractorVersionError, match="_parent_segmentation"):
            parent_of(renamed(selection, "_parent_segmentation"))


def test_an_object_of_ones_own_owes_no_private_name():
    class Own:
        pass

    assert roi_ids_of_trace(Own(), "raw") is None
    assert parent_of(Own()) is None
