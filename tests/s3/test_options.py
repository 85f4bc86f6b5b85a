"""Layouts, stores without conditions, memory, and what the requests carry, on a real server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from s3_trees import BIG, make_tree, manifest_of, published
from s3_views import Place, Requests

from airflow_provider_ophys.exceptions import ConfigurationError, OutputBusyError, StagingConflictError
from airflow_provider_ophys.hooks.s3 import OphysS3Hook
from airflow_provider_ophys.staging.files import MIB, PART_SIZE


@pytest.fixture
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A tree, a file, or a file of several parts, as the parameter says."""
    if request.param == "tree":
        return make_tree(tmp_path / "session.nwb.zarr")
    path = tmp_path / "session.nwb"
    path.write_bytes(os.urandom(BIG if request.param == "big file" else 1000))
    return path


EACH_SOURCE = pytest.mark.parametrize("source", ["tree", "file", "big file"], indirect=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overwrite": True, "layout": "versioned"}, "keeps all versions"),
        ({"layout": "flat"}, "layout.*'in_place' or 'versioned'"),
        ({"memory_limit": "1MiB"}, "memory_limit.*32 MiB"),
        ({"memory_limit": "much"}, "memory_limit.*not a number of bytes"),
        ({"extra_args": {"SSECustomerKey": "hunter2"}}, "SSECustomerKey cannot be passed on.*Tagging"),
        ({"compress": True}, "compress.*not permitted"),
    ],
)
def test_wrong_options_are_refused_before_any_request(
    hook: OphysS3Hook, place: Place, requests: Requests, tree: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        hook.publish(tree, place.uri, **options)
    assert "hunter2" not in str(caught.value)
    assert requests.made == []


# The versioned layout


@EACH_SOURCE
def test_each_content_is_a_version_and_the_pointer_names_the_newest(
    hook: OphysS3Hook, place: Place, source: Path
) -> None:
    first = hook.publish(source, place.uri, layout="versioned")
    before = place.contents()
    if source.is_dir():
        (source / "acquisition" / "new").write_bytes(b"new")
    else:
        source.write_bytes(b"new")
    second = hook.publish(source, place.uri, layout="versioned")
    assert first.s3_uri != second.s3_uri
    assert first.latest_uri == second.latest_uri == f"{place.uri}{source.name}/latest.json"
    pointer = json.loads(place.content(f"{source.name}/latest.json"))
    assert pointer == {
        "digest": second.digest,
        "key": second.s3_uri.removeprefix(f"s3://{place.bucket}/"),
        "s3_uri": second.s3_uri,
    }
    del before[f"{source.name}/latest.json"]
    assert before.items() < place.contents().items()


def test_version_has_the_layout_that_is_documented(hook: OphysS3Hook, place: Place, tree: Path) -> None:
    result = hook.publish(tree, place.uri, layout="versioned")
    digits = json.loads(manifest_of(tree))["digest"].removeprefix("sha256:")[:16]
    folder = f"session.nwb.zarr/{digits}/"
    assert result.s3_uri == f"{place.uri}{folder}session.nwb.zarr"
    contents = place.contents()
    del contents["session.nwb.zarr/latest.json"]
    assert contents == {folder + name: content for name, content in published(tree).items()}


@EACH_SOURCE
def test_version_that_is_there_is_not_sent_again(
    hook: OphysS3Hook, place: Place, requests: Requests, source: Path
) -> None:
    first = hook.publish(source, place.uri, layout="versioned")
    requests.made.clear()
    second = hook.publish(source, place.uri, layout="versioned")
    assert (second.uploaded, second.s3_uri, second.digest) == (0, first.s3_uri, first.digest)
    assert {name for name, _ in requests.made} == {"GetObject", "ListObjectsV2"}


def test_pointer_is_switched_when_the_version_is_whole(
    hook: OphysS3Hook, place: Place, requests: Requests, tree: Path
) -> None:
    hook.publish(tree, place.uri, layout="versioned")
    (tree / "acquisition" / "new").write_bytes(b"new")
    requests.made.clear()
    hook.publish(tree, place.uri, layout="versioned")
    written = [path for name, path in requests.made if name == "PutObject"]
    assert written[-1].endswith("session.nwb.zarr/latest.json")
    assert written[-2].endswith("session.nwb.zarr.manifest.json")


def test_of_two_new_versions_at_the_same_time_one_becomes_the_latest(
    hook: OphysS3Hook, place: Place, requests: Requests, tmp_path: Path, tree: Path
) -> None:
    other, others_hook = make_tree(tmp_path / "other" / "session.nwb.zarr", seed=1), OphysS3Hook()
    requests.before(
        "PutObject",
        lambda number, _: number == 1 and others_hook.publish(other, place.uri, layout="versioned"),
    )
    with pytest.raises(OutputBusyError, match="Try again to make it the latest"):
        hook.publish(tree, place.uri, layout="versioned")
    named = json.loads(place.content("session.nwb.zarr/latest.json"))["digest"]
    assert named == json.loads(manifest_of(other))["digest"]
    hook.publish(tree, place.uri, layout="versioned")
    named = json.loads(place.content("session.nwb.zarr/latest.json"))["digest"]
    assert named == json.loads(manifest_of(tree))["digest"]


def test_layouts_of_one_name_are_not_mixed(hook: OphysS3Hook, place: Place, tree: Path) -> None:
    hook.publish(tree, f"{place.uri}a/", layout="versioned")
    hook.publish(tree, f"{place.uri}b/")
    before = place.contents()
    with pytest.raises(StagingConflictError, match="holds versions"):
        hook.publish(tree, f"{place.uri}a/", overwrite=True)
    with pytest.raises(StagingConflictError, match="staged in place"):
        hook.publish(tree, f"{place.uri}b/", layout="versioned")
    assert place.contents() == before


# Stores without conditional writes


def _ignore_conditions(requests: Requests) -> None:
    """Let the server see no conditions, and so behave as one that does not know them."""

    def forget(_: int, params: dict[str, Any]) -> None:
        for header in ("If-None-Match", "If-Match"):
            params["headers"].pop(header, None)

    for operation in ("PutObject", "CompleteMultipartUpload"):
        for data in (True, False):
            requests.before(operation, forget, data=data)


@EACH_SOURCE
def test_store_that_ignores_conditions_is_refused(
    hook: OphysS3Hook, place: Place, requests: Requests, source: Path
) -> None:
    _ignore_conditions(requests)
    with pytest.raises(ConfigurationError, match=r"If-None-Match.*unsafe_no_conditional=True"):
        hook.publish(source, place.uri)
    assert place.listing() == []
    assert place.open_uploads() == []


def test_store_that_ignores_conditions_of_multipart_uploads_is_refused_for_these(
    hook: OphysS3Hook, place: Place, requests: Requests, big_file: Path
) -> None:
    requests.before(
        "CompleteMultipartUpload", lambda _, params: params["headers"].pop("If-None-Match"), data=False
    )
    with pytest.raises(ConfigurationError, match="If-None-Match"):
        hook.publish(big_file, place.uri)
    assert place.listing() == []
    (big_file.parent / "small.nwb").write_bytes(b"content")
    assert hook.publish(big_file.parent / "small.nwb", place.uri).uploaded == 1


def test_store_that_does_not_know_conditions_is_refused(
    hook: OphysS3Hook, place: Place, requests: Requests, tree: Path
) -> None:
    def answer(*_: object) -> None:
        error = {"Error": {"Code": "NotImplemented"}, "ResponseMetadata": {"HTTPStatusCode": 501}}
        raise ClientError(error, "PutObject")

    requests.before("PutObject", answer, data=False)
    with pytest.raises(ConfigurationError, match=r"conditional writes.*unsafe_no_conditional=True"):
        hook.publish(tree, place.uri)
    assert place.listing() == []


@EACH_SOURCE
def test_user_may_do_without_conditions(
    hook: OphysS3Hook, place: Place, requests: Requests, source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    seen = []
    for operation in ("PutObject", "CompleteMultipartUpload"):
        for data in (True, False):
            requests.before(operation, lambda _, params: seen.extend(params["headers"]), data=data)
    with caplog.at_level("WARNING"):
        assert hook.publish(source, place.uri, unsafe_no_conditional=True).uploaded
    assert seen
    assert not {"If-None-Match", "If-Match"} & set(seen)
    assert "nothing else may write" in caplog.text
    if source.is_dir():
        assert place.contents() == published(source)
    else:
        assert place.contents() == {source.name: source.read_bytes()}


# Memory and extra arguments


@pytest.mark.parametrize(("limit", "most_parts"), [("41MiB", 2), ("32MiB", 1)])
def test_parts_in_flight_stay_within_the_memory_limit(
    hook: OphysS3Hook, place: Place, requests: Requests, tmp_path: Path, limit: object, most_parts: int
) -> None:
    (tmp_path / "a.nwb").touch()
    os.truncate(tmp_path / "a.nwb", 8 * PART_SIZE)
    counts, lock = [0], threading.Lock()

    def count(step: int) -> None:
        with lock:
            counts.append(counts[-1] + step)

    requests.before("UploadPart", lambda *_: count(1))
    requests.after("UploadPart", lambda *_: count(-1))
    hook.publish(tmp_path / "a.nwb", place.uri, memory_limit=limit)
    assert max(counts) == most_parts


@pytest.mark.parametrize("limit", [32, 64])
def test_process_grows_by_no_more_than_the_memory_limit(
    connection: None, place: Place, tmp_path: Path, limit: int
) -> None:
    (tmp_path / "a.nwb").touch()
    os.truncate(tmp_path / "a.nwb", 12 * PART_SIZE)
    code = """
import sys
from pathlib import Path
from airflow_provider_ophys.compat import get_hook_lineage_collector
from airflow_provider_ophys.hooks.s3 import OphysS3Hook

def peak_kib():  # ru_maxrss would begin with what the process held that started this one
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])

# What Airflow imports for these: all plugins, and before 3.2 its models.
get_hook_lineage_collector()
OphysS3Hook().get_conn()
imported = peak_kib()
OphysS3Hook().publish(sys.argv[1], sys.argv[2], memory_limit=sys.argv[3])
print((peak_kib() - imported) / 1024)
"""
    command = [sys.executable, "-c", code, tmp_path / "a.nwb", place.uri, f"{limit}MiB"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    assert PART_SIZE / MIB <= float(done.stdout.splitlines()[-1]) <= limit
    assert place.listing() == ["a.nwb"]


@EACH_SOURCE
def test_encryption_tags_and_owner_go_with_the_requests(
    hook: OphysS3Hook, place: Place, requests: Requests, source: Path
) -> None:
    headers: list[tuple[str, dict[str, str]]] = []
    hook.conn.meta.events.register(
        "before-call.s3", lambda model, params, **_: headers.append((model.name, dict(params["headers"])))
    )
    extra_args = {"ServerSideEncryption": "AES256", "Tagging": "lab=1", "ExpectedBucketOwner": "123456789012"}
    hook.publish(source, place.uri, extra_args=extra_args)
    assert all(sent["x-amz-expected-bucket-owner"] == "123456789012" for _, sent in headers)
    created = [sent for name, sent in headers if name in ("PutObject", "CreateMultipartUpload")]
    assert created
    assert all(sent["x-amz-server-side-encryption"] == "AES256" for sent in created)
    for name in place.listing():
        assert place.head(name)["ServerSideEncryption"] == "AES256"
        tags = place.client.get_object_tagging(Bucket=place.bucket, Key=place.prefix + name)["TagSet"]
        assert tags == [{"Key": "lab", "Value": "1"}]
    headers.clear()
    hook.publish(source, place.uri)
    assert headers
    assert not any("x-amz-expected-bucket-owner" in sent for _, sent in headers)
