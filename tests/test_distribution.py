"""What is published: the wheel and the sdist hold all that they should and nothing else, and work as installed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

from hatch_build import with_absolute_links

ROOT = Path(__file__).parents[1]
TEXTS = {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE"}
BUILDING = {"Makefile", "constraints.txt", "hatch_build.py", "pyproject.toml", ".gitignore", "PKG-INFO"}
FOLDERS = {"airflow_provider_ophys", "benchmarks", "dags", "demo", "docs", "tests"}


def run(*command, **environment):
    done = subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder with the wheel and the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    run("-m", "hatchling", "build", "--directory", str(folder))
    return folder


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """A folder of packages with the wheel alone, which is found before all others."""
    folder = tmp_path_factory.mktemp("installed")
    run("-m", "zipfile", "--extract", str(next(built.glob("*.whl"))), str(folder))
    return folder


def tracked(*folders):
    """The files of these folders as git has them, which is what a clone has."""
    listed = subprocess.run(["git", "ls-files", *folders], capture_output=True, text=True, check=True, cwd=ROOT)
    return {name for name in listed.stdout.splitlines() if (ROOT / name).is_file()}


def test_the_wheel_has_the_package_its_data_and_the_dags(built):
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    dags = {name.replace("dags/", "airflow_provider_ophys/example_dags/", 1) for name in tracked("dags")}
    assert len(dags) >= 5
    assert names - dags >= tracked("airflow_provider_ophys")
    strays = names - dags - tracked("airflow_provider_ophys")
    assert [name for name in strays if not name.endswith(".py")] == []


def test_the_sdist_has_documentation_and_tests_and_no_strays(built):
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {name.partition("/")[0] for name in names} == FOLDERS | TEXTS | BUILDING
    assert names >= tracked(*FOLDERS)
    assert [name for name in names if re.search(r"__pycache__|\.(pyc|nwb|log|db)$", name)] == []


def test_an_index_takes_both(built):
    assert run("-m", "twine", "check", "--strict", *map(str, built.glob("*.*"))).count("PASSED") == 2


def test_no_link_on_the_page_of_an_index_leads_nowhere(built):
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith("/METADATA"))
        page = message_from_bytes(wheel.read(name)).get_payload()
    assert "airflow-provider-ophys" in page
    assert [target for target in re.findall(r"\]\(([^)]+)\)", page) if not re.match(r"https?:|#", target)] == []


@pytest.mark.parametrize(
    ("home", "expected"),
    [
        ("", "Install it and stage, see [NWB](https://www.nwb.org/) and [below](#how-fast)."),
        (
            "https://git.example.org/main",
            (
                "[Install](https://git.example.org/main/docs/install.md#extras) it and "
                "[stage](https://git.example.org/main/docs/staging.md), see [NWB](https://www.nwb.org/) and "
                "[below](#how-fast)."
            ),
        ),
    ],
)
def test_links_lead_to_the_projects_home_or_are_text(home, expected):
    text = (
        "[Install](docs/install.md#extras) it and [stage](docs/staging.md), see [NWB](https://www.nwb.org/) and "
        "[below](#how-fast)."
    )
    assert with_absolute_links(text, home) == expected


def test_the_installed_package_is_imported_and_copies_its_dags(installed, tmp_path):
    told = run(
        "-m",
        "airflow_provider_ophys",
        "dags",
        str(tmp_path / "dags"),
        PYTHONPATH=str(installed),
        PYTHONSAFEPATH="1",
        AIRFLOW__CORE__LOAD_EXAMPLES="True",
    )
    copied = {file.name: file.read_text() for file in (tmp_path / "dags").iterdir()}
    assert copied == {file.name: file.read_text() for file in (ROOT / "dags").glob("*.py")}
    assert told.count("copied: ") == len(copied)
    assert "load_examples is on" in told
    where = run(
        "-c",
        "import airflow_provider_ophys as p; print(p.__file__)",
        PYTHONPATH=str(installed),
        PYTHONSAFEPATH="1",
    )
    assert where.strip().startswith(str(installed))
