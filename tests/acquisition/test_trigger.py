from __future__ import annotations

import asyncio
import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from airflow.sdk import DAG, Asset, AssetWatcher
from airflow.triggers.base import BaseEventTrigger
from airflow_versions import needs_state_stores
from folder_states import SETTLE, STATES, DictStore, Pipe, State, put, unprivileged_folder
from structlog.testing import capture_logs

from airflow_provider_ophys.exceptions import ConfigurationError
from airflow_provider_ophys.triggers.acquisition import AcquisitionFolderTrigger, AcquisitionReadyTrigger


def watcher(path: Path, store: DictStore | None = None, **options) -> AcquisitionFolderTrigger:
    trigger = AcquisitionFolderTrigger(path=path, **{"settle_seconds": 0, "poke_interval": 0.05} | options)
    trigger.asset_state_store = DictStore() if store is None else store
    return trigger


async def events(
    trigger: BaseEventTrigger,
    enough: int | None = None,
    *,
    until: Callable[[], bool] = lambda: False,
    seconds: float = 60.0,
    then: float = 0.0,
) -> list[dict]:
    """
    What a trigger fires; then it is stopped as the triggerer stops it.

    :param enough: Wait for so many events, however slow the machine is.
    :param until: Wait until this is true.
    :param seconds: Wait for so long at most.
    :param then: Go on for so many seconds, in which there may be more.
    """
    found: list[dict] = []

    async def listen() -> None:
        async for event in trigger.run():
            found.append(event.payload)  # noqa: PERF401 - it is looked at while it grows

    listener = asyncio.create_task(listen())
    deadline = time.monotonic() + seconds
    while not (listener.done() or len(found) == enough or until()) and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    await asyncio.sleep(then)
    if listener.done():
        listener.result()
    listener.cancel()
    await asyncio.gather(listener, return_exceptions=True)
    return found


def names(trigger: BaseEventTrigger, enough: int | None = None, **waiting) -> list[str]:
    return [payload["name"] for payload in asyncio.run(events(trigger, enough, **waiting))]


@pytest.mark.parametrize("state", STATES, ids=str)
def test_each_state_is_judged(tmp_path, state: State):
    root = tmp_path / "root"
    root.mkdir()
    state.build(root / "rec")
    trigger = watcher(root, **{"settle_seconds": SETTLE} | state.options)
    fired = names(trigger, enough=1) if state.complete else names(trigger, seconds=2.5 * SETTLE)
    assert fired == (["rec"] if state.complete else [])


def test_an_event_is_plain_json_with_the_facts(tmp_path):
    put(tmp_path / "rig1" / "rec", "a.tif", "b.tif", size=1000)
    fired = asyncio.run(events(watcher(tmp_path, pattern="*/*"), enough=1))
    assert json.loads(json.dumps(fired)) == [
        {"path": str(tmp_path / "rig1" / "rec"), "name": "rig1/rec", "num_files": 2, "size_bytes": 2000}
    ]


def test_one_event_per_folder_oldest_first_and_none_twice(tmp_path):
    for age, name in enumerate("cab"):
        os.utime(put(tmp_path / name, "movie.tif") / "movie.tif", ns=(age, age))
    assert names(watcher(tmp_path), enough=3, then=0.5) == ["c", "a", "b"]


def test_max_folders_is_the_limit_per_look(tmp_path):
    for name in "abc":
        put(tmp_path / name, "movie.tif")
    assert len(names(watcher(tmp_path, max_folders=2, poke_interval=600), enough=2, then=0.5)) == 2
    assert len(names(watcher(tmp_path, max_folders=2), enough=3, then=0.5)) == 3


def test_a_look_fires_no_more_events_than_airflow_stores_in_time_and_the_next_look_the_others(tmp_path):
    most = AcquisitionFolderTrigger.MOST_EVENTS
    for number in range(most + 5):
        put(tmp_path / f"m{number:03d}", "movie.tif")
    assert len(names(watcher(tmp_path, poke_interval=600), enough=most, then=1)) == most
    assert len(set(names(watcher(tmp_path, poke_interval=0.5), enough=most + 5))) == most + 5


def test_a_look_fires_no_more_events_than_can_be_mapped(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", "2")
    for name in "abc":
        put(tmp_path / name, "movie.tif")
    assert len(names(watcher(tmp_path, poke_interval=600), enough=2, then=0.5)) == 2
    assert len(names(watcher(tmp_path), enough=3, then=0.5)) == 3


def test_folders_that_come_while_it_runs(tmp_path):
    async def scenario() -> list[dict]:
        running = asyncio.create_task(events(watcher(tmp_path), enough=2))
        for name in ("one", "two"):
            await asyncio.sleep(0.2)
            put(tmp_path / name, "movie.tif")
        return await running

    assert [payload["name"] for payload in asyncio.run(scenario())] == ["one", "two"]


def test_a_folder_is_handed_over_when_it_has_settled_and_not_an_interval_later(tmp_path):
    put(tmp_path / "rec", "movie.tif")
    assert names(watcher(tmp_path, settle_seconds=0.5, poke_interval=3600), enough=1) == ["rec"]


# --- never lost ----------------------------------------------------------------------------------------


def test_the_ledger_is_written_only_when_the_event_is_safe(tmp_path):
    put(tmp_path / "rec", "movie.tif")
    store = DictStore()
    assert names(watcher(tmp_path, store), enough=1) == ["rec"]
    assert store.names == []
    assert names(watcher(tmp_path, store), until=lambda: store.names == ["rec"]) == ["rec"]
    assert names(watcher(tmp_path, store), seconds=0.5) == []


def test_the_ledger_is_written_even_if_the_next_look_is_far_away(tmp_path):
    put(tmp_path / "rec", "movie.tif")
    store = DictStore()
    far = watcher(tmp_path, store, poke_interval=3600)
    assert names(far, until=lambda: store.names == ["rec"]) == ["rec"]
    assert store.names == ["rec"]


def test_after_a_restart_there_are_events_for_what_came_meanwhile(tmp_path):
    store = DictStore()
    for name in ("before", "recorded again"):
        put(tmp_path / name, "movie.tif")
    before = ["before", "recorded again"]
    assert names(watcher(tmp_path, store), until=lambda: store.names == before) == before
    shutil.rmtree(tmp_path / "recorded again")
    put(tmp_path / "meanwhile", "movie.tif")
    put(tmp_path / "recorded again", "movie.tif", size=77)
    assert names(watcher(tmp_path, store), enough=2, then=0.5) == ["meanwhile", "recorded again"]


def test_existing_folders_can_be_ignored_at_the_first_start_only(tmp_path):
    store = DictStore()
    put(tmp_path / "old", "movie.tif")
    first = watcher(tmp_path, store, existing="ignore")
    assert names(first, until=lambda: any("start" in key for key in store.values), then=0.5) == []
    put(tmp_path / "while it was down", "movie.tif")
    assert names(watcher(tmp_path, store, existing="ignore"), enough=1, then=0.5) == ["while it was down"]


# --- trouble -------------------------------------------------------------------------------------------


class Unreliable(DictStore):
    def __init__(self, failures: int) -> None:
        super().__init__()
        self.failures = failures

    def get(self, key, default=None):
        if self.failures > 0:
            self.failures -= 1
            raise ConnectionError("the metadata database is away")
        return super().get(key, default)


def test_a_watcher_survives_a_database_that_goes_away_and_logs_it_once(tmp_path):
    put(tmp_path / "rec", "movie.tif")
    with capture_logs() as logs:
        assert names(watcher(tmp_path, Unreliable(failures=5)), enough=1) == ["rec"]
    assert len([line for line in logs if line["log_level"] == "error"]) == 1


def test_a_missing_root_is_waited_for_and_logged_once(tmp_path):
    root = tmp_path / "share"

    async def scenario() -> list[dict]:
        running = asyncio.create_task(events(watcher(root), enough=1))
        await asyncio.sleep(0.5)
        put(root / "rec", "movie.tif")
        return await running

    with capture_logs() as logs:
        assert len(asyncio.run(scenario())) == 1
    assert [line["event"].split(".")[-1] for line in logs if "watched folder" in line["event"]] == ["", ""]
    assert [line["log_level"] for line in logs if "watched folder" in line["event"]] == ["warning", "info"]


def test_a_root_that_may_not_be_read_is_waited_for():
    with unprivileged_folder() as root:
        put(root / "rec", "movie.tif")
        root.chmod(0o000)

        async def scenario() -> list[dict]:
            running = asyncio.create_task(events(watcher(root), enough=1))
            await asyncio.sleep(0.3)
            root.chmod(0o755)
            return await running

        assert len(asyncio.run(scenario())) == 1


@needs_state_stores
def test_a_watcher_without_an_asset_says_that_it_will_forget(tmp_path):
    put(tmp_path / "rec", "movie.tif")
    trigger = watcher(tmp_path)
    trigger.asset_state_store = None
    with capture_logs() as logs:
        assert names(trigger, enough=1, then=0.5) == ["rec"]
    assert any("Put the trigger into the watchers of an Asset" in line["event"] for line in logs)


def test_the_event_loop_is_never_blocked(tmp_path, monkeypatch):
    """What is slow waits until the loop has gone round meanwhile, which a loop that waits for it never would."""
    looping = threading.Event()

    def let_the_loop_go_round():
        looping.clear()
        assert looping.wait(60), "the event loop stands still"

    class Slow(DictStore):
        def get(self, key, default=None):
            let_the_loop_go_round()
            return super().get(key, default)

    def slow_scandir(*arguments):
        let_the_loop_go_round()
        return scandir(*arguments)

    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", slow_scandir)
    put(tmp_path / "rec", "movie.tif")

    async def scenario() -> list[dict]:
        running = asyncio.create_task(events(watcher(tmp_path, Slow()), enough=1))
        while not running.done():
            looping.set()
            await asyncio.sleep(0.01)
        return running.result()

    assert [payload["name"] for payload in asyncio.run(scenario())] == ["rec"]


# --- in a DAG ------------------------------------------------------------------------------------------


def rebuilt(trigger: BaseEventTrigger) -> BaseEventTrigger:
    """A trigger after its way through the metadata database."""
    from airflow.models.trigger import Trigger
    from airflow_versions import encode_trigger, import_string, smart_decode_trigger_kwargs

    encoded = encode_trigger(trigger)
    stored = Trigger._decrypt_kwargs(Trigger.encrypt_kwargs(encoded["kwargs"]))
    return import_string(encoded["classpath"])(**{k: smart_decode_trigger_kwargs(v) for k, v in stored.items()})


ALL_OPTIONS = {
    "path": Path("/data"),
    "pattern": "*/*/",
    "marker_file": "DONE",
    "required_files": ("*.tif", "**/*.xml"),
    "settle_seconds": 5,
    "min_size": "1MiB",
    "min_files": 3,
    "ignore": ["*.log"],
    "incomplete": ["LOCK"],
    "existing": "ignore",
    "max_folders": 7,
    "poke_interval": 2,
}


@pytest.mark.parametrize("options", [{"path": "/data"}, ALL_OPTIONS], ids=["defaults", "all options"])
def test_a_trigger_is_the_same_after_its_way_through_the_database(options):
    trigger = AcquisitionFolderTrigger(**options)
    again = rebuilt(trigger)
    assert again.serialize() == trigger.serialize()
    assert BaseEventTrigger.hash(*again.serialize()) == BaseEventTrigger.hash(*trigger.serialize())
    assert (again.options, again.poke_interval) == (trigger.options, trigger.poke_interval)


def test_a_ready_trigger_is_the_same_after_its_way_through_the_database():
    options = {name: value for name, value in ALL_OPTIONS.items() if name != "poke_interval"}
    trigger = AcquisitionReadyTrigger(ledger_asset="a", patient=True, poke_interval=3, **options)
    assert rebuilt(trigger).serialize() == trigger.serialize()


def test_a_dag_with_a_watcher_can_be_serialised():
    from airflow_versions import DagSerialization

    trigger = AcquisitionFolderTrigger(path="/data")
    asset = Asset("acquisitions", watchers=[AssetWatcher(name="rig1", trigger=trigger)])
    with DAG("demo", schedule=[asset]) as dag:
        pass
    assert "AcquisitionFolderTrigger" in json.dumps(DagSerialization.serialize_dag(dag))


@pytest.mark.parametrize("wrong", [{"settle_seconds": -1}, {"pattern": "/abs"}, {"poke_interval": 0}])
def test_a_wrong_option_shows_when_the_dag_is_parsed(wrong):
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        AcquisitionFolderTrigger(path="/data", **wrong)


@needs_state_stores
def test_assets_that_share_a_trigger_share_what_was_handed_over(tmp_path, monkeypatch):
    from airflow.sdk.execution_time.context import AssetStateStoreAccessors

    put(tmp_path / "rec", "movie.tif")
    pipe = Pipe(one=DictStore(), two=DictStore())
    monkeypatch.setattr("airflow.sdk.execution_time.task_runner.SUPERVISOR_COMMS", pipe, raising=False)

    trigger = watcher(tmp_path)
    trigger.asset_state_store = AssetStateStoreAccessors(inlets=[Asset("one")])
    assert names(trigger, until=lambda: pipe.stores["one"].names == ["rec"]) == ["rec"]
    both = watcher(tmp_path)
    both.asset_state_store = AssetStateStoreAccessors(inlets=[Asset("two"), Asset("one")])
    put(tmp_path / "new", "movie.tif")
    assert names(both, until=lambda: pipe.stores["two"].names == ["new"]) == ["new"]
    assert pipe.stores["one"].names == ["new", "rec"]
    assert pipe.stores["two"].names == ["new"]


# --- for a deferred sensor ------------------------------------------------------------------------------


@pytest.fixture
def ledger(monkeypatch) -> DictStore:
    store = DictStore()
    pipe = Pipe(acquisitions=store)
    monkeypatch.setattr("airflow.sdk.execution_time.task_runner.SUPERVISOR_COMMS", pipe, raising=False)
    return store


def ready_trigger(path: Path, **options) -> AcquisitionReadyTrigger:
    options = {"path": path, "settle_seconds": 0, "poke_interval": 0.1} | options
    return AcquisitionReadyTrigger(ledger_asset="acquisitions", **options)


def test_a_ready_trigger_fires_once_with_all_folders_and_leaves_the_ledger_to_the_sensor(tmp_path, ledger):
    for name in "ab":
        put(tmp_path / name, "movie.tif")
    (event,) = asyncio.run(events(ready_trigger(tmp_path)))
    assert [entry["name"] for _, entry in event["folders"]] == ["a", "b"]
    assert ledger.values == {}


def test_a_ready_trigger_fires_with_no_more_folders_than_can_be_mapped(tmp_path, ledger, monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", "2")
    for name in "abc":
        put(tmp_path / name, "movie.tif")
    (event,) = asyncio.run(events(ready_trigger(tmp_path)))
    assert len(event["folders"]) == 2


def test_a_ready_trigger_waits_for_a_root_that_goes_away(tmp_path, ledger):
    assert asyncio.run(events(ready_trigger(tmp_path / "share"), seconds=0.5)) == []


def test_a_ready_trigger_reports_a_root_that_may_not_be_read_unless_told_to_be_patient(ledger):
    with unprivileged_folder() as root:
        root.chmod(0o000)
        (event,) = asyncio.run(events(ready_trigger(root)))
        assert "give this user permission" in event["error"]
        assert asyncio.run(events(ready_trigger(root, patient=True), seconds=0.5)) == []
