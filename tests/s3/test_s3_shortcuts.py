"""Requests that take less time than boto3's own: they carry, check and find the same."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.exceptions import EndpointConnectionError
from s3_trees import make_tree, published
from s3_views import Place, Requests

from airflow_provider_ophys.exceptions import StagingConflictError
from airflow_provider_ophys.hooks.s3 import OphysS3Hook
from airflow_provider_ophys.staging.s3_shortcuts import short_listings


@pytest.fixture
def hook(connection: None) -> Any:
    """One request at a time, so that all but the first find one to repeat."""
    hook = OphysS3Hook(max_concurrency=1)
    yield hook
    hook.conn.close()


def test_all_small_objects_but_the_first_are_repetitions(
    hook: OphysS3Hook, place: Place, requests: Requests, tree: Path
) -> None:
    hook.publish(tree, place.uri)
    assert (requests.count("PutObject"), requests.repeated) == (22, 21)
    assert place.contents() == published(tree)


def test_botocore_has_what_is_used_of_its_private_parts(hook: OphysS3Hook) -> None:
    """If this fails, botocore changed: every request is then made by boto3, right but slower. See RepeatedPuts."""
    seen: dict[str, Any] = {}

    def look(**given: Any) -> None:
        seen.update(given)
        # What would be signed next must not be sent.
        raise EndpointConnectionError(endpoint_url="nowhere")

    hook.conn.meta.events.register("before-sign.s3.PutObject", look)
    with pytest.raises(EndpointConnectionError):
        hook.conn.put_object(Bucket="archive", Key="a b/c", Body=b"content", IfNoneMatch="*", Tagging="lab=1")
    assert inspect.signature(hook.conn._endpoint.http_session.send).parameters.keys() == {"request"}
    assert inspect.signature(seen["request_signer"].sign).parameters.keys() >= {"operation_name", "request"}
    request = seen["request"]
    assert isinstance(request, AWSRequest)
    assert request.url.endswith("/archive/a%20b/c")
    assert request.headers["If-None-Match"] == "*"
    assert request.headers["x-amz-tagging"] == "lab=1"
    # All of the context that is repeated, or knowingly not.
    assert request.context.keys() >= {
        "signing",
        "client_region",
        "client_config",
        "auth_type",
        "has_streaming_input",
    }


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def test_repetitions_carry_what_boto3_sends(hook: OphysS3Hook, place: Place, tree: Path) -> None:
    sent: list[dict[str, str]] = []

    def note(request: Any, **_: Any) -> None:
        if ".lock" not in request.url and ".probe" not in request.url and ".manifest" not in request.url:
            sent.append({name.lower(): _text(value) for name, value in request.headers.items()})

    hook.conn.meta.events.register("before-send.s3.PutObject", note)
    extra_args = {"ServerSideEncryption": "AES256", "Tagging": "lab=1", "ExpectedBucketOwner": "123456789012"}
    hook.publish(tree, place.uri, extra_args=extra_args)
    by_boto3, *repeated = sent
    assert len(repeated) == 21
    of_one_call = {"expect", "amz-sdk-invocation-id", "amz-sdk-request"}
    of_one_object = {
        "authorization",
        "x-amz-date",
        "x-amz-content-sha256",
        "x-amz-checksum-crc64nvme",
        "content-length",
        # Tells which of its features botocore used.
        "user-agent",
    }
    for headers in repeated:
        assert headers.keys() == by_boto3.keys() - of_one_call
        same = headers.keys() - of_one_object
        assert {name: headers[name] for name in same} == {name: by_boto3[name] for name in same}


def test_repetition_never_replaces_what_another_writer_put(
    hook: OphysS3Hook, place: Place, requests: Requests, tree: Path
) -> None:
    def overtake(number: int, params: dict[str, Any]) -> None:
        if number == 9:
            assert requests.repeated
            place.put(params["url_path"].partition(place.prefix)[2], b"somebody else's")

    requests.before("PutObject", overtake)
    with pytest.raises(StagingConflictError, match="Another writer"):
        hook.publish(tree, place.uri)
    assert b"somebody else's" in place.contents().values()


def _refused(request: Any) -> AWSResponse:
    class Empty:
        def stream(self, **_: Any) -> Any:
            return iter([b""])

    return AWSResponse(request.url, 503, {}, Empty())


def _unreachable(request: Any) -> None:
    raise EndpointConnectionError(endpoint_url=request.url)


@pytest.mark.parametrize("failure", [_refused, _unreachable])
def test_repetition_that_fails_is_made_by_boto3(
    hook: OphysS3Hook, place: Place, requests: Requests, tree: Path, failure: Any
) -> None:
    failed: list[str] = []

    def fail_each_third(request: Any, **_: Any) -> Any:
        if "amz-sdk-request" in request.headers or len(failed) > 3:
            return None
        failed.append(request.url)
        return failure(request)

    hook.conn.meta.events.register_first("before-send.s3.PutObject", fail_each_third)
    hook.publish(tree, place.uri)
    assert len(failed) == 4
    assert place.contents() == published(tree)


def test_short_listings_find_what_boto3_finds(server: Any, place: Place) -> None:
    for name in ("a", "b &<c>", "ü/d#1", "e%20+f"):
        place.put(name, name.encode())
    pages = {"Bucket": place.bucket, "Prefix": place.prefix, "MaxKeys": 3}

    def listed() -> list[dict[str, Any]]:
        found = place.client.get_paginator("list_objects_v2").paginate(**pages)
        return [entry for page in found for entry in page["Contents"]]

    def answer() -> dict[str, Any]:
        found = place.client.list_objects_v2(**pages)
        return {name: value for name, value in found.items() if name not in ("Contents", "ResponseMetadata")}

    plain, plain_answer = listed(), answer()
    with short_listings(place.client):
        assert listed() == [{name: entry[name] for name in ("Key", "Size", "ETag")} for entry in plain]
        short_answer = answer()
    assert short_answer == plain_answer | {"NextContinuationToken": short_answer["NextContinuationToken"]}
    assert listed() == plain


def test_tree_of_several_pages_is_verified_and_audited(hook: OphysS3Hook, place: Place, tmp_path: Path) -> None:
    hook.max_concurrency = 16
    tree = make_tree(tmp_path / "session.nwb.zarr", chunks=1100)
    assert hook.publish(tree, place.uri).uploaded == 1102
    place.put("session.nwb.zarr/zzz", b"")
    assert hook.audit(tree, place.uri).extra == [f"{place.prefix}session.nwb.zarr/zzz"]
