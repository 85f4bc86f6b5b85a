"""Movies in HDF5 files: one dataset, Femtonics' MESc, and NWB."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
from pynwb import NWBHDF5IO, NWBFile
from pynwb.file import Subject
from pynwb.ophys import OnePhotonSeries, OpticalChannel

from recording_makers import Made, makes, random_frames

UNIT = "MSession_0/MUnit_0"


@makes("HDF5")
def one_dataset(folder: Path) -> Made:
    folder.mkdir()
    movie = random_frames(6)
    with h5py.File(folder / "movie.h5", "w") as file:
        file["mov"] = movie[None]
        file["mov"].attrs["fr"] = 12.5
    return Made(
        folder,
        "Hdf5ImagingExtractor",
        {"file_path": str(folder / "movie.h5")},
        [folder / "movie.h5"],
        movie,
        rate=12.5,
        facts={"plane.imaging_rate": 12.5},
    )


def text(words: str) -> np.ndarray:
    return np.array([*map(ord, words), 0], dtype="uint16")


def write_unit(file: h5py.File, place: str, movies: list[np.ndarray]) -> h5py.Group:
    """Write one unit of a MESc file, with a channel for each movie."""
    unit = file.create_group(place)
    unit.attrs["VecChannelsSize"] = len(movies)
    for number, movie in enumerate(movies):
        unit[f"Channel_{number}"] = movie
        unit.attrs[f"Channel_{number}_Name"] = text(("UG", "UR")[number])
    scales = {"X": (0.5, "µm"), "Y": (0.25, "µm"), "Z": (32.0, "ms")}
    for axis, (scale, name) in scales.items():
        unit.attrs[f"{axis}AxisConversionConversionLinearScale"] = scale
        unit.attrs[f"{axis}AxisConversionUnitName"] = text(name)
    unit.attrs["ZDim"] = len(movies[0])
    unit.attrs["MeasurementDatePosix"], unit.attrs["MeasurementDateNanoSecs"] = 1_700_000_000, 250_000_000
    unit.attrs["ExperimenterUsername"] = text("eva")
    unit.attrs["ExperimenterHostname"] = text("RIG2")
    unit.attrs["CreatingMEScVersion"] = text("MESc 3.5")
    unit.attrs["GeomTransTransl"] = np.array([1.5, -2.0, 3.0])
    unit.attrs["MeasurementParamsXML"] = np.bytes_(
        '<Task><Gear type="PMT"><param name="channel_name" value="UG"/>'
        '<param name="reference_voltage" value="2.5"/><param name="warmup_time" value="-0.2"/></Gear></Task>'
    )
    return unit


@makes("Femtonics")
def femtonics(folder: Path) -> Made:
    folder.mkdir()
    movies = [random_frames(7, seed=seed) for seed in (0, 1)]
    with h5py.File(folder / "day1.mesc", "w") as file:
        file.attrs["Uuid"] = np.arange(16, dtype="uint8")
        write_unit(file, UNIT, movies)
    return Made(
        folder,
        "FemtonicsImagingExtractor",
        {"file_path": str(folder / "day1.mesc")},
        [folder / "day1.mesc"],
        movies[0],
        rate=31.25,
        num_movies=2,
        start=datetime(2023, 11, 14, 22, 13, 20, 250_000, UTC),
        facts={
            "NWBFile.session_start_time": "2023-11-14T22:13:20.250000+00:00",
            "NWBFile.session_id": "00010203-0405-0607-0809-0a0b0c0d0e0f",
            "NWBFile.experimenter": ["eva"],
            "NWBFile.session_description": "Session: MSession_0, MUnit: MUnit_0.",
            "device.description": "MESc version: MESc 3.5; Workstation: RIG2",
            "plane.imaging_rate": 31.25,
            "plane.grid_spacing": [0.5e-6, 0.25e-6],
            "plane.description": "Translation: 1.5, -2, 3",
        },
    )


def write_nwb(path: Path, movie: np.ndarray, **fields: object) -> None:
    """Write an NWB file with one OnePhotonSeries, as pynwb does."""
    start = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
    nwbfile = NWBFile(
        session_description="open field",
        identifier="identifier",
        session_start_time=start,
        experimenter=["N. Eurone"],
        institution="Institute",
    )
    nwbfile.subject = Subject(subject_id="m3", species="Mus musculus", sex="F", age="P90D")
    device = nwbfile.create_device("Scope", description="Serial 7")
    channel = OpticalChannel(name="Green", description="GCaMP", emission_lambda=510.0)
    plane = nwbfile.create_imaging_plane(
        name="Plane",
        optical_channel=channel,
        description="CA1",
        device=device,
        excitation_lambda=470.0,
        indicator="GCaMP6f",
        location="CA1",
        imaging_rate=8.0,
        grid_spacing=[1e-6, 2e-6],
        grid_spacing_unit="meters",
    )
    timing = fields or {"rate": 8.0, "starting_time": 1.5}
    data = movie.swapaxes(1, 2)
    nwbfile.add_acquisition(
        OnePhotonSeries(
            name="Movie",
            data=data,
            unit="counts",
            imaging_plane=plane,
            exposure_time=0.05,
            description="d",
            **timing,
        )
    )
    with NWBHDF5IO(path, "w") as io:
        io.write(nwbfile)


@makes("NWB")
def nwb(folder: Path) -> Made:
    folder.mkdir()
    movie = random_frames(6)
    write_nwb(folder / "session.nwb", movie)
    return Made(
        folder,
        "NwbImagingExtractor",
        {"file_path": str(folder / "session.nwb"), "optical_series_name": "Movie"},
        [folder / "session.nwb"],
        movie,
        rate=8.0,
        start=datetime(2024, 1, 2, 3, 4, 6, 500_000, UTC),
        is_found=False,
        facts={
            "NWBFile.session_start_time": "2024-01-02T03:04:05+00:00",
            "NWBFile.session_description": "open field",
            "NWBFile.experimenter": ["N. Eurone"],
            "NWBFile.institution": "Institute",
            "Subject.subject_id": "m3",
            "Subject.species": "Mus musculus",
            "Subject.age": "P90D",
            "device.name": "Scope",
            "device.description": "Serial 7",
            "plane.name": "Plane",
            "plane.indicator": "GCaMP6f",
            "plane.excitation_lambda": 470.0,
            "plane.imaging_rate": 8.0,
            "plane.grid_spacing": [1e-6, 2e-6],
            "plane.optical_channel": [{"name": "Green", "description": "GCaMP", "emission_lambda": 510.0}],
            "series.exposure_time": 0.05,
            "series.unit": "counts",
        },
    )
