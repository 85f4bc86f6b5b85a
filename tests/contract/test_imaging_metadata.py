"""Whatever users write about movies is in the file, or is refused by a message that names it."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from pynwb import NWBHDF5IO
from roiextractors.testing import generate_dummy_imaging_extractor

from airflow_provider_ophys.exceptions import MetadataError
from airflow_provider_ophys.nwb import write_imaging_to_nwbfile

SESSION = {"NWBFile": {"session_start_time": "2026-11-22T09:30:00+01:00"}}

names = st.text(min_size=1, max_size=8) | st.sampled_from(["Movie", "a b", "µm", "a/b", "..", ""])
texts = st.text(max_size=12)
wavelengths = st.floats(min_value=200, max_value=2000) | st.just(float("nan"))
channels = st.fixed_dictionaries({"name": names, "description": texts, "emission_lambda": wavelengths})
planes = st.fixed_dictionaries(
    {
        "name": names,
        "excitation_lambda": wavelengths,
        "indicator": texts,
        "location": texts,
        "optical_channel": st.lists(channels, min_size=1, max_size=2, unique_by=lambda one: one["name"]),
    },
    optional={
        "description": texts,
        "imaging_rate": st.floats(min_value=0.1, max_value=1000),
        "grid_spacing": st.lists(st.floats(min_value=0, max_value=1), min_size=2, max_size=3),
        "reference_frame": texts,
        "wavelength": wavelengths,
    },
)
series = st.fixed_dictionaries(
    {"name": names, "unit": texts},
    optional={
        "description": texts,
        "comments": texts,
        "pmt_gain": st.floats(min_value=0, max_value=10),
        "scan_line_rate": st.floats(min_value=1, max_value=10),
        "field_of_view": st.lists(st.floats(min_value=0, max_value=1), min_size=2, max_size=3),
        "gain": st.integers(),
    },
)
devices = st.fixed_dictionaries({"name": names}, optional={"description": texts, "serial_number": texts})


def refusal_of(path, metadata):
    """The message that refuses metadata, or nothing if the movie was written."""
    imaging = generate_dummy_imaging_extractor(num_rows=2, num_columns=3, num_samples=4)
    try:
        write_imaging_to_nwbfile(imaging, path, metadata=SESSION | metadata, validate=False)
    except MetadataError as error:
        return str(error)
    return None


def check(metadata, device, plane, movie):
    """Write; what comes back is what was given, or the message names a field of it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.nwb"
        message = refusal_of(path, metadata)
        event("written" if message is None else "refused")
        if message is not None:
            assert any(f".{field}" in message for field in (*device, *plane, *movie)), message
            assert list(Path(folder).iterdir()) == []
            return
        with NWBHDF5IO(path, "r") as io:
            written = io.read().acquisition[movie["name"]]
            assert_holds(written, movie)
            assert_holds(written.imaging_plane, {key: plane[key] for key in plane if key != "optical_channel"})
            assert_holds(written.imaging_plane.device, device)
            by_name = {channel.name: channel for channel in written.imaging_plane.optical_channel}
            assert len(by_name) == len(plane["optical_channel"])
            for channel in plane["optical_channel"]:
                assert_holds(by_name[channel["name"]], channel)


def assert_holds(written, described):
    for field, value in described.items():
        found = getattr(written, field)
        if isinstance(value, float) and math.isnan(value):
            assert math.isnan(found)
        elif isinstance(value, list):
            assert list(found) == value
        else:
            assert found == value, field


@settings(max_examples=40, deadline=None, derandomize=True)
@given(devices, planes, series)
def test_the_dict_form_is_written_or_refused(device, plane, movie):
    ophys = {
        "ImagingPlanes": {"p": plane | {"device_metadata_key": "d"}},
        "MicroscopySeries": {"m": movie | {"imaging_plane_metadata_key": "p"}},
    }
    check({"Devices": {"d": device}, "Ophys": ophys}, device, plane, movie)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(devices, planes, series)
def test_the_list_form_is_written_or_refused(device, plane, movie):
    ophys = {
        "Device": [device],
        "ImagingPlane": [plane | {"device": device["name"]}],
        "TwoPhotonSeries": [movie | {"imaging_plane": plane["name"]}],
    }
    check({"Ophys": ophys}, device, plane, movie)


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_every_wrong_field_of_session_and_subject_is_named(tmp_path, form):
    file = tmp_path / f"metadata.{form}"
    # JSON is YAML too.
    file.write_text(
        '{"NWBFile": {"session_start_time": "soon", "labs": "a", "keywords": 3}, '
        '"Subject": {"weight": [1], "date_of_birth": "long ago", "color": "grey"}}'
    )
    imaging = generate_dummy_imaging_extractor(num_samples=4)
    with pytest.raises(MetadataError) as caught:
        write_imaging_to_nwbfile(imaging, tmp_path / "a.nwb", metadata=file)
    for field in ("NWBFile.session_start_time", "NWBFile.labs", "NWBFile.keywords", "Subject.weight",
                  "Subject.date_of_birth", "Subject.color"):  # fmt: skip
        assert field in str(caught.value)


def test_times_without_a_zone_are_read_as_given_and_reported(tmp_path, caplog):
    from movies import imaging, write_tiff

    from airflow_provider_ophys.conversion.run import convert_imaging
    from airflow_provider_ophys.models.conversion import ImagingConversion

    metadata = {
        "NWBFile": {"session_start_time": "2026-11-22T09:30:00"},
        "Subject": {"subject_id": "m", "date_of_birth": "2026-08-01T00:00:00"},
    }
    options = imaging(write_tiff(tmp_path / "movie.tif"), tmp_path / "a.nwb", metadata=metadata)
    result = convert_imaging(ImagingConversion.from_options(options))
    assert [remark.split(" ")[0] for remark in result.remarks] == [
        "NWBFile.session_start_time",
        "Subject.date_of_birth",
    ]
    assert all(remark in caplog.text for remark in result.remarks)
    assert convert_imaging(ImagingConversion.from_options(options)).remarks == result.remarks, "reused"
    with NWBHDF5IO(tmp_path / "a.nwb", "r") as io:
        nwbfile = io.read()
        assert nwbfile.session_start_time.isoformat().startswith("2026-11-22T09:30:00")
        assert nwbfile.subject.date_of_birth.isoformat().startswith("2026-08-01T00:00:00")
