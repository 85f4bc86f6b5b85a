"""What the README shows works as it stands there; tests/docs runs what is on the pages."""

from __future__ import annotations

import re
from pathlib import Path

from airflow.sdk import DAG
from airflow_versions import DagSerialization
from pynwb import NWBHDF5IO

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
DAGS = sorted((ROOT / "dags").glob("*.py"))


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), flags=re.DOTALL)


def block_with(page, language, text):
    (found,) = [block for block in blocks(page, language) if text in block]
    return found


def made_by(shown, name):
    scope = {"__name__": "readme"}
    exec(shown.replace(f"\n{name}()\n", f"\nmade = {name}()\n"), scope)
    return DagSerialization.deserialize_dag(DagSerialization.serialize_dag(scope["made"]))


def test_the_first_dag_is_one_that_airflow_takes():
    back = made_by(block_with(README, "python", "def sessions"), "sessions")
    steps = [f"convert_session.{step}" for step in ("describe", "write", "stage")]
    assert back.task_dict.keys() == {"arrived", *steps}
    assert back.get_task(steps[0]).upstream_task_ids == {"arrived"}
    assert back.get_task(steps[2]).upstream_task_ids == {steps[1]}


def test_the_dag_of_two_parts_is_one_that_airflow_takes():
    back = made_by(block_with(DOCS / "operators.md", "python", "def one_session"), "one_session")
    assert back.task_dict.keys() == {"movie", "cells", "stage"}
    assert back.get_task("stage").upstream_task_ids == {"cells"}


def test_the_task_group_takes_what_is_shown():
    shown = block_with(DOCS / "operators.md", "python", "convert_session.override")
    with DAG("shown") as dag:
        exec(shown)
    assert {task_id.rpartition(".")[0] for task_id in dag.task_dict} == {"convert_session", "sessions"}
    assert dag.get_task("sessions.describe").root == "/data"
    assert [outlet.name for outlet in dag.get_task("sessions.stage").outlets] == ["ophys_nwb_files"]


def test_every_variable_of_the_dags_is_in_their_page_and_no_other():
    read = [re.findall(r"(?:var\.value\.get|Variable\.get)\(['\"](\w+)", file.read_text()) for file in DAGS]
    named = re.findall(r"^\| `(ophys_\w+)` \| (?:`|\|)", (DOCS / "dags.md").read_text(), flags=re.MULTILINE)
    dag_ids = {file.stem for file in DAGS}
    assert set(named) - dag_ids == {name for names in read for name in names}


def test_the_writers_work_from_python(tmp_path, monkeypatch):
    import numpy as np
    import tifffile

    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("movie.tif", np.zeros((5, 6, 7), dtype="uint16"), photometric="minisblack")
    exec(block_with(DOCS / "python.md", "python", "TiffImagingExtractor"), {"__name__": "readme"})
    with NWBHDF5IO("movie.nwb", "r") as io:
        assert io.read().acquisition["TwoPhotonSeries"].data.shape == (5, 7, 6)


def test_the_readme_is_read_in_a_few_minutes():
    assert len(README.read_bytes()) <= 8_000


def test_every_command_is_a_target_of_the_makefile():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set()
    for page in [README, *DOCS.glob("*.md")]:
        lines = [line.split() for block in blocks(page, "bash") for line in block.splitlines()]
        named |= {line[1] for line in lines if line[:1] == ["make"]}
        named |= set(re.findall(r"`make ([a-z]+)", page.read_text()))
    assert named <= targets
    assert {"demo", "test", "airflow", "check", "fix", "constraints", "bench", "docs"} <= named
