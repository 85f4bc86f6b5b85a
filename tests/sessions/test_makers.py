"""The folder of every maker is described and becomes a file with its values, in HDF5 and in Zarr."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hdmf_zarr import NWBZarrIO
from maker_folders import MAKERS, START, check_values, maker_folder, series_of
from pynwb import NWBHDF5IO

from airflow_provider_ophys.conversion import write_session
from airflow_provider_ophys.sessions import describe_session

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


VENDORS = Path(__file__).parents[3] / "shared" / "vendors"


@pytest.fixture
def files_of(tmp_path):
    """Describe a folder, write it to HDF5 and to Zarr; yield each as an NWB file."""

    def write(folder, **options):
        session = describe_session(folder, **options)
        for path, io in ((tmp_path / "a.nwb", NWBHDF5IO), (tmp_path / "a.nwb.zarr", NWBZarrIO)):
            assert write_session(session, path).validation == "valid"
            with io(str(path), "r") as opened:
                nwbfile = opened.read()
                for movie in session.imaging:
                    kind = type(nwbfile.acquisition[movie.name]).__name__
                    assert movie.photon_series_type in (kind, "auto")
                yield nwbfile

    return write


@pytest.mark.parametrize("name", MAKERS)
def test_a_makers_folder_becomes_a_file_with_its_values(tmp_path, files_of, name):
    made = maker_folder(name, tmp_path / "session")
    for nwbfile in files_of(made.folder):
        check_values(made, nwbfile)


def one_plane(truth):
    """(samples, planes, channels, rows, columns) -> the first plane of each channel."""
    return [truth[:, 0, channel] for channel in range(truth.shape[2])]


def volumes(truth):
    """(samples, planes, channels, rows, columns) -> (samples, rows, columns, planes) of each channel."""
    return [truth[:, :, channel].transpose(0, 2, 3, 1) for channel in range(truth.shape[2])]


def extract(make, folder):
    """EXTRACT does not write the rate down; the error that says so gives these lines."""
    traces = make.extract(folder / "cells.mat")[2]
    (folder / "session.yaml").write_text(
        "segmentation: {extractor: ExtractSegmentationExtractor, extractor_kwargs: {file_path: cells.mat, "
        "sampling_frequency: 10.0}}"
    )
    return [traces]


# How each is made, and the values that its file has to have: movies, or the traces of segmentations.
IMAGING = {
    "ScanImage": lambda make, at: one_plane(make.scanimage(at, channels=2)[1][:, :, 0]),
    "ScanImage, planes": lambda make, at: volumes(make.scanimage(at, channels=2, planes=3, flyback=1)[1][:, :, 0]),
    "ScanImage, three files": lambda make, at: one_plane(make.scanimage(at, samples=9, files=3)[1][:, :, 0]),
    "Bruker": lambda make, at: one_plane(make.bruker(at, channels=2)[1]),
    "Bruker, volumes": lambda make, at: volumes(make.bruker(at, channels=2, planes=3)[1]),
    "Bruker, many pages": lambda make, at: one_plane(make.bruker(at, channels=2, multipage=True)[1]),
    "Bruker, bursts": lambda make, at: one_plane(make.bruker(at, bursts=2)[1]),
    "Thor": lambda make, at: one_plane(make.thor(at, channels=2)[1]),
    "Thor, volumes": lambda make, at: volumes(make.thor(at, planes=3)[1]),
    "Micro-Manager": lambda make, at: [make.micromanager(at)[1]],
    "OME-TIFF": lambda make, at: volumes(make.ome_tiff(at / "m1.ome.tif", planes=3, channels=2, rate=5.0)[1]),
    "OME-TIFF, several files": lambda make, at: [make.ome_tiff_files(at)[1]],
    "Miniscope": lambda make, at: [make.miniscope(at)[1]],
    "Femtonics": lambda make, at: list(make.femtonics(at / "m1.mesc")[1]),
    "Scanbox": lambda make, at: [make.scanbox(at)[1]],
    "Inscopix": lambda make, at: [make.inscopix_movie(at / "m1.isxd")[1]],
}
SEGMENTATION = {
    "suite2p": lambda make, at: [plane.T for plane in make.suite2p(at, planes=3, second=True)[1]],
    "CaImAn": lambda make, at: [make.caiman(at / "cells.hdf5")[2]],
    "CNMF-E": lambda make, at: [make.cnmfe(at / "cells.mat")[2]],
    "EXTRACT": extract,
    "EXTRACT before version 1": lambda make, at: [make.extract_legacy(at / "cells.mat")[2]],
    "Minian": lambda make, at: [make.minian(at)[2]],
    "Inscopix cells": lambda make, at: [make.inscopix_cells(at / "cells.isxd")[2].T],
}


@pytest.mark.parametrize(
    ("kind", "make"),
    [("imaging", make) for make in IMAGING.values()] + [("segmentation", make) for make in SEGMENTATION.values()],
    ids=[*IMAGING, *SEGMENTATION],
)
def test_so_do_folders_that_others_made(tmp_path, monkeypatch, files_of, kind, make):
    if not VENDORS.is_dir():
        pytest.skip(f"the makers' folders that others make are not here: {VENDORS} does not exist")
    monkeypatch.syspath_prepend(str(VENDORS))
    truth = make(__import__(f"fake_{kind}"), tmp_path / "session")
    for nwbfile in files_of(tmp_path / "session", metadata={"NWBFile": {"session_start_time": START}}):
        found = [values for _, values in series_of(nwbfile, kind)]
        for values in truth:
            assert any(values.shape == one.shape and np.array_equal(values, one) for one in found)
