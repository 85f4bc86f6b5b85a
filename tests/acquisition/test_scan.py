"""Watchers of one folder share one scan, and each still judges by its own options."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from folder_states import STATES, DictStore, State, put

from airflow_provider_ophys.acquisition import AcquisitionOptions, AcquisitionWatch, Scan, shared_scan
from airflow_provider_ophys.triggers.acquisition import AcquisitionFolderTrigger


@contextmanager
def listed_folders() -> Iterator[Counter[str]]:
    """How often each folder is listed meanwhile."""
    heard: Counter[str] = Counter()
    scandir = os.scandir

    def listen(folder: str | Path) -> Iterator[os.DirEntry[str]]:
        heard[str(folder)] += 1
        return scandir(folder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "scandir", listen)
        yield heard


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Watchers:
    """Watches of one folder with a scan in common; each has a ledger of its own."""

    def __init__(self, root: Path, *several: dict) -> None:
        self.clock = Clock()
        self.options = [AcquisitionOptions.create(path=root, **options) for options in several]
        self.scan = Scan(root, self.options[0].pattern, self.clock)
        self.scan.watchers += self.options
        self.watches = [AcquisitionWatch(options, DictStore(), self.clock, self.scan) for options in self.options]

    def look(self, number: int, since: float) -> list[str]:
        self.watches[number].refresh(since)
        return [acquisition.folder.name for acquisition in self.watches[number].ready()]


def test_a_tree_is_walked_once_however_many_watch_it(tmp_path):
    put(tmp_path / "rec", "sub/movie.tif", "DONE")
    watchers = Watchers(tmp_path, {"settle_seconds": 0}, {"marker_file": "DONE"}, {"min_files": 3})
    with listed_folders() as heard:
        assert [watchers.look(number, since=1000) for number in range(3)] == [["rec"], ["rec"], []]
    assert heard == {str(path): 1 for path in (tmp_path, tmp_path / "rec", tmp_path / "rec" / "sub")}


def test_who_looks_at_the_next_tick_walks_again(tmp_path):
    put(tmp_path / "rec", "movie.tif")
    watchers = Watchers(tmp_path, {"settle_seconds": 10}, {"settle_seconds": 10})
    with listed_folders() as heard:
        for since in (1000, 1010):
            watchers.clock.now = since
            for number in range(2):
                watchers.look(number, since)
    assert set(heard.values()) == {2}


def test_quiet_is_counted_up_to_when_the_look_was_taken_not_to_when_it_was_taken_over(tmp_path):
    put(tmp_path / "rec", "movie.tif")
    watchers = Watchers(tmp_path, {"settle_seconds": 10}, {"settle_seconds": 60})
    watchers.look(0, since=1000)
    watchers.clock.now = 1003
    watchers.look(1, since=1003)
    watchers.clock.now = 1015
    assert watchers.look(0, since=1000) == []
    assert watchers.look(0, since=1015) == ["rec"]


def test_who_took_over_a_look_is_due_at_the_same_time(tmp_path):
    put(tmp_path / "rec", "movie.tif")
    watchers = Watchers(tmp_path, {"settle_seconds": 10}, {"settle_seconds": 10, "min_files": 1})
    watchers.look(0, since=1000)
    watchers.clock.now = 1003
    watchers.look(1, since=1000)
    assert [watch.due for watch in watchers.watches] == [1010, 1010]
    watchers.clock.now = 1010
    assert watchers.look(1, since=1010) == ["rec"]


def test_nothing_is_due_that_waits_for_more_than_quiet(tmp_path):
    put(tmp_path / "rec", "movie.tif")
    put(tmp_path / "other", "movie.tif.part")
    watchers = Watchers(tmp_path, {"settle_seconds": 10, "required_files": "*.xml"})
    watchers.look(0, since=1000)
    assert watchers.watches[0].due == float("inf")


def test_what_cannot_be_seen_is_looked_at_again_by_each(tmp_path):
    put(tmp_path / "root" / "rec", "movie.tif")
    watchers = Watchers(tmp_path / "root", {"settle_seconds": 0}, {"settle_seconds": 0, "min_files": 1})
    for watch in watchers.watches:
        watch.refresh(since=1000)
    shutil.move(tmp_path / "root" / "rec", tmp_path / "rec")
    assert watchers.watches[0].ready() == []
    shutil.move(tmp_path / "rec", tmp_path / "root" / "rec")
    assert len(watchers.watches[1].ready()) == 1


@pytest.mark.parametrize("state", STATES, ids=str)
def test_each_judges_by_its_own_options(tmp_path, state: State):
    root = tmp_path / "root"
    root.mkdir()
    state.build(root / "rec")
    others = {"settle_seconds": 0, "ignore": (), "incomplete": ()}
    watchers = Watchers(root, others, {"settle_seconds": 0} | state.options)
    watchers.look(0, since=1000)
    assert watchers.look(1, since=1000) == (["rec"] if state.complete else [])


def test_a_link_that_one_does_not_follow_is_followed_for_the_other(tmp_path):
    put(tmp_path / "store", "movie.tif")
    put(tmp_path / "rig" / "rec", "notes.txt")
    for name in ("a.raw", "b"):
        (tmp_path / "rig" / "rec" / name).symlink_to(tmp_path / "store")
    options = {"pattern": "rig/*", "settle_seconds": 0, "min_files": 2}
    assert Watchers(tmp_path, options, {**options, "ignore": "*.raw"}).look(1, since=1000) == ["rig/rec"]
    assert Watchers(tmp_path, options, {**options, "ignore": ("*.raw", "b")}).look(1, since=1000) == []


def test_ticks_are_the_same_for_all(tmp_path):
    clock = Clock()
    scan = Scan(tmp_path, "*", clock)
    clock.now = 1012.5
    assert (scan.tick(5), scan.tick(5, following=True), scan.tick(10, following=True)) == (1010, 1015, 1020)
    clock.now = 1015.0
    assert (scan.tick(5), scan.tick(5, following=True)) == (1015, 1020)


def test_a_scan_is_shared_for_as_long_as_anybody_watches(tmp_path):
    one, other, elsewhere = (
        AcquisitionOptions.create(path=tmp_path, **options)
        for options in ({}, {"marker_file": "DONE"}, {"pattern": "*/*"})
    )
    with shared_scan(one) as first:
        with shared_scan(other) as second, shared_scan(elsewhere) as third, shared_scan(one) as again:
            assert second is first is again
            assert third is not first
            assert len(first.watchers) == 3
        assert first.watchers == [one]
    with shared_scan(one) as later:
        assert later is not first


def test_two_watchers_in_one_triggerer_walk_the_tree_once(tmp_path):
    put(tmp_path / "rec", "movie.tif", "DONE")

    async def first_event(**options) -> str:
        trigger = AcquisitionFolderTrigger(path=tmp_path, poke_interval=3600, **options)
        trigger.asset_state_store = DictStore()
        running = trigger.run()
        event = await anext(running)
        # Nobody leaves before both have looked.
        await asyncio.to_thread(together.wait)
        await running.aclose()
        return event.payload["name"]

    async def scenario() -> list[str]:
        return await asyncio.gather(first_event(settle_seconds=0), first_event(marker_file="DONE"))

    together = threading.Barrier(2, timeout=30)
    with listed_folders() as heard:
        assert asyncio.run(scenario()) == ["rec", "rec"]
    assert (heard[str(tmp_path)], heard[str(tmp_path / "rec")]) == (1, 1)
