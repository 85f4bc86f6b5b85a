"""The commands, as a data manager runs them: what they print, and what they end with."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from pynwb import NWBHDF5IO
from session_recordings import recording, two_channels_of_three_planes
from typer.testing import CliRunner

from airflow_provider_ophys.terminal.commands import app


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_describe_prints_each_fact_with_its_source_and_warns(tmp_path, run):
    recording("Miniscope", tmp_path / "m1")
    result = run("describe", tmp_path / "m1")
    assert result.exit_code == 0
    (row,) = [line for line in result.stdout.splitlines() if line.strip().startswith("subject_id ")]
    assert "m 12" in row
    assert "metaData.json: animalName" in row
    assert "warning: Nothing says excitation_lambda, indicator" in result.stdout
    assert "belong to no recording: BehavCam_0/0.avi" in result.stdout


def test_what_all_channels_have_in_common_is_told_once(tmp_path, run):
    two_channels_of_three_planes(tmp_path / "m1")
    lines = [line.strip() for line in run("describe", tmp_path / "m1").stdout.splitlines()]
    assert len([line for line in lines if line.startswith("grid_spacing ")]) == 1
    assert len([line for line in lines if line.startswith("name (")]) > 2
    sections = [line for line in lines if line in {"NWBFile", "Devices", "Ophys.ImagingPlanes"}]
    assert sections == ["NWBFile", "Devices", "Ophys.ImagingPlanes"]


def test_json_is_for_scripts(tmp_path, run):
    two_channels_of_three_planes(tmp_path / "m1")
    result = run("describe", tmp_path / "m1", "--planes", "--json")
    assert result.exit_code == 0
    assert len(json.loads(result.stdout)["imaging"]) == 6

    refused = run("describe", tmp_path / "nowhere", "--json")
    assert refused.exit_code == 1
    assert json.loads(refused.stdout)["error"] == "SourceNotFoundError"


def test_convert_writes_the_file(tmp_path, run):
    made = recording("Bruker, a file per frame", tmp_path / "m1")
    result = run("convert", tmp_path / "m1", "-o", tmp_path / "m1.nwb", "--report")
    assert result.exit_code == 0, result.output
    assert str(tmp_path / "m1.nwb") in result.stdout
    assert (tmp_path / "m1.nwb.report.html").exists() or list(tmp_path.glob("m1*.report.html"))
    with NWBHDF5IO(tmp_path / "m1.nwb", "r") as io:
        (series,) = io.read().acquisition.values()
        assert np.array_equal(series.data[:], made.truth.transpose(0, 2, 1))

    assert "was there already" in run("convert", tmp_path / "m1", "-o", tmp_path / "m1.nwb", "--report").stdout


def test_convert_may_compare_all_content_before_it_reuses(tmp_path, run):
    recording("ScanImage, one file", tmp_path / "m1")
    command = ("convert", tmp_path / "m1", "-o", tmp_path / "m1.nwb")
    assert run(*command).exit_code == 0
    refused = run(*command, "--reuse", "content")
    assert refused.exit_code == 1
    assert "all content of the recording that it was made from is not known" in refused.stderr
    assert run(*command, "--reuse", "content", "--if-exists", "overwrite").exit_code == 0
    assert "was there already" in run(*command, "--reuse", "content").stdout
    assert "reuse" in run(*command, "--reuse", "times").stderr


def test_what_is_refused_ends_with_1_and_a_wrong_command_with_2(tmp_path, run):
    (tmp_path / "[red]notes.txt").touch()
    refused = run("describe", tmp_path)
    assert refused.exit_code == 1
    assert "SourceDataError" in refused.stderr
    assert "[red]notes.txt" in refused.stderr
    assert run("convert", tmp_path).exit_code == 2
    assert run("describe", tmp_path, "--unknown").exit_code == 2
    assert run("repair", tmp_path / "nothing.nwb").exit_code == 1


def test_repair_says_that_a_sound_file_is_in_order(tmp_path, run):
    recording("ScanImage, one file", tmp_path / "m1")
    assert run("convert", tmp_path / "m1", "-o", tmp_path / "m1.nwb").exit_code == 0
    result = run("repair", tmp_path / "m1.nwb")
    assert result.exit_code == 0
    assert "is in order" in result.stdout


def test_the_module_runs_without_airflow(tmp_path):
    recording("ScanImage, one file", tmp_path / "m1")
    code = (
        "import runpy, sys\n"
        "try:\n"
        "    runpy.run_module('airflow_provider_ophys', run_name='__main__')\n"
        "finally:\n"
        "    print('airflow' in sys.modules, file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", code, "convert", str(tmp_path / "m1"), "-o", str(tmp_path / "o.nwb")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "False"
    assert (tmp_path / "o.nwb").exists()
