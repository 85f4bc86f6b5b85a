"""Whatever users write as metadata is accepted, or refused by one of our errors: nothing else ever comes out."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_ophys.exceptions import MetadataError
from airflow_provider_ophys.models.metadata import load_metadata, validate_metadata

# Words of both forms, so that many examples get past the first level.
WORDS = [
    "NWBFile", "Subject", "Devices", "DeviceModels", "Ophys", "ImagingPlanes", "MicroscopySeries",
    "PlaneSegmentations", "RoiResponses", "SegmentationImages", "Device", "ImagingPlane", "TwoPhotonSeries",
    "OnePhotonSeries", "ImageSegmentation", "plane_segmentations", "Fluorescence", "DfOverF", "name",
    "description",
    "unit", "device", "imaging_plane", "imaging_plane_metadata_key", "device_metadata_key", "optical_channel",
    "excitation_lambda", "emission_lambda", "indicator", "location", "session_start_time", "a", "raw",
]  # fmt: skip
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(WORDS),
    st.datetimes(),
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(WORDS), inner, max_size=5)
    ),
    max_leaves=30,
)
entries = st.dictionaries(st.sampled_from(WORDS), leaves | values, max_size=4)
lists = st.lists(entries, max_size=2)
keyed = st.dictionaries(st.sampled_from(WORDS), entries, max_size=2)

list_form = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(["Device", "ImagingPlane", "TwoPhotonSeries", "OnePhotonSeries"], lists | values),
        "ImageSegmentation": st.fixed_dictionaries({"plane_segmentations": lists | values}) | values,
        **dict.fromkeys(["Fluorescence", "DfOverF", "SegmentationImages"], keyed | values),
    },
)
dict_form = st.dictionaries(st.sampled_from(WORDS), keyed | values, max_size=5)
metadata = st.one_of(dict_form, st.fixed_dictionaries({"Ophys": list_form | dict_form}))


def accepts(anything: object) -> bool:
    try:
        validate_metadata(load_metadata(anything))
    except MetadataError:
        return False
    return True


@settings(max_examples=1000, deadline=None, derandomize=True)
@given(metadata)
def test_any_mapping_is_accepted_or_refused(given_metadata):
    before = repr(given_metadata)
    accepts(given_metadata)
    assert repr(given_metadata) == before, "what the caller has is never changed"


@settings(max_examples=200, deadline=None, derandomize=True)
@given(values)
def test_anything_at_all_is_accepted_or_refused(anything):
    accepts(anything)
