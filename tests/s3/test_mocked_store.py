"""Whoever tries DAGs with moto's ``mock_aws`` reaches no server, also not with requests that repeat boto3's."""

from __future__ import annotations

import json
from pathlib import Path

import boto3
import pytest
from moto import mock_aws
from s3_trees import published

from airflow_provider_ophys.hooks.s3 import OphysS3Hook


def test_tree_is_published_and_audited_in_a_mocked_store(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = {
        "conn_type": "aws",
        "login": "a-mocked-login",
        "password": "a-mocked-password",
        "extra": {"region_name": "us-east-1"},
    }
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="archive")
        hook = OphysS3Hook(max_concurrency=1)
        assert hook.publish(tree, "s3://archive/x/").uploaded == 22
        listed = client.list_objects_v2(Bucket="archive")["Contents"]
        contents = {
            entry["Key"].removeprefix("x/"): client.get_object(Bucket="archive", Key=entry["Key"])["Body"].read()
            for entry in listed
        }
        assert contents == published(tree)
        assert hook.publish(tree, "s3://archive/x/").skipped == 22
        client.put_object(Bucket="archive", Key="x/session.nwb.zarr/stray", Body=b"")
        assert hook.audit(tree, "s3://archive/x/").extra == ["x/session.nwb.zarr/stray"]
        hook.conn.close()
        client.close()
