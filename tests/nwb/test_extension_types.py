"""Devices of types that an extension of NWB defines: the extension is made here, and installed for the tests."""

from __future__ import annotations

import importlib.util
import sys
from copy import deepcopy

import pynwb
import pytest
from pynwb import NWBHDF5IO, validate
from pynwb.spec import NWBAttributeSpec, NWBGroupSpec, NWBNamespaceBuilder
from roiextractors.testing import generate_dummy_imaging_extractor

from airflow_provider_ophys.exceptions import MetadataError
from airflow_provider_ophys.nwb import write_imaging_to_nwbfile

PACKAGE = """
from pathlib import Path
from pynwb import load_namespaces
load_namespaces(str(Path(__file__).parent / "testscope.namespace.yaml"))
"""
START = {"NWBFile": {"session_start_time": "2026-01-02T03:04:05+00:00"}}


@pytest.fixture(scope="module", autouse=True)
def extension(tmp_path_factory):
    """Install a package ``ndx_testscope`` whose Testscope is a device, made of a TestscopeModel, with a mount."""
    site = tmp_path_factory.mktemp("site")
    folder = site / "ndx_testscope"
    folder.mkdir()
    number, text = {"dtype": "float", "required": False}, {"dtype": "text", "required": False}
    mount = NWBGroupSpec(
        "How it is mounted.",
        neurodata_type_def="TestscopeMount",
        neurodata_type_inc="NWBContainer",
        attributes=[NWBAttributeSpec("angle", "Degrees.", "float")],
    )
    device = NWBGroupSpec(
        "A microscope.",
        neurodata_type_def="Testscope",
        neurodata_type_inc="Device",
        attributes=[NWBAttributeSpec("gain", "Gain.", **number), NWBAttributeSpec("led", "LED.", **text)],
        groups=[NWBGroupSpec("Its mount.", neurodata_type_inc="TestscopeMount", name="mount", quantity="?")],
    )
    model = NWBGroupSpec(
        "A make.",
        neurodata_type_def="TestscopeModel",
        neurodata_type_inc="DeviceModel",
        attributes=[NWBAttributeSpec("aperture", "Numerical aperture.", "float")],
    )
    builder = NWBNamespaceBuilder("A test.", "ndx-testscope", version="0.1.0", author=["a"], contact=["a@b.c"])
    builder.include_namespace("core")
    for spec in (mount, device, model):
        builder.add_spec("testscope.extensions.yaml", spec)
    builder.export("testscope.namespace.yaml", outdir=str(folder))
    (folder / "__init__.py").write_text(PACKAGE)
    sys.path.insert(0, str(site))
    types = deepcopy(pynwb.__TYPE_MAP)
    yield
    # pynwb never unloads an extension: without this, every file of the tests that follow would hold this one.
    pynwb.__TYPE_MAP = types
    sys.path.remove(str(site))


def metadata(device, model=None):
    plane = {
        "name": "V1",
        "excitation_lambda": 470.0,
        "indicator": "GCaMP6s",
        "location": "V1",
        "optical_channel": [{"name": "Green", "description": "d", "emission_lambda": 510.0}],
        "device_metadata_key": "scope",
    }
    described = {
        "Devices": {"scope": {"name": "Scope", **device}},
        "Ophys": {
            "ImagingPlanes": {"v1": plane},
            "MicroscopySeries": {"movie": {"name": "Movie", "unit": "n.a.", "imaging_plane_metadata_key": "v1"}},
        },
    }
    return START | described | ({"DeviceModels": {"make": {"name": "Make", **model}}} if model else {})


def write(path, described, **options):
    write_imaging_to_nwbfile(generate_dummy_imaging_extractor(), path, metadata=described, **options)


def read(path):
    if path.is_dir():
        from hdmf_zarr import NWBZarrIO

        return NWBZarrIO(str(path), "r")
    return NWBHDF5IO(path, "r", load_namespaces=True)


SCOPE = {"type": "Testscope", "gain": 3, "led": "blue", "serial_number": "12", "description": "Ours."}


@pytest.mark.parametrize(("backend", "name"), [("hdf5", "a.nwb"), ("zarr", "a.nwb.zarr")])
def test_a_device_of_an_extension_is_written_with_its_fields(tmp_path, backend, name):
    device = SCOPE | {"mount": {"name": "mount", "angle": 30}, "device_model_metadata_key": "make"}
    model = {"manufacturer": "Maker", "type": "TestscopeModel", "aperture": 0.5}
    write(tmp_path / name, metadata(device, model), backend=backend)
    with read(tmp_path / name) as io:
        scope = io.read().acquisition["Movie"].imaging_plane.device
        assert type(scope).__name__ == "Testscope"
        assert (scope.gain, scope.led, scope.serial_number, scope.description) == (3.0, "blue", "12", "Ours.")
        assert scope.mount.angle == 30.0
        assert (type(scope.model).__name__, scope.model.aperture) == ("TestscopeModel", 0.5)
        assert validate(io=io) == []


def test_a_file_with_one_is_appended_to(tmp_path):
    described = metadata(SCOPE)
    write(tmp_path / "a.nwb", described)
    described["Ophys"]["MicroscopySeries"]["movie"]["name"] = "Again"
    write(tmp_path / "a.nwb", described, append_on_disk_nwbfile=True)
    with read(tmp_path / "a.nwb") as io:
        nwbfile = io.read()
        assert nwbfile.acquisition["Again"].imaging_plane is nwbfile.acquisition["Movie"].imaging_plane
        assert list(nwbfile.devices) == ["Scope"]


def test_the_core_type_may_be_named(tmp_path):
    write(tmp_path / "a.nwb", metadata({"type": "Device"}))
    with read(tmp_path / "a.nwb") as io:
        assert type(io.read().devices["Scope"]).__name__ == "Device"


@pytest.mark.parametrize(
    ("device", "told"),
    [
        ({"type": "Telescope"}, "No installed extension of NWB has a Device of the type 'Telescope'"),
        ({"type": "TestscopeModel"}, "No installed extension of NWB has a Device of the type 'TestscopeModel'"),
        (
            {"type": "Testscope", "lens": 3},
            r"The Device 'Scope' of the type Testscope has no lens \(known there: .*gain",
        ),
        ({"type": "Testscope", "led": 3.5}, "of the type Testscope cannot be made: .*'led'"),
        ({"type": "Testscope", "led": {"name": "x"}}, "led of The Device .* is a mapping"),
        ({"type": "Testscope", "mount": {"angle": 3}}, "mount of The Device .* cannot be made: .*'name'"),
        ({"type": "Testscope", "led": "a\0b"}, "neither NUL"),
        ({"type": "Device", "gain": 3}, r"Devices.scope.gain is not known \(known there: .*serial_number"),
        ({"gain": 3}, "Devices.scope.gain is not known"),
        ({"type": 5}, "Devices.scope.type"),
    ],
)
def test_what_is_no_field_of_the_type_is_refused_and_nothing_is_written(tmp_path, device, told):
    with pytest.raises(MetadataError, match=told):
        write(tmp_path / "a.nwb", metadata(device))
    assert list(tmp_path.iterdir()) == []


def test_another_type_of_the_same_name_is_refused(tmp_path):
    write(tmp_path / "a.nwb", metadata({}))
    described = metadata({"type": "Testscope"})
    described["Ophys"]["ImagingPlanes"]["v1"]["name"] = "Other"
    described["Ophys"]["MicroscopySeries"]["movie"]["name"] = "Again"
    with pytest.raises(MetadataError, match="a Device 'Scope', but in the metadata it is a Testscope"):
        write(tmp_path / "a.nwb", described, append_on_disk_nwbfile=True)


@pytest.mark.skipif(importlib.util.find_spec("ndx_miniscope") is None, reason="ndx-miniscope is not installed")
def test_a_miniscope(tmp_path):
    device = {
        "type": "Miniscope",
        "deviceType": "Miniscope_V4_BNO",
        "frameRate": "30FPS",
        "led0": 47,
        "gain": "3.5",
    }
    write(tmp_path / "a.nwb", metadata(device))
    with read(tmp_path / "a.nwb") as io:
        scope = io.read().devices["Scope"]
        assert (type(scope).__name__, scope.led0, scope.frameRate) == ("Miniscope", 47, "30FPS")
