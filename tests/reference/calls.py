"""
Behaviours: what the reference's documentation says that its writers do, as calls that are made of either writer.

Each is given the writer and an empty folder, and returns the path of the NWB file that was written, or plain data.
It runs in two environments (run_side.py), and imports nothing of either writer.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pynwb import NWBHDF5IO, NWBFile
from recordings_in_memory import COLUMNS, ROWS

START = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
BEHAVIOURS: dict[str, Callable[[SimpleNamespace, Path], Any]] = {}


def behaviour(function: Callable[[SimpleNamespace, Path], Any]) -> Callable[[SimpleNamespace, Path], Any]:
    BEHAVIOURS[function.__name__] = function
    return function


def each(**cases: Any) -> Callable[..., Any]:
    """Make a behaviour of a function for each of these values of its last argument."""

    def add(function: Callable[[SimpleNamespace, Path, Any], Any]) -> None:
        for name, case in cases.items():
            BEHAVIOURS[f"{function.__name__}_{name}"] = lambda w, folder, case=case: function(w, folder, case)

    return add


def empty() -> NWBFile:
    return NWBFile(session_description="d", identifier="i", session_start_time=START)


def written(nwbfile: NWBFile, folder: Path) -> Path:
    path = folder / "file.nwb"
    with NWBHDF5IO(path, "w") as io:
        io.write(nwbfile)
    return path


DEVICES = {
    "scope": {
        "name": "Scope",
        "description": "A microscope.",
        "serial_number": "12",
        "device_model_metadata_key": "m",
    },
    "laser": {"name": "Laser", "description": "A laser."},
}
MODELS = {"m": {"name": "Model B", "manufacturer": "Maker", "model_number": "B-2", "description": "A model."}}
GREEN = {"name": "Green", "description": "Through a green filter.", "emission_lambda": 510.0}
RED = {"name": "Red", "description": "Through a red filter.", "emission_lambda": 600.0}
PLANE = {
    "name": "V1",
    "description": "Layer 2/3.",
    "excitation_lambda": 920.0,
    "indicator": "GCaMP6s",
    "location": "V1",
    "imaging_rate": 20.0,
    "optical_channel": [GREEN, RED],
    "grid_spacing": [1.5, 1.25],
    "grid_spacing_unit": "micrometers",
    "origin_coords": [10.0, 20.0, 30.0],
    "origin_coords_unit": "micrometers",
    "reference_frame": "from bregma",
    "device_metadata_key": "scope",
}
OTHER_PLANE = PLANE | {"name": "M1", "location": "M1", "optical_channel": [RED], "device_metadata_key": "laser"}
SERIES = {
    "name": "Movie",
    "description": "Raw.",
    "comments": "None.",
    "unit": "n.a.",
    "imaging_plane_metadata_key": "v1",
    "dimension": [COLUMNS, ROWS],
}
TWO_PHOTON = {"field_of_view": [0.5, 0.4], "pmt_gain": 60.0, "scan_line_rate": 8000.0}
ONE_PHOTON = {"exposure_time": 0.05, "binning": 2, "power": 0.3, "intensity": 1.5, "pmt_gain": 2.0}
SEGMENTATION = {"name": "Cells", "description": "By hand.", "imaging_plane_metadata_key": "v1"}
RESPONSES = {
    "raw": {"name": "Raw", "unit": "a.u.", "description": "F."},
    "neuropil": {"name": "Around", "unit": "a.u."},
    "deconvolved": {"name": "Spikes", "unit": "a.u."},
}
IMAGES = {
    "mean": {"name": "average", "description": "Over time."},
    "correlation": {"name": "corr", "description": "With neighbours."},
}


def described(series: Any = None, **ophys: Any) -> dict[str, Any]:
    """Metadata in the dict form."""
    return {
        "Devices": DEVICES,
        "DeviceModels": MODELS,
        "Ophys": {
            "ImagingPlanes": {"v1": PLANE, "m1": OTHER_PLANE},
            "MicroscopySeries": {"movie": series or SERIES},
            "PlaneSegmentations": {"cells": SEGMENTATION},
            **ophys,
        },
    }


def listed(**ophys: Any) -> dict[str, Any]:
    """Metadata in the list form."""
    plane = {key: value for key, value in PLANE.items() if key != "device_metadata_key"} | {"device": "Scope"}
    series = {key: value for key, value in SERIES.items() if key != "imaging_plane_metadata_key"}
    return {
        "Ophys": {
            "Device": [{"name": "Scope", "description": "A microscope."}, DEVICES["laser"]],
            "ImagingPlane": [plane, plane | {"name": "M1", "location": "M1", "device": "Laser"}],
            "TwoPhotonSeries": [
                series | {"imaging_plane": "V1"},
                series | {"name": "Second", "imaging_plane": "M1"},
            ],
            **ophys,
        }
    }


def new_file() -> dict[str, Any]:
    return {
        "NWBFile": {
            "session_description": "d",
            "identifier": "i",
            "session_start_time": START,
            "session_id": "s",
            "experimenter": ["Doe, Jane"],
            "institution": "An institute",
            "lab": "A lab",
            "keywords": ["calcium"],
        },
        "Subject": {"subject_id": "m1", "species": "Mus musculus", "sex": "F", "age": "P60D", "weight": "0.02 kg"},
    }
