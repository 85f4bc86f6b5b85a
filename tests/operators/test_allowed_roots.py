"""With ``[ophys] allowed_roots`` no argument makes an operator read or write outside of these folders."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from airflow_versions import task_fails
from movies import METADATA, write_tiff

from airflow_provider_ophys.exceptions import ConfigurationError, OphysError, PathNotAllowedError, PreflightError
from airflow_provider_ophys.models.allowed_roots import parse_allowed_roots
from airflow_provider_ophys.operators.imaging import WriteImagingOperator
from airflow_provider_ophys.operators.segmentation import WriteSegmentationOperator
from airflow_provider_ophys.operators.staging import StageToS3Operator
from demo.recording import simulate_acquisition


@pytest.fixture
def allowed(tmp_path, monkeypatch):
    folder = tmp_path / "allowed"
    (folder / "nwb").mkdir(parents=True)
    monkeypatch.setenv("AIRFLOW__OPHYS__ALLOWED_ROOTS", f"/nowhere, {folder}")
    return folder


@pytest.fixture
def secret(tmp_path):
    folder = tmp_path / "secret"
    folder.mkdir()
    write_tiff(folder / "movie.tif")
    (folder / "lab.yaml").write_text("NWBFile: {session_start_time: '2026-11-22T09:30:00+01:00'}")
    return folder


def write(movie, path, metadata=METADATA, **more):
    arguments = {"file_path": str(movie), "sampling_frequency": 30.0} | more
    operator = WriteImagingOperator(
        task_id="write", extractor="Tiff", extractor_kwargs=arguments, nwbfile_path=str(path), metadata=metadata
    )
    return operator.execute({"outlet_events": {}})


def test_within_them_all_works(allowed, secret):
    shutil.copy(secret / "movie.tif", allowed)
    shutil.copy(secret / "lab.yaml", allowed)
    assert write(allowed / "movie.tif", allowed / "nwb" / "a.nwb", str(allowed / "lab.yaml"))["num_samples"] == 20


@pytest.mark.parametrize("way", ["plain", "dots", "link to the file", "link to its folder"])
def test_no_way_leads_out(allowed, secret, way):
    movie = secret / "movie.tif"
    if way == "dots":
        movie = allowed / ".." / "secret" / "movie.tif"
    elif way == "link to the file":
        (allowed / "movie.tif").symlink_to(movie)
        movie = allowed / "movie.tif"
    elif way == "link to its folder":
        (allowed / "here").symlink_to(secret)
        movie = allowed / "here" / "movie.tif"
    with task_fails(PathNotAllowedError, match=r"extractor_kwargs\.file_path .*allowed_roots"):
        write(movie, allowed / "nwb" / "a.nwb")
    assert list((allowed / "nwb").iterdir()) == []


def test_all_that_leads_out_is_named_and_nothing_is_told_about_it(allowed, secret):
    with task_fails(PreflightError) as caught:
        write(secret / "no-such.tif", secret / "a.nwb", [METADATA, str(secret / "lab.yaml")])
    for name in ("nwbfile_path", "extractor_kwargs.file_path", "metadata"):
        assert f"{name} '{secret}/" in str(caught.value)
    assert "does not exist" not in str(caught.value), "whether it is there is no business of who may not read it"
    assert sorted(entry.name for entry in secret.iterdir()) == ["lab.yaml", "movie.tif"]


def test_a_link_within_a_folder_leads_out_as_well(allowed, tmp_path):
    session = simulate_acquisition(tmp_path / "session", num_samples=20, num_rois=3)
    shutil.copytree(session / "suite2p", allowed / "suite2p")
    traces = allowed / "suite2p" / "plane0" / "F.npy"
    traces.unlink()
    traces.symlink_to(session / "suite2p" / "plane0" / "F.npy")
    operator = WriteSegmentationOperator(
        task_id="write",
        extractor="Suite2p",
        extractor_kwargs={"folder_path": str(allowed / "suite2p")},
        nwbfile_path=str(allowed / "nwb" / "a.nwb"),
        metadata=METADATA,
    )
    with task_fails(PathNotAllowedError, match=r"F\.npy' leads to .*session"):
        operator.execute({"outlet_events": {}})


def test_an_argument_that_is_called_otherwise_is_a_path_too(allowed, secret):
    np.save(secret / "movie.npy", np.ones((5, 6, 7)))
    operator = WriteImagingOperator(
        task_id="write",
        extractor="Numpy",
        extractor_kwargs={"timeseries": str(secret / "movie.npy"), "sampling_frequency": 30.0},
        nwbfile_path=str(allowed / "nwb" / "a.nwb"),
        metadata=METADATA,
    )
    with task_fails(PathNotAllowedError, match=r"extractor_kwargs\.timeseries"):
        operator.execute({"outlet_events": {}})


@pytest.mark.parametrize("form", ["path", "written", "staged"])
def test_what_is_staged_has_to_be_within_them(allowed, secret, form):
    (secret / "a.nwb").write_bytes(b"\x89HDF\r\n\x1a\n")
    path = str(secret / "a.nwb")
    source = {
        "path": path,
        "written": {"nwbfile_path": path},
        "staged": {"source": path, "s3_uri": "s3://b/a.nwb"},
    }
    operator = StageToS3Operator(task_id="stage", source=source[form], destination="s3://b/", verify_only=True)
    with task_fails(PathNotAllowedError, match="source"):
        operator.execute({})


def test_a_wrong_setting_is_said(allowed, secret, monkeypatch):
    monkeypatch.setenv("AIRFLOW__OPHYS__ALLOWED_ROOTS", "data")
    with task_fails(OphysError, match=r"\[ophys\].*allowed_roots has 'data'; write absolute folders"):
        write(secret / "movie.tif", allowed / "nwb" / "a.nwb")
    with task_fails(ConfigurationError, match="write absolute folders"):
        StageToS3Operator(task_id="stage", source="/a.nwb", destination="s3://b/").execute({})


def test_nothing_means_everything():
    assert parse_allowed_roots(" \n ") == ()
    assert [str(root) for root in parse_allowed_roots("/a,/b\n/c ,")] == ["/a", "/b", "/c"]
