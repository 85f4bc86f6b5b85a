"""What archival workflows use: trying out, auditing, deleting the source, and what people see of it."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.execution_time.context import OutletEventAccessors
from airflow_versions import HookLineageCollector, task_fails
from s3_trees import BIG, files_of, make_tree, published
from s3_views import Place, Requests

from airflow_provider_ophys.exceptions import (
    ConfigurationError,
    OphysError,
    SourceNotFoundError,
    StagingConflictError,
    StagingError,
)
from airflow_provider_ophys.hooks.s3 import OphysS3Hook
from airflow_provider_ophys.operators.staging import StagedObjectLink, StageToS3Operator
from airflow_provider_ophys.staging.files import PART_SIZE
from airflow_provider_ophys.staging.plan import StagingPlan, is_current
from airflow_provider_ophys.staging.transfer_threads import TransferProgress
from demo.s3_server import S3Server

WRITES = {"PutObject", "DeleteObject", "DeleteObjects", "CreateMultipartUpload"}


@pytest.fixture(params=["tree", "file", "big file"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    folder = tmp_path / "outputs"
    folder.mkdir()
    if request.param == "tree":
        return make_tree(folder / "session.nwb.zarr")
    path = folder / "session.nwb"
    path.write_bytes(os.urandom(BIG if request.param == "big file" else 1000))
    return path


# Trying out


@pytest.mark.parametrize("layout", ["in_place", "versioned"])
def test_dry_run_tells_what_would_be_done_and_does_nothing(
    hook: OphysS3Hook, place: Place, requests: Requests, source: Path, layout: str
) -> None:
    told = hook.publish(source, place.uri, dry_run=True, layout=layout, delete_local="after_verify")
    assert not WRITES & {name for name, _ in requests.made}
    assert place.listing() == []
    assert source.exists()
    done = hook.publish(source, place.uri, layout=layout)
    assert told.to_json() == done.to_json() | {"dry_run": True, "elapsed_seconds": told.elapsed_seconds}


def test_dry_run_of_an_overwrite_counts_and_one_of_a_conflict_fails(
    hook: OphysS3Hook, place: Place, tmp_path: Path, tree: Path
) -> None:
    hook.publish(make_tree(tmp_path / "older" / "session.nwb.zarr", chunks=30, seed=1), place.uri)
    before = place.contents()
    with pytest.raises(StagingConflictError, match="overwrite=True"):
        hook.publish(tree, place.uri, dry_run=True)
    told = hook.publish(tree, place.uri, dry_run=True, overwrite=True)
    assert place.contents() == before
    done = hook.publish(tree, place.uri, overwrite=True)
    assert (told.uploaded, told.skipped, told.deleted) == (done.uploaded, done.skipped, done.deleted)


# Deleting the source


@pytest.mark.parametrize("layout", ["in_place", "versioned"])
def test_source_is_deleted_when_all_of_it_was_just_listed(
    hook: OphysS3Hook, place: Place, requests: Requests, source: Path, layout: str
) -> None:
    neighbour = source.with_name("neighbour.nwb")
    neighbour.write_bytes(b"stays")
    hook.publish(source, place.uri, layout=layout)
    requests.made.clear()
    result = hook.publish(source, place.uri, layout=layout, delete_local="after_verify")
    assert (result.uploaded, result.deleted_local) == (0, True)
    assert list(source.parent.iterdir()) == [neighbour]
    assert requests.made[-1][0] == "ListObjectsV2"


def test_source_stays_when_what_is_there_is_not_it(
    hook: OphysS3Hook, place: Place, requests: Requests, source: Path
) -> None:
    """Somebody destroys an object between the verification and the last listing."""
    listings = []

    def destroy(_: int, __: object) -> None:
        listings.append(1)
        if len(listings) == 4:
            [name] = [name for name in place.listing() if name.endswith(("session.nwb", "c/7"))]
            place.client.delete_object(Bucket=place.bucket, Key=place.prefix + name)

    requests.before("ListObjectsV2", destroy)
    with pytest.raises(StagingError, match="not what was sent"):
        hook.publish(source, place.uri, delete_local="after_verify")
    assert len(listings) == 4
    assert source.exists()
    assert files_of(source) if source.is_dir() else source.read_bytes()


def test_source_that_changed_since_it_was_staged_stays(
    hook: OphysS3Hook, place: Place, requests: Requests, source: Path
) -> None:
    listings = []
    changed = source / "zarr.json" if source.is_dir() else source

    def change(*_: object) -> None:
        listings.append(1)
        if len(listings) == 4:
            os.utime(changed)

    requests.before("ListObjectsV2", change)
    with pytest.raises(StagingError, match="changed since; nothing of it was deleted"):
        hook.publish(source, place.uri, delete_local="after_verify")
    assert changed.exists()


def _append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"appended")


def _replace_by_the_same(path: Path) -> None:
    """Put another file there that only its inode tells from the first."""
    status, content = path.stat(), path.read_bytes()
    path.rename(path.with_name("moved"))
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("change", [_append, _replace_by_the_same])
def test_only_what_was_staged_is_deleted_also_if_it_changes_at_the_last_moment(
    hook: OphysS3Hook, place: Place, source: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    is_tree = source.is_dir()
    changed = source / "zarr.json" if is_tree else source

    def is_current_and_changes(plan: StagingPlan) -> bool:
        current = is_current(plan)
        change(changed)
        return current

    monkeypatch.setattr("airflow_provider_ophys.staging.local_deletion.is_current", is_current_and_changes)
    with pytest.raises(StagingError, match=f"{source} is staged at .* and changed since") as caught:
        hook.publish(source, place.uri, delete_local="after_verify")
    [left] = source.parent.glob(".session.nwb.zarr.staged-*/zarr.json") if is_tree else [source]
    assert str(left) in str(caught.value)
    assert left.read_bytes().endswith(b"appended") == (change is _append)


def test_what_is_no_part_of_a_tree_is_never_deleted(
    hook: OphysS3Hook, place: Place, tree: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = published(tree)
    (tree / "acquisition" / ".git").mkdir()
    (tree / "acquisition" / ".git" / "HEAD").write_bytes(b"history")
    assert hook.publish(tree, place.uri, delete_local="after_verify").deleted_local
    assert place.contents() == expected
    assert not tree.exists()
    [left] = [path for path in tree.parent.rglob("*") if path.is_file()]
    assert left.read_bytes() == b"history"
    assert str(left.parent) in caplog.text


def test_file_that_appears_in_a_tree_while_it_is_deleted_stays(
    hook: OphysS3Hook, place: Place, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_current_and_grows(plan: StagingPlan) -> bool:
        current = is_current(plan)
        (tree / "acquisition" / "new").write_bytes(b"new")
        return current

    monkeypatch.setattr("airflow_provider_ophys.staging.local_deletion.is_current", is_current_and_grows)
    with pytest.raises(StagingError, match=r"acquisition/new was left"):
        hook.publish(tree, place.uri, delete_local="after_verify")
    assert [path.read_bytes() for path in tree.parent.rglob("*") if path.is_file()] == [b"new"]


def test_source_stays_when_staging_fails(hook: OphysS3Hook, place: Place, source: Path) -> None:
    place.put("session.nwb.zarr/other" if source.is_dir() else "session.nwb", b"other")
    with pytest.raises(StagingConflictError):
        hook.publish(source, place.uri, delete_local="after_verify")
    assert source.exists()


# Auditing


@pytest.mark.parametrize("archived", [False, True])
@pytest.mark.parametrize("layout", ["in_place", "versioned"])
def test_audit_finds_what_is_intact_and_what_is_not(
    hook: OphysS3Hook, place: Place, requests: Requests, source: Path, layout: str, *, archived: bool
) -> None:
    result = hook.publish(source, place.uri, layout=layout, delete_local="after_verify" if archived else "never")
    given: Any = result.to_json() if archived else source
    requests.made.clear()
    report = hook.audit(given, place.uri)
    assert (report.intact, report.missing, report.altered, report.extra) == (True, [], [], [])
    assert (report.s3_uri, report.manifest_uri) == (result.s3_uri, result.manifest_uri)
    assert (report.objects, report.size_bytes) == (result.objects, result.size_bytes)
    assert not WRITES & {name for name, _ in requests.made}

    key = result.s3_uri.removeprefix(f"s3://{place.bucket}/")
    name = key.removeprefix(place.prefix)
    if result.manifest_uri:
        place.put(f"{name}/acquisition/data/c/3", b"x" * 1000)
        place.put(f"{name}/stray", b"")
        place.client.delete_object(Bucket=place.bucket, Key=f"{key}/acquisition/data/c/5")
        expected = [f"{key}/acquisition/data/c/5"], [f"{key}/acquisition/data/c/3"], [f"{key}/stray"]
    else:
        place.put(name, b"x" * result.size_bytes)
        expected = [], [key], []
    report = hook.audit(given, place.uri)
    assert (report.missing, report.altered, report.extra) == expected
    assert not report.intact


@pytest.mark.parametrize("given", ["path", "result"])
def test_altered_or_missing_manifest_is_reported(hook: OphysS3Hook, place: Place, tree: Path, given: str) -> None:
    result = hook.publish(tree, place.uri)
    source: Any = tree if given == "path" else {**result.to_json(), "source": "/not/there/session.nwb.zarr"}
    name = "session.nwb.zarr.manifest.json"
    manifest = json.loads(place.content(name))
    manifest["files"][0]["etag"] = "0" * 32
    place.put(name, json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode())
    assert place.prefix + name in hook.audit(source, place.uri).altered
    files = hashlib.sha256(json.dumps(manifest["files"], sort_keys=True, separators=(",", ":")).encode())
    manifest["digest"] = f"sha256:{files.hexdigest()}"
    place.put(name, json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode())
    assert place.prefix + name in hook.audit(source, place.uri).altered
    place.client.delete_object(Bucket=place.bucket, Key=place.prefix + name)
    if given == "path":
        assert hook.audit(source, place.uri).missing == [place.prefix + name]
    else:
        with pytest.raises(SourceNotFoundError, match="no manifest"):
            hook.audit(source, place.uri)


def test_audit_says_what_it_lacks(hook: OphysS3Hook, place: Place, tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match="give what staging returned"):
        hook.audit(tmp_path / "gone.nwb", place.uri)
    staged = {"source": "/a.nwb", "s3_uri": "s3://elsewhere/a.nwb", "digest": "crc64nvme:x", "size_bytes": 1}
    with pytest.raises(ConfigurationError, match="not below"):
        hook.audit(staged, place.uri)


# What people see of it


class _TaskInstance:
    dag_id, run_id, task_id, map_index = "dag", "run", "stage", -1

    def __init__(self) -> None:
        self.pushed: dict[str, Any] = {}

    def xcom_push(self, key: str, value: object) -> None:
        self.pushed[key] = value


def _context() -> Any:
    return {"outlet_events": OutletEventAccessors(), "ti": _TaskInstance()}


def test_operator_audits_and_fails_at_once_with_a_report(connection: None, place: Place, tree: Path) -> None:
    options: dict[str, Any] = {"task_id": "stage", "source": str(tree), "destination": place.uri}
    StageToS3Operator(**options).execute(_context())
    assert StageToS3Operator(**options, verify_only=True).execute(_context())["intact"] is True
    place.put("session.nwb.zarr/stray", b"")
    context = _context()
    with task_fails(OphysError, match=r"1 extra, such as .*/stray"):
        StageToS3Operator(**options, verify_only="True").execute(context)
    assert context["ti"].pushed["audit"]["extra"] == [f"{place.prefix}session.nwb.zarr/stray"]
    with task_fails(OphysError, match="verify_only changes nothing.*overwrite"):
        StageToS3Operator(**options, verify_only=True, overwrite=True).execute(context)
    with task_fails(OphysError, match="verify_only: .*boolean"):
        StageToS3Operator(**options, verify_only="perhaps").execute(context)


def test_operator_tries_out_and_deletes_the_source(connection: None, place: Place, tree: Path) -> None:
    options: dict[str, Any] = {"task_id": "stage", "source": str(tree), "destination": place.uri}
    context = _context()
    assert StageToS3Operator(**options, dry_run=True).execute(context)["dry_run"] is True
    assert (place.listing(), context["ti"].pushed) == ([], {})
    expected = published(tree)
    assert StageToS3Operator(**options, delete_local="after_verify").execute(context)["deleted_local"] is True
    assert not tree.exists()
    assert place.contents() == expected
    assert context["ti"].pushed["staged_address"].endswith(f"/{place.bucket}/{place.prefix}session.nwb.zarr")


@pytest.mark.parametrize(
    ("endpoint", "address"),
    [
        (None, "https://s3.console.aws.amazon.com/s3/buckets/archive?prefix=lab/a%20%231.nwb"),
        ("https://s3.lab.example", "https://s3.lab.example/archive/lab/a%20%231.nwb"),
    ],
)
def test_address_leads_to_the_console_or_the_endpoint(
    server: S3Server, monkeypatch: pytest.MonkeyPatch, endpoint: str | None, address: str
) -> None:
    connection = server.connection()
    connection["extra"]["endpoint_url"] = endpoint
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
    hook = OphysS3Hook()
    assert hook.address("s3://archive/lab/a #1.nwb") == address
    hook.conn.close()


def test_operator_has_a_link() -> None:
    operator = StageToS3Operator(task_id="stage", source="a.nwb", destination="s3://archive/")
    assert [type(link) for link in operator.operator_extra_links] == [StagedObjectLink]


def test_lineage_leads_from_the_source_to_the_object(
    hook: OphysS3Hook, place: Place, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector = HookLineageCollector()
    monkeypatch.setattr("airflow_provider_ophys.hooks.s3.get_hook_lineage_collector", lambda: collector)
    hook.publish(tree, place.uri, dry_run=True)
    assert not collector.has_collected
    hook.publish(tree, place.uri)
    lineage = collector.collected_assets
    assert [source.asset.uri for source in lineage.inputs] == [f"file://{tree}"]
    assert [output.asset.uri for output in lineage.outputs] == [f"{place.uri}session.nwb.zarr"]


def test_log_tells_the_progress_every_ten_seconds(caplog: pytest.LogCaptureFixture) -> None:
    clock = iter(range(0, 28, 3))
    progress = TransferProgress("s3://archive/a.nwb", 100_000_000, clock=lambda: next(clock))
    with caplog.at_level(logging.INFO):
        for _ in range(9):
            progress.advance(3_000_000)
    assert caplog.messages == [
        "s3://archive/a.nwb: 12 %, 1.0 MB/s, 88 s left",
        "s3://archive/a.nwb: 24 %, 1.0 MB/s, 76 s left",
    ]


def test_progress_of_all_that_is_sent_is_told(
    hook: OphysS3Hook,
    place: Place,
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("airflow_provider_ophys.staging.transfer_threads.PROGRESS_SECONDS", 0)
    if source.is_dir():
        (source / "shard").write_bytes(os.urandom(PART_SIZE + 1))
    with caplog.at_level(logging.INFO):
        hook.publish(source, place.uri)
    told = [re.search(r": (\d+) %", message) for message in caplog.messages]
    assert [match[1] for match in told if match][-1] == "100"
