"""Every block of Python on the pages runs as it stands there, on simulated recordings."""

from __future__ import annotations

import ast
import re
import textwrap

import movies
import pytest
from airflow_runs import run_dag
from airflow_versions import DagBag
from page_blocks import PAGES, ROOT, blocks_in

PYTHON = blocks_in("python")
RUN = [block for block in PYTHON if block.mark is None]
IN_A_DAG = re.compile(r"Operator[.(]|Sensor[.(]|write_imaging_in_parallel\(|convert_session\(|@dag|@task")

pytestmark = [
    pytest.mark.usefixtures("airflow_db"),
    # What the readers say of small recordings, and roiextractors' open files.
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def ids(block):
    return str(block)


@pytest.mark.parametrize("block", [one for one in RUN if IN_A_DAG.search(one.text)], ids=ids)
def test_a_dag_runs(block, data, server, tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", server.connection_json())
    name = f"{block.page.stem}_{block.line}"
    text = block.text.replace('"/data', f'"{data}').replace("nwb/", f"nwb/{name}_")
    if "@dag" not in text:
        text = f"from airflow.sdk import DAG\n\nwith DAG('{name}'):\n" + textwrap.indent(text, "    ")
    file = tmp_path / f"{name}.py"
    file.write_text(text)
    bag = DagBag(file, bundle_name="tests")
    assert bag.import_errors == {}
    (dag,) = bag.dags.values()
    states = {task: [each.state for each in instances] for task, instances in run_dag(dag).items()}
    assert {state for of_task in states.values() for state in of_task} == {"success"}, states


@pytest.mark.parametrize("block", [one for one in RUN if not IN_A_DAG.search(one.text)], ids=ids)
def test_code_without_airflow_runs(block, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    movies.write_tiff(tmp_path / "movie.tif")
    exec(block.text.replace('"/data', f'"{data}'), {"__name__": str(block)})


@pytest.mark.parametrize("block", [one for one in PYTHON if one.mark is not None], ids=ids)
def test_what_is_not_run_here_is_code_and_says_why(block):
    ast.parse(block.text)
    if block.mark == "tested":
        tests = ROOT / block.said
        assert block.page.name in tests.read_text(), f"{tests} is said to test {block}"


def test_every_page_is_looked_at():
    assert {"README.md", "recipes.md", "staging.md"} <= {page.name for page in PAGES}
    assert len(PYTHON) > 20
