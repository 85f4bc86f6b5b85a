"""Publishing on a real server that is stopped, killed, tampered with, or done by two at a time."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from s3_trees import BIG, crc64nvme, published
from s3_views import Place, Requests

from airflow_provider_ophys.exceptions import (
    StagingConflictError,
    StagingError,
)
from airflow_provider_ophys.hooks.s3 import OphysS3Hook
from airflow_provider_ophys.staging.files import PART_SIZE

# Stops, kills and changes on the way


def test_stop_ends_a_tree_before_its_root_and_the_next_run_sends_the_rest(
    hook: OphysS3Hook, place: Place, requests: Requests, tree: Path
) -> None:
    stopped = threading.Event()
    requests.before("PutObject", lambda number, _: number == 5 and stopped.set())
    with pytest.raises(StagingError, match="stopped"):
        hook.publish(tree, place.uri, stopped=stopped)
    there = place.listing()
    assert 5 <= len(there) < 22
    assert "session.nwb.zarr/zarr.json" not in there
    result = hook.publish(tree, place.uri)
    assert (result.uploaded, result.skipped) == (22 - len(there), len(there))
    assert place.contents() == published(tree)


def test_stop_leaves_nothing_of_a_file(
    hook: OphysS3Hook, place: Place, requests: Requests, big_file: Path
) -> None:
    stopped = threading.Event()
    requests.after("UploadPart", lambda _: stopped.set())
    with pytest.raises(StagingError, match="stopped"):
        hook.publish(big_file, place.uri, stopped=stopped)
    assert place.listing() == []
    assert place.open_uploads() == []
    assert hook.publish(big_file, place.uri).uploaded == 1


def test_killed_upload_is_taken_up(hook: OphysS3Hook, place: Place, requests: Requests, tmp_path: Path) -> None:
    path = tmp_path / "big.nwb"
    path.write_bytes(os.urandom(16 * PART_SIZE))
    code = (
        "import sys; from airflow_provider_ophys.hooks.s3 import OphysS3Hook;"
        "OphysS3Hook(max_concurrency=1).publish(sys.argv[1], sys.argv[2], owner='a task instance')"
    )
    child = subprocess.Popen([sys.executable, "-c", code, path, place.uri], stderr=subprocess.DEVNULL)
    try:
        stored = _wait_for_parts(place, at_least=4)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert place.listing() == ["big.nwb.lock"]
    assert hook.publish(path, place.uri, owner="a task instance").uploaded == 1
    assert requests.count("UploadPart") <= 16 - stored
    assert requests.count("CreateMultipartUpload") == 0
    assert place.head("big.nwb")["ChecksumCRC64NVME"] == crc64nvme(path.read_bytes())
    assert place.open_uploads() == []


def _wait_for_parts(place: Place, *, at_least: int) -> int:
    for _ in range(1200):
        # Before it sends anything, the upload tries out conditions on an object of its own.
        for upload in [upload for upload in place.open_uploads() if upload["Key"].endswith("/big.nwb")]:
            parts = place.client.list_parts(Bucket=place.bucket, Key=upload["Key"], UploadId=upload["UploadId"])
            if len(parts.get("Parts", [])) >= at_least:
                return len(parts["Parts"])
        time.sleep(0.05)
    pytest.fail("the upload did not get that far")


def test_part_that_another_content_left_behind_is_sent_again(
    hook: OphysS3Hook, place: Place, requests: Requests, big_file: Path
) -> None:
    target = {"Bucket": place.bucket, "Key": f"{place.prefix}big.nwb"}
    opened = place.client.create_multipart_upload(
        **target, ChecksumAlgorithm="CRC64NVME", ChecksumType="FULL_OBJECT"
    )
    content = big_file.read_bytes()
    for number, part in ((1, content[:PART_SIZE]), (2, os.urandom(PART_SIZE))):
        place.client.upload_part(
            **target, UploadId=opened["UploadId"], PartNumber=number, Body=part, ChecksumAlgorithm="CRC64NVME"
        )
    hook.publish(big_file, place.uri)
    assert requests.count("UploadPart") == 2
    assert place.content("big.nwb") == content


def test_older_uploads_that_were_left_open_are_removed(
    hook: OphysS3Hook, place: Place, requests: Requests, big_file: Path
) -> None:
    neighbour = {"Bucket": place.bucket, "Key": f"{place.prefix}big.nwb2"}
    for target in [{"Bucket": place.bucket, "Key": f"{place.prefix}big.nwb"}] * 3 + [neighbour]:
        place.client.create_multipart_upload(**target, ChecksumAlgorithm="CRC64NVME", ChecksumType="FULL_OBJECT")
    hook.publish(big_file, place.uri)
    assert requests.count("CreateMultipartUpload") == 0
    assert [upload["Key"] for upload in place.open_uploads()] == [neighbour["Key"]]
    place.client.abort_multipart_upload(**neighbour, UploadId=place.open_uploads()[0]["UploadId"])


def test_file_that_changes_while_it_is_uploaded_is_not_published(
    hook: OphysS3Hook, place: Place, requests: Requests, big_file: Path
) -> None:
    requests.before("UploadPart", lambda number, _: number == 1 and os.utime(big_file))
    with pytest.raises(StagingError, match="changed while"):
        hook.publish(big_file, place.uri)
    assert place.listing() == []
    assert place.open_uploads() == []


def test_tree_that_changes_while_it_is_uploaded_gets_no_root(
    hook: OphysS3Hook, place: Place, requests: Requests, tree: Path
) -> None:
    requests.before("PutObject", lambda number, _: number == 21 and (tree / "new").write_bytes(b""))
    with pytest.raises(StagingError, match="changed while"):
        hook.publish(tree, place.uri)
    assert "session.nwb.zarr/zarr.json" not in place.listing()


@pytest.mark.parametrize("operation", ["PutObject", "UploadPart"])
def test_server_refuses_bytes_that_were_altered_on_the_way(
    hook: OphysS3Hook, place: Place, requests: Requests, tmp_path: Path, operation: str
) -> None:
    def alter(_: int, params: dict[str, Any]) -> None:
        params["body"] = io.BytesIO(b"\0" + params["body"].read()[1:])

    (tmp_path / "a.nwb").write_bytes(b"\1" * (5 if operation == "PutObject" else PART_SIZE + 1))
    requests.before(operation, alter)
    with pytest.raises(StagingError, match="not what was sent"):
        hook.publish(tmp_path / "a.nwb", place.uri)
    assert place.listing() == []
    assert place.open_uploads() == []


@pytest.mark.parametrize("tamper", ["alter", "delete", "add"])
def test_verification_notices_what_others_do_to_the_objects(
    hook: OphysS3Hook, place: Place, requests: Requests, tree: Path, tamper: str
) -> None:
    key = "session.nwb.zarr/acquisition/data/c/7"

    def act(number: int) -> None:
        if number != 22:
            return
        if tamper == "delete":
            place.client.delete_object(Bucket=place.bucket, Key=place.prefix + key)
        else:
            place.put(key if tamper == "alter" else f"{key}.stray", b"x" * 1000)

    requests.after("PutObject", act)
    with pytest.raises(StagingError, match="not what was sent.*c/7"):
        hook.publish(tree, place.uri)


# Others at work at the same time


def _results(*calls: Callable[[], object]) -> list[object]:
    def outcome(call: Callable[[], object]) -> object:
        try:
            return call()
        except StagingError as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(outcome, calls))


@pytest.mark.parametrize("size", [100_000, BIG])
def test_writer_who_was_overtaken_by_the_same_content_is_content(
    hook: OphysS3Hook, place: Place, requests: Requests, tmp_path: Path, size: int
) -> None:
    content = os.urandom(size)
    (tmp_path / "a.nwb").write_bytes(content)
    last = "PutObject" if size < PART_SIZE else "CompleteMultipartUpload"
    requests.before(last, lambda *_: place.put("a.nwb", content))
    result = hook.publish(tmp_path / "a.nwb", place.uri)
    assert (result.uploaded, result.skipped) == (0, 1)
    assert place.open_uploads() == []


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("size", [100_000, BIG])
def test_writer_who_was_overtaken_by_other_content_leaves_it(
    hook: OphysS3Hook, place: Place, requests: Requests, tmp_path: Path, size: int, *, overwrite: bool
) -> None:
    if overwrite:
        place.put("a.nwb", b"what was looked at")
    (tmp_path / "a.nwb").write_bytes(os.urandom(size))
    last = "PutObject" if size < PART_SIZE else "CompleteMultipartUpload"
    requests.before(last, lambda *_: place.put("a.nwb", b"somebody else's"))
    with pytest.raises(StagingConflictError, match="Another writer"):
        hook.publish(tmp_path / "a.nwb", place.uri, overwrite=overwrite)
    assert place.content("a.nwb") == b"somebody else's"
    assert place.open_uploads() == []


def test_two_writers_of_the_same_tree_both_succeed(place: Place, connection: None, tree: Path) -> None:
    hooks = [OphysS3Hook(), OphysS3Hook()]
    results: list[Any] = _results(*(lambda hook=hook: hook.publish(tree, place.uri) for hook in hooks))
    assert [result.objects for result in results] == [22, 22]
    assert place.contents() == published(tree)


@pytest.mark.parametrize("writers", [2, 3])
@pytest.mark.parametrize("size", [100_000, BIG])
def test_all_writers_of_the_same_file_succeed(
    place: Place, connection: None, tmp_path: Path, size: int, writers: int
) -> None:
    (tmp_path / "a.nwb").write_bytes(os.urandom(size))
    hooks = [OphysS3Hook() for _ in range(writers)]
    results: list[Any] = _results(
        *(lambda hook=hook: hook.publish(tmp_path / "a.nwb", place.uri) for hook in hooks)
    )
    assert sum(result.uploaded for result in results) == 1
    assert place.contents() == {"a.nwb": (tmp_path / "a.nwb").read_bytes()}
    assert place.open_uploads() == []


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("writers", [2, 3])
@pytest.mark.parametrize("size", [100_000, BIG])
def test_of_writers_of_different_files_one_succeeds(
    place: Place, connection: None, tmp_path: Path, size: int, writers: int, *, overwrite: bool
) -> None:
    paths = [tmp_path / str(number) / "a.nwb" for number in range(writers)]
    together = threading.Barrier(writers)
    hooks = [OphysS3Hook() for _ in paths]
    for path, hook in zip(paths, hooks, strict=True):
        path.parent.mkdir()
        path.write_bytes(os.urandom(size))
        # All have looked at the empty destination before any is the first to write there.
        Requests(hook).before("PutObject", lambda number, _: number == 1 and together.wait(60), data=False)
    results = _results(
        *(
            lambda path=path, hook=hook: hook.publish(path, place.uri, overwrite=overwrite)
            for path, hook in zip(paths, hooks, strict=True)
        )
    )
    [winner] = [number for number, result in enumerate(results) if not isinstance(result, StagingConflictError)]
    assert not isinstance(results[winner], Exception)
    assert place.contents() == {"a.nwb": paths[winner].read_bytes()}
    assert place.open_uploads() == []
