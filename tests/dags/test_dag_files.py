"""``python -m airflow_provider_ophys dags FOLDER``: copies for a DAG folder, which are the user's from then on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from airflow_provider_ophys.terminal.commands import app
from airflow_provider_ophys.terminal.dag_files import dag_files


@pytest.fixture
def copy():
    return lambda *arguments: CliRunner().invoke(app, ["dags", *map(str, arguments)])


# As Airflow does it: the DAG folder itself is on the path of imports, and nothing below it.
LOADER = """
import json, sys
from airflow_versions import DagBag
sys.path.append(sys.argv[1])
bag = DagBag(sys.argv[1], bundle_name="tests")
print(json.dumps([bag.import_errors, sorted(bag.dag_ids)]))
"""


def test_the_copies_load_in_a_subfolder_of_the_dag_folder(tmp_path, copy):
    done = copy(tmp_path / "ophys")
    assert done.exit_code == 0, done.output
    assert done.stdout.count("copied: ") == len(dag_files()) >= 5
    run = subprocess.run(
        [sys.executable, "-c", LOADER, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[1],
    )
    assert run.returncode == 0, run.stderr
    errors, names = json.loads(run.stdout.splitlines()[-1])
    assert errors == {}
    assert {"ophys_archive", "ophys_on_arrival"} <= set(names)


def test_what_is_there_already_is_left_as_it_is(tmp_path, copy):
    copy(tmp_path)
    first, *others = dag_files()
    (tmp_path / first.name).unlink()
    done = copy(tmp_path)
    assert done.exit_code == 0
    assert f"copied: {tmp_path / first.name}" in done.stdout
    assert done.stdout.count("unchanged: ") == len(others)


def test_a_file_that_was_changed_is_only_overwritten_if_forced(tmp_path, copy):
    first, second, *_ = dag_files()
    (tmp_path / second.name).write_text("# mine\n")
    refused = copy(tmp_path)
    assert refused.exit_code == 1
    assert second.name in refused.stderr
    assert "--force" in refused.stderr
    assert sorted(file.name for file in tmp_path.iterdir()) == [second.name], "nothing was copied"
    assert (tmp_path / second.name).read_text() == "# mine\n"

    forced = copy(tmp_path, "--force")
    assert forced.exit_code == 0
    assert f"updated: {tmp_path / second.name}" in forced.stdout
    assert (tmp_path / second.name).read_bytes() == second.read_bytes()
    assert (tmp_path / first.name).is_file()


@pytest.mark.parametrize("where", ["a file/ophys", "nowhere/ophys"])
def test_a_folder_that_cannot_be_made_is_refused(tmp_path, copy, where):
    (tmp_path / "a file").touch()
    refused = copy(tmp_path / where)
    assert refused.exit_code == 1
    assert "OutputFolderError" in refused.stderr
