"""How a stack is configured, and that a start that fails says why and leaves nothing behind."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import psutil
import pytest

from demo.servers import HOST, PORTS, ServerError, free_ports
from demo.stack import COMPONENTS, AirflowStack


def fake_airflow(folder: Path, script: str) -> Path:
    """Write a command that stands in for ``airflow``; it appends its process id to ``pids``."""
    command = folder / "airflow"
    command.write_text(f'#!/bin/sh\necho $$ >> "{folder}/pids"\n{script}\n')
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    return command


def started_pids(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "pids").read_text().split()]


@pytest.fixture
def dags_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "dags"
    folder.mkdir()
    return folder


def test_free_ports_can_be_bound_and_clients_do_not_get_them() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    for port in ports:
        assert port in PORTS
        with socket.socket() as taken:
            taken.bind((HOST, port))


def test_environment_is_complete_and_only_its_own(
    tmp_path: Path, dags_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    monkeypatch.setenv("AIRFLOW_CONN_PRODUCTION", "aws://")
    monkeypatch.setenv("_AIRFLOW__AS_LIBRARY", "1")
    monkeypatch.setenv("NO_PROXY", "example.org")
    stack = AirflowStack(
        tmp_path / "home", dags_folder=dags_folder, environment={"AIRFLOW_VAR_OPHYS_OUTPUT_ROOT": "/out"}
    )
    environment = stack.environment
    assert environment["AIRFLOW_HOME"] == str(tmp_path / "home")
    assert environment["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor"
    assert environment["AIRFLOW__CORE__DAGS_FOLDER"] == str(dags_folder)
    assert environment["AIRFLOW__CORE__LOAD_EXAMPLES"] == "False"
    assert environment["AIRFLOW__API__HOST"] == "127.0.0.1"
    assert environment["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == f"{stack.url}/execution/"
    assert environment["AIRFLOW_VAR_OPHYS_OUTPUT_ROOT"] == "/out"
    assert environment["NO_PROXY"] == "example.org,127.0.0.1,localhost"
    assert environment["PATH"] == os.environ["PATH"]
    assert "AIRFLOW_CONN_PRODUCTION" not in environment
    assert "_AIRFLOW__AS_LIBRARY" not in environment


def test_secrets_differ_between_stacks(tmp_path: Path, dags_folder: Path) -> None:
    first, second = (AirflowStack(tmp_path / name, dags_folder=dags_folder).environment for name in "ab")
    for name in ("AIRFLOW__API_AUTH__JWT_SECRET", "AIRFLOW__API__SECRET_KEY", "AIRFLOW__CORE__FERNET_KEY"):
        assert first[name] != second[name]


def test_missing_dags_folder_is_named_before_anything_starts(tmp_path: Path) -> None:
    command = fake_airflow(tmp_path, "exit 0")
    with pytest.raises(ServerError, match=f"does not exist: {tmp_path / 'nowhere'}"):
        AirflowStack(tmp_path / "home", dags_folder=tmp_path / "nowhere", command=command).start()
    assert not (tmp_path / "pids").exists()


def test_failed_migration_shows_the_end_of_its_log(tmp_path: Path, dags_folder: Path) -> None:
    command = fake_airflow(tmp_path, "echo the disk is full; exit 3")
    with pytest.raises(ServerError, match=r"db migrate.*\(exit code 3\)[\s\S]*the disk is full"):
        AirflowStack(tmp_path / "home", dags_folder=dags_folder, command=command).start()


def test_component_that_dies_is_named_and_the_others_are_ended(tmp_path: Path, dags_folder: Path) -> None:
    script = 'case "$1" in db) exit 0;; triggerer) echo no luck; exit 4;; *) exec sleep 600;; esac'
    command = fake_airflow(tmp_path, script)
    with pytest.raises(ServerError, match=r"triggerer has ended with exit code 4[\s\S]*no luck"):
        AirflowStack(tmp_path / "home", dags_folder=dags_folder, command=command).start()
    pids = started_pids(tmp_path)
    assert len(pids) == 1 + len(COMPONENTS)
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert not (tmp_path / "home" / "processes.json").exists()


def test_stack_that_does_not_become_healthy_is_given_up(tmp_path: Path, dags_folder: Path) -> None:
    said: list[str] = []
    command = fake_airflow(tmp_path, 'case "$1" in db) exit 0;; *) echo thinking; exec sleep 600;; esac')
    stack = AirflowStack(
        tmp_path / "home", dags_folder=dags_folder, command=command, start_timeout=1, progress=said.append
    )
    with pytest.raises(ServerError, match=r"not healthy after 1 s: api_server[\s\S]*thinking"):
        stack.start()
    assert said[:2] == ["creating the metadata database", "waiting for api_server"]
    assert stack.pids == {}
    assert not any(psutil.pid_exists(pid) for pid in started_pids(tmp_path))
