"""Publishing a tree on a real server: its manifest, and the lease that lets one writer at a time be at work."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from s3_trees import make_tree, manifest_of, published
from s3_views import Place, Requests

from airflow_provider_ophys.exceptions import OutputBusyError, StagingConflictError, StagingError
from airflow_provider_ophys.hooks.s3 import OphysS3Hook
from airflow_provider_ophys.staging.lease import Lease
from airflow_provider_ophys.staging.s3_store import S3Store

MANIFEST = "session.nwb.zarr.manifest.json"
LOCK = "session.nwb.zarr.lock"
# A renewal every second and a half may be three seconds late, as on a busy machine.
LEASE_SECONDS = 4.5


def _other(tmp_path: Path, *, seed: int = 1, chunks: int = 20) -> Path:
    return make_tree(tmp_path / f"other{seed}" / "session.nwb.zarr", seed=seed, chunks=chunks)


def _lease(place: Place, *, owner: str | None = None, seconds: float = 60) -> Lease:
    return Lease(
        S3Store(place.client, place.bucket), f"{place.prefix}session.nwb.zarr", owner=owner, seconds=seconds
    )


@contextmanager
def _started(call: Callable[[], Any]) -> Iterator[Future[Any]]:
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(call)


# The manifest


def test_result_names_the_manifest_and_its_digest(hook: OphysS3Hook, place: Place, tree: Path) -> None:
    result = hook.publish(tree, place.uri)
    assert result.manifest_uri == place.uri + MANIFEST
    assert place.content(MANIFEST) == manifest_of(tree)
    assert result.digest == json.loads(manifest_of(tree))["digest"]
    assert hook.publish(tree, place.uri).digest == result.digest


def test_manifest_is_written_when_all_else_is_there(
    hook: OphysS3Hook, place: Place, requests: Requests, tree: Path
) -> None:
    hook.publish(tree, place.uri)
    written = [(name, path) for name, path in requests.made if name in ("PutObject", "ListObjectsV2")]
    assert written[-1][1].endswith(MANIFEST)
    assert written[-2][0] == "ListObjectsV2"


def test_published_tree_is_only_looked_at(hook: OphysS3Hook, place: Place, requests: Requests, tree: Path) -> None:
    hook.publish(tree, place.uri)
    requests.made.clear()
    assert hook.publish(tree, place.uri).skipped == 22
    assert [name for name, _ in requests.made] == ["GetObject", "ListObjectsV2", "GetObject"]


def test_each_file_of_a_published_tree_is_read_again(
    hook: OphysS3Hook, place: Place, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []
    open_file = os.open

    def note(path: Any, *arguments: Any, **options: Any) -> int:
        opened.append(Path(path))
        return open_file(path, *arguments, **options)

    monkeypatch.setattr(os, "open", note)
    hook.publish(tree, place.uri)
    opened.clear()
    assert hook.publish(tree, place.uri).uploaded == 0
    assert sorted(path for path in opened if path.is_relative_to(tree)) == sorted(
        path for path in tree.rglob("*") if path.is_file()
    )


def test_manifest_tells_of_an_overwrite_under_way(
    hook: OphysS3Hook, place: Place, requests: Requests, tmp_path: Path, tree: Path
) -> None:
    hook.publish(_other(tmp_path), place.uri)
    states = []
    requests.before("PutObject", lambda *_: states.append(json.loads(place.content(MANIFEST))))
    requests.before("DeleteObjects", lambda *_: states.append(json.loads(place.content(MANIFEST))))
    result = hook.publish(tree, place.uri, overwrite=True)
    assert len(states) >= 22
    assert all((state["state"], state["digest"]) == ("publishing", result.digest) for state in states)
    assert place.contents() == published(tree)


def test_interrupted_overwrite_is_completed_by_the_same_tree_and_refused_to_others(
    hook: OphysS3Hook, place: Place, requests: Requests, tmp_path: Path, tree: Path
) -> None:
    older = _other(tmp_path, chunks=30)
    hook.publish(older, place.uri)
    stopped = threading.Event()
    requests.before("PutObject", lambda number, _: number == 5 and stopped.set())
    with pytest.raises(StagingError, match="stopped"):
        hook.publish(tree, place.uri, overwrite=True, stopped=stopped)
    with pytest.raises(StagingConflictError, match="overwrite=True"):
        hook.publish(older, place.uri)
    hook.publish(tree, place.uri)
    assert place.contents() == published(tree)


def test_spoilt_objects_of_the_same_tree_are_mended(hook: OphysS3Hook, place: Place, tree: Path) -> None:
    hook.publish(tree, place.uri)
    place.put("session.nwb.zarr/acquisition/data/c/3", b"x" * 1000)
    place.put("session.nwb.zarr/stray", b"")
    result = hook.publish(tree, place.uri)
    # The root metadata is sent again too: nobody may open the tree meanwhile.
    assert (result.uploaded, result.deleted) == (2, 1)
    assert place.contents() == published(tree)


def test_tree_that_only_grew_is_other_content(hook: OphysS3Hook, place: Place, tree: Path) -> None:
    hook.publish(tree, place.uri)
    before = place.contents()
    (tree / "acquisition" / "data" / "c" / "99").write_bytes(b"new")
    with pytest.raises(StagingConflictError, match="c/99"):
        hook.publish(tree, place.uri)
    assert place.contents() == before
    hook.publish(tree, place.uri, overwrite=True)
    assert place.contents() == published(tree)


def test_tree_that_was_staged_without_a_manifest_gets_one(hook: OphysS3Hook, place: Place, tree: Path) -> None:
    hook.publish(tree, place.uri)
    place.client.delete_object(Bucket=place.bucket, Key=place.prefix + MANIFEST)
    assert hook.publish(tree, place.uri).uploaded == 0
    assert place.contents() == published(tree)


@pytest.mark.parametrize("name", [MANIFEST, LOCK])
@pytest.mark.parametrize("content", [b"notes", b"[]", b'{"format": "another"}'])
def test_what_is_no_manifest_or_lease_is_left_alone(
    hook: OphysS3Hook, place: Place, tree: Path, name: str, content: bytes
) -> None:
    place.put(name, content)
    with pytest.raises(StagingConflictError, match=f"{name}.*something else.*away"):
        hook.publish(tree, place.uri, overwrite=True)
    assert place.contents() == {name: content}


# The lease


def test_lease_is_held_while_objects_change_and_gone_afterwards(
    hook: OphysS3Hook, place: Place, requests: Requests, tree: Path
) -> None:
    seen = []
    requests.before("PutObject", lambda *_: seen.append(LOCK in place.listing()))
    hook.publish(tree, place.uri)
    assert seen == [True] * 22
    assert LOCK not in place.listing()


def test_lease_is_released_after_a_failure(
    hook: OphysS3Hook, place: Place, requests: Requests, tree: Path
) -> None:
    requests.before("PutObject", lambda number, _: number == 9 and (tree / "zarr.json").touch())
    with pytest.raises(StagingError, match="changed"):
        hook.publish(tree, place.uri)
    assert LOCK not in place.listing()


def test_writer_waits_for_another_and_then_looks_again(
    connection: None, place: Place, tmp_path: Path, tree: Path
) -> None:
    hook = OphysS3Hook()
    first = _lease(place)
    with first.held(lambda: None):
        waiting = Requests(hook)
        with _started(lambda: hook.publish(tree, place.uri)) as publishing:
            while sum(path.endswith(LOCK) for _, path in list(waiting.made)) < 2:
                time.sleep(0.05)
            assert not publishing.done()
            assert waiting.count("PutObject") == 0
            first._release()
    assert publishing.result().uploaded == 22
    assert place.contents() == published(tree)


def test_marker_is_read_again_under_the_lease(
    hook: OphysS3Hook, place: Place, requests: Requests, tmp_path: Path, tree: Path
) -> None:
    """Another writer publishes between our first look and our lease."""
    other, others_hook = _other(tmp_path), OphysS3Hook()

    def overtake(number: int, request: dict[str, Any]) -> None:
        if number == 1:
            others_hook.publish(other, place.uri)

    requests.before("PutObject", overtake, data=False)
    with pytest.raises(StagingConflictError, match="Another writer"):
        hook.publish(tree, place.uri, overwrite=True)
    assert place.contents() == published(other)


def test_writer_of_the_same_tree_is_content_with_what_another_published(
    hook: OphysS3Hook, place: Place, requests: Requests, tree: Path
) -> None:
    others_hook = OphysS3Hook()
    requests.before(
        "PutObject", lambda number, _: number == 1 and others_hook.publish(tree, place.uri), data=False
    )
    assert hook.publish(tree, place.uri).uploaded == 0
    assert place.contents() == published(tree)


def test_lease_that_is_renewed_is_not_taken_and_one_that_is_not_is(place: Place) -> None:
    kept = _lease(place, seconds=LEASE_SECONDS)
    with kept.held(lambda: None):
        while kept._renewals < 5:  # longer than it would last without renewal
            time.sleep(0.05)
        with pytest.raises(TimeoutError), _lease(place, seconds=LEASE_SECONDS).held(_give_up_after(2)):
            pytest.fail("two hold the lease")
    dead = _lease(place, seconds=LEASE_SECONDS)
    dead._take(lambda: None)
    with _lease(place, seconds=LEASE_SECONDS).held(_give_up_after(100)):
        # The first writer comes to life again: it must neither go on nor remove what is not its own.
        assert not dead._write(dead._held)
        dead._release()
        assert LOCK in place.listing()
    assert place.listing() == []


def _give_up_after(polls: int) -> Callable[[], None]:
    left = iter(range(polls))

    def check() -> None:
        if next(left, None) is None:
            raise TimeoutError

    return check


def test_later_try_of_the_same_task_does_not_wait(place: Place) -> None:
    dead = _lease(place, owner="dag/run/task/-1")
    dead._take(lambda: None)
    with _lease(place, owner="dag/run/task/-1").held(_give_up_after(1)):
        pass
    dead._take(lambda: None)
    for owner in (None, "dag/run/task/0"):
        with pytest.raises(TimeoutError), _lease(place, owner=owner).held(_give_up_after(1)):
            pytest.fail("it was taken from somebody else")


@pytest.mark.parametrize("when", [3, 21])
def test_writer_who_lost_its_lease_stops_before_others_see_more_of_it(
    hook: OphysS3Hook, place: Place, requests: Requests, tree: Path, monkeypatch: pytest.MonkeyPatch, when: int
) -> None:
    monkeypatch.setattr("airflow_provider_ophys.staging.lease.LEASE_SECONDS", LEASE_SECONDS)
    taken = json.dumps({"run_id": "another", "owner": None, "renewals": 1}).encode()

    def take_over(number: int, _: object) -> None:
        if number == when:
            place.put(LOCK, taken)
            for keeper in threading.enumerate():
                if keeper.name == "ophys-s3-lease":
                    keeper.join(60)  # the renewal that notices it is its last act

    requests.before("PutObject", take_over)
    with pytest.raises(OutputBusyError, match=f"{LOCK}.*Try again"):
        hook.publish(tree, place.uri)
    assert "session.nwb.zarr/zarr.json" not in place.listing()
    assert MANIFEST not in place.listing()
    assert place.content(LOCK) == taken


# Several at once


@pytest.mark.parametrize("writers", [2, 3])
def test_all_writers_of_the_same_tree_succeed(connection: None, place: Place, tree: Path, writers: int) -> None:
    with ThreadPoolExecutor(writers) as pool:
        hooks = [OphysS3Hook() for _ in range(writers)]
        results = list(pool.map(lambda hook: hook.publish(tree, place.uri), hooks))
    assert sum(result.uploaded for result in results) == 22
    assert place.contents() == published(tree)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("writers", [2, 3])
def test_of_writers_of_different_trees_exactly_one_succeeds(
    connection: None, place: Place, tmp_path: Path, writers: int, *, overwrite: bool
) -> None:
    trees = [_other(tmp_path, seed=seed, chunks=20 + seed) for seed in range(writers)]
    together = threading.Barrier(writers)

    def publish(tree: Path) -> object:
        hook = OphysS3Hook()
        # All have looked at the empty destination before any takes the lease.
        Requests(hook).before("PutObject", lambda number, _: number == 1 and together.wait(60), data=False)
        try:
            return hook.publish(tree, place.uri, overwrite=overwrite)
        except StagingConflictError as error:
            return error

    with ThreadPoolExecutor(writers) as pool:
        results = list(pool.map(publish, trees))
    [winner] = [
        tree for tree, result in zip(trees, results, strict=True) if not isinstance(result, StagingConflictError)
    ]
    assert place.contents() == published(winner)
