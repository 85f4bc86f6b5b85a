"""Airflow lives in a folder of this test run: its home is set before anything imports Airflow."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

AIRFLOW_HOME = Path(tempfile.mkdtemp(prefix="ophys-tests-"))
os.environ |= {
    "AIRFLOW_HOME": str(AIRFLOW_HOME),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__DAGS_FOLDER": str(Path(__file__).parents[1] / "dags"),
    # The provider is there for the test of it, which turns it on.
    "AIRFLOW__OPENLINEAGE__DISABLED": "True",
    "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{AIRFLOW_HOME}/airflow.db",
}

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


def pytest_sessionfinish() -> None:
    shutil.rmtree(AIRFLOW_HOME, ignore_errors=True)


@pytest.fixture(scope="session")
def airflow_db() -> Path:
    """A migrated metadata database, for ``dag.test()`` and everything else that needs tables."""
    airflow = Path(sys.executable).with_name("airflow")
    subprocess.run([airflow, "db", "migrate"], check=True, capture_output=True, stdin=subprocess.DEVNULL)
    return AIRFLOW_HOME / "airflow.db"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real recordings, which are beside the project and never part of it."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the real recordings are not here: {SHARED_DATA} does not exist")
    return SHARED_DATA
