"""Folders as three makers leave them, without a file that describes them, and what is to be in their NWB files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from pynwb import NWBFile

from demo.follow import ON_ARRIVAL, Follower
from demo.rest import DagRun
from demo.stack import AirflowStack
from demo.summary import results
from demo.workspace import Workspace

sys.path.append(str(Path(__file__).parents[1] / "sessions"))

from session_recordings import CHANNELS, PLANES, VOLUMES, recording, traces, two_channels_of_three_planes

LAB = """
NWBFile: {institution: Institute of Microscopes, experimenter: ["Doe, Jane"]}
Subject: {species: Mus musculus}
Ophys:
  ImagingPlanes:
    default_metadata_key: {indicator: GCaMP8m, location: VISp}
"""
SUBJECTS = "subject_id,sex,date_of_birth\nm12,F,2023-05-01\n"
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


def one_movie(maker: str, kind: str, folder: Path) -> Check:
    truth = recording(maker, folder).truth
    assert truth is not None

    def check(nwbfile: NWBFile) -> None:
        (series,) = nwbfile.acquisition.values()
        assert type(series).__name__ == kind
        assert np.array_equal(series.data[:], truth.transpose(0, 2, 1))

    return check


MAKERS: dict[str, Callable[[Path], Check]] = {
    "m12_scanimage": scanimage,
    "m12_bruker": lambda folder: one_movie("Bruker, a file per frame", "TwoPhotonSeries", folder),
    "m12_miniscope": lambda folder: one_movie("Miniscope", "OnePhotonSeries", folder),
}


def drop(workspace: Workspace, suffix: str) -> dict[str, Check]:
    """Put a folder of each maker into the watched folder, whole from the first moment."""
    checks = {}
    for name, make in MAKERS.items():
        checks[f"{name}{suffix}"] = make(workspace.recordings / f"{name}{suffix}")
    for name in checks:
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
