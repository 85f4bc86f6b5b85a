"""Under the outlines of ROIs is a picture of their own plane, or none."""

from __future__ import annotations

import threading

import pytest
from nwb_files import METADATA
from roiextractors.testing import generate_dummy_imaging_extractor, generate_dummy_segmentation_extractor

from airflow_provider_ophys.nwb import write_imaging_to_nwbfile, write_segmentation_to_nwbfile
from airflow_provider_ophys.nwb.contents import open_contents
from airflow_provider_ophys.report.survey import look_at
from airflow_provider_ophys.writing.sharing import Resources

CHANNEL = {"name": "green", "description": "green", "emission_lambda": 510.0}


def plane(name):
    return {
        "name": name, "excitation_lambda": 920.0, "indicator": "G", "location": "V1", "optical_channel": [CHANNEL],
    }  # fmt: skip


def metadata(tables=None):
    described = {key: {"description": "d", "imaging_plane_metadata_key": key} for key in "ab"}
    tables = tables or {"a": "PlaneSegmentation_a", "b": "PlaneSegmentation_b"}
    return METADATA | {
        "Ophys": {
            "ImagingPlanes": {key: plane(f"Plane {key}") for key in "ab"},
            "MicroscopySeries": {"a": {"name": "MovieOfA", "unit": "n.a.", "imaging_plane_metadata_key": "a"}},
            "PlaneSegmentations": {key: described[key] | {"name": name} for key, name in tables.items()},
        }
    }


def cells():
    return generate_dummy_segmentation_extractor(num_rois=3, num_rows=10, num_columns=10, num_samples=5)


def drawn(path):
    with open_contents(path) as contents:
        seen = look_at(contents, Resources(2**24, 1, threading.Event()))
        return {found.segmentation.name: found.background_name for found in seen.segmentations}


def test_each_plane_has_its_own_mean_image(tmp_path):
    path = tmp_path / "a.nwb"
    write_segmentation_to_nwbfile([cells(), cells()], path, metadata=metadata(), metadata_key=["a", "b"])
    assert drawn(path) == {"PlaneSegmentation_a": "the image mean_a", "PlaneSegmentation_b": "the image mean_b"}


def test_tables_of_one_volume_have_the_image_of_their_own_depth(tmp_path):
    path, described, keys = tmp_path / "a.nwb", metadata(), ["Plane0", "Plane1"]
    described["Ophys"]["PlaneSegmentations"] = {
        key: {"name": f"PlaneSegmentation{key}", "description": "d", "imaging_plane_metadata_key": "a"}
        for key in keys
    }
    write_segmentation_to_nwbfile([cells(), cells()], path, metadata=described, metadata_key=keys)
    assert drawn(path) == {f"PlaneSegmentation{key}": f"the image mean_{key}" for key in keys}


def test_a_movie_is_drawn_under_the_rois_of_its_plane_only(tmp_path):
    path, described = tmp_path / "a.nwb", metadata({"a": "Cells of a", "b": "Cells of b"})
    write_imaging_to_nwbfile(generate_dummy_imaging_extractor(), path, metadata=described)
    options = {"append_on_disk_nwbfile": True, "metadata": described, "metadata_key": ["a", "b"]}
    write_segmentation_to_nwbfile([cells(), cells()], path, **options)
    assert drawn(path) == {
        "Cells of a": "the mean of MovieOfA",
        "Cells of b": "no image that is known to be of this plane",
    }


@pytest.mark.parametrize("name", ["PlaneSegmentation", "Cells"])
def test_in_a_file_of_one_plane_every_image_is_of_it(tmp_path, name):
    path = tmp_path / "a.nwb"
    write_segmentation_to_nwbfile(cells(), path, metadata=METADATA, plane_segmentation_name=name)
    assert drawn(path) == {name: "the image mean"}
