"""Airflow lives in a folder of this test run: its home is set before anything imports Airflow."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

AIRFLOW_HOME = Path(tempfile.mkdtemp(prefix="ophys-tests-"))
os.environ |= {
    "AIRFLOW_HOME": str(AIRFLOW_HOME),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__DAGS_FOLDER": str(Path(__file__).parents[1] / "dags"),
    # The provider is there for the test of it, which turns it on.
    "AIRFLOW__OPENLINEAGE__DISABLED": "True",
    "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
    # Airflow 3.2's API wants one even where tests run tasks in this process.
    "AIRFLOW__API_AUTH__JWT_SECRET": "a secret of tests only, which is long enough for each of the algorithms",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{AIRFLOW_HOME}/airflow.db",
}

# The modules whose tests start Airflow's own processes, in two rows of about the same length. The first two share
# theirs.
STACKS = {
    "tests/e2e/test_arrivals.py": 1,
    "tests/e2e/test_killed_conversions.py": 1,
    "tests/chaos/test_many_arrivals.py": 1,
    "tests/chaos/test_other_airflows.py": 1,
    "tests/e2e/test_celery.py": 2,
    "tests/e2e/test_whole_stack.py": 2,
    "tests/plugin/test_web_access.py": 2,
    "tests/plugin/test_web_pages.py": 2,
}
SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


def pytest_configure(config: pytest.Config) -> None:
    if metadata.version("apache-airflow-core") < "3.3":
        # An older Airflow warns of itself and of what is newer than it, as it does where it is used.
        config.addinivalue_line("filterwarnings", "ignore::DeprecationWarning")
        config.addinivalue_line("filterwarnings", "ignore::FutureWarning")


def pytest_report_header() -> str:
    return f"airflow: {metadata.version('apache-airflow')}"


def pytest_sessionfinish() -> None:
    shutil.rmtree(AIRFLOW_HOME, ignore_errors=True)


class StacksFirst(LoadScopeScheduling):
    """
    Gives a worker whole modules, for the sake of their fixtures, and a row of those that start an Airflow to one.

    These take longest and wait most, so they come first, and other workers have the processor meanwhile. xdist
    3.8's own groups do nothing with pytest 9.2.
    """

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return f"stacks {STACKS[module]}" if module in STACKS else module


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> StacksFirst:
    # By default it begins with the modules of the most tests.
    config.option.loadscopereorder = False
    return StacksFirst(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if (item.get_closest_marker("stack") is not None) != (module_of(item) in STACKS):
            raise pytest.UsageError(f"{item.nodeid}: the mark 'stack' is for what is in {', '.join(STACKS)}")
    items.sort(key=lambda item: module_of(item) not in STACKS)


def pytest_collection_finish() -> None:
    """What thousands of tests and Airflow's modules consist of stays to the end: nobody need go through it."""
    gc.collect()
    gc.freeze()


def module_of(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


@pytest.fixture(autouse=True)
def no_event_loop_of_a_browser(request: pytest.FixtureRequest) -> Iterator[None]:
    """Playwright's loop stays at work in the main thread after its tests; asyncio would run no other there."""
    loop = None if "browser" in request.fixturenames else asyncio._get_running_loop()
    if loop is not None:
        asyncio._set_running_loop(None)
    yield
    if loop is not None:
        asyncio._set_running_loop(loop)


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A migrated metadata database to copy: a migration costs seconds, so all workers share one."""
    base = tmp_path_factory.getbasetemp()
    template = (base if worker_id == "master" else base.parent) / "migrated.db"
    with template.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not template.exists():
            _migrate(tmp_path_factory.mktemp("migration") / template.name).rename(template)
    return template


def _migrate(database: Path) -> Path:
    airflow = Path(sys.executable).with_name("airflow")
    environment = os.environ | {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{database}"}
    run = subprocess.run(
        [airflow, "db", "migrate"],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
        stdin=subprocess.DEVNULL,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return database


@pytest.fixture(scope="session")
def airflow_db(migrated_database: Path) -> Path:
    """The metadata database of this process, for ``dag.test()`` and everything else that needs tables."""
    return Path(shutil.copy(migrated_database, AIRFLOW_HOME / "airflow.db"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real recordings, which are beside the project and never part of it."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the real recordings are not here: {SHARED_DATA} does not exist")
    return SHARED_DATA
