"""Inscopix' movies: frames, a JSON text, and the length of it."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from recording_makers import Made, makes, random_frames

PROPERTIES = {
    "name": "Session 12",
    "animal": {
        "id": "m4",
        "sex": "f",
        "dob": "2024-01-02",
        "species": "CaMKII-Cre",
        "weight": 21.5,
        "description": "d",
    },
    "microscope": {
        "type": "NVista3",
        "serial": "FA-11094107",
        "focus": 3,
        "gain": 7,
        "exp": 20,
        "led": {"exPower": 0.7, "ogPower": 0.0},
        "multiplane": {"enabled": False},
    },
    "personnel": {"name": "I. Maging"},
    "producer": {"version": "1.1.0", "versionBE": "1.1.0-abc"},
    "probe": {"diameter": 1.0, "flip": "none", "length": 4.0, "pitch": 0, "rotation": 0, "type": "lens"},
    "idps": {"efocus": 100},
}


def write_isxd(path: Path, movie: np.ndarray, properties: Any = None, **timing: Any) -> None:
    """Write a movie of 20 frames a second, begun on 2024-02-29 at 23:05:07.250+05:30."""
    rows, columns = movie.shape[1:]
    one, none = {"num": 3, "den": 1}, {"num": 0, "den": 1}
    header = {
        "dataType": {"uint16": 0, "float32": 1}[movie.dtype.name],
        "extraProperties": properties,
        "fileVersion": 1,
        "hasFrameHeaderFooter": False,
        "producer": {"name": "isxcore", "version": [2, 0, 1]},
        "spacingInfo": {
            "numPixels": {"x": columns, "y": rows},
            "pixelSize": {"x": one, "y": one},
            "topLeft": {"x": none, "y": none},
        },
        "timingInfo": {
            "blank": [],
            "cropped": [],
            "dropped": [],
            "numTimes": len(movie),
            "period": {"num": 50, "den": 1000},
            "start": {"secsSinceEpoch": {"num": 1_709_228_107_250, "den": 1000}, "utcOffset": 19800},
        }
        | timing,
        "type": 0,
    }
    text = json.dumps(header).encode()
    path.write_bytes(movie.tobytes() + text + b"\0" + len(text).to_bytes(8, "little"))


def inscopix(folder: Path) -> Made:
    folder.mkdir()
    movie = random_frames(8)
    write_isxd(folder / "movie.isxd", movie, PROPERTIES)
    return Made(
        folder,
        "InscopixImagingExtractor",
        {"file_path": str(folder / "movie.isxd")},
        [folder / "movie.isxd"],
        movie,
        rate=20.0,
        start=datetime(2024, 2, 29, 23, 5, 7, 250_000, timezone(timedelta(hours=5, minutes=30))),
        facts={
            "NWBFile.session_start_time": "2024-02-29T23:05:07.250000+05:30",
            "NWBFile.session_id": "Session 12",
            "NWBFile.experimenter": ["I. Maging"],
            "Subject.subject_id": "m4",
            "Subject.strain": "CaMKII-Cre",
            "Subject.sex": "F",
            "Subject.date_of_birth": "2024-01-02",
            "device.name": "NVista3",
            "device.description": "Acquisition software: 1.1.0",
            "device.serial_number": "FA-11094107",
            "plane.imaging_rate": 20.0,
            "plane.description": "Gain: 7; Focus: 3; EX LED power: 0.7 mW/mm^2",
            "series.exposure_time": 0.02,
        },
    )


# Inscopix' library, which the extractor needs, is not installed everywhere.
if find_spec("isx"):
    makes("Inscopix")(inscopix)
