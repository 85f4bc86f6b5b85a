"""Publishing processes and servers that are killed at random moments: the next run completes with the rest."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from forked_processes import ForkedProcesses
from forked_publications import publish
from s3_trees import make_tree, manifest_of, published
from s3_views import Place, Requests
from thorough import THOROUGH

from airflow_provider_ophys.exceptions import StagingError
from airflow_provider_ophys.hooks.s3 import OphysS3Hook
from airflow_provider_ophys.staging.files import PART_SIZE
from demo.s3_server import S3Server

KILLS = 20 if THOROUGH else 10
PARTS = 4
OWNER = "dag/run/stage/-1"


@pytest.fixture(scope="module")
def publishers(server: S3Server) -> Iterator[ForkedProcesses]:
    os.environ["AIRFLOW_CONN_AWS_DEFAULT"] = server.connection_json()
    try:
        with ForkedProcesses(publish) as running:
            yield running
    finally:
        del os.environ["AIRFLOW_CONN_AWS_DEFAULT"]


def _kill_after(
    publishers: ForkedProcesses, delay: float, source: Path, destination: str, **options: object
) -> int:
    pid = publishers.start(source=str(source), destination=destination, owner=OWNER, **options)
    time.sleep(delay)
    # It may have ended by itself, but nobody has waited for it, so the id is its own.
    os.kill(pid, signal.SIGKILL)
    return publishers.wait(pid)


def test_tree_is_completed_after_a_kill_at_any_moment(
    publishers: ForkedProcesses, hook: OphysS3Hook, place: Place, tmp_path: Path
) -> None:
    moments, statuses = random.Random(6), []  # noqa: S311 -- reproducible, not secret
    tree = make_tree(tmp_path / "session.nwb.zarr", chunks=60)
    for number in range(KILLS):
        prefix = f"{number}/"
        status = _kill_after(publishers, moments.uniform(0, 0.4), tree, place.uri + prefix, threads=4)
        statuses.append(status)
        there = [name.removeprefix(prefix) for name in place.listing() if name.startswith(prefix)]
        is_published = "session.nwb.zarr.manifest.json" in there
        data = [name for name in there if name.startswith("session.nwb.zarr/")]
        # Whoever finds the manifest or the root metadata finds all that they speak of.
        if is_published:
            assert place.content(f"{prefix}session.nwb.zarr.manifest.json") == manifest_of(tree)
        if is_published or "session.nwb.zarr/zarr.json" in data:
            assert len(data) == 62
        result = hook.publish(tree, place.uri + prefix, owner=OWNER)
        assert (result.uploaded, result.skipped) == (62 - len(data), len(data))
    assert statuses.count(-signal.SIGKILL) >= KILLS / 2
    complete = {f"{n}/{name}": content for n in range(KILLS) for name, content in published(tree).items()}
    listed = place.listing()
    assert set(listed) == complete.keys()
    assert all(place.content(name) == complete[name] for name in random.Random(1).sample(sorted(complete), 50))  # noqa: S311


def test_overwrite_of_a_tree_is_completed_after_a_kill_at_any_moment(
    publishers: ForkedProcesses, hook: OphysS3Hook, place: Place, tmp_path: Path
) -> None:
    moments, statuses = random.Random(7), []  # noqa: S311
    trees = [make_tree(tmp_path / str(seed) / "session.nwb.zarr", chunks=40 + seed, seed=seed) for seed in (0, 1)]
    manifests = [manifest_of(tree) for tree in trees]
    hook.publish(trees[1], place.uri)
    for number in range(KILLS):
        tree = trees[number % 2]
        statuses.append(_kill_after(publishers, moments.uniform(0, 0.4), tree, place.uri, overwrite=True))
        marker = place.content("session.nwb.zarr.manifest.json")
        contents = {name: place.content(name) for name in place.listing()}
        contents = {name: content for name, content in contents.items() if not name.endswith((".lock", ".probe"))}
        if marker in manifests:
            # A manifest that says published never stands over a mixed tree.
            assert contents == published(trees[manifests.index(marker)])
        else:
            assert b'"state":"publishing"' in marker
        hook.publish(tree, place.uri, owner=OWNER, overwrite=True)
        assert place.content("session.nwb.zarr.manifest.json") == manifests[number % 2]
    assert statuses.count(-signal.SIGKILL) >= KILLS / 2


def test_file_is_completed_after_a_kill_at_any_moment(
    publishers: ForkedProcesses, hook: OphysS3Hook, place: Place, requests: Requests, tmp_path: Path
) -> None:
    moments, statuses = random.Random(8), []  # noqa: S311
    path = tmp_path / "big.nwb"
    path.write_bytes(os.urandom(PARTS * PART_SIZE))
    for number in range(KILLS):
        prefix = f"{number}/"
        statuses.append(_kill_after(publishers, moments.uniform(0.05, 0.6), path, place.uri + prefix, threads=2))
        was_published = f"{prefix}big.nwb" in place.listing()
        stored = _stored_parts(place, prefix)
        requests.made.clear()
        result = hook.publish(path, place.uri + prefix, owner=OWNER)
        assert result.uploaded == (0 if was_published else 1)
        # The server may have been storing another part when we looked.
        assert requests.count("UploadPart") <= (0 if was_published else PARTS - stored)
        assert [name for name in place.listing() if name.startswith(prefix)] == [f"{prefix}big.nwb"]
        place.client.delete_object(Bucket=place.bucket, Key=f"{place.prefix}{prefix}big.nwb")
    assert place.open_uploads() == []
    assert statuses.count(-signal.SIGKILL) >= KILLS / 2


def _stored_parts(place: Place, prefix: str) -> int:
    """Count the parts that are stored whole in the newest upload that was left open."""
    left = [upload for upload in place.open_uploads() if upload["Key"] == f"{place.prefix}{prefix}big.nwb"]
    if not left:
        return 0
    newest = max(left, key=lambda upload: upload["Initiated"])
    parts = place.client.list_parts(Bucket=place.bucket, Key=newest["Key"], UploadId=newest["UploadId"])
    return len([part for part in parts.get("Parts", []) if part["Size"] == PART_SIZE])


@pytest.mark.parametrize("kind", ["tree", "file"])
def test_publication_is_completed_after_the_server_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    if kind == "tree":
        source = make_tree(tmp_path / "session.nwb.zarr", chunks=100)
    else:
        source = tmp_path / "session.nwb"
        source.write_bytes(os.urandom(6 * PART_SIZE))
    with S3Server(tmp_path / "s3") as server:
        monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", server.connection_json())
        hook = OphysS3Hook(max_concurrency=2)
        killed = threading.Event()

        def kill_server(number: int) -> None:
            if number == 4 and not killed.is_set():
                killed.set()
                server.kill("weed")

        Requests(hook).after("PutObject" if kind == "tree" else "UploadPart", kill_server)
        with pytest.raises(StagingError, match="cannot be reached|answered"):
            hook.publish(source, f"s3://{server.bucket}/x/", owner=OWNER)
        hook.conn.close()
        server.stop()
        server.start()
        monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", server.connection_json())
        hook = OphysS3Hook()
        sent = Requests(hook)
        result = hook.publish(source, f"s3://{server.bucket}/x/", owner=OWNER)
        if kind == "tree":
            assert 0 < result.skipped < 102
        else:
            assert sent.count("UploadPart") < 6
        assert hook.audit(source, f"s3://{server.bucket}/x/").intact
        hook.conn.close()
