"""
Folders as makers' software leaves them, and what is to be in their NWB files.

A file is beside the recording only where its format does not say all that is needed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from pynwb import NWBFile
from thorough import THOROUGH

from demo.follow import ON_ARRIVAL, Follower
from demo.rest import DagRun
from demo.stack import AirflowStack
from demo.summary import results
from demo.workspace import Workspace

sys.path.append(str(Path(__file__).parents[1] / "sessions"))

from maker_folders import check_values, maker_folder
from session_recordings import CHANNELS, PLANES, VOLUMES, recording, traces, two_channels_of_three_planes

LAB = """
NWBFile: {institution: Institute of Microscopes, experimenter: ["Doe, Jane"]}
Subject: {species: Mus musculus}
Ophys:
  ImagingPlanes:
    default_metadata_key: {indicator: GCaMP8m, location: VISp}
"""
SUBJECTS = "subject_id,sex,date_of_birth\nm12,F,2022-12-01\n"
FOLDER_NAME = "{subject_id}_{session_id}"
Check = Callable[[NWBFile], None]


def scanimage(folder: Path) -> Check:
    truth = two_channels_of_three_planes(folder)

    def check(nwbfile: NWBFile) -> None:
        assert set(nwbfile.acquisition) == {f"TwoPhotonSeries{channel}" for channel in CHANNELS}
        for number, channel in enumerate(CHANNELS):
            series = nwbfile.acquisition[f"TwoPhotonSeries{channel}"]
            assert np.array_equal(series.data[:], truth[:, :, number].transpose(0, 3, 2, 1))
            assert (series.rate, series.imaging_plane.indicator) == (7.5, "GCaMP8m")
        tables = nwbfile.processing["ophys"]["ImageSegmentation"].plane_segmentations
        responses = nwbfile.processing["ophys"]["Fluorescence"].roi_response_series.values()
        assert len(tables) == PLANES
        for plane in range(PLANES):
            table = tables[f"PlaneSegmentationPlane{plane}"]
            assert table.imaging_plane is nwbfile.imaging_planes["ImagingPlaneGreen"]
            assert any(
                each.rois.table is table and np.array_equal(each.data[:], traces(5, VOLUMES, 10 * plane).T)
                for each in responses
            )

    return check


def of_maker(name: str, cells: str | None, folder: Path) -> Check:
    """Make the folder of a maker, with what another's software found in it below."""
    made = [maker_folder(name, folder)]
    if cells is not None:
        made.append(recording(cells, folder / "cells"))

    def check(nwbfile: NWBFile) -> None:
        for each in made:
            check_values(each, nwbfile)

    return check


MAKERS: dict[str, Callable[[Path], Check]] = {
    "m12_scanimage": scanimage,
    "m12_bruker": partial(of_maker, "Bruker, a file per frame", "CaImAn"),
    "m12_miniscope": partial(of_maker, "Miniscope", "Minian"),
    "m12_thor": partial(of_maker, "Thor, volumes of two channels", "CNMF-E"),
    "m12_femtonics": partial(of_maker, "Femtonics", None),
    "m12_ome": partial(of_maker, "OME-TIFF, one file", None),
    "m12_micromanager": partial(of_maker, "Micro-Manager", "EXTRACT before version 1"),
    "m12_hdf5": partial(of_maker, "HDF5", "EXTRACT"),
    "m12_scanbox": partial(of_maker, "Scanbox", None),
    "m12_imagej": partial(of_maker, "TIFF, channels and planes of ImageJ", None),
    "m12_numpy": partial(of_maker, "NumPy with channels", None),
}
if find_spec("isx"):
    MAKERS["m12_inscopix"] = partial(of_maker, "Inscopix", "Inscopix cells")
# What is missing in their files is the rate, or when the session started.
SAYING_ALL = {"m12_scanimage", "m12_bruker", "m12_miniscope", "m12_thor", "m12_femtonics", "m12_ome"}
# tests/sessions/test_makers.py writes each in both forms; some go through Airflow here, unless all are asked for.
SAMPLE = (["m12_scanimage", "m12_miniscope"], ["m12_bruker", "m12_imagej"])
AS_HDF5, AS_ZARR = (list(MAKERS), list(MAKERS)) if THOROUGH else SAMPLE


def drop(workspace: Workspace, names: Iterable[str], suffix: str = "") -> dict[str, Check]:
    """Put folders into the watched folder, each whole from the first moment."""
    checks = {f"{name}{suffix}": MAKERS[name](workspace.recordings / f"{name}{suffix}") for name in names}
    for name in checks:
        if name.removesuffix(suffix) in SAYING_ALL:
            assert not list((workspace.recordings / name).rglob("*.yaml"))
        (workspace.recordings / name / "DONE").touch()
        (workspace.recordings / name).rename(workspace.incoming / name)
    return checks


def follow_all(follower: Follower, stack: AirflowStack, names: set[str], run: DagRun | None) -> list[DagRun]:
    """Follow runs until each of these sessions was staged; the runs that it took."""
    runs: list[DagRun] = []
    staged: set[str] = set()
    while staged < names:
        run = follower.follow(ON_ARRIVAL, after=run)
        runs.append(run)
        staged |= {each["session"]["name"] for each in results(stack.client, run, "convert_session.stage")}
    assert staged == names
    return runs


def check_all(stack: AirflowStack, runs: list[DagRun], checks: Mapping[str, Check], io: type[Any]) -> None:
    written = [each for run in runs for each in results(stack.client, run, "convert_session.write")]
    # Two runs at the same moment may both take a folder; one of them finds the work done.
    written = [each for each in written if not each["reused"]]
    # One task, one file, each of them published once.
    assert sorted(each["session"]["name"] for each in written) == sorted(checks)
    for each in written:
        assert each["validation"] == "valid"
        assert Path(each["report"]["html"]).is_file()
        with closing(io(each["nwbfile_path"], "r")) as opened:
            nwbfile = opened.read()
            checks[each["session"]["name"]](nwbfile)
            assert (nwbfile.institution, nwbfile.subject.sex) == ("Institute of Microscopes", "F")
            assert nwbfile.subject.subject_id == each["session"]["subject_id"] == "m12"
            assert each["session"]["session_id"] == nwbfile.session_id
