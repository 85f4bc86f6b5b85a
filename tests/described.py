"""An acquisition with the two files that may lie beside a recording: ``session.yaml`` and ``metadata.yaml``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from demo.recording import simulate_acquisition

# The key under which device, plane, series and segmentation refer to each other.
KEY = "two_photon"
SESSION = {
    "imaging": {"extractor": "ScanImageImagingExtractor", "extractor_kwargs": {"file_path": "movie.tif"}},
    "segmentation": {"extractor": "Suite2pSegmentationExtractor", "extractor_kwargs": {"folder_path": "suite2p"}},
}


def simulate_described(folder: Path, *, seed: int = 0, **sizes: Any) -> Path:
    """Simulate an acquisition, and describe it; the subject is ``simulated-mouse-<seed>``."""
    simulate_acquisition(folder, seed=seed, **sizes)
    (folder / "session.yaml").write_text(yaml.safe_dump(SESSION))
    (folder / "metadata.yaml").write_text(yaml.safe_dump(metadata_of(seed)))
    return folder


def metadata_of(seed: int) -> dict[str, Any]:
    channel = {"name": "Green", "description": "Fluorescence of the indicator.", "emission_lambda": 510.0}
    plane = {
        "name": "ImagingPlane",
        "description": "The plane that was scanned.",
        "device_metadata_key": KEY,
        "excitation_lambda": 920.0,
        "indicator": "GCaMP6f",
        "location": "VISp",
        "optical_channel": [channel],
    }
    series = {"name": "TwoPhotonSeries", "description": "Not corrected for motion.", "unit": "n.a."}
    segmentation = {"name": "PlaneSegmentation", "description": "Structures that suite2p found."}
    return {
        "NWBFile": {
            "session_start_time": "2026-01-15T10:30:00-08:00",
            "session_description": "Simulated two-photon imaging of spontaneous activity in visual cortex.",
            "identifier": f"simulated-two-photon-{seed}",
            "experimenter": ["Doe, Jane"],
            "institution": "Institute of Simulated Neuroscience",
            "lab": "Imaging",
            "keywords": ["two-photon", "calcium imaging", "simulation"],
            "experiment_description": "Shows how a recording becomes an archived NWB file.",
        },
        "Subject": {
            "subject_id": f"simulated-mouse-{seed}",
            "species": "Mus musculus",
            "sex": "F",
            "age": "P90D",
            "description": "A simulated mouse.",
        },
        "Devices": {KEY: {"name": "Microscope", "description": "Simulated.", "manufacturer": "simulated"}},
        "Ophys": {
            "ImagingPlanes": {KEY: plane},
            "MicroscopySeries": {KEY: series | {"imaging_plane_metadata_key": KEY}},
            "PlaneSegmentations": {KEY: segmentation | {"imaging_plane_metadata_key": KEY}},
        },
    }
