"""What is written of a segmentation, and under which name: each option on a real file, read back."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pynwb
import pytest
from hdmf_zarr import NWBZarrIO
from pynwb import NWBHDF5IO, NWBFile
from pynwb.testing.mock.file import mock_NWBFile
from roiextractors.testing import generate_dummy_segmentation_extractor
from segmentations import BAR, DOT, InMemorySegmentation, dense, traces

from airflow_provider_ophys.exceptions import (
    ConfigurationError,
    EmptyRecordingError,
    MetadataError,
    SourceDataError,
)
from airflow_provider_ophys.nwb import add_segmentation_to_nwbfile, write_segmentation_to_nwbfile

SESSION = {"NWBFile": {"session_start_time": "2026-11-22T09:30:00+01:00"}}
RING = np.array([(1.0, 1.0, 0.25), (1.0, 28.0, 0.5), (12.0, 1.0, 0.75)])
BACKENDS = ["hdf5", "zarr"]


def ophys_of(segmentation, path, *, metadata=SESSION, backend="hdf5", **options):
    """Write, check and read: returns the open file, to be closed by the caller, and its module ``ophys``."""
    write_segmentation_to_nwbfile(segmentation, path, metadata=metadata, backend=backend, **options)
    io = NWBHDF5IO(path, "r") if backend == "hdf5" else NWBZarrIO(str(path), "r")
    assert pynwb.validate(io=io, use_cached_namespaces=False) == []
    return io, io.read().processing["ophys"]


def new_nwbfile():
    return NWBFile("a test", "1", datetime(2026, 11, 22, tzinfo=UTC))


def two_cells(**options):
    return InMemorySegmentation([BAR, DOT], traces={"raw": traces(2)}, **options)


def with_background(mask_type="pixel"):
    masks = [BAR, DOT, RING]
    return InMemorySegmentation(
        dense(masks) if mask_type == "image" else masks,
        mask_type,
        traces={"raw": traces(2), "neuropil": traces(2, seed=1), "background": traces(1, seed=2)},
        num_background=1,
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mask_type", ["image", "pixel"])
def test_background_components_have_a_table_and_traces_of_their_own(tmp_path, backend, mask_type):
    segmentation = with_background(mask_type)
    io, ophys = ophys_of(
        segmentation,
        tmp_path / "a.nwb",
        backend=backend,
        mask_type=mask_type,
        include_background_segmentation=True,
    )
    with io:
        background = ophys["ImageSegmentation"]["BackgroundPlaneSegmentation"]
        assert list(background["roi_name"].data[:]) == ["background0"]
        if mask_type == "image":
            np.testing.assert_array_equal(background["image_mask"].data[0], dense([RING])[:, :, 0].T)
        else:
            assert [tuple(pixel) for pixel in background["pixel_mask"][0]] == [
                (1, 1, 0.25), (28, 1, 0.5), (1, 12, 0.75),
            ]  # fmt: skip
        series = ophys["Fluorescence"]["Background"]
        np.testing.assert_array_equal(series.data[:], segmentation.get_traces_dict()["background"])
        assert series.rois.table is background
        assert list(series.rois.data[:]) == [0]
        table = ophys["ImageSegmentation"]["PlaneSegmentation"]
        assert len(table) == 2
        for name in ("RoiResponseSeries", "Neuropil"):
            assert ophys["Fluorescence"][name].rois.table is table


def test_background_components_are_left_out_by_default(tmp_path):
    io, ophys = ophys_of(with_background(), tmp_path / "a.nwb")
    with io:
        assert list(ophys["ImageSegmentation"].plane_segmentations) == ["PlaneSegmentation"]
        assert sorted(ophys["Fluorescence"].roi_response_series) == ["Neuropil", "RoiResponseSeries"]


def test_wanting_background_components_where_there_are_none_is_an_error(tmp_path):
    with pytest.raises(ConfigurationError, match="has no background components. Leave it out"):
        write_segmentation_to_nwbfile(
            two_cells(), tmp_path / "a.nwb", metadata=SESSION, include_background_segmentation=True
        )
    assert list(tmp_path.iterdir()) == []


def test_background_traces_without_masks_still_have_a_table(tmp_path):
    segmentation = InMemorySegmentation([BAR, DOT], traces={"raw": traces(2), "background": traces(3)})
    io, ophys = ophys_of(segmentation, tmp_path / "a.nwb", include_background_segmentation=True)
    with io:
        assert len(ophys["ImageSegmentation"]["BackgroundPlaneSegmentation"]) == 3
        assert len(ophys["Fluorescence"]["Background"].rois.data) == 3


def test_names_of_tables_are_chosen(tmp_path):
    described = {
        "PlaneSegmentations": {
            "cells": {"name": "Cells", "description": "found by hand"},
            "rest": {"name": "Rest", "description": "all else"},
        },
        "RoiResponses": {"rest": {"background": {"name": "Haze", "unit": "a.u."}}},
    }
    io, ophys = ophys_of(
        with_background(),
        tmp_path / "a.nwb",
        metadata={**SESSION, "Ophys": described},
        plane_segmentation_name="Cells",
        background_plane_segmentation_name="Rest",
        include_background_segmentation=True,
    )
    with io:
        tables = ophys["ImageSegmentation"].plane_segmentations
        assert {name: table.description for name, table in tables.items()} == {
            "Cells": "found by hand",
            "Rest": "all else",
        }
        assert ophys["Fluorescence"]["Haze"].unit == "a.u."
    io, ophys = ophys_of(
        with_background(),
        tmp_path / "b.nwb",
        plane_segmentation_name="Mine",
        background_plane_segmentation_name="NotMine",
        include_background_segmentation=True,
    )
    with io:
        assert sorted(ophys["ImageSegmentation"].plane_segmentations) == ["Mine", "NotMine"]


DESCRIBED = {
    "PlaneSegmentations": {"a": {"name": "A", "description": "a"}, "b": {"name": "B", "description": "b"}}
}
WRONG_NAMES = {
    "several": (DESCRIBED, {}, r"several entries \(known: 'a', 'b'\)"),
    "unknown key": (
        DESCRIBED,
        {"metadata_key": "c"},
        r"'c' is not in Ophys.PlaneSegmentations \(known: 'a', 'b'\)",
    ),
    "unknown name": (DESCRIBED, {"plane_segmentation_name": "C"}, r"'C' is no name .*known: 'A', 'B'"),
    "both": (DESCRIBED, {"metadata_key": "a", "plane_segmentation_name": "B"}, "'a' is the segmentation 'A'"),
    "no such segmentation": (
        {**DESCRIBED, "RoiResponses": {"c": {"raw": {"name": "x", "unit": "V"}}}},
        {"metadata_key": "a"},
        r"RoiResponses describes 'c', which is not in Ophys.PlaneSegmentations \(known: 'a', 'b'\)",
    ),
    "no such trace": (
        {"RoiResponses": {"a": {"rawr": {"name": "x", "unit": "V"}}}},
        {},
        r"describes 'rawr', which are no traces .*\(it has: raw\)",
    ),
}


@pytest.mark.parametrize(("described", "options", "message"), WRONG_NAMES.values(), ids=WRONG_NAMES)
def test_a_name_that_is_not_there_is_an_error_that_names_those_that_are(described, options, message):
    nwbfile = new_nwbfile()
    with pytest.raises(MetadataError, match=message):
        add_segmentation_to_nwbfile(two_cells(), nwbfile, {"Ophys": described}, **options)
    assert not nwbfile.processing
    assert not nwbfile.devices


@pytest.mark.parametrize("backend", BACKENDS)
def test_several_segmentations_in_one_file(tmp_path, backend):
    described = {
        f"plane{number}": {"name": f"Plane{number}", "description": f"{number} um deep"} for number in (0, 1)
    }
    planes = [
        InMemorySegmentation(
            [mask], traces={"raw": traces(1, seed=seed), "dff": traces(1, seed=seed + 9)}, images={"mean": image}
        )
        for seed, (mask, image) in enumerate([(BAR, dense([BAR])[:, :, 0]), (DOT, dense([DOT])[:, :, 0])])
    ]
    one_each = [{**SESSION, "Ophys": {"PlaneSegmentations": {key: entry}}} for key, entry in described.items()]
    one_for_all = {**SESSION, "Ophys": {"PlaneSegmentations": described}}
    ways = [
        {"metadata": one_each},
        {"metadata": one_for_all, "metadata_key": ["plane0", "plane1"]},
    ]
    for way, options in enumerate(ways):
        io, ophys = ophys_of(planes, tmp_path / f"{way}.nwb", backend=backend, **options)
        with io:
            check_two_planes(ophys, planes)
    path = tmp_path / "appended.nwb"
    write_segmentation_to_nwbfile(planes[0], path, metadata=one_for_all, backend=backend, metadata_key="plane0")
    io, ophys = ophys_of(
        planes[1],
        path,
        metadata=one_for_all,
        backend=backend,
        metadata_key="plane1",
        append_on_disk_nwbfile=True,
    )
    with io:
        check_two_planes(ophys, planes)


def check_two_planes(ophys, planes):
    assert sorted(ophys["ImageSegmentation"].plane_segmentations) == ["Plane0", "Plane1"]
    for number, plane in enumerate(planes):
        series = ophys["Fluorescence"][f"RoiResponseSeries_plane{number}"]
        np.testing.assert_array_equal(series.data[:], plane.get_traces(name="raw"))
        assert series.rois.table is ophys["ImageSegmentation"][f"Plane{number}"]
        dff = ophys["DfOverF"][f"RoiResponseSeries_plane{number}"]
        np.testing.assert_array_equal(dff.data[:], plane.get_traces(name="dff"))
        image = ophys["SegmentationImages"][f"mean_plane{number}"]
        np.testing.assert_array_equal(image.data[:].T, plane.get_image("mean"))


def test_segmentations_without_any_description_are_told_apart_by_their_place(tmp_path):
    io, ophys = ophys_of([two_cells(), two_cells()], tmp_path / "a.nwb")
    with io:
        assert sorted(ophys["ImageSegmentation"].plane_segmentations) == [
            "PlaneSegmentation_0",
            "PlaneSegmentation_1",
        ]


WRONG_LISTS = {
    "lengths": ({"metadata": [SESSION]}, "2 extractors, but 1 in the list metadata"),
    "keys": (
        {"metadata": SESSION, "metadata_key": ["a", "b", "c"]},
        "2 extractors, but 3 in the list metadata_key",
    ),
    "which is which": ({"metadata": {**SESSION, "Ophys": DESCRIBED}}, "Say which one each is with a list"),
    "same twice": ({"metadata": SESSION, "metadata_key": ["a", "a"]}, "already has 'PlaneSegmentation_a'"),
    "other session": (
        {"metadata": [SESSION, {"NWBFile": {"session_start_time": "2020-01-01T00:00:00Z"}}]},
        "NWBFile in the metadata of the extractor 1 .* is not that of the first",
    ),
    "a name": ({"metadata": SESSION, "plane_segmentation_name": "A"}, "are of one segmentation"),
}


@pytest.mark.parametrize(("options", "message"), WRONG_LISTS.values(), ids=WRONG_LISTS)
def test_lists_that_do_not_fit_together_are_refused(tmp_path, options, message):
    with pytest.raises(ConfigurationError, match=message):
        write_segmentation_to_nwbfile([two_cells(), two_cells()], tmp_path / "a.nwb", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("described", "taken"),
    [
        ({}, "ImageSegmentation already has 'PlaneSegmentation'"),
        (
            {"PlaneSegmentations": {"b": {"name": "B", "description": "b"}}},
            "Fluorescence already has 'RoiResponse",
        ),
        (
            {
                "PlaneSegmentations": {"b": {"name": "B", "description": "b"}},
                "RoiResponses": {"b": {"raw": {"name": "Raw", "unit": "V"}}},
            },
            "SegmentationImages already has 'mean'",
        ),
    ],
)
def test_a_collision_is_an_error_and_changes_nothing(described, taken):
    nwbfile = new_nwbfile()
    image = {"mean": np.ones((13, 29))}
    add_segmentation_to_nwbfile(two_cells(images=image), nwbfile)
    before = {child.object_id for child in nwbfile.all_children()}
    with pytest.raises(ConfigurationError, match=taken):
        add_segmentation_to_nwbfile(two_cells(images=image), nwbfile, {"Ophys": described})
    assert {child.object_id for child in nwbfile.all_children()} == before


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_property_is_a_column(tmp_path, backend):
    segmentation = two_cells()
    segmentation.with_property("iscell", np.array([1.0, 0.0]))
    segmentation.with_property("snr", np.array([0.0, 1.0]))
    segmentation.with_property("label", np.array(["soma", "dendrite"]))
    segmentation.with_property("note", np.array(["seen twice", None], dtype=object))
    segmentation.with_property("count", np.array([3, 4], dtype=">i2"))
    segmentation.with_property("shift", np.array([[1.5, 2.5], [3.5, 4.5]]))
    ragged = np.empty(2, dtype=object)
    ragged[:] = [[1, 2, 3], [4]]
    segmentation.with_property("overlaps", ragged)
    io, ophys = ophys_of(segmentation, tmp_path / "a.nwb", backend=backend)
    with io:
        table = ophys["ImageSegmentation"]["PlaneSegmentation"]
        assert table["iscell"].data[:].dtype == bool
        assert list(table["iscell"].data[:]) == [True, False]
        assert table["snr"].data[:].dtype == np.float64, "a measure, even if it happens to be 0 and 1"
        assert list(table["label"].data[:]) == ["soma", "dendrite"]
        assert list(table["note"].data[:]) == ["seen twice", ""]
        assert table["count"].data[:].tolist() == [3, 4]
        assert table["shift"].data[:].tolist() == [[1.5, 2.5], [3.5, 4.5]]
        assert [list(values) for values in (table["overlaps"][0], table["overlaps"][1])] == [[1, 2, 3], [4]]
        assert (list(table["Accepted"].data[:]), list(table["Rejected"].data[:])) == ([True, False], [False, True])


def test_an_roi_may_be_neither_accepted_nor_rejected(tmp_path):
    segmentation = generate_dummy_segmentation_extractor(num_rois=3, num_rows=4, num_columns=5)
    ids = segmentation.get_roi_ids()
    segmentation.set_property("is_accepted", np.array([True, False, False]), ids)
    segmentation.set_property("is_rejected", np.array([False, True, False]), ids)
    io, ophys = ophys_of(segmentation, tmp_path / "a.nwb")
    with io:
        table = ophys["ImageSegmentation"]["PlaneSegmentation"]
        assert list(table["Accepted"].data[:]) == [True, False, False]
        assert list(table["Rejected"].data[:]) == [False, True, False]
    status = two_cells().with_property("cell_status", np.array(["undecided", "accepted"]))
    io, ophys = ophys_of(status, tmp_path / "b.nwb")
    with io:
        table = ophys["ImageSegmentation"]["PlaneSegmentation"]
        assert list(table["Accepted"].data[:]) == [False, True]
        assert list(table["Rejected"].data[:]) == [False, False]


def test_a_selection_of_rois_has_their_own_masks_traces_and_properties(tmp_path):
    segmentation = InMemorySegmentation([BAR, DOT, RING], traces={"raw": traces(3)}, ids=["bar", "dot", "ring"])
    segmentation.with_property("snr", np.array([1.5, 2.5, 3.5]))
    io, ophys = ophys_of(segmentation.select_rois(["ring", "bar"]), tmp_path / "a.nwb")
    with io:
        table = ophys["ImageSegmentation"]["PlaneSegmentation"]
        assert list(table["roi_name"].data[:]) == ["ring", "bar"]
        assert table["snr"].data[:].tolist() == [3.5, 1.5]
        np.testing.assert_array_equal(table["image_mask"].data[:], dense([RING, BAR]).transpose(2, 1, 0))
        raw = segmentation.get_traces(name="raw")
        np.testing.assert_array_equal(ophys["Fluorescence"]["RoiResponseSeries"].data[:], raw[:, [2, 0]])


def test_traces_in_another_order_than_the_rois_refer_to_the_right_ones(tmp_path):
    segmentation = InMemorySegmentation([BAR, DOT, RING], traces={"raw": traces(3)}, ids=["bar", "dot", "ring"])
    segmentation._roi_responses[0].roi_ids = ["ring", "bar", "dot"]
    io, ophys = ophys_of(segmentation, tmp_path / "a.nwb")
    with io:
        series = ophys["Fluorescence"]["RoiResponseSeries"]
        assert list(series.rois.data[:]) == [2, 0, 1]
        bar = list(series.rois.data[:]).index(0)
        wanted = segmentation.get_traces(roi_ids=["bar"], name="raw")[:, 0]
        np.testing.assert_array_equal(series.data[:, bar], wanted)


def test_a_property_that_cannot_be_a_column_is_refused(tmp_path):
    for name in ("image_mask", "roi_name", "a/b"):
        segmentation = two_cells().with_property(name, np.array([1, 2]))
        with pytest.raises(SourceDataError, match=f"an ROI property '{name}', which cannot be a column"):
            write_segmentation_to_nwbfile(segmentation, tmp_path / "a.nwb", metadata=SESSION)


def test_nothing_at_all_is_refused_but_each_part_may_be_missing(tmp_path):
    with pytest.raises(EmptyRecordingError, match="no ROIs, no traces and no summary images"):
        write_segmentation_to_nwbfile(InMemorySegmentation([]), tmp_path / "a.nwb", metadata=SESSION)
    assert list(tmp_path.iterdir()) == []
    io, ophys = ophys_of(InMemorySegmentation([], images={"mean": np.ones((4, 5))}), tmp_path / "image.nwb")
    with io:
        assert ophys["SegmentationImages"]["mean"].data.shape == (5, 4)
        assert list(ophys.data_interfaces) == ["SegmentationImages"]
    io, ophys = ophys_of(InMemorySegmentation([BAR]), tmp_path / "masks.nwb")
    with io:
        assert list(ophys.data_interfaces) == ["ImageSegmentation"]
    io, ophys = ophys_of(InMemorySegmentation(None, traces={"raw": traces(3)}), tmp_path / "traces.nwb")
    with io:
        table = ophys["ImageSegmentation"]["PlaneSegmentation"]
        assert [len(table["pixel_mask"][roi]) for roi in range(3)] == [0, 0, 0]
        np.testing.assert_array_equal(ophys["Fluorescence"]["RoiResponseSeries"].data[:], traces(3))


def test_colours_stay_colours(tmp_path):
    colours = np.random.default_rng(0).integers(0, 255, (13, 29, 3), dtype=np.uint8)
    io, ophys = ophys_of(two_cells(images={"composite": colours}), tmp_path / "a.nwb")
    with io:
        np.testing.assert_array_equal(ophys["SegmentationImages"]["composite"].data[:], colours.swapaxes(0, 1))


@pytest.mark.parametrize("backend", BACKENDS)
def test_iterator_options_reach_masks_and_traces(tmp_path, backend):
    segmentation = InMemorySegmentation(dense([BAR, DOT, RING]), "image", traces={"raw": traces(3)})
    options = {"chunk_mb": None, "chunk_shape": (5, 2), "buffer_shape": (10, 2)}
    io, ophys = ophys_of(segmentation, tmp_path / "a.nwb", backend=backend, iterator_options=options)
    with io:
        assert ophys["Fluorescence"]["RoiResponseSeries"].data.chunks == (5, 2)
    io, ophys = ophys_of(
        segmentation, tmp_path / "b.nwb", backend=backend, iterator_options={"chunk_mb": 13 * 29 * 4 / 1e6}
    )
    with io:
        assert ophys["ImageSegmentation"]["PlaneSegmentation"]["image_mask"].data.chunks == (1, 29, 13)
    with pytest.raises(ConfigurationError, match="chunks"):
        write_segmentation_to_nwbfile(
            segmentation, tmp_path / "c.nwb", metadata=SESSION, iterator_options={"chunks": 3}
        )
    with pytest.raises(ConfigurationError, match="iterator_options is 5; write a dict"):
        write_segmentation_to_nwbfile(segmentation, tmp_path / "c.nwb", metadata=SESSION, iterator_options=5)


def test_anyone_can_write_the_nwbfile(tmp_path):
    """Masks and traces are iterators, which plain pynwb writes too."""
    for mask_type in ("image", "pixel"):
        nwbfile = add_segmentation_to_nwbfile(two_cells(), new_nwbfile(), mask_type=mask_type)
        with NWBHDF5IO(tmp_path / f"{mask_type}.nwb", "w") as io:
            io.write(nwbfile)
        with NWBHDF5IO(tmp_path / f"{mask_type}.nwb", "r") as io:
            table = io.read().processing["ophys"]["ImageSegmentation"]["PlaneSegmentation"]
            if mask_type == "image":
                np.testing.assert_array_equal(table["image_mask"].data[:], dense([BAR, DOT]).transpose(2, 1, 0))
            else:
                assert [tuple(pixel) for pixel in table["pixel_mask"][1]] == [(2, 11, 0.5)]


def test_irregular_times_are_written_with_the_traces(tmp_path):
    segmentation = two_cells()
    times = np.cumsum(np.linspace(0.1, 0.2, 20))
    segmentation.set_times(times)
    io, ophys = ophys_of(segmentation, tmp_path / "a.nwb")
    with io:
        np.testing.assert_array_equal(ophys["Fluorescence"]["RoiResponseSeries"].timestamps[:], times)


@pytest.mark.parametrize("mask_type", ["image", "pixel"])
def test_centroids_are_what_their_description_says(mask_type):
    heavy = np.array([(3, 20, 1.0), (3, 21, 5.0), (4, 20, 2.0)])
    two = np.array([(2, 6, 1.0), (5, 9, 1.0)])

    def centroids(segmentation, **options):
        nwbfile = mock_NWBFile()
        add_segmentation_to_nwbfile(segmentation, nwbfile, mask_type=mask_type, **options)
        column = nwbfile.processing["ophys"]["ImageSegmentation"]["PlaneSegmentation"]["ROICentroids"]
        return column.description.partition(" of each ROI")[0], column.data.tolist()

    segmentation = InMemorySegmentation([heavy, two, np.zeros((0, 3))])
    assert centroids(segmentation)[0] == "Mean position of the pixels"
    what, peaks = centroids(segmentation, roi_centroids="peak")
    assert what == "Pixel of the greatest weight, or the median of several,"
    assert peaks[:2] == [[21.0, 3.0], [7.0, 3.0]]
    assert np.isnan(peaks[2]).all()
    given = InMemorySegmentation([heavy, two]).with_property("roi_centroids", [(1.5, 2.5), (3.5, 4.5)])
    assert centroids(given) == ("Place, as the segmentation software gives it,", [[2.5, 1.5], [4.5, 3.5]])
    assert centroids(given, roi_centroids="peak")[1] == [[21.0, 3.0], [7.0, 3.0]]
    with pytest.raises(ConfigurationError, match="roi_centroids is 'median'"):
        centroids(given, roi_centroids="median")
