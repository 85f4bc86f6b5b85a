"""Whatever users write about segmentations is in the file, or is refused by a message that names it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pynwb import NWBHDF5IO
from pynwb.testing.mock.file import mock_NWBFile
from segmentations import BAR, DOT, InMemorySegmentation, traces

from airflow_provider_ophys.exceptions import ConfigurationError, MetadataError
from airflow_provider_ophys.models.remarks import gathering_remarks
from airflow_provider_ophys.nwb import add_segmentation_to_nwbfile, write_segmentation_to_nwbfile

SESSION = {"NWBFile": {"session_start_time": "2026-11-22T09:30:00+01:00"}}
ROLES = ["raw", "dff", "neuropil", "deconvolved", "denoised", "baseline"]
CONTAINERS = {role: "DfOverF" if role == "dff" else "Fluorescence" for role in ROLES}


@pytest.fixture(scope="module")
def segmentation():
    return InMemorySegmentation(
        [BAR, DOT],
        traces={role: traces(2, num_samples=5, seed=seed) for seed, role in enumerate(ROLES)},
        images={"mean": np.ones((13, 29)), "correlation": np.zeros((13, 29))},
    )


def read_back(path):
    """Everything of a file that metadata describe, by container."""
    with NWBHDF5IO(path, "r") as io:
        nwbfile = io.read()
        ophys = nwbfile.processing["ophys"]
        (table,) = ophys["ImageSegmentation"].plane_segmentations.values()
        series = {
            (container, name): (series.unit, series.description, float(series.data[0, 0]))
            for container in ("Fluorescence", "DfOverF")
            for name, series in ophys[container].roi_response_series.items()
        }
        images = {name: image.description for name, image in ophys["SegmentationImages"].images.items()}
        plane = table.imaging_plane
        return {
            "table": (table.name, table.description),
            "plane": (plane.name, plane.location, plane.device.name),
            "series": series,
            "images": images,
        }


# What the reference writer's own defaults are, in its list form: they describe all that there may be.
REFERENCE_DEFAULTS = {
    "Device": [{"name": "Microscope"}],
    "ImagingPlane": [
        {
            "name": "ImagingPlane",
            "description": "The plane or volume being imaged by the microscope.",
            "excitation_lambda": float("nan"),
            "indicator": "unknown",
            "location": "unknown",
            "device": "Microscope",
            "optical_channel": [
                {"name": "OpticalChannel", "emission_lambda": float("nan"), "description": "An optical channel."}
            ],
        }
    ],
    "Fluorescence": {
        "name": "Fluorescence",
        "PlaneSegmentation": {
            role: {
                "name": "RoiResponseSeries" if role == "raw" else role.capitalize(),
                "description": f"Array of {role} traces.",
                "unit": "n.a.",
            }
            for role in (*(set(ROLES) - {"dff"}), "background")
        },
        "BackgroundPlaneSegmentation": {"neuropil": {"name": "neuropil", "description": "n", "unit": "n.a."}},
    },
    "DfOverF": {
        "name": "DfOverF",
        "PlaneSegmentation": {"dff": {"name": "RoiResponseSeries", "description": "dF/F", "unit": "n.a."}},
    },
    "ImageSegmentation": {
        "name": "ImageSegmentation",
        "plane_segmentations": [
            {"name": "PlaneSegmentation", "description": "Segmented ROIs", "imaging_plane": "ImagingPlane"},
            {
                "name": "BackgroundPlaneSegmentation",
                "description": "Segmented Background Components",
                "imaging_plane": "ImagingPlane",
            },
        ],
    },
    "SegmentationImages": {
        "name": "SegmentationImages",
        "description": "The summary images of the segmentation.",
        "PlaneSegmentation": {"correlation": {"name": "correlation", "description": "The correlation image."}},
    },
}


def test_the_reference_writers_defaults_describe_what_is_written_without_any(tmp_path, segmentation):
    write_segmentation_to_nwbfile(segmentation, tmp_path / "none.nwb", metadata=SESSION)
    write_segmentation_to_nwbfile(
        segmentation, tmp_path / "list.nwb", metadata={**SESSION, "Ophys": REFERENCE_DEFAULTS}
    )
    placeholders, described = read_back(tmp_path / "none.nwb"), read_back(tmp_path / "list.nwb")
    assert placeholders["table"] == described["table"]
    assert placeholders["plane"] == described["plane"]
    assert set(placeholders["series"]) == set(described["series"])
    assert placeholders["images"] == described["images"]
    assert described["series"]["DfOverF", "RoiResponseSeries"][1] == "dF/F"


def test_a_container_with_a_name_of_its_own_is_refused(tmp_path, segmentation):
    ophys = {"SegmentationImages": {"name": "MyImages"}, "Device": [{"name": "S"}]}
    with pytest.raises(ConfigurationError, match=r"Ophys.SegmentationImages.name is 'MyImages'"):
        write_segmentation_to_nwbfile(segmentation, tmp_path / "a.nwb", metadata={**SESSION, "Ophys": ophys})


def test_both_forms_give_the_same_file(tmp_path, segmentation):
    responses = {role: {"name": f"my {role}", "unit": "V", "description": f"of {role}"} for role in ROLES}
    images = {role: {"name": f"my {role}", "description": f"the {role}"} for role in ("mean", "correlation")}
    plane = {
        "name": "P", "excitation_lambda": 920.0, "indicator": "GCaMP6f", "location": "V1",
        "optical_channel": [{"name": "green", "emission_lambda": 510.0, "description": "green"}],
    }  # fmt: skip
    dict_form = {
        "Devices": {"scope": {"name": "S"}},
        "Ophys": {
            "ImagingPlanes": {"plane": {**plane, "device_metadata_key": "scope"}},
            "PlaneSegmentations": {
                "cells": {"name": "C", "description": "cells", "imaging_plane_metadata_key": "plane"}
            },
            "RoiResponses": {"cells": responses},
            "SegmentationImages": {"cells": images},
        },
    }
    list_form = {
        "Ophys": {
            "Device": [{"name": "S"}],
            "ImagingPlane": [{**plane, "device": "S"}],
            "ImageSegmentation": {
                "plane_segmentations": [{"name": "C", "description": "cells", "imaging_plane": "P"}]
            },
            "Fluorescence": {"C": {role: entry for role, entry in responses.items() if role != "dff"}},
            "DfOverF": {"C": {"dff": responses["dff"]}},
            "SegmentationImages": {"C": images},
        }
    }
    found = []
    for form, metadata in (("dict", dict_form), ("list", list_form)):
        path = tmp_path / f"{form}.nwb"
        write_segmentation_to_nwbfile(segmentation, path, metadata={**SESSION, **metadata})
        found.append(read_back(path))
    assert found[0] == found[1]
    assert found[0]["series"]["DfOverF", "my dff"][:2] == ("V", "of dff")
    assert {container for container, _ in found[0]["series"]} == {"Fluorescence", "DfOverF"}


def written(segmentation, ophys, **options):
    nwbfile = mock_NWBFile()
    add_segmentation_to_nwbfile(segmentation, nwbfile, {"Ophys": ophys}, **options)
    interfaces = nwbfile.processing["ophys"].data_interfaces
    traces = {
        name for c in ("Fluorescence", "DfOverF") if c in interfaces for name in interfaces[c].roi_response_series
    }
    images = interfaces["SegmentationImages"].images if "SegmentationImages" in interfaces else {}
    return traces, set(images)


TABLE = {"PlaneSegmentations": {"k": {"name": "Cells", "description": "d"}}}


def test_in_the_dict_form_naming_traces_or_images_selects_them(segmentation):
    raw, mean = {"raw": {"name": "Raw", "unit": "V"}}, {"mean": {"name": "Mean"}}
    all_traces, all_images = written(segmentation, TABLE)
    assert (len(all_traces), len(all_images)) == (len(ROLES) - 1, 2), "raw and dff are both RoiResponseSeries"
    assert written(segmentation, TABLE | {"RoiResponses": {"k": raw}}) == ({"Raw"}, all_images)
    assert written(segmentation, TABLE | {"SegmentationImages": {"k": mean}}) == (all_traces, {"Mean"})


def test_none_leaves_out_in_both_forms(segmentation):
    without = dict.fromkeys(("neuropil", "deconvolved", "denoised", "baseline"))
    by_key = TABLE | {"RoiResponses": {"k": without}, "SegmentationImages": {"k": {"mean": None}}}
    lists = {
        "Fluorescence": {"PlaneSegmentation": without},
        "SegmentationImages": {"PlaneSegmentation": {"mean": None}},
    }
    assert written(segmentation, by_key) == ({"RoiResponseSeries"}, {"correlation"})
    assert written(segmentation, lists) == ({"RoiResponseSeries"}, {"correlation"})


def test_in_the_list_form_naming_selects_nothing(segmentation):
    named = {"Fluorescence": {"PlaneSegmentation": {"raw": {"name": "Raw"}}}}
    assert written(segmentation, named)[0] == {
        "Raw", "RoiResponseSeries", "Neuropil", "Deconvolved", "Denoised", "Baseline",
    }  # fmt: skip


def test_a_selection_of_which_nothing_is_there_is_refused(segmentation):
    background = {"RoiResponses": {"k": {"background": {"name": "B", "unit": "V"}}}}
    with pytest.raises(MetadataError, match="describes 'background', which selects .*there is: 'raw'"):
        written(segmentation, TABLE | background)


def test_traces_of_zeros_are_left_out_with_a_remark_unless_they_are_named():
    zeros = {"raw": traces(2), "deconvolved": np.zeros((20, 2))}
    segmentation = InMemorySegmentation([BAR, DOT], traces=zeros)
    with gathering_remarks() as remarks:
        assert written(segmentation, TABLE)[0] == {"RoiResponseSeries"}
    (remark,) = remarks
    assert remark.startswith(
        "The deconvolved traces of InMemorySegmentation are nothing but zeros and were left out"
    )
    named = {"RoiResponses": {"k": {"deconvolved": {"name": "Zeros", "unit": "n.a."}}}}
    assert written(segmentation, TABLE | named)[0] == {"Zeros"}


names = st.one_of(
    st.sampled_from(
        ["A", "a b", "é", ".", "a/b", "a:b", "", "description", "A" * 300, "RoiResponseSeries", "mean"]
    ),
    st.text(min_size=1, max_size=4),
)
described_names = st.fixed_dictionaries({"name": names}, optional={"description": st.text(max_size=5)})
described_traces = st.fixed_dictionaries(
    {"name": names, "unit": st.sampled_from(["V", "n.a.", ""])}, optional={"description": st.text(max_size=5)}
)
tables = st.fixed_dictionaries({"name": names, "description": st.text(max_size=5)})
roles = st.sampled_from([*ROLES, "background", "rawr"])
responses = st.dictionaries(roles, described_traces, max_size=3)
images = st.dictionaries(st.sampled_from(["mean", "correlation", "maximum"]), described_names, max_size=2)
keys = st.sampled_from(["k", "k", "k", "other/é"])


@st.composite
def dict_forms(draw):
    key = draw(keys)
    sections = {
        "PlaneSegmentations": {key: draw(tables)},
        "RoiResponses": {draw(st.sampled_from([key, key, "typo"])): draw(responses)},
        "SegmentationImages": {key: draw(images)},
    }
    return {name: sections[name] for name in draw(st.lists(st.sampled_from(sorted(sections)), unique=True))}


@st.composite
def list_forms(draw):
    table = draw(tables)
    traces_of = draw(responses)
    return {
        "ImageSegmentation": {"plane_segmentations": [table]},
        "Fluorescence": {table["name"]: {role: entry for role, entry in traces_of.items() if role != "dff"}},
        "DfOverF": {table["name"]: {role: entry for role, entry in traces_of.items() if role == "dff"}},
        "SegmentationImages": {table["name"]: draw(images)},
    }


def sections_of(ophys, section, found_in=()):
    """Descriptions by role, in either form."""
    entries = [entries for name in (section, *found_in) for entries in ophys.get(name, {}).values()]
    return {role: entry for roles in entries for role, entry in roles.items()}


def refusal(segmentation, path, metadata):
    """Write; return why not."""
    try:
        write_segmentation_to_nwbfile(segmentation, path, metadata=metadata)
    except ConfigurationError as error:
        return str(error)
    return None


@settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(ophys=st.one_of(dict_forms(), list_forms()))
def test_any_description_is_in_the_file_or_refused(tmp_path, segmentation, ophys):
    path = tmp_path / "a.nwb"
    path.unlink(missing_ok=True)
    if refused := refusal(segmentation, path, {**SESSION, "Ophys": ophys}):
        assert "Ophys." in refused, "the message says which entry it is about"
        assert not path.exists()
        return
    found = read_back(path)
    entries = ophys.get("PlaneSegmentations", {}).values() or ophys.get("ImageSegmentation", {}).get(
        "plane_segmentations", []
    )
    for table in entries:
        assert found["table"] == (table["name"], table["description"])
    for role, entry in sections_of(ophys, "RoiResponses", ("Fluorescence", "DfOverF")).items():
        if role in ROLES:
            unit, description, first = found["series"][CONTAINERS[role], entry["name"]]
            assert (unit, first) == (entry["unit"], float(segmentation.get_traces_dict()[role][0, 0]))
            assert description == (entry.get("description") or description)
    for role, entry in sections_of(ophys, "SegmentationImages").items():
        if role in segmentation.get_images_dict():
            assert found["images"][entry["name"]] == (entry.get("description") or f"The {role} image.")
