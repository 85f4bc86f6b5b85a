"""nwbinspector finds nothing in our files but what the user's metadata lacks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from hdmf_zarr import NWBZarrIO
from nwbinspector import Importance, inspect_nwbfile, inspect_nwbfile_object
from roiextractors.testing import generate_dummy_imaging_extractor, generate_dummy_segmentation_extractor

from airflow_provider_ophys.models.metadata import merge_metadata
from airflow_provider_ophys.nwb import write_imaging_to_nwbfile, write_segmentation_to_nwbfile

PAGE = (Path(__file__).parents[2] / "docs" / "metadata.md").read_text()
(EXAMPLE,) = [
    yaml.safe_load(block)
    for block in re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
    if block.startswith("NWBFile:")
]
BARE = {"NWBFile": {"session_start_time": "2026-11-22T09:30:00+01:00"}}
# What the example leaves out, to be short.
REST = {
    "NWBFile": {
        "experimenter": ["Doe, Jane"],
        "experiment_description": "What V1 does while a mouse runs.",
        "institution": "An institute",
        "keywords": ["running"],
    },
    "Subject": {"description": "A mouse that likes to run."},
    "Ophys": {
        "ImagingPlanes": {"plane0": {"description": "Layer 2/3."}},
        "MicroscopySeries": {"movie": {"description": "The movie, not motion-corrected."}},
    },
}


def findings(tmp_path, metadata, backend):
    path = tmp_path / "session.nwb"
    imaging = generate_dummy_imaging_extractor(num_rows=30, num_columns=40, num_samples=50)
    segmentation = generate_dummy_segmentation_extractor(num_rois=6, num_rows=30, num_columns=40)
    write_imaging_to_nwbfile(imaging, path, metadata=metadata, backend=backend)
    write_segmentation_to_nwbfile(segmentation, path, metadata=metadata, append_on_disk_nwbfile=True)
    if backend == "hdf5":
        return list(inspect_nwbfile(path))
    with NWBZarrIO(str(path), "r") as io:
        found = list(inspect_nwbfile_object(io.read()))
    # nwbinspector 0.7 asks an array for what Zarr's format 3 does not have; that is an error of its own.
    return [one for one in found if one.importance != Importance.ERROR]


@pytest.mark.parametrize("backend", ["hdf5", "zarr"])
def test_the_example_of_the_docs_breaks_no_rule(tmp_path, backend):
    assert [
        one.message
        for one in findings(tmp_path, EXAMPLE, backend)
        if one.importance in (Importance.CRITICAL, Importance.BEST_PRACTICE_VIOLATION)
    ] == []


@pytest.mark.parametrize("backend", ["hdf5", "zarr"])
def test_nothing_is_found_where_everything_is_described(tmp_path, backend):
    assert [one.message for one in findings(tmp_path, merge_metadata(EXAMPLE, REST), backend)] == []


def test_all_that_is_found_without_metadata_is_what_only_the_user_knows(tmp_path):
    found = {(one.check_function_name, one.object_type) for one in findings(tmp_path, BARE, "hdf5")}
    assert found == {
        ("check_subject_exists", "NWBFile"),
        ("check_experimenter_exists", "NWBFile"),
        ("check_experiment_description", "NWBFile"),
        ("check_institution", "NWBFile"),
        ("check_keywords", "NWBFile"),
        ("check_description", "ImagingPlane"),
        ("check_description", "Device"),
        ("check_description", "TwoPhotonSeries"),
    }
