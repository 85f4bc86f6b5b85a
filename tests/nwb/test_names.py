"""What is in a file is what its name says: two things of one name are refused, and nothing is left out for it."""

from __future__ import annotations

import numpy as np
import pytest
from pynwb import NWBHDF5IO
from pynwb.testing.mock.file import mock_NWBFile
from roiextractors.testing import generate_dummy_imaging_extractor, generate_dummy_segmentation_extractor

from airflow_provider_ophys.exceptions import ConfigurationError, MetadataError, SourceDataError
from airflow_provider_ophys.models.metadata import validate_metadata
from airflow_provider_ophys.models.remarks import gathering_remarks
from airflow_provider_ophys.nwb import (
    add_imaging_to_nwbfile,
    add_segmentation_to_nwbfile,
    write_imaging_to_nwbfile,
    write_segmentation_to_nwbfile,
)

SESSION = {"NWBFile": {"session_start_time": "2026-11-22T09:30:00+01:00"}}
SCOPE = {"name": "Scope", "description": "the one on the left"}
CHANNEL = {"name": "c", "description": "d", "emission_lambda": 510.0}
PLANE = {
    "name": "Plane", "excitation_lambda": 910.3, "indicator": "i", "location": "V1", "optical_channel": [CHANNEL],
    "device_metadata_key": "a",
}  # fmt: skip


def metadata(device=None, plane=None, series="Movie"):
    """One series in one plane of one device, each described anew."""
    return {
        "Devices": {"a": SCOPE | (device or {})},
        "Ophys": {
            "ImagingPlanes": {"a": PLANE | (plane or {})},
            "MicroscopySeries": {"a": {"name": series, "unit": "n.a.", "imaging_plane_metadata_key": "a"}},
        },
    }


def movie():
    return generate_dummy_imaging_extractor(num_samples=3)


@pytest.mark.parametrize("section", ["DeviceModels", "Devices", "ImagingPlanes"])
def test_two_entries_of_one_name_are_refused_if_they_differ(section):
    entry = {"DeviceModels": {"name": "M", "manufacturer": "x"}, "Devices": SCOPE, "ImagingPlanes": PLANE}[section]
    changed = entry | {"description": "another"}

    def both(first, second):
        entries = {section: {"a": first, "b": second}}
        ophys = {"Ophys": entries} if section == "ImagingPlanes" else entries
        return validate_metadata({"Devices": {"a": SCOPE}} | ophys)

    with pytest.raises(MetadataError, match=f"two different entries of the name '{entry['name']}', 'a' and 'b'"):
        both(entry, changed)
    both(entry, dict(entry))


def test_entries_that_are_the_same_but_for_their_keys_are_one():
    unknown = PLANE | {"excitation_lambda": "nan"}
    validate_metadata(
        {
            "Devices": {"a": SCOPE, "b": SCOPE},
            "Ophys": {"ImagingPlanes": {"a": unknown, "b": unknown | {"device_metadata_key": "b"}}},
        }
    )


def test_in_the_list_form_too():
    devices = {"Ophys": {"Device": [SCOPE, SCOPE | {"description": "another"}]}}
    with pytest.raises(MetadataError, match=r"Ophys\.Device has two different entries of the name 'Scope'"):
        validate_metadata(devices)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"device": {"name": "Other"}}, "of the device 'Scope', but in the metadata it is of 'Other'"),
        ({"plane": {"location": "V2"}}, "location 'V1', but in the metadata it is 'V2'"),
        ({"plane": {"excitation_lambda": 1040.0}}, "excitation_lambda"),
        ({"plane": {"optical_channel": [CHANNEL | {"name": "red"}]}}, "optical channels 'c'"),
        ({"device": {"description": "another"}, "plane": {"name": "Second"}}, "Device 'Scope'"),
        ({"device": {"description": "another"}}, "Device 'Scope' with the description"),
    ],
)
def test_what_a_file_has_is_not_taken_for_another_of_its_name(tmp_path, change, message):
    path = tmp_path / "a.nwb"
    write_imaging_to_nwbfile(movie(), path, metadata=SESSION | metadata())
    options = {"append_on_disk_nwbfile": True, "metadata": metadata(**change, series="Second")}
    with pytest.raises(MetadataError, match=message):
        write_imaging_to_nwbfile(movie(), path, **options)


def test_what_a_file_has_is_used_where_nothing_contradicts(tmp_path):
    path = tmp_path / "a.nwb"
    write_imaging_to_nwbfile(movie(), path, metadata=SESSION | metadata())
    not_known = {"indicator": "unknown", "excitation_lambda": "nan"}
    for number, change in enumerate(({}, {"plane": not_known})):
        described = metadata(**change, series=f"Again{number}")
        write_imaging_to_nwbfile(movie(), path, metadata=described, append_on_disk_nwbfile=True)
    with NWBHDF5IO(path, "r") as io:
        nwbfile = io.read()
        assert (list(nwbfile.imaging_planes), list(nwbfile.devices)) == (["Plane"], ["Scope"])
        assert len(nwbfile.acquisition) == 3


def test_a_devices_maker_and_model_are_a_device_model():
    nwbfile = mock_NWBFile()
    described = {"model_name": "Bergamo", "model_number": "II", "serial_number": "42"}
    add_imaging_to_nwbfile(movie(), nwbfile, metadata(described))
    scope = nwbfile.devices["Scope"]
    assert (scope.serial_number, scope.model.name, scope.model.model_number) == ("42", "Bergamo", "II")
    assert scope.model.manufacturer == "unknown"


def test_a_subject_is_added_to_a_file_that_has_none(tmp_path):
    path, mouse = (
        tmp_path / "a.nwb",
        {"Subject": {"subject_id": "m1", "age": "P3D", "age__reference": "gestational"}},
    )
    write_imaging_to_nwbfile(movie(), path, metadata=SESSION)
    cells = generate_dummy_segmentation_extractor()
    write_segmentation_to_nwbfile(cells, path, metadata=mouse, append_on_disk_nwbfile=True)
    with NWBHDF5IO(path, "r") as io:
        assert io.read().subject.age__reference == "gestational"


def test_sections_of_other_modalities_are_passed_over_with_a_remark():
    with gathering_remarks() as remarks:
        assert validate_metadata({"Ecephys": {"Device": []}}).Devices == {}
    assert remarks == ["The section Ecephys of the metadata is of another modality and was passed over."]
    with pytest.raises(MetadataError, match="NWBfile is not known"):
        validate_metadata({"NWBfile": {}})


def test_reference_images_are_series_of_the_file():
    nwbfile, cells = mock_NWBFile(), generate_dummy_segmentation_extractor()
    add_imaging_to_nwbfile(movie(), nwbfile)
    table = {"name": "Cells", "description": "d", "reference_images": "TwoPhotonSeries"}
    add_segmentation_to_nwbfile(cells, nwbfile, {"Ophys": {"PlaneSegmentations": {"k": table}}})
    (images,) = nwbfile.processing["ophys"]["ImageSegmentation"]["Cells"].reference_images
    assert images is nwbfile.acquisition["TwoPhotonSeries"]
    absent = {"Ophys": {"PlaneSegmentations": {"k": table | {"name": "B", "reference_images": ["Movie"]}}}}
    with pytest.raises(MetadataError, match="no such series of images \\(it has: 'TwoPhotonSeries'\\)"):
        add_segmentation_to_nwbfile(cells, nwbfile, absent)
    assert list(nwbfile.processing["ophys"]["ImageSegmentation"].plane_segmentations) == ["Cells"]


@pytest.mark.parametrize(
    "name", ["description", "colnames", "id", "", "..", "a/b", "a\\b", "x" * 300, "pixel_mask_index"]
)
def test_a_property_that_cannot_be_a_column_is_refused_by_name(name):
    cells = generate_dummy_segmentation_extractor(num_rois=4)
    cells.set_property(name, np.arange(4.0), cells.get_roi_ids())
    with pytest.raises(SourceDataError, match="ROI property .* cannot be a column"):
        add_segmentation_to_nwbfile(cells, mock_NWBFile())


def test_a_wrong_type_of_series_is_not_a_wrong_index():
    lists = {"Ophys": {"TwoPhotonSeries": [{"name": "Movie"}]}}
    with pytest.raises(ConfigurationError, match="photon_series_type is 'ThreePhotonSeries'"):
        add_imaging_to_nwbfile(movie(), mock_NWBFile(), lists, photon_series_type="ThreePhotonSeries")


class MiniscopeImagingExtractor(type(generate_dummy_imaging_extractor())):
    """A movie of a one-photon microscope, told by the name of its extractor."""


def one_photon():
    imaging = movie()
    imaging.__class__ = MiniscopeImagingExtractor
    return imaging


@pytest.mark.parametrize(
    ("imaging", "ophys", "kind"),
    [
        (movie, {}, "TwoPhotonSeries"),
        (one_photon, {}, "OnePhotonSeries"),
        (movie, {"OnePhotonSeries": [{"name": "M"}]}, "OnePhotonSeries"),
        (
            movie,
            {"MicroscopySeries": {"m": {"name": "M", "unit": "n.a.", "exposure_time": 0.02}}},
            "OnePhotonSeries",
        ),
    ],
    ids=["other", "extractor", "list form", "field of one type only"],
)
def test_the_type_of_a_series_that_nobody_chose(imaging, ophys, kind):
    nwbfile = mock_NWBFile()
    add_imaging_to_nwbfile(imaging(), nwbfile, {"Ophys": ophys})
    (series,) = nwbfile.acquisition.values()
    assert type(series).__name__ == kind
    nwbfile = mock_NWBFile()
    if not ophys:
        add_imaging_to_nwbfile(imaging(), nwbfile, photon_series_type="OnePhotonSeries")
        assert type(nwbfile.acquisition["OnePhotonSeries"]).__name__ == "OnePhotonSeries"
