"""Airflow with two labs that may not see each other's DAGs, below a path, and a real S3 server to stage to."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from described import simulate_described

from demo.rest import AirflowClient, DagRun
from demo.s3_server import S3Server
from demo.stack import AirflowStack

# Before Airflow 3.2 there are no teams, and who may see DAGs sees all of them with the simple auth manager.
HAS_TEAMS = metadata.version("apache-airflow-core") >= "3.2"
DAGS = Path(__file__).with_name("dags")
PREFIX = "/lab/airflow"
PASSWORDS = {"boss": "boss-secret", "ann": "ann-secret", "bob": "bob-secret", "eve": "eve-secret"}
# Name, role and, but for the administrator, lab.
USERS = (
    ("boss:admin", "ann:viewer:lab", "bob:viewer:other_lab", "eve:user:other_lab")
    if HAS_TEAMS
    else ("boss:admin", "ann:viewer", "bob:viewer", "eve:user")
)
# The name of a file may be anything but a slash.
NAMES = ("mouse_1", "<img src=x onerror=alert(1)>")
FINISHED = dict.fromkeys(
    ("sessions", "hostile", "elsewhere", "envious", "many_workers"), "success"
) | dict.fromkeys(("broken", "mended", "undescribed"), "failed")
# In a second round: a task that failed is run again, and a file goes to a second place.
LATER = ("mended", "archive")
ALLOWED = ("incoming", "nwb", "recording")
PATIENCE_SECONDS = 600

_CREATE_TEAMS = """
from airflow.models.team import Team
from airflow.utils.session import create_session
with create_session() as session:
    session.add_all([Team(name="lab"), Team(name="other_lab")])
"""


@dataclass
class PluginStack:
    """The running stack, and what was put where."""

    stack: AirflowStack
    s3: S3Server
    root: Path
    claims: list[str]
    runs: dict[str, DagRun] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where people reach Airflow."""
        return f"{self.stack.url}{PREFIX}"

    def client(self, user: str) -> AirflowClient:
        """Airflow's API as a person uses it."""
        return AirflowClient(self.url, credentials=(user, PASSWORDS[user]))

    def run_all(self) -> None:
        """Run each DAG once, and wait until all have finished but the one that goes on waiting."""
        client = self.stack.client
        self._wait(lambda: {*FINISHED, *LATER, "watching"} <= set(client.dag_ids()))
        self.runs = {dag_id: client.trigger(dag_id) for dag_id in (*FINISHED, "watching")}
        self._wait_for(FINISHED)
        shutil.copy(self.root / "recording" / "movie.tif", self.root / "recording" / "late.tif")
        self.runs |= {dag_id: client.trigger(dag_id) for dag_id in LATER}
        self._wait_for(dict.fromkeys(LATER, "success"))
        self._wait(lambda: [task.state for task in client.task_instances(self.runs["watching"])] == ["deferred"])

    def _wait_for(self, states: dict[str, str]) -> None:
        for dag_id, state in states.items():
            run = self.stack.client.wait_for_run(self.runs[dag_id], timeout=PATIENCE_SECONDS)
            tasks = {task.label: task.state for task in self.stack.client.task_instances(run)}
            assert run.state == state, (dag_id, tasks)

    def _wait(self, done) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not done():
            self.stack.check_alive()
            assert time.monotonic() < deadline
            time.sleep(0.5)


@contextmanager
def plugin_stack(root: Path, migrated_database: Path) -> Iterator[PluginStack]:
    """Start the stack in an existing folder, on a copy of a migrated database."""
    for name in ("nwb", "incoming/not_complete"):
        (root / name).mkdir(parents=True)
    (root / "incoming" / "not_complete" / "movie.tif").write_bytes(b"half of a movie")
    (root / "incoming" / "bad_session").mkdir()
    (root / "incoming" / "bad_session" / "session.yaml").write_text("imaging: 5\n")
    simulate_described(root / "recording", num_samples=60)
    claims = _claims(root)
    passwords = root / "passwords.json"
    passwords.write_text(json.dumps(PASSWORDS))
    database = Path(shutil.copy(migrated_database, root / "teams.db"))
    with S3Server(root / "s3") as server:
        stack = AirflowStack(root / "airflow", dags_folder=DAGS / "lab", migrated=database)
        url = f"{stack.url}{PREFIX}"
        stack.environment |= {
            "AIRFLOW_CONN_AWS_DEFAULT": server.connection_json(),
            "AIRFLOW__API__BASE_URL": url,
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
            "AIRFLOW__CORE__MULTI_TEAM": str(HAS_TEAMS),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(USERS),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([_bundle("lab"), _bundle("other_lab")]),
            "AIRFLOW__OPHYS__ALLOWED_ROOTS": ",".join(str(root / name) for name in ALLOWED),
            "PLUGIN_TEST_ROOT": str(root),
            "PLUGIN_TEST_NAMES": "|".join(NAMES),
            "PLUGIN_TEST_CLAIMS": "|".join(claims),
        }
        if HAS_TEAMS:
            _create_teams(stack, database)
        stack.client = AirflowClient(url, credentials=("boss", PASSWORDS["boss"]))
        with stack:
            yield PluginStack(stack, server, root, claims)


def _claims(root: Path) -> list[str]:
    """Paths that tasks say are their reports, and that must not be served."""
    outside = root / "secret.report.html"
    outside.write_text("secret")
    (root / "nwb" / "link.html").symlink_to(outside)
    (root / "nwb" / "passwords.txt").write_text("secret")
    return [
        "/etc/passwd",
        str(outside),
        str(root / "nwb" / "link.html"),
        str(root / "nwb" / ".." / "secret.report.html"),
        str(root / "nwb" / "passwords.txt"),
    ]


def _bundle(team: str) -> dict[str, object]:
    return {
        "name": team,
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": str(DAGS / team), "refresh_interval": 5},
    } | ({"team_name": team} if HAS_TEAMS else {})


def _create_teams(stack: AirflowStack, database: Path) -> None:
    """The DAG processor wants the teams of its bundles to exist when it starts."""
    environment = stack.environment | {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{database}"}
    command = [sys.executable, "-c", _CREATE_TEAMS]
    subprocess.run(command, env=environment, check=True, capture_output=True, stdin=subprocess.DEVNULL)
