"""A segmentation, written to HDF5 and to Zarr, is read back as what the extractor gives, all in one geometry."""

from __future__ import annotations

import numpy as np
import pynwb
import pytest
from hdmf_zarr import NWBZarrIO
from pynwb import NWBHDF5IO
from roiextractors import NumpySegmentationExtractor, NwbSegmentationExtractor
from roiextractors.testing import generate_dummy_segmentation_extractor
from segmentations import BAR, DOT, InMemorySegmentation, dense, in_volume, traces

from airflow_provider_ophys.exceptions import ConfigurationError
from airflow_provider_ophys.nwb import write_segmentation_to_nwbfile

METADATA = {
    "NWBFile": {"session_start_time": "2026-11-22T09:30:00+01:00"},
    "Ophys": {
        "PlaneSegmentations": {"cells": {"name": "Cells", "description": "found by hand"}},
        "RoiResponses": {
            "cells": {
                "raw": {"name": "Raw", "unit": "a.u.", "description": "raw traces"},
                "neuropil": {"name": "Neuropil", "unit": "n.a."},
                "dff": {"name": "RoiResponseSeries", "unit": "n.a."},
            }
        },
        "SegmentationImages": {"cells": {"mean": {"name": "average"}, "correlation": {"name": "correlation"}}},
    },
}
SESSION = {"NWBFile": METADATA["NWBFile"]}
BACKENDS = ["hdf5", "zarr"]


def open_nwb(path, backend):
    return NWBHDF5IO(path, "r") if backend == "hdf5" else NWBZarrIO(str(path), "r")


def dummy(**options):
    return generate_dummy_segmentation_extractor(
        num_rois=7, num_rows=13, num_columns=29, num_samples=31, **options
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_masks_traces_and_images_are_equal(tmp_path, backend):
    segmentation = dummy()
    path = tmp_path / "cells.nwb"
    write_segmentation_to_nwbfile(segmentation, path, metadata=METADATA, backend=backend)
    with open_nwb(path, backend) as io:
        ophys = io.read().processing["ophys"]
        table = ophys["ImageSegmentation"]["Cells"]
        masks = segmentation.get_roi_image_masks().transpose(2, 1, 0)
        np.testing.assert_array_equal(table["image_mask"].data[:], masks)
        assert list(table["roi_name"].data[:]) == [str(roi_id) for roi_id in segmentation.get_roi_ids()]
        raw = ophys["Fluorescence"]["Raw"]
        assert (raw.unit, raw.description, raw.rate) == ("a.u.", "raw traces", 30.0)
        np.testing.assert_array_equal(raw.data[:], segmentation.get_traces(name="raw"))
        assert raw.rois.table is table
        np.testing.assert_array_equal(raw.rois.data[:], np.arange(7))
        neuropil = ophys["Fluorescence"]["Neuropil"]
        np.testing.assert_array_equal(neuropil.data[:], segmentation.get_traces(name="neuropil"))
        dff = ophys["DfOverF"]["RoiResponseSeries"]
        np.testing.assert_array_equal(dff.data[:], segmentation.get_traces(name="dff"))
        images = ophys["SegmentationImages"]
        np.testing.assert_array_equal(images["average"].data[:].T, segmentation.get_image("mean"))
        np.testing.assert_array_equal(images["correlation"].data[:].T, segmentation.get_image("correlation"))
        assert pynwb.validate(io=io, use_cached_namespaces=False) == []


@pytest.fixture
def asymmetric():
    """One ROI of 2 rows and 5 columns far from the diagonal, and one of a single pixel."""
    masks = np.zeros((13, 29, 2), dtype="float32")
    masks[3:5, 20:25, 0] = np.arange(1, 11).reshape(2, 5)
    masks[11, 2, 1] = 0.5
    return NumpySegmentationExtractor(
        image_masks=masks,
        raw=np.arange(20.0).reshape(10, 2),
        mean_image=masks[:, :, 0],
        sampling_frequency=10.0,
        accepted_list=[0],
        rejected_list=[1],
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_all_geometry_is_the_same_place(tmp_path, backend, asymmetric):
    tables = {}
    for mask_type in ("image", "pixel"):
        path = tmp_path / f"{mask_type}.nwb"
        write_segmentation_to_nwbfile(asymmetric, path, metadata=METADATA, backend=backend, mask_type=mask_type)
        with open_nwb(path, backend) as io:
            ophys = io.read().processing["ophys"]
            table = ophys["ImageSegmentation"]["Cells"]
            tables[mask_type] = table.to_dataframe()
            image = ophys["SegmentationImages"]["average"].data[:]
    for roi in range(2):
        dense = np.stack(tables["image"]["image_mask"])[roi]
        pixels = tables["pixel"]["pixel_mask"][roi]
        from_pixels = np.zeros_like(dense)
        for x, y, weight in pixels:
            from_pixels[x, y] = weight
        np.testing.assert_array_equal(dense, from_pixels)
        centroid = tables["image"]["ROICentroids"][roi]
        np.testing.assert_allclose(centroid, np.argwhere(dense).mean(axis=0))
    np.testing.assert_allclose(tables["pixel"]["ROICentroids"][0], (22.0, 3.5))
    np.testing.assert_array_equal(image, np.stack(tables["image"]["image_mask"])[0])
    assert list(tables["image"]["Accepted"]) == [True, False]
    assert list(tables["image"]["Rejected"]) == [False, True]
    assert tables["image"]["Accepted"].dtype == bool


@pytest.mark.parametrize("backend", BACKENDS)
def test_roiextractors_reads_back_what_it_gave(tmp_path, backend, asymmetric):
    path, again = tmp_path / "cells.nwb", tmp_path / "again.nwb"
    write_segmentation_to_nwbfile(asymmetric, path, metadata=SESSION, backend=backend)
    back = NwbSegmentationExtractor(file_path=path)
    write_segmentation_to_nwbfile(back, again, metadata=SESSION, backend=backend)
    for found in (back, NwbSegmentationExtractor(file_path=again)):
        np.testing.assert_array_equal(found.get_roi_image_masks(), asymmetric.get_roi_image_masks())
        np.testing.assert_array_equal(found.get_traces(name="raw"), asymmetric.get_traces(name="raw"))
        np.testing.assert_array_equal(found.get_images_dict()["mean"], asymmetric.get_image("mean"))
        assert found.get_property("accepted", ids=found.get_roi_ids()).tolist() == [True, False]
        # roiextractors has the row before the column.
        centroids = found.get_property("roi_centroids", ids=found.get_roi_ids())
        np.testing.assert_allclose(centroids, [(3.5, 22.0), (11.0, 2.0)])


VOLUME = (13, 29, 4)
VOLUME_MASKS = [in_volume(BAR, plane=1), in_volume(DOT, plane=2)]


def place_of(image):
    """Members of a stored mask and their weights, (x, y[, z]): weight."""
    return {tuple(place): image[tuple(place)] for place in np.argwhere(image).tolist()}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("native", ["image", "voxel"])
def test_a_volume_is_the_same_place_as_image_and_as_voxels(tmp_path, backend, native):
    masks = dense(VOLUME_MASKS, VOLUME) if native == "image" else VOLUME_MASKS
    volume = InMemorySegmentation(
        masks,
        native,
        VOLUME,
        traces={"raw": traces(2)},
        images={"mean": dense(VOLUME_MASKS, VOLUME)[:, :, 0]},
    )
    for mask_type in ("image", "voxel"):
        path = tmp_path / f"{mask_type}.nwb"
        write_segmentation_to_nwbfile(volume, path, metadata=SESSION, backend=backend, mask_type=mask_type)
        with open_nwb(path, backend) as io:
            ophys = io.read().processing["ophys"]
            table = ophys["ImageSegmentation"]["PlaneSegmentation"]
            for roi, mask in enumerate(VOLUME_MASKS):
                wanted = {(int(x), int(y), int(z)): weight for y, x, z, weight in mask}
                if mask_type == "image":
                    found = place_of(table["image_mask"].data[roi])
                else:
                    found = {(int(x), int(y), int(z)): weight for x, y, z, weight in table["voxel_mask"][roi]}
                assert found == wanted
                middle = np.mean(list(wanted), axis=0)
                np.testing.assert_allclose(table["ROICentroids"].data[roi], middle)
            # The summary image of a volume has one image for each plane; here it is the first ROI.
            images = [ophys["SegmentationImages"][f"mean_plane{plane}"].data[:] for plane in range(VOLUME[2])]
            assert place_of(np.stack(images, axis=-1)) == {
                (int(x), int(y), int(z)): weight for y, x, z, weight in VOLUME_MASKS[0]
            }
            assert pynwb.validate(io=io, use_cached_namespaces=False) == []


def test_a_mask_type_that_does_not_fit_the_rois_is_refused(tmp_path, asymmetric):
    with pytest.raises(ConfigurationError, match="the ROIs have 2 coordinates. Write 'pixel'"):
        write_segmentation_to_nwbfile(asymmetric, tmp_path / "a.nwb", metadata=METADATA, mask_type="voxel")
    with pytest.raises(ConfigurationError, match="write 'image', 'pixel' or 'voxel'"):
        write_segmentation_to_nwbfile(asymmetric, tmp_path / "a.nwb", metadata=METADATA, mask_type="dots")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mask_type", ["image", "pixel"])
def test_an_roi_without_pixels_is_written_without_a_place(tmp_path, mask_type):
    masks = np.zeros((4, 5, 2), dtype="float32")
    masks[1, 2, 0] = 1.0
    segmentation = NumpySegmentationExtractor(image_masks=masks, raw=np.zeros((3, 2)), sampling_frequency=1.0)
    path = tmp_path / "cells.nwb"
    write_segmentation_to_nwbfile(segmentation, path, metadata=METADATA, mask_type=mask_type)
    with NWBHDF5IO(path, "r") as io:
        table = io.read().processing["ophys"]["ImageSegmentation"]["Cells"]
        np.testing.assert_array_equal(table["ROICentroids"].data[:], [[2.0, 1.0], [np.nan, np.nan]])


def test_columns_that_are_not_wanted_are_not_written(tmp_path, asymmetric):
    path = tmp_path / "cells.nwb"
    write_segmentation_to_nwbfile(
        asymmetric, path, metadata=METADATA, include_roi_centroids=False, include_roi_acceptance=False
    )
    with NWBHDF5IO(path, "r") as io:
        columns = io.read().processing["ophys"]["ImageSegmentation"]["Cells"].colnames
    assert not {"ROICentroids", "Accepted", "Rejected"} & set(columns)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("extractor", "source", "num_rois"),
    [("Suite2p", {"folder_path": "suite2p"}, 54), ("Caiman", {"file_path": "caiman/cellset.hdf5"}, 5)],
)
def test_real_segmentations(tmp_path, shared_data, backend, extractor, source, num_rois):
    from airflow_provider_ophys.extractors import open_segmentation

    segmentation = open_segmentation(extractor, {key: shared_data / value for key, value in source.items()})
    path = tmp_path / "cells.nwb"
    write_segmentation_to_nwbfile(segmentation, path, metadata=SESSION, backend=backend)
    with open_nwb(path, backend) as io:
        ophys = io.read().processing["ophys"]
        table = ophys["ImageSegmentation"]["PlaneSegmentation"]
        assert len(table) == num_rois
        np.testing.assert_array_equal(
            table["image_mask"].data[:], segmentation.get_roi_image_masks().transpose(2, 1, 0)
        )
        for role, trace in segmentation.get_traces_dict().items():
            if trace is not None:
                name = "RoiResponseSeries" if role == "raw" else role.capitalize()
                np.testing.assert_array_equal(ophys["Fluorescence"][name].data[:], np.asarray(trace))
        for key in segmentation.get_property_keys():
            wanted = segmentation.get_property(key, ids=segmentation.get_roi_ids())
            np.testing.assert_array_equal(table[key].data[:], wanted)
