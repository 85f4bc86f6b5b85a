"""What was staged and has not changed since is neither read nor sent again, wherever it goes."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError
from s3_trees import crc64nvme, make_tree, published
from s3_views import Place, Requests

from airflow_provider_ophys.exceptions import StagingConflictError
from airflow_provider_ophys.hooks.s3 import OphysS3Hook
from airflow_provider_ophys.staging import known_digests
from airflow_provider_ophys.staging.files import PART_SIZE
from demo.s3_server import S3Server

SIZE = PART_SIZE + 100


# Until a file that was just written counts as settled.
SETTLED_SECONDS = 0.3


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "session.nwb"
    path.write_bytes(os.urandom(SIZE))
    time.sleep(SETTLED_SECONDS)
    return path


@pytest.fixture
def store_of_shards(tmp_path: Path) -> Path:
    """A tree with a big file among small ones."""
    path = make_tree(tmp_path / "session.nwb.zarr")
    (path / "acquisition" / "data" / "c" / "0").write_bytes(os.urandom(SIZE))
    time.sleep(SETTLED_SECONDS)
    return path


@pytest.fixture
def archive(server: S3Server, client: BaseClient) -> Place:
    """Another place in the same bucket."""
    return Place(server, client)


def record_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.digests.json")


@contextmanager
def reading(*, at_least: int = 0, at_most: float = float("inf")) -> Iterator[None]:
    """Check how many bytes this process reads, from files and the network."""

    def read() -> int:
        lines = Path("/proc/self/io").read_text().splitlines()
        return int(dict(line.split(": ") for line in lines)["rchar"])

    before = read()
    yield
    assert at_least <= read() - before <= at_most


def refuse(code: str, status: int) -> Callable[..., None]:
    def raise_it(*_: object) -> None:
        error = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
        raise ClientError(error, "UploadPartCopy")

    return raise_it


@pytest.mark.parametrize("layout", ["in_place", "versioned"])
def test_a_file_that_is_there_is_not_read_again(
    hook: OphysS3Hook, place: Place, requests: Requests, file: Path, layout: str
) -> None:
    hook.publish(file, place.uri, layout=layout)
    requests.made.clear()
    with reading(at_most=PART_SIZE / 8):
        result = hook.publish(file, place.uri, layout=layout)
    assert (result.uploaded, result.skipped, result.sent_bytes) == (0, 1, 0)
    assert result.digest == f"crc64nvme:{crc64nvme(file.read_bytes())}"
    assert not [made for made in requests.made if made[0].startswith(("Put", "Upload", "Create"))]


@pytest.mark.parametrize("layout", ["in_place", "versioned"])
def test_nor_is_a_tree(hook: OphysS3Hook, place: Place, store_of_shards: Path, layout: str) -> None:
    first = hook.publish(store_of_shards, place.uri, layout=layout)
    with reading(at_most=PART_SIZE / 8):
        again = hook.publish(store_of_shards, place.uri, layout=layout)
    assert (again.uploaded, again.digest) == (0, first.digest)


def test_a_new_tree_is_read_once(hook: OphysS3Hook, place: Place, store_of_shards: Path) -> None:
    with reading(at_least=SIZE, at_most=1.5 * SIZE):
        hook.publish(store_of_shards, place.uri)
    assert hook.audit(store_of_shards, place.uri).intact


def test_an_audit_reads_all_of_it(hook: OphysS3Hook, place: Place, file: Path) -> None:
    hook.publish(file, place.uri)
    with reading(at_least=SIZE):
        assert hook.audit(file, place.uri).intact


@pytest.mark.parametrize("how", ["in place", "by another file"])
def test_a_change_is_seen_that_keeps_size_and_time(hook: OphysS3Hook, place: Place, file: Path, how: str) -> None:
    hook.publish(file, place.uri)
    before = file.stat()
    if how == "in place":
        with file.open("r+b") as stream:
            stream.write(b"changed")
    else:
        other = file.with_name("other")
        shutil.copyfile(file, other)
        with other.open("r+b") as stream:
            stream.write(b"changed")
        other.replace(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(StagingConflictError):
        hook.publish(file, place.uri)
    assert hook.publish(file, place.uri, overwrite=True).uploaded == 1
    assert place.content(file.name) == file.read_bytes()


def test_of_what_was_just_written_nothing_is_kept(
    hook: OphysS3Hook, place: Place, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could be written to again without getting another time."""
    monkeypatch.setattr(known_digests, "FINE_NS", 3600 * 10**9)
    hook.publish(file, place.uri)
    assert list(file.parent.iterdir()) == [file]
    with reading(at_least=SIZE):
        assert hook.publish(file, place.uri).skipped == 1


@pytest.mark.parametrize("layout", ["in_place", "versioned"])
@pytest.mark.parametrize(
    "kept", [["AAAA", "0" * 32], ["?", "0" * 32], [7, "0" * 32], ["AAAAAAAAAAA=", 7], [], ["AAAAAAAAAAA="]]
)
def test_what_is_no_digest_is_left_aside(
    hook: OphysS3Hook, place: Place, file: Path, kept: list[Any], layout: str
) -> None:
    first = hook.publish(file, place.uri, layout=layout)
    record = json.loads(record_of(file).read_bytes())
    record["files"]["."][1:] = kept
    record_of(file).write_text(json.dumps(record))
    again = hook.publish(file, place.uri, layout=layout)
    assert (again.skipped, again.digest, again.s3_uri) == (1, first.digest, first.s3_uri)


def test_a_pipe_in_its_place_holds_nobody(hook: OphysS3Hook, place: Place, file: Path) -> None:
    os.mkfifo(record_of(file))
    assert hook.publish(file, place.uri).uploaded == 1


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"[]", b"[" * 100_000, b'{"format": "another"}'),
        b'{"format": "airflow-provider-ophys digests 1"}',
    ],
)
def test_what_was_kept_is_left_aside_if_it_is_anything_else(
    hook: OphysS3Hook, place: Place, file: Path, content: bytes
) -> None:
    hook.publish(file, place.uri)
    record_of(file).write_bytes(content)
    with reading(at_least=SIZE):
        assert hook.publish(file, place.uri).skipped == 1
    assert json.loads(record_of(file).read_bytes())["files"]


def test_a_kept_digest_that_is_wrong_refuses_and_replaces_nothing(
    hook: OphysS3Hook, place: Place, file: Path
) -> None:
    hook.publish(file, place.uri)
    kept = json.loads(record_of(file).read_bytes())
    kept["files"]["."][1:] = ["AAAAAAAAAAA=", "0" * 32]
    record_of(file).write_text(json.dumps(kept))
    assert hook.publish(file, place.uri).skipped == 1


def test_an_object_that_was_replaced_is_seen(hook: OphysS3Hook, place: Place, file: Path) -> None:
    hook.publish(file, place.uri)
    place.put(file.name, os.urandom(SIZE))
    with pytest.raises(StagingConflictError):
        hook.publish(file, place.uri)
    assert hook.publish(file, place.uri, overwrite=True).uploaded == 1
    assert place.content(file.name) == file.read_bytes()


def test_the_server_copies_a_file_that_it_has_elsewhere(
    hook: OphysS3Hook, place: Place, archive: Place, requests: Requests, file: Path
) -> None:
    hook.publish(file, place.uri)
    requests.made.clear()
    with reading(at_most=PART_SIZE / 8):
        result = hook.publish(file, archive.uri)
    assert (result.uploaded, result.sent_bytes, result.copied_bytes) == (1, 0, SIZE)
    assert requests.count("UploadPart") == 0
    assert archive.content(file.name) == file.read_bytes()
    assert archive.head(file.name)["ChecksumCRC64NVME"] == crc64nvme(file.read_bytes())
    assert archive.open_uploads() == []
    with reading(at_most=PART_SIZE / 8):
        assert hook.publish(file, place.uri).skipped == 1
        assert hook.publish(file, archive.uri).skipped == 1


def test_and_the_big_files_of_a_tree(
    hook: OphysS3Hook, place: Place, archive: Place, store_of_shards: Path
) -> None:
    hook.publish(store_of_shards, place.uri)
    result = hook.publish(store_of_shards, archive.uri, layout="versioned")
    assert result.copied_bytes == SIZE
    assert result.sent_bytes == result.size_bytes - SIZE
    assert hook.audit(store_of_shards, archive.uri).intact
    assert len(archive.listing()) == len(published(store_of_shards)) + 1


@pytest.mark.parametrize("what", ["other content", "other size", "gone"])
def test_what_is_elsewhere_by_now_is_not_taken_for_it(
    hook: OphysS3Hook, place: Place, archive: Place, file: Path, what: str
) -> None:
    hook.publish(file, place.uri)
    if what == "gone":
        place.client.delete_object(Bucket=place.bucket, Key=place.prefix + file.name)
    else:
        place.put(file.name, os.urandom(SIZE + (what == "other size")))
    result = hook.publish(file, archive.uri)
    assert (result.sent_bytes, result.copied_bytes) == (SIZE, 0)
    assert archive.content(file.name) == file.read_bytes()
    assert archive.open_uploads() == []


@pytest.mark.parametrize(
    ("code", "status"),
    [("NotImplemented", 501), ("AccessDenied", 403), ("NoSuchKey", 404), ("PreconditionFailed", 412)],
)
def test_a_store_that_cannot_copy_is_sent_it(
    hook: OphysS3Hook, place: Place, archive: Place, requests: Requests, file: Path, code: str, status: int
) -> None:
    hook.publish(file, place.uri)
    requests.before("UploadPartCopy", refuse(code, status))
    result = hook.publish(file, archive.uri)
    assert (result.sent_bytes, result.copied_bytes) == (SIZE, 0)
    assert archive.content(file.name) == file.read_bytes()
    assert archive.open_uploads() == []


@pytest.mark.parametrize("checksum", [None, "AAAAAAAAAAA=", "nonsense"])
def test_so_is_one_that_copies_wrong_bytes_or_does_not_tell(
    hook: OphysS3Hook, place: Place, archive: Place, file: Path, checksum: str | None
) -> None:
    def tell(parsed: dict[str, Any], **_: Any) -> None:
        del parsed["CopyPartResult"]["ChecksumCRC64NVME"]
        if checksum:
            parsed["CopyPartResult"]["ChecksumCRC64NVME"] = checksum

    hook.publish(file, place.uri)
    hook.conn.meta.events.register("after-call.s3.UploadPartCopy", tell)
    result = hook.publish(file, archive.uri)
    assert (result.sent_bytes, result.copied_bytes) == (SIZE, 0)
    assert archive.content(file.name) == file.read_bytes()


def test_what_was_kept_goes_with_the_file(hook: OphysS3Hook, place: Place, file: Path) -> None:
    hook.publish(file, place.uri)
    assert record_of(file).exists()
    hook.publish(file, place.uri, delete_local="after_verify")
    assert list(file.parent.iterdir()) == []


def test_a_dry_run_keeps_nothing(hook: OphysS3Hook, place: Place, file: Path) -> None:
    hook.publish(file, place.uri, dry_run=True)
    assert list(file.parent.iterdir()) == [file]
