"""The list form is translated into the dict form, whole, and without changing what the caller has."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
from pynwb import NWBHDF5IO
from roiextractors.testing import generate_dummy_imaging_extractor, generate_dummy_segmentation_extractor

from airflow_provider_ophys.exceptions import ConfigurationError, MetadataError
from airflow_provider_ophys.models.legacy_metadata import is_list_form
from airflow_provider_ophys.models.metadata import validate_metadata
from airflow_provider_ophys.nwb import write_imaging_to_nwbfile, write_segmentation_to_nwbfile

CHANNEL = {"name": "Red", "description": "red", "emission_lambda": 600.0}
METADATA = {
    "NWBFile": {"session_start_time": "2026-11-22T09:30:00+01:00"},
    "Ophys": {
        "Device": [{"name": "Scope", "description": "a microscope"}],
        "ImagingPlane": [
            {
                "name": "Deep",
                "description": "layer 5",
                "excitation_lambda": 920.0,
                "indicator": "GCaMP8",
                "location": "V1",
                "device": "Scope",
                "optical_channel": [CHANNEL],
            },
            {"name": "Shallow", "device": "Scope"},
        ],
        "TwoPhotonSeries": [
            {"name": "First", "description": "one", "unit": "counts", "imaging_plane": "Deep"},
            {"name": "Second", "imaging_plane": "Shallow"},
        ],
        "ImageSegmentation": {
            "name": "ImageSegmentation",
            "plane_segmentations": [{"name": "Cells", "description": "found", "imaging_plane": "Deep"}],
        },
        "Fluorescence": {"name": "Fluorescence", "Cells": {"raw": {"name": "Raw", "unit": "a.u."}}},
        "DfOverF": {"name": "DfOverF", "Cells": {"dff": {"name": "Relative"}}},
        "SegmentationImages": {"name": "SegmentationImages", "Cells": {"mean": {"name": "average"}}},
    },
}


@pytest.fixture
def imaging():
    return generate_dummy_imaging_extractor(num_rows=5, num_columns=7, num_samples=9)


def test_series_are_addressed_by_type_and_index(tmp_path, imaging):
    before = copy.deepcopy(METADATA)
    path = tmp_path / "a.nwb"
    write_imaging_to_nwbfile(imaging, path, metadata=METADATA)
    write_imaging_to_nwbfile(imaging, path, metadata=METADATA, photon_series_index=1, append_on_disk_nwbfile=True)
    with NWBHDF5IO(path, "r") as io:
        nwbfile = io.read()
        first, second = nwbfile.acquisition["First"], nwbfile.acquisition["Second"]
        assert (first.description, first.unit, first.imaging_plane.name) == ("one", "counts", "Deep")
        assert (first.imaging_plane.location, first.imaging_plane.optical_channel[0].name) == ("V1", "Red")
        assert second.description == "Imaging data from two-photon excitation microscopy."
        assert (second.unit, second.imaging_plane.indicator) == ("n.a.", "unknown")
        assert math.isnan(second.imaging_plane.excitation_lambda)
        assert first.imaging_plane.device is second.imaging_plane.device
    assert before == METADATA


def test_a_segmentation_is_described_by_the_name_of_its_table(tmp_path):
    segmentation = generate_dummy_segmentation_extractor(num_rois=3, num_rows=5, num_columns=7)
    path = tmp_path / "a.nwb"
    write_segmentation_to_nwbfile(segmentation, path, metadata=METADATA)
    with NWBHDF5IO(path, "r") as io:
        ophys = io.read().processing["ophys"]
        table = ophys["ImageSegmentation"]["Cells"]
        assert (table.description, table.imaging_plane.name) == ("found", "Deep")
        assert ophys["Fluorescence"]["Raw"].unit == "a.u."
        np.testing.assert_array_equal(ophys["DfOverF"]["Relative"].data[:], segmentation.get_traces(name="dff"))
        assert "average" in ophys["SegmentationImages"].images


def test_what_is_left_out_is_filled(tmp_path, imaging):
    metadata = METADATA | {"Ophys": {"Device": [{"name": "Scope"}]}}
    write_imaging_to_nwbfile(imaging, tmp_path / "a.nwb", metadata=metadata, photon_series_type="OnePhotonSeries")
    with NWBHDF5IO(tmp_path / "a.nwb", "r") as io:
        series = io.read().acquisition["OnePhotonSeries"]
        assert series.description == "Imaging data from one-photon excitation microscopy."
        assert (series.imaging_plane.name, series.imaging_plane.device.name) == ("ImagingPlane", "Scope")


def test_a_series_may_have_a_device_of_its_own(tmp_path, imaging):
    devices = {"Device": [{"name": "Scope"}, {"name": "Laser"}], "ImagingPlane": [{"device": "Scope"}]}
    described = METADATA | {"Ophys": devices | {"TwoPhotonSeries": [{"device": "Laser"}]}}
    write_imaging_to_nwbfile(imaging, tmp_path / "a.nwb", metadata=described)
    with NWBHDF5IO(tmp_path / "a.nwb", "r") as io:
        series = io.read().acquisition["TwoPhotonSeries"]
        assert (series.device.name, series.imaging_plane.device.name) == ("Laser", "Scope")


@pytest.mark.parametrize(
    ("ophys", "options", "message"),
    [
        (
            {"TwoPhotonSeries": [{}]},
            {"photon_series_index": 1},
            "photon_series_index is 1, but Ophys.TwoPhotonSeries describes 1 series",
        ),
        ({"TwoPhotonSeries": [{}]}, {"metadata_key": "x"}, "say photon_series_index instead"),
        ({}, {"photon_series_index": 1}, "say metadata_key instead"),
        ({"TwoPhotonSeries": {}, "ImagingPlanes": {}}, {}, "mixes its two forms"),
        ({"TwoPhotonSeries": {"name": "x"}}, {}, "must be a list of mappings"),
        (
            {"TwoPhotonSeries": [{"imaging_plane": "X"}]},
            {},
            "Ophys.TwoPhotonSeries.0 refers to Ophys.ImagingPlane.X, which is not there",
        ),
        ({"ImagingPlane": [{"device": "X"}]}, {}, "refers to Ophys.Device.X, which is not there"),
        ({"TwoPhotonSeries": [{"names": "x"}]}, {}, "names is not known"),
        ({"Fluorescence": {"name": "Mine"}}, {}, "containers have the names that NWB gives them"),
        ({"Fluorescence": {"Cells": {"raw": 3}}}, {}, "Ophys.Fluorescence.Cells.raw must be a mapping"),
        ({"Device": [{}]}, {}, "Ophys.Device.Microscope.name is missing"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, imaging, ophys, options, message):
    metadata = {"NWBFile": METADATA["NWBFile"], "Ophys": ophys}
    with pytest.raises((MetadataError, ConfigurationError), match=message):
        write_imaging_to_nwbfile(imaging, tmp_path / "a.nwb", metadata=metadata, **options)
    assert list(tmp_path.iterdir()) == []


def test_the_forms_are_told_from_each_other():
    assert is_list_form(METADATA)
    assert is_list_form({"Ophys": {"SegmentationImages": {"name": "SegmentationImages"}}})
    for metadata in ({}, {"Ophys": {}}, {"Ophys": {"ImagingPlanes": {}}}, {"Devices": {}}):
        assert not is_list_form(metadata)
        validate_metadata(metadata)
