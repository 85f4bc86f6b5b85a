"""Publishing on a real server: what readers find, what a second run does, what is replaced."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from boto3.s3.transfer import TransferConfig
from hdmf_zarr import NWBZarrIO
from pynwb import NWBFile, TimeSeries
from s3_trees import crc64nvme, files_of, make_tree, published
from s3_views import Place, Requests

from airflow_provider_ophys.exceptions import (
    StagingConflictError,
)
from airflow_provider_ophys.hooks.s3 import OphysS3Hook
from airflow_provider_ophys.staging.files import MIB, PART_SIZE

# What readers find


@pytest.mark.parametrize("size", [0, 1, 100_000, PART_SIZE, PART_SIZE + 1])
def test_file_is_published_whole_with_its_checksum(
    hook: OphysS3Hook, place: Place, tmp_path: Path, size: int
) -> None:
    content = os.urandom(size)
    (tmp_path / "a.nwb").write_bytes(content)
    result = hook.publish(tmp_path / "a.nwb", place.uri)
    assert result.to_json() == {
        "source": str(tmp_path / "a.nwb"),
        "s3_uri": f"{place.uri}a.nwb",
        "manifest_uri": None,
        "latest_uri": None,
        "digest": f"crc64nvme:{crc64nvme(content)}",
        "objects": 1,
        "size_bytes": size,
        "uploaded": 1,
        "skipped": 0,
        "deleted": 0,
        "sent_bytes": size,
        "copied_bytes": 0,
        "deleted_local": False,
        "dry_run": False,
        "elapsed_seconds": result.elapsed_seconds,
    }
    assert place.listing() == ["a.nwb"]
    assert place.content("a.nwb") == content
    assert place.head("a.nwb")["ChecksumCRC64NVME"] == crc64nvme(content)
    assert place.open_uploads() == []


def test_tree_is_published_whole(hook: OphysS3Hook, place: Place, tree: Path) -> None:
    (tree / "acquisition" / "empty").write_bytes(b"")
    (tree / "acquisition" / "shard").write_bytes(os.urandom(PART_SIZE + 1))
    expected = files_of(tree)
    result = hook.publish({"nwbfile_path": str(tree)}, place.uri)
    assert (result.uploaded, result.skipped, result.objects) == (len(expected), 0, len(expected))
    assert result.size_bytes == sum(map(len, expected.values()))
    assert {name: content for name, content in place.contents().items() if name in expected} == expected
    assert set(place.listing()) == {*expected, "session.nwb.zarr.manifest.json"}


def test_root_metadata_is_sent_last(hook: OphysS3Hook, place: Place, requests: Requests, tree: Path) -> None:
    hook.publish(tree, place.uri)
    sent = [path for name, path in requests.made if name == "PutObject" and "session.nwb.zarr/" in path]
    assert len(sent) == 22
    assert sent[-1].endswith("session.nwb.zarr/zarr.json")
    assert not any(path.endswith("session.nwb.zarr/zarr.json") for path in sent[:-1])


def test_names_that_need_encoding_arrive_as_they_are(hook: OphysS3Hook, place: Place, tmp_path: Path) -> None:
    path = tmp_path / "Müller #3 50% + a?b&c=d 'e'.nwb"
    path.write_bytes(b"content")
    hook.publish(path, f"{place.uri}läb 1/")
    assert hook.publish(path, f"{place.uri}läb 1/").skipped == 1
    assert place.listing() == [f"läb 1/{path.name}"]


# hdmf-zarr's way of writing; the warning tells of other readers than ours.
@pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part in the Zarr format 3")
def test_nwb_zarr_tree_is_readable_when_it_is_whole_and_not_before(
    hook: OphysS3Hook, place: Place, tmp_path: Path
) -> None:
    now = datetime.now(tz=UTC)
    nwbfile = NWBFile(session_description="staged", identifier="1", session_start_time=now)
    movie = TimeSeries(name="movie", data=np.arange(1000).reshape(100, 10), unit="n.a.", rate=30.0)
    nwbfile.add_acquisition(movie)
    with NWBZarrIO(str(tmp_path / "a.nwb.zarr"), "w") as io:
        io.write(nwbfile)
    hook.publish(tmp_path / "a.nwb.zarr", place.uri)

    for name, content in place.contents().items():
        (tmp_path / "back" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "back" / name).write_bytes(content)
    with NWBZarrIO(str(tmp_path / "back" / "a.nwb.zarr"), "r") as io:
        assert np.array_equal(io.read().acquisition["movie"].data[:], movie.data)
    (tmp_path / "back" / "a.nwb.zarr" / "zarr.json").unlink()
    with pytest.raises(Exception, match="a.nwb.zarr"), NWBZarrIO(str(tmp_path / "back" / "a.nwb.zarr"), "r") as io:
        io.read()


# A second run


def test_published_file_is_not_sent_again(
    hook: OphysS3Hook, place: Place, requests: Requests, big_file: Path
) -> None:
    hook.publish(big_file, place.uri)
    requests.made.clear()
    result = hook.publish(big_file, place.uri)
    assert (result.uploaded, result.skipped) == (0, 1)
    assert [name for name, _ in requests.made] == ["ListObjectsV2", "GetObject"]


def test_of_a_tree_only_what_is_missing_is_sent(
    hook: OphysS3Hook, place: Place, requests: Requests, tree: Path
) -> None:
    hook.publish(tree, place.uri)
    place.client.delete_object(Bucket=place.bucket, Key=f"{place.prefix}session.nwb.zarr/acquisition/data/c/7")
    requests.made.clear()
    result = hook.publish(tree, place.uri)
    assert (result.uploaded, result.skipped) == (1, 21)
    assert requests.count("PutObject") == 1
    assert place.contents() == published(tree)


def test_same_content_with_another_etag_is_recognised_by_its_checksum(
    hook: OphysS3Hook, place: Place, big_file: Path
) -> None:
    place.client.upload_file(
        str(big_file),
        place.bucket,
        f"{place.prefix}big.nwb",
        ExtraArgs={"ChecksumAlgorithm": "CRC64NVME"},
        Config=TransferConfig(multipart_chunksize=8 * MIB, preferred_transfer_client="classic"),
    )
    assert hook.publish(big_file, place.uri).skipped == 1


def test_same_size_and_other_content_is_other_content(hook: OphysS3Hook, place: Place, tmp_path: Path) -> None:
    place.put("a.nwb", b"54321")
    (tmp_path / "a.nwb").write_bytes(b"12345")
    with pytest.raises(StagingConflictError, match=r"a\.nwb.*overwrite=True"):
        hook.publish(tmp_path / "a.nwb", place.uri)
    assert place.content("a.nwb") == b"54321"


# Other content


@pytest.mark.parametrize("size", [5, PART_SIZE + 1])
def test_other_file_is_replaced_only_when_told(
    hook: OphysS3Hook, place: Place, requests: Requests, tmp_path: Path, size: int
) -> None:
    place.put("a.nwb", b"older content")
    content = os.urandom(size)
    (tmp_path / "a.nwb").write_bytes(content)
    with pytest.raises(StagingConflictError, match="overwrite=True"):
        hook.publish(tmp_path / "a.nwb", place.uri)
    assert place.content("a.nwb") == b"older content"
    assert {name for name, _ in requests.made} <= {"ListObjectsV2", "HeadObject"}
    assert hook.publish(tmp_path / "a.nwb", place.uri, overwrite=True).uploaded == 1
    assert place.content("a.nwb") == content


def test_other_tree_is_replaced_only_when_told(
    hook: OphysS3Hook, place: Place, tmp_path: Path, tree: Path
) -> None:
    older = make_tree(tmp_path / "older" / "session.nwb.zarr", chunks=30, seed=1)
    hook.publish(older, place.uri)
    place.put("session.nwb.zarr.txt", b"a neighbour")
    with pytest.raises(StagingConflictError, match=r"25 more.*overwrite=True"):
        hook.publish(tree, place.uri)
    assert place.contents() == {
        **published(older),
        "session.nwb.zarr.txt": b"a neighbour",
    }
    result = hook.publish(tree, place.uri, overwrite=True)
    assert (result.objects, result.uploaded, result.skipped, result.deleted) == (22, 21, 1, 10)
    assert place.contents() == {
        **published(tree),
        "session.nwb.zarr.txt": b"a neighbour",
    }


def test_tree_cannot_be_opened_while_it_is_replaced(
    hook: OphysS3Hook, place: Place, requests: Requests, tmp_path: Path, tree: Path
) -> None:
    hook.publish(make_tree(tmp_path / "older" / "session.nwb.zarr", seed=1), place.uri)
    requests.made.clear()
    seen: list[bool] = []
    requests.before("PutObject", lambda *_: seen.append("session.nwb.zarr/zarr.json" in place.listing()))
    hook.publish(tree, place.uri, overwrite=True)
    assert seen == [False] * 21
    assert "session.nwb.zarr/zarr.json" in place.listing()
