"""Metadata is accepted as it is, or refused with one message that names every problem."""

from __future__ import annotations

import copy
import math

import pytest

from airflow_provider_ophys.exceptions import MetadataError
from airflow_provider_ophys.models.metadata import load_metadata, merge_metadata, spell_nan, validate_metadata

PLANE = {
    "name": "P",
    "excitation_lambda": 920.0,
    "indicator": "GCaMP8",
    "location": "V1",
    "optical_channel": [{"name": "C", "description": "green", "emission_lambda": 510.0}],
}


def test_every_missing_field_is_named_with_what_may_stand_in_for_it():
    with pytest.raises(MetadataError) as caught:
        validate_metadata(
            {
                "NWBFile": {},
                "Ophys": {
                    "ImagingPlanes": {"a": {"name": "x", "optical_channel": [{"name": "c"}]}},
                    "MicroscopySeries": {"m": {"name": "s"}},
                },
            }
        )
    message = str(caught.value)
    assert "The metadata has 6 problem(s)" in message
    for line in (
        "Ophys.ImagingPlanes.a.excitation_lambda is missing. If it is not known, write 'nan'.",
        "Ophys.ImagingPlanes.a.indicator is missing. If it is not known, write 'unknown'.",
        "Ophys.ImagingPlanes.a.location is missing. If it is not known, write 'unknown'.",
        "Ophys.ImagingPlanes.a.optical_channel.0.description is missing",
        "Ophys.ImagingPlanes.a.optical_channel.0.emission_lambda is missing. If it is not known, write 'nan'.",
        "Ophys.MicroscopySeries.m.unit is missing. If it is not known, write 'n.a.'.",
    ):
        assert line in message


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"Nwbfile": {}}, "Nwbfile is not known (known there: DeviceModels, Devices, NWBFile, Ophys, Subject)"),
        (
            {"Subject": {"nickname": "x"}},
            "Subject.nickname is not known (known there: age, age__reference, date_of_birth",
        ),
        ({"Ophys": {"ImagingPlanes": {"a": PLANE | {"lambda": 1}}}}, "Ophys.ImagingPlanes.a.lambda is not known"),
        (
            {"Ophys": {"ImagingPlanes": {"a": PLANE | {"device_metadata_key": "scope"}}}},
            "Ophys.ImagingPlanes.a refers to Devices.scope, which is not there (known: none)",
        ),
        (
            {
                "Ophys": {
                    "ImagingPlanes": {"a": PLANE},
                    "PlaneSegmentations": {
                        "b": {"name": "x", "description": "y", "imaging_plane_metadata_key": "c"}
                    },
                }
            },
            "Ophys.PlaneSegmentations.b refers to Ophys.ImagingPlanes.c, which is not there (known: a)",
        ),
        ({"NWBFile": {"session_start_time": "yesterday"}}, "session_start_time is 'yesterday', which is no date"),
        ({"Devices": ["scope"]}, "Devices: Input should be a valid dictionary"),
    ],
)
def test_what_is_wrong_is_named(metadata, message):
    with pytest.raises(MetadataError) as caught:
        validate_metadata(metadata)
    assert message in str(caught.value)


def test_nan_as_text_is_a_number():
    plane = PLANE | {"excitation_lambda": "nan"}
    checked = validate_metadata({"Ophys": {"ImagingPlanes": {"a": plane}}})
    assert math.isnan(checked.Ophys.ImagingPlanes["a"].excitation_lambda)
    assert spell_nan({"a": [float("nan"), 1.5], "b": "x"}) == {"a": ["nan", 1.5], "b": "x"}


def test_nothing_is_required_but_a_start_time_of_a_new_file():
    assert validate_metadata({}).NWBFile is None
    assert validate_metadata({"NWBFile": {"session_start_time": "2026-11-22T09:30:00Z"}}).NWBFile is not None


def test_merging_replaces_lists_and_leaves_what_it_is_given_alone():
    under = {"NWBFile": {"lab": "a", "keywords": ["x"]}, "Devices": {"d": {"name": "1"}}}
    over = {"NWBFile": {"keywords": ["y"]}, "Devices": {"e": {"name": "2"}}}
    before = copy.deepcopy((under, over))
    merged = merge_metadata(under, over)
    assert merged == {
        "NWBFile": {"lab": "a", "keywords": ["y"]},
        "Devices": {"d": {"name": "1"}, "e": {"name": "2"}},
    }
    merged["Devices"]["e"]["name"] = "changed"
    assert (under, over) == before


def test_files_are_read_by_what_they_are(tmp_path):
    (tmp_path / "a.yaml").write_text("NWBFile: {session_start_time: 2026-11-22T09:30:00+01:00}\n")
    (tmp_path / "b.json").write_text('{"NWBFile": {"lab": "x"}}')
    merged = load_metadata([tmp_path / "a.yaml", str(tmp_path / "b.json")])
    assert validate_metadata(merged).NWBFile.session_start_time.isoformat() == "2026-11-22T09:30:00+01:00"
    assert merged["NWBFile"]["lab"] == "x"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.yaml", "a: [", "is not valid YAML or JSON"),
        ("a.json", "{", "is not valid YAML or JSON"),
        ("a.yaml", "- a\n", "holds no mapping"),
        ("a.yaml", "a: !!python/object/apply:os.getcwd []\n", "is not valid YAML or JSON"),
    ],
)
def test_a_file_that_is_wrong_is_named(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(MetadataError, match=message) as caught:
        load_metadata(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_something_else_is_refused():
    with pytest.raises(MetadataError, match="metadata is a int"):
        load_metadata(3)


@pytest.mark.parametrize(
    ("metadata", "told"),
    [
        (
            {"Subject": {"subject_id": 12}},
            r'subject_id is a text, but 12 is a number. Write it in quotes: "12"',
        ),
        ({"Devices": {"a": {"name": "a\nb"}}}, "Devices.a.name: A name may not have several lines"),
    ],
)
def test_what_yaml_made_of_a_text_is_told_with_what_to_write(metadata, told):
    with pytest.raises(MetadataError, match=told):
        validate_metadata(metadata)
