"""A real S3 server for all tests of this folder; each test has a place of its own in its one bucket."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import botocore.session
import pytest
from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
from botocore.client import BaseClient
from s3_trees import BIG, make_tree
from s3_views import Place, Requests

from airflow_provider_ophys.hooks.s3 import OphysS3Hook
from demo.s3_server import S3Server


@pytest.fixture(scope="session", autouse=True)
def what_all_clients_do_alike_is_done_once() -> Iterator[None]:
    """Hundreds of hooks are made here, at a seventh of what each takes otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        # A megabyte of JSON, of which botocore keeps what one session has read.
        patch.setattr(botocore.session, "create_loader", cache(botocore.session.create_loader))
        # The sources of all functions on the stack, for the user agent.
        patch.setattr(AwsBaseHook, "_get_caller", lambda _: "tests")
        yield


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture
def connection(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", server.connection_json())


@pytest.fixture(scope="session")
def client(server: S3Server) -> Iterator[BaseClient]:
    """One for all tests: what it takes to make one is what many of them take."""
    client = server.client()
    yield client
    client.close()


@pytest.fixture
def place(server: S3Server, client: BaseClient) -> Place:
    return Place(server, client)


@pytest.fixture
def hook(connection: None) -> Iterator[OphysS3Hook]:
    hook = OphysS3Hook()
    yield hook
    hook.conn.close()


@pytest.fixture
def requests(hook: OphysS3Hook) -> Requests:
    return Requests(hook)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "session.nwb.zarr")


@pytest.fixture
def big_file(tmp_path: Path) -> Path:
    """A file of three parts."""
    path = tmp_path / "big.nwb"
    path.write_bytes(os.urandom(BIG))
    return path


@pytest.fixture(params=["tree", "file"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Of each kind that is staged, one whose sending can be disturbed in its midst."""
    if request.param == "tree":
        return make_tree(tmp_path / "session.nwb.zarr")
    path = tmp_path / "session.nwb"
    path.write_bytes(os.urandom(BIG))
    return path
