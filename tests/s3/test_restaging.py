"""A big file that changed is staged again at the cost of what changed; the server copies the rest."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from s3_trees import crc64nvme, make_tree, published
from s3_views import Place, Requests

from airflow_provider_ophys.exceptions import StagingConflictError, StagingError
from airflow_provider_ophys.hooks.s3 import OphysS3Hook
from airflow_provider_ophys.staging.files import PART_SIZE

PARTS = 6
APPENDED = b"rois" * 1000
NAME = "session #3 + 50% ä.nwb"


@pytest.fixture
def staged(hook: OphysS3Hook, place: Place, requests: Requests, tmp_path: Path) -> Path:
    """A file of six parts that is in the bucket; its beginning and end have changed since, as by an append."""
    path = tmp_path / NAME
    path.write_bytes(os.urandom(PARTS * PART_SIZE))
    hook.publish(path, place.uri)
    requests.made.clear()
    with path.open("r+b") as file:
        file.write(b"superblock")
        file.seek(0, os.SEEK_END)
        file.write(APPENDED)
    return path


def _is_whole(place: Place, path: Path) -> bool:
    """Whether all of it is there and nothing else is."""
    assert place.listing() == [path.name]
    assert place.open_uploads() == []
    assert place.head(path.name)["ChecksumCRC64NVME"] == crc64nvme(path.read_bytes())
    return place.content(path.name) == path.read_bytes()


def test_only_parts_that_changed_are_sent(
    hook: OphysS3Hook, place: Place, requests: Requests, staged: Path
) -> None:
    result = hook.publish(staged, place.uri, overwrite=True)
    assert _is_whole(place, staged)
    assert requests.count("UploadPart") == 2
    assert (result.uploaded, result.sent_bytes) == (1, PART_SIZE + len(APPENDED))
    assert result.copied_bytes == (PARTS - 1) * PART_SIZE
    assert hook.publish(staged, place.uri).skipped == 1


def test_file_that_was_cut_is_copied_as_far_as_it_goes(hook: OphysS3Hook, place: Place, staged: Path) -> None:
    os.truncate(staged, 3 * PART_SIZE + 100)
    result = hook.publish(staged, place.uri, overwrite=True)
    assert _is_whole(place, staged)
    # The end of the new file is not as long as the part that was there, but the same as far as it goes.
    assert (result.sent_bytes, result.copied_bytes) == (PART_SIZE, 2 * PART_SIZE + 100)


def test_file_in_a_tree_is_restaged_like_one_alone(hook: OphysS3Hook, place: Place, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "session.nwb.zarr")
    shard = tree / "acquisition" / "data" / "c" / "0"
    shard.write_bytes(os.urandom(3 * PART_SIZE))
    hook.publish(tree, place.uri)
    with shard.open("r+b") as file:
        file.write(b"changed")
    root = (tree / "zarr.json").stat().st_size
    result = hook.publish(tree, place.uri, overwrite=True)
    assert (result.uploaded, result.sent_bytes, result.copied_bytes) == (2, PART_SIZE + root, 2 * PART_SIZE)
    assert place.content("session.nwb.zarr/acquisition/data/c/0") == shard.read_bytes()
    assert place.contents().keys() == published(tree).keys()
    assert hook.audit(tree, place.uri).intact


def test_old_object_is_read_until_the_new_one_is_whole(
    hook: OphysS3Hook, place: Place, requests: Requests, staged: Path
) -> None:
    old = place.content(NAME)
    seen: list[bytes] = []
    requests.before("CompleteMultipartUpload", lambda *_: seen.append(place.content(NAME)))
    hook.publish(staged, place.uri, overwrite=True)
    assert seen == [old]
    assert _is_whole(place, staged)


def test_another_file_altogether_is_copied_in_vain_only_a_few_times(
    hook: OphysS3Hook, place: Place, requests: Requests, staged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_ophys.staging.server_copies.MOST_VAIN_COPIES", 2)
    hook.max_concurrency = 1
    staged.write_bytes(os.urandom(PARTS * PART_SIZE))
    result = hook.publish(staged, place.uri, overwrite=True)
    assert _is_whole(place, staged)
    assert requests.count("UploadPartCopy") == 2
    assert (result.sent_bytes, result.copied_bytes) == (PARTS * PART_SIZE, 0)


def _refusing(code: str, status: int) -> Callable[..., None]:
    def refuse(*_: object) -> None:
        error = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
        raise ClientError(error, "UploadPartCopy")

    return refuse


@pytest.mark.parametrize(
    ("code", "status"), [("NotImplemented", 501), ("AccessDenied", 403), ("InvalidRequest", 400)]
)
def test_store_that_cannot_copy_gets_all_of_it(
    hook: OphysS3Hook, place: Place, requests: Requests, staged: Path, code: str, status: int
) -> None:
    requests.before("UploadPartCopy", _refusing(code, status))
    result = hook.publish(staged, place.uri, overwrite=True)
    assert _is_whole(place, staged)
    assert (result.sent_bytes, result.copied_bytes) == (staged.stat().st_size, 0)
    assert requests.count("UploadPartCopy") <= hook.max_concurrency


@pytest.mark.parametrize("checksum", [None, "AAAAAAAAAAA="])
def test_copy_that_the_store_does_not_vouch_for_is_replaced(
    hook: OphysS3Hook, place: Place, staged: Path, checksum: str | None
) -> None:
    """As of a store that copies wrong bytes, or tells no checksum of what it copied."""

    def tell(parsed: dict[str, Any], **_: Any) -> None:
        del parsed["CopyPartResult"]["ChecksumCRC64NVME"]
        if checksum:
            parsed["CopyPartResult"]["ChecksumCRC64NVME"] = checksum

    hook.conn.meta.events.register("after-call.s3.UploadPartCopy", tell)
    result = hook.publish(staged, place.uri, overwrite=True)
    assert _is_whole(place, staged)
    assert (result.sent_bytes, result.copied_bytes) == (staged.stat().st_size, 0)


@pytest.mark.parametrize("operation", ["UploadPartCopy", "CompleteMultipartUpload"])
def test_object_that_another_writer_put_meanwhile_is_neither_copied_from_nor_replaced(
    hook: OphysS3Hook, place: Place, requests: Requests, staged: Path, operation: str
) -> None:
    requests.before(operation, lambda number, _: number == 1 and place.put(NAME, b"somebody else's"))
    with pytest.raises(StagingConflictError, match="Another writer"):
        hook.publish(staged, place.uri, overwrite=True)
    assert place.contents() == {NAME: b"somebody else's"}
    assert place.open_uploads() == []


def test_stop_leaves_the_old_object_and_the_next_try_replaces_it(
    hook: OphysS3Hook, place: Place, requests: Requests, staged: Path
) -> None:
    old, stopped = place.content(NAME), threading.Event()
    requests.after("UploadPartCopy", lambda _: stopped.set())
    with pytest.raises(StagingError, match="stopped"):
        hook.publish(staged, place.uri, overwrite=True, stopped=stopped)
    assert place.contents() == {NAME: old}
    assert place.open_uploads() == []
    assert hook.publish(staged, place.uri, overwrite=True).copied_bytes == (PARTS - 1) * PART_SIZE
    assert _is_whole(place, staged)
