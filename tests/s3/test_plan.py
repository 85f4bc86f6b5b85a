"""What a source becomes, and what is refused, without any network."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from s3_trees import make_tree

from airflow_provider_ophys.exceptions import (
    ConfigurationError,
    SourceDataError,
    SourceNotFoundError,
    StagingError,
)
from airflow_provider_ophys.staging import Destination, local_source, plan_staging
from airflow_provider_ophys.staging.checksums import Digest, crc64nvme, digest, md5
from airflow_provider_ophys.staging.files import MIB, PART_SIZE, Fingerprint, Part, SourceFile
from airflow_provider_ophys.staging.plan import is_current
from airflow_provider_ophys.staging.store import RemoteObject
from airflow_provider_ophys.staging.transfer import compare, digests_needed

BUCKET = Destination("archive", "lab/")


@pytest.mark.parametrize(
    ("uri", "bucket", "prefix"),
    [
        ("s3://archive", "archive", ""),
        ("s3://archive/", "archive", ""),
        ("s3://archive/lab", "archive", "lab/"),
        ("s3://archive/lab/2026/", "archive", "lab/2026/"),
        ("s3://archive/läb/with space/", "archive", "läb/with space/"),
    ],
)
def test_destination_is_a_bucket_and_a_prefix(uri: str, bucket: str, prefix: str) -> None:
    assert Destination.parse(uri) == Destination(bucket, prefix)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "archive/lab",
        "/mnt/archive",
        "https://archive/lab",
        "s3:/archive",
        "s3://",
        "s3:///lab",
        "s3://a/lab",
        "s3://-archive/lab",
        "s3://user:password@archive/lab",
        "s3://archive//lab/",
        "s3://archive/lab//",
        "s3://archive/./lab",
        "s3://archive/lab/../other",
        "s3://archive/la\\b",
        "s3://archive/la\nb",
        "s3://archive/" + "x" * 1025,
    ],
)
def test_bad_destination_is_refused(uri: str) -> None:
    with pytest.raises(ConfigurationError, match="destination"):
        Destination.parse(uri)


def test_source_is_a_path_or_the_result_of_a_write_operator(tmp_path: Path) -> None:
    assert local_source("/data/a.nwb") == Path("/data/a.nwb")
    assert local_source(tmp_path) == tmp_path
    assert local_source({"nwbfile_path": "/data/a.nwb", "size_bytes": 5}) == Path("/data/a.nwb")


@pytest.mark.parametrize("source", [None, "", {}, {"nwbfile_path": None}, ["/data/a.nwb"], 5])
def test_other_sources_are_refused_with_a_way_out(source: object) -> None:
    with pytest.raises(ConfigurationError, match="expand"):
        local_source(source)  # type: ignore[arg-type]


def test_file_becomes_one_object_below_the_prefix(tmp_path: Path) -> None:
    (tmp_path / "a.nwb").write_bytes(b"12345")
    plan = plan_staging(tmp_path / "a.nwb", BUCKET)
    assert [(file.key, file.size) for file in plan.files] == [("lab/a.nwb", 5)]
    assert (plan.s3_uri, plan.size_bytes, plan.is_tree) == ("s3://archive/lab/a.nwb", 5, False)
    assert plan.root_keys == set()


def test_tree_becomes_one_object_for_each_file(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "a.nwb.zarr", chunks=2)
    (tree / "empty folder").mkdir()
    plan = plan_staging(tree, BUCKET)
    assert [file.key for file in plan.files] == [
        "lab/a.nwb.zarr/acquisition/data/c/0",
        "lab/a.nwb.zarr/acquisition/data/c/1",
        "lab/a.nwb.zarr/acquisition/data/zarr.json",
        "lab/a.nwb.zarr/zarr.json",
    ]
    assert plan.root_keys & plan.keys == {"lab/a.nwb.zarr/zarr.json"}
    assert plan.size_bytes == sum(path.stat().st_size for path in tree.rglob("*") if path.is_file())


LITTER = (
    ".DS_Store",
    "acquisition/.DS_Store",
    "acquisition/._0",
    "acquisition/._zarr.json",
    "acquisition/.nfs0000000001",
    "acquisition/.fuse_hidden0001",
    "acquisition/.smbdelete1",
    "acquisition/.directory",
    "Thumbs.db",
    "acquisition/thumbs.db",
    "desktop.ini",
    "Icon\r",
    ".git/HEAD",
    ".git/refs/heads/main",
    ".gitattributes",
    ".svn/entries",
    ".Trash-1000/files/0",
    "@eaDir/zarr.json@SynoEAStream",
    "$RECYCLE.BIN/S-1/0",
    "System Volume Information/IndexerVolumeGuid",
)


@pytest.mark.parametrize(
    "data",
    [
        (
            "zarr.json",
            "acquisition/zarr.json",
            "acquisition/c/0",
            ".movie/zarr.json",
            ".movie/c/0",
            "lost+found/.zgroup",
        ),
        (".zgroup", ".zattrs", ".zmetadata", "acquisition/.zarray", "acquisition/0.0", "acquisition/.zattrs"),
    ],
    ids=["format 3", "format 2"],
)
def test_what_systems_leave_in_a_tree_is_no_part_of_it(tmp_path: Path, data: tuple[str, ...]) -> None:
    tree = tmp_path / "a.nwb.zarr"
    for name in (*data, *LITTER):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(b"{}")
    (tree / "acquisition" / ".hg").symlink_to("/etc")
    plan = plan_staging(tree, BUCKET)
    assert plan.keys == {f"lab/a.nwb.zarr/{name}" for name in data}
    (tree / "acquisition" / ".DS_Store").write_bytes(b"looked at again")
    (tree / "acquisition" / ".nfs0000000001").unlink()
    assert is_current(plan)


def test_missing_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match="a.nwb"):
        plan_staging(tmp_path / "a.nwb", BUCKET)


def test_folder_that_is_no_zarr_tree_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("private")
    with pytest.raises(SourceDataError, match="not a Zarr tree"):
        plan_staging(tmp_path, BUCKET)


def _link(path: Path) -> None:
    path.symlink_to("/etc/hostname")


def _folder_link(path: Path) -> None:
    path.symlink_to("/etc", target_is_directory=True)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(path))


@pytest.mark.parametrize("make", [_link, _folder_link, os.mkfifo, _socket])
def test_what_is_no_file_is_refused_alone_and_in_a_tree(
    tmp_path: Path, make: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tree = make_tree(tmp_path / "a.nwb.zarr")
    for path in (tree / "acquisition" / "odd", tmp_path / "odd.nwb"):
        make(path)  # type: ignore[operator]
    with pytest.raises(SourceDataError, match="odd"):
        plan_staging(tree, BUCKET)
    with pytest.raises(SourceDataError, match="odd"):
        plan_staging(tmp_path / "odd.nwb", BUCKET)


@pytest.mark.parametrize("name", [b"new\nline", b"back\\slash", b"not-\xff-utf8", b"escape\x1b[0m", b"\xc2\x85"])
def test_odd_names_are_refused(tmp_path: Path, name: bytes) -> None:
    tree = make_tree(tmp_path / "a.nwb.zarr")
    Path(os.fsdecode(os.fsencode(tree) + b"/" + name)).write_bytes(b"x")
    with pytest.raises(SourceDataError, match="Rename it") as caught:
        plan_staging(tree, BUCKET)
    assert str(caught.value).isprintable()


def test_key_that_s3_cannot_take_is_refused(tmp_path: Path) -> None:
    (tmp_path / ("ä" * 100)).write_bytes(b"x")
    with pytest.raises(SourceDataError, match="1025 bytes"):
        plan_staging(tmp_path / ("ä" * 100), Destination("archive", "x" * 824 + "/"))
    assert plan_staging(tmp_path / ("ä" * 100), Destination("archive", "x" * 823 + "/"))


def _file(size: int) -> SourceFile:
    return SourceFile(Path("a.nwb"), "a.nwb", Fingerprint(1, 2, size, 3))


def test_parts_cover_a_file_of_any_size() -> None:
    assert _file(0).parts() == [Part(1, 0, 0)]
    assert _file(PART_SIZE).parts() == [Part(1, 0, PART_SIZE)]
    assert _file(PART_SIZE + 1).parts() == [Part(1, 0, PART_SIZE), Part(2, PART_SIZE, 1)]


@pytest.mark.parametrize("size", [10_000 * PART_SIZE, 10_000 * PART_SIZE + 1, 5 * 1024**4])
def test_parts_of_a_huge_file_keep_the_limits_of_s3(size: int) -> None:
    parts = _file(size).parts()
    assert len(parts) <= 10_000
    assert sum(part.size for part in parts) == size
    assert all(part.size % MIB == 0 for part in parts[:-1])


def test_digest_is_what_s3_computes() -> None:
    assert crc64nvme(b"123456789") == 0xAE8B14860A799888  # the check value of CRC-64/NVME
    first, second = b"12345", b"6789"
    parts = [(crc64nvme(content), len(content), md5(content)) for content in (first, second)]
    assert md5(first).hex() == "827ccb0eea8a706c4c34a16891f84e7b"
    assert digest(parts[:1]).etag == "827ccb0eea8a706c4c34a16891f84e7b"
    assert digest(parts) == Digest("rosUhgp5mIg=", f"{md5(md5(first) + md5(second)).hex()}-2")


def test_comparison_sorts_what_a_destination_has_and_lacks(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "a.nwb.zarr", chunks=3)
    plan = plan_staging(tree, Destination("archive", ""))
    chunks, inner, root = plan.files[:3], *plan.files[3:]
    remote = {
        there.key: there
        for there in (
            RemoteObject(chunks[0].key, 1000, "right"),
            RemoteObject(chunks[1].key, 1000, "other"),
            RemoteObject(chunks[2].key, 999, "short"),
            RemoteObject(inner.key, inner.size, "right"),
            RemoteObject("a.nwb.zarr/stray", 1, "stray"),
        )
    }
    needed = digests_needed(plan, remote)
    assert needed == [chunks[0], chunks[1], inner]
    found = compare(plan, remote, {file.key: Digest("crc", "right") for file in needed})
    assert found.same == (chunks[0], inner)
    assert found.unclear == (chunks[1],)
    assert found.different == (chunks[2],)
    assert found.missing == (root,)
    assert found.extra == (remote["a.nwb.zarr/stray"],)
    settled = found.settled(same=[], different=found.unclear)
    assert (settled.unclear, settled.different) == ((), (chunks[2], chunks[1]))


def _append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def _rewrite(path: Path) -> None:
    path.write_bytes(b"54321")
    os.utime(path, ns=(0, 0))


def _replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    other.replace(path)


def _turn_into_link(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.symlink_to("moved")


CHANGES = [_append, _rewrite, _replace, _turn_into_link, Path.unlink]


@pytest.mark.parametrize("change", CHANGES)
def test_change_of_a_file_is_noticed_before_and_while_it_is_read(tmp_path: Path, change: object) -> None:
    path = tmp_path / "a.nwb"
    path.write_bytes(b"12345")
    plan = plan_staging(path, BUCKET)
    with pytest.raises(StagingError, match="a.nwb"), plan.files[0].opened() as descriptor:
        assert plan.files[0].read(descriptor, Part(1, 0, 5)) == b"12345"
        change(path)  # type: ignore[operator]
    with pytest.raises(StagingError, match="a.nwb"), plan.files[0].opened():
        pytest.fail("it was opened")


@pytest.mark.parametrize("change", CHANGES)
def test_change_of_a_small_file_is_noticed_before_and_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: object
) -> None:
    path = tmp_path / "a.nwb"
    path.write_bytes(b"12345")
    [file] = plan_staging(path, BUCKET).files
    assert file.content() == b"12345"
    pread = os.pread

    def read_and_change(*arguments: int) -> bytes:
        content = pread(*arguments)
        change(path)  # type: ignore[operator]
        return content

    monkeypatch.setattr(os, "pread", read_and_change)
    with pytest.raises(StagingError, match="a.nwb"):
        file.content()
    monkeypatch.setattr(os, "pread", lambda *_: pytest.fail("it was read"))
    with pytest.raises(StagingError, match="a.nwb"):
        file.content()


def test_file_that_shrinks_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.nwb"
    path.write_bytes(b"12345")
    [file] = plan_staging(path, BUCKET).files
    with pytest.raises(StagingError, match="changed"), file.opened() as descriptor:
        os.truncate(path, 3)
        file.read(descriptor, Part(1, 0, 5))


def test_change_anywhere_in_a_tree_is_noticed(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "a.nwb.zarr")
    plan = plan_staging(tree, BUCKET)
    assert is_current(plan)
    (tree / "acquisition" / "new").write_bytes(b"")
    assert not is_current(plan)
    (tree / "acquisition" / "new").unlink()
    assert is_current(plan)
    (tree / "zarr.json").unlink()
    assert not is_current(plan)


def test_all_but_the_implementation_of_the_store_loads_neither_boto3_nor_airflow() -> None:
    code = (
        "import airflow_provider_ophys.staging.publication, airflow_provider_ophys.staging.audit, sys;"
        "sys.exit(str({'airflow', 'boto3', 'botocore', 'pynwb'} & set(sys.modules)) if "
        "{'airflow', 'boto3', 'botocore', 'pynwb'} & set(sys.modules) else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
