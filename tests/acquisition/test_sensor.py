from __future__ import annotations

import asyncio
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.sdk import DAG, Asset, AssetAlias, task
from airflow_runs import events_of
from airflow_versions import TaskDeferred, needs_state_stores
from folder_states import SETTLE, STATES, DictStore, Pipe, State, put, unprivileged_folder

from airflow_provider_ophys.acquisition import AcquisitionOptions, AcquisitionWatch
from airflow_provider_ophys.compat import AirflowFailException, AirflowSensorTimeout, AirflowSkipException
from airflow_provider_ophys.exceptions import AcquisitionAccessError
from airflow_provider_ophys.sensors.acquisition import AcquisitionFolderSensor
from airflow_provider_ophys.triggers.acquisition import AcquisitionReadyTrigger

RUN = {"dag_id": "demo", "run_id": "run 1", "task_id": "wait", "map_index": -1, "try_number": 1}


def sensor(path: Path, **options) -> AcquisitionFolderSensor:
    options = {"poke_interval": 0.1, "timeout": 20, "settle_seconds": 0} | options
    return AcquisitionFolderSensor(task_id="wait", path=str(path), **options)


class Stores(dict):
    """``context["asset_state_store"]`` over one store in memory, for whatever asset the sensor asks."""

    def __init__(self, store: DictStore) -> None:
        super().__init__()
        self.store = store

    def __missing__(self, asset: Asset) -> DictStore:
        return self.store


def context(store: DictStore, task_store: DictStore | None = None, **run) -> dict:
    return {
        "ti": SimpleNamespace(**RUN | run),
        "asset_state_store": Stores(store),
        "task_state_store": task_store or DictStore(),
    }


def names(found) -> list[str] | None:
    return found.xcom_value and [folder["name"] for folder in found.xcom_value]


@pytest.mark.parametrize("state", STATES, ids=str)
def test_each_state_is_judged(tmp_path, state: State):
    root = tmp_path / "root"
    root.mkdir()
    state.build(root / "rec")
    waiting = sensor(root, **{"settle_seconds": SETTLE} | state.options)
    now = context(DictStore())

    first = waiting.poke(now)
    time.sleep(0 if first else SETTLE)
    assert bool(first or waiting.poke(now)) == state.complete


def test_the_result_is_ready_for_mapping(tmp_path):
    put(tmp_path / "rec", "a.tif", "b.tif", size=1000)
    assert sensor(tmp_path).poke(context(DictStore())).xcom_value == [
        {"path": str(tmp_path / "rec"), "name": "rec", "num_files": 2, "size_bytes": 2000}
    ]


def test_each_folder_goes_to_one_run(tmp_path):
    store = DictStore()
    put(tmp_path / "one", "movie.tif")
    assert names(sensor(tmp_path).poke(context(store, run_id="run 1"))) == ["one"]
    assert names(sensor(tmp_path).poke(context(store, run_id="run 2"))) is None
    put(tmp_path / "two", "movie.tif")
    assert names(sensor(tmp_path).poke(context(store, run_id="run 2"))) == ["two"]
    assert store.names == ["one", "two"]


def test_a_retry_or_clear_gets_the_same_folders_in_the_same_order(tmp_path):
    store = DictStore()
    for age, name in enumerate("cab"):
        os.utime(put(tmp_path / name, "movie.tif") / "movie.tif", ns=(age, age))
    first = sensor(tmp_path).poke(context(store))
    put(tmp_path / "later", "movie.tif")

    again = sensor(tmp_path).poke(context(store, try_number=2))
    assert names(again) == ["c", "a", "b"]
    assert again.xcom_value == first.xcom_value


def test_a_run_that_was_killed_while_it_took_folders_loses_none(tmp_path):
    class Killed(DictStore):
        def set(self, key, value):
            if self.values:
                raise KeyboardInterrupt
            super().set(key, value)

    store = Killed()
    for name in "abc":
        put(tmp_path / name, "movie.tif")
    with pytest.raises(KeyboardInterrupt):
        sensor(tmp_path).poke(context(store))
    survivor = DictStore()
    survivor.values = store.values

    retry = names(sensor(tmp_path).poke(context(survivor, try_number=2)))
    others = names(sensor(tmp_path).poke(context(survivor, run_id="run 2")))
    assert sorted([*retry, *others]) == ["a", "b", "c"]
    assert len(retry) == 1


@pytest.mark.parametrize("deferred", [False, True], ids=["poke", "deferred"])
@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_a_run_that_airflow_ends_while_it_takes_folders_leaves_them_to_the_next(tmp_path, deferred, after):
    class Ending(DictStore):
        def set(self, key, value):
            super().set(key, value)
            if len(self.values) >= after:
                waiting.on_kill()

    store = Ending()
    for name in "abc":
        put(tmp_path / name, "movie.tif")
    waiting = sensor(tmp_path, poke_interval=30, timeout=0)
    if after == 0:
        waiting.on_kill()
    found = {"folders": list(entries_of(tmp_path))}
    with suppress(RuntimeError):
        waiting.execute_complete(context(store), found) if deferred else waiting.execute(context(store))

    assert len(store.values) == after, "no more were taken"
    next_run = DictStore()
    next_run.values = store.values
    assert names(sensor(tmp_path).poke(context(next_run, run_id="run 2"))) == ["a", "b", "c"]


def entries_of(root: Path) -> Iterator[tuple[str, dict]]:
    """What the triggerer hands to a deferred sensor."""
    watch = AcquisitionWatch(AcquisitionOptions.create(path=root, settle_seconds=0), DictStore())
    watch.refresh()
    for acquisition in watch.ready():
        yield acquisition.folder.key, acquisition.ledger_entry(None)


def test_max_folders_leaves_the_rest_to_the_next_run(tmp_path):
    store = DictStore()
    for name in "abc":
        put(tmp_path / name, "movie.tif")
    taken = [
        names(sensor(tmp_path, max_folders=2).poke(context(store, run_id=run)))
        for run in ("run 1", "run 2", "run 3")
    ]
    assert [len(some or []) for some in taken] == [2, 1, 0]


# --- more than can be mapped ----------------------------------------------------------------------------


@pytest.fixture
def few(monkeypatch) -> int:
    monkeypatch.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", "4")
    return 4


def put_many(root: Path, number: int) -> list[str]:
    """Folders that were recorded one after the other; their names in this order."""
    found = [f"m{each}" for each in range(number)]
    for age, name in enumerate(found):
        os.utime(put(root / name, "movie.tif") / "movie.tif", ns=(age, age))
    return found


@pytest.mark.parametrize("max_folders", [None, 3, 100])
@pytest.mark.parametrize("mode", ["poke", "reschedule"])
def test_a_run_gets_no_more_than_can_be_mapped(tmp_path, few, mode, max_folders):
    store = DictStore()
    there = put_many(tmp_path, 10)
    most = min(max_folders or few, few)

    def run(run_id: str) -> list[str] | None:
        return names(sensor(tmp_path, mode=mode, max_folders=max_folders).poke(context(store, run_id=run_id)))

    taken = [run(f"run {number}") for number in range(1, 6)]
    assert list(chain(*(some or [] for some in taken))) == there
    assert {len(some or []) for some in taken[:2]} == {most}
    # A clear brings back what each run got, and nothing else.
    assert [run(f"run {number}") for number in range(1, 6)] == taken


def test_a_run_that_was_given_more_than_can_be_mapped_leaves_the_others_to_the_next(tmp_path, monkeypatch):
    """The limit was higher when the run got them, or nobody looked at it: then Airflow has failed the run."""
    store = DictStore()
    there = put_many(tmp_path, 6)
    assert names(sensor(tmp_path).poke(context(store))) == there
    monkeypatch.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", "4")
    assert names(sensor(tmp_path).poke(context(store))) == there[:4]
    assert names(sensor(tmp_path).poke(context(store, run_id="run 2"))) == there[4:]
    assert names(sensor(tmp_path).poke(context(store))) == there[:4]


def test_a_clear_brings_back_what_the_run_got_though_max_folders_is_less_now(tmp_path):
    store = DictStore()
    there = put_many(tmp_path, 4)
    assert names(sensor(tmp_path).poke(context(store))) == there
    assert names(sensor(tmp_path, max_folders=1).poke(context(store))) == there


def test_a_deferred_run_gets_no_more_than_can_be_mapped(tmp_path, few, monkeypatch):
    there = put_many(tmp_path, 10)
    store = DictStore()
    waiting = sensor(tmp_path, deferrable=True, settle_seconds=SETTLE)
    taken: list[list[str]] = []
    # Which of them have settled at the same look is up to the machine.
    while sum(map(len, taken)) < len(there):
        waiting._watch = None
        now = context(store, run_id=f"run {len(taken)}")
        event = fire(deferral(waiting, now).trigger, store, monkeypatch)
        taken.append([folder["name"] for folder in waiting.execute_complete(now, event)])
    assert sorted(chain(*taken)) == there
    assert max(map(len, taken)) <= few


def test_a_triggerer_that_was_told_of_a_higher_limit_hands_over_no_more(tmp_path, few, monkeypatch):
    there = put_many(tmp_path, 6)
    store = DictStore()
    waiting = sensor(tmp_path, deferrable=True, marker_file="DONE")
    trigger = deferral(waiting, context(store)).trigger
    for age, name in enumerate(there):
        os.utime(put(tmp_path / name, "DONE") / "DONE", ns=(age, age))
    with monkeypatch.context() as triggerer:
        triggerer.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", "1024")
        event = fire(trigger, store, triggerer)
    assert len(event["folders"]) == 6
    assert [folder["name"] for folder in waiting.execute_complete(context(store), event)] == there[:4]
    assert store.names == there[:4]


def test_a_limit_that_lets_nothing_be_mapped_is_refused_before_a_folder_is_handed_over(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", "0")
    put(tmp_path / "rec", "movie.tif")
    store = DictStore()
    with pytest.raises(AirflowFailException, match=r"max_map_length.*is 0"):
        sensor(tmp_path).poke(context(store))
    assert store.values == {}


def test_existing_folders_can_be_ignored(tmp_path):
    store = DictStore()
    put(tmp_path / "old", "movie.tif")
    assert names(sensor(tmp_path, existing="ignore").poke(context(store))) is None
    put(tmp_path / "new", "movie.tif")
    assert names(sensor(tmp_path, existing="ignore").poke(context(store, run_id="run 2"))) == ["new"]


def test_reschedule_mode_goes_on_from_the_last_poke(tmp_path):
    put(tmp_path / "rec", "movie.tif")
    task_store = DictStore()
    now = context(DictStore(), task_store)
    options = {"mode": "reschedule", "settle_seconds": SETTLE}
    assert names(sensor(tmp_path, **options).poke(now)) is None
    assert task_store.values
    time.sleep(SETTLE)
    assert names(sensor(tmp_path, **options).poke(now)) == ["rec"]
    assert task_store.values == {}


def test_reschedule_mode_outlasts_a_share_that_goes_away_but_not_at_the_start(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    task_store = DictStore()
    options = {"mode": "reschedule"}
    assert not sensor(root, **options).poke(context(DictStore(), task_store))
    root.rename(tmp_path / "away")
    assert not sensor(root, **options).poke(context(DictStore(), task_store))
    with pytest.raises(AirflowFailException, match="does not exist"):
        sensor(root, **options).poke(context(DictStore(), task_store, try_number=2))


# --- bad input -----------------------------------------------------------------------------------------


def test_a_missing_folder_fails_at_once_without_retries(tmp_path):
    with pytest.raises(AirflowFailException, match=r"nowhere does not exist.*Check the path"):
        sensor(tmp_path / "nowhere").poke(context(DictStore()))


def test_a_template_that_renders_to_nonsense_fails_at_once_without_retries(tmp_path):
    waiting = sensor(tmp_path, settle_seconds="{{ params.seconds }}")
    waiting.render_template_fields({"params": {"seconds": "soon"}})
    with pytest.raises(AirflowFailException, match="settle_seconds"):
        waiting.poke(context(DictStore()))


def test_a_folder_that_may_not_be_read_keeps_its_retries():
    with unprivileged_folder() as root:
        root.chmod(0o000)
        with pytest.raises(AcquisitionAccessError, match="give this user permission"):
            sensor(root).poke(context(DictStore()))


# --- the DAG -------------------------------------------------------------------------------------------


def test_options_are_templates():
    with DAG("demo"):
        waiting = AcquisitionFolderSensor(
            task_id="wait",
            path="/data/{{ params.rig }}",
            pattern="{{ params.rig }}*",
            marker_file="{{ params.marker }}",
            required_files=["{{ params.rig }}.tif"],
            settle_seconds="{{ params.seconds }}",
            max_folders="{{ params.limit }}",
        )
    waiting.render_template_fields({"params": {"rig": "rig1", "marker": "", "seconds": 5, "limit": None}})
    options = waiting._options()

    assert (options.path, options.pattern, options.required_files) == ("/data/rig1", "rig1*", ("rig1.tif",))
    assert (options.marker_file, options.settle_seconds, options.max_folders) == (None, 5, None)


def test_the_dag_can_be_serialised():
    from airflow_versions import DagSerialization

    with DAG("demo") as dag:
        AcquisitionFolderSensor(task_id="wait", path=Path("/data"), required_files=("*.tif",))
    again = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag)).get_task("wait")
    assert [asset.name for asset in again.inlets] == ["ophys-acquisitions.demo.wait"]
    assert again.required_files == ["*.tif"]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "ophys-acquisitions.wait"),
        ({"inlets": [Asset("in")]}, "in"),
        ({"outlets": [Asset("out")]}, "out"),
        ({"inlets": [Asset("in")], "outlets": [Asset("out")]}, "in"),
        ({"outlets": [AssetAlias("alias")]}, "ophys-acquisitions.wait"),
    ],
)
def test_the_ledger_is_with_the_asset_that_is_named_else_with_one_of_its_own(tmp_path, options, name):
    assert sensor(tmp_path, **options)._ledger_asset().name == name


# --- deferred ------------------------------------------------------------------------------------------


def deferral(waiting: AcquisitionFolderSensor, now: dict) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as deferred:
        waiting.poke(now)
    return deferred.value


def test_deferrable_mode_defers_only_if_there_is_nothing_yet(tmp_path):
    now = context(DictStore())
    deferred = deferral(sensor(tmp_path, deferrable=True, timeout=300), now)
    assert deferred.method_name == "execute_complete"
    assert 200 < deferred.timeout.total_seconds() <= 300
    put(tmp_path / "rec", "movie.tif")
    assert names(sensor(tmp_path, deferrable=True).poke(now)) == ["rec"]


def test_the_trigger_is_given_all_options(tmp_path):
    options = {"marker_file": "DONE", "required_files": ("*.tif",), "min_size": "2kB", "pattern": "*/*"}
    waiting = sensor(tmp_path, deferrable=True, poke_interval=7, silent_fail=True, **options)
    trigger = deferral(waiting, context(DictStore())).trigger

    assert trigger.options == waiting._options()
    assert (trigger.poke_interval, trigger.patient) == (7, True)
    assert trigger.ledger_asset == waiting._ledger_asset().name


def fire(trigger: AcquisitionReadyTrigger, store: DictStore, monkeypatch) -> dict:
    """Run a trigger to its event, with the ledger in memory."""
    pipe = Pipe(**{trigger.ledger_asset: store})
    monkeypatch.setattr("airflow.sdk.execution_time.task_runner.SUPERVISOR_COMMS", pipe, raising=False)
    return asyncio.run(anext(trigger.run())).payload


def test_deferrable_mode_gives_the_same_as_poke_mode(tmp_path, monkeypatch):
    for name in "ab":
        put(tmp_path / name, "movie.tif")
    store = DictStore()
    now = context(store)
    waiting = sensor(tmp_path, deferrable=True, marker_file="DONE")
    trigger = deferral(waiting, now).trigger
    for name in "ab":
        put(tmp_path / name, "DONE")
    expected = sensor(tmp_path, marker_file="DONE").poke(context(DictStore())).xcom_value
    event = fire(trigger, store, monkeypatch)

    assert waiting.execute_complete(now, event) == expected
    assert waiting.execute_complete(now, event) == expected
    assert store.names == ["a", "b"]


def test_deferrable_mode_goes_on_waiting_if_another_run_got_the_folders(tmp_path, monkeypatch):
    put(tmp_path / "rec", "movie.tif")
    store = DictStore()
    waiting = sensor(tmp_path, deferrable=True, settle_seconds=SETTLE)
    now = context(store)
    deferred = deferral(waiting, now)
    event = fire(deferred.trigger, store, monkeypatch)
    sensor(tmp_path).poke(context(store, run_id="run 2"))

    with pytest.raises(TaskDeferred):
        waiting.execute_complete(now, event, **deferred.kwargs)
    with pytest.raises(AirflowSensorTimeout, match="No new complete folder"):
        waiting.execute_complete(now, event, deadline=time.time() - 1)


def test_deferrable_mode_reports_a_folder_that_may_no_longer_be_read(monkeypatch):
    with unprivileged_folder() as root:
        waiting = sensor(root, deferrable=True)
        deferred = deferral(waiting, context(DictStore()))
        root.chmod(0o000)
        event = fire(deferred.trigger, DictStore(), monkeypatch)
        with pytest.raises(AcquisitionAccessError, match="give this user permission"):
            waiting.execute_complete(context(DictStore()), event)
        with pytest.raises(AirflowSkipException):
            sensor(root, deferrable=True, never_fail=True).execute_complete(context(DictStore()), event)


# --- in Airflow ----------------------------------------------------------------------------------------


@pytest.fixture
def run_dag(airflow_db):
    """Run a DAG for real, with Airflow's own state stores."""
    from airflow.models.dagbundle import DagBundleModel
    from airflow.utils.session import create_session
    from airflow_versions import DagBag, sync_bag_to_db

    def run(dag: DAG):
        with create_session() as session:
            session.merge(DagBundleModel(name="tests"))
        bag = DagBag(dag_folder="/dev/null", collect_dags=False, bundle_name="tests")
        bag.bag_dag(dag)
        sync_bag_to_db(bag, bundle_name="tests", bundle_version=None)
        return dag.test()

    return run


def build(dag_id: str, path: Path, got: Path, **options) -> DAG:
    with DAG(dag_id) as dag:
        waiting = sensor(path, soft_fail=True, **options)

        @task
        def note(folder: dict, run_id: str | None = None) -> None:
            (got / f"{folder['name']} {run_id}").touch()

        note.expand(folder=waiting.output)
    return dag


def states(run) -> dict[str, str]:
    return {ti.task_id: str(ti.state) for ti in run.get_task_instances()}


MODES = pytest.mark.parametrize(
    "mode", [{"mode": "poke"}, {"mode": "reschedule"}, {"deferrable": True}], ids=["poke", "reschedule", "defer"]
)


@MODES
def test_all_modes_hand_each_folder_to_one_run(tmp_path, run_dag, mode):
    root, got = tmp_path / "root", tmp_path / "got"
    got.mkdir()
    for name in ("one", "two"):
        put(root / name, "movie.tif")
    dag_id = f"acquisition_{'_'.join(map(str, mode.values()))}"
    options = {"settle_seconds": 0.5, "timeout": 30, **mode}

    def run_until(there: dict[str, int]) -> None:
        # A run has what has settled when it looks, which may be one of them or both.
        for _ in range(sum(there.values())):
            assert states(run_dag(build(dag_id, root, got, **options))) == {"wait": "success", "note": "success"}
            if Counter(file.name.split()[0] for file in got.iterdir()) == there:
                return
        raise AssertionError(f"{sorted(file.name for file in got.iterdir())} instead of {there}")

    run_until({"one": 1, "two": 1})
    shutil.rmtree(root / "two")
    put(root / "two", "movie.tif", size=77)
    run_until({"one": 1, "two": 2})


@MODES
def test_all_modes_emit_an_event_per_folder(tmp_path, run_dag, mode):
    names = {"one", "zwei µm"}
    for name in names:
        put(tmp_path / name, "movie.tif", size=1000)
    dag_id = f"acquisition_events_{'_'.join(map(str, mode.values()))}"
    outlets = [AssetAlias(f"{dag_id}_alias"), Asset(f"{dag_id}_asset")]
    per_run: list[list[dict]] = []
    # A run has what has settled when it looks, which may be one of them or both.
    while {folder["name"] for folders in per_run for folder in folders} < names:
        with DAG(dag_id) as dag:
            waiting = sensor(tmp_path, settle_seconds=0.5, outlets=outlets, **mode)
        per_run.append(run_dag(dag).get_task_instance("wait").xcom_pull(task_ids="wait"))
        assert waiting.outlets == outlets
    events = events_of(dag_id)

    of_asset = [extra for uri, extra in events if uri == outlets[1].uri]
    assert of_asset == [{"folders": folders} for folders in per_run]
    per_folder = [(uri, extra) for uri, extra in events if uri != outlets[1].uri]
    expected = [(Path(folder["path"]).as_uri(), folder) for folders in per_run for folder in folders]
    assert sorted(per_folder, key=str) == sorted(expected, key=str)


def test_a_run_that_gets_nothing_emits_no_event(tmp_path, run_dag):
    with DAG("acquisition_no_events") as dag:
        outlets = [AssetAlias("acquisition_no_events_alias"), Asset("acquisition_no_events_asset")]
        sensor(tmp_path, outlets=outlets, timeout=0.3, soft_fail=True)
    assert states(run_dag(dag)) == {"wait": "skipped"}
    assert events_of(dag.dag_id) == []


def test_a_run_that_gets_nothing_is_skipped_in_its_time_and_a_clear_gets_the_same_again(tmp_path, run_dag):
    from airflow.sdk.definitions.dag import _run_task

    root, got = tmp_path / "root", tmp_path / "got"
    got.mkdir()
    put(root / "one", "movie.tif")
    first = run_dag(build("acquisition_clear", root, got, timeout=0.5))
    second = run_dag(build("acquisition_clear", root, got, timeout=0.5))
    assert states(second) == {"wait": "skipped", "note": "skipped"}
    put(root / "later", "movie.tif")

    dag = build("acquisition_clear", root, got, timeout=0.5)
    cleared = first.get_task_instance("wait")
    cleared.set_state(None)
    result = _run_task(ti=cleared, task=dag.get_task("wait"))
    assert result.state == "success"
    assert [folder["name"] for folder in cleared.xcom_pull(task_ids="wait")] == ["one"]


def test_a_missing_folder_burns_no_retries(tmp_path, run_dag):
    with DAG("acquisition_missing") as dag:
        sensor(tmp_path / "nowhere", retries=3)
    (instance,) = run_dag(dag).get_task_instances()
    assert (str(instance.state), instance.try_number) == ("failed", 1)


def test_a_mapped_sensor_waits_for_several_roots(tmp_path, run_dag):
    for rig in ("rig1", "rig2"):
        put(tmp_path / rig / f"rec-{rig}", "movie.tif")
    paths = [str(tmp_path / rig) for rig in ("rig1", "rig2")]
    with DAG("acquisition_mapped") as dag:
        AcquisitionFolderSensor.partial(
            task_id="wait", settle_seconds=0, inlets=[Asset("acquisition_mapped")]
        ).expand(path=paths)
    run = run_dag(dag)
    found = [ti.xcom_pull(task_ids="wait", map_indexes=ti.map_index) for ti in run.get_task_instances()]
    assert sorted(folders[0]["name"] for folders in found) == ["rec-rig1", "rec-rig2"]


@needs_state_stores
def test_a_mapped_sensor_without_an_asset_fails_at_once_and_says_what_to_do(tmp_path, run_dag):
    put(tmp_path / "rec", "movie.tif")
    with DAG("acquisition_mapped_alone") as dag:
        AcquisitionFolderSensor.partial(task_id="wait", settle_seconds=0, retries=3).expand(path=[str(tmp_path)])
    (instance,) = run_dag(dag).get_task_instances()
    assert (str(instance.state), instance.try_number) == ("failed", 1)

    with pytest.raises(AirflowFailException, match=r"\.partial\(inlets=\[Asset\("):
        sensor(tmp_path).poke({"ti": SimpleNamespace(**RUN)})


def test_a_folder_that_is_being_written_is_waited_for(tmp_path, run_dag):
    root, got = tmp_path / "root", tmp_path / "got"
    got.mkdir()
    rec = put(root / "rec", "0.tif")
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.wait(0.2) and number < 8:
            number += 1
            put(rec, f"{number}.tif")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        # Much longer than the writer pauses, on a busy machine too.
        run = run_dag(build("acquisition_growing", root, got, settle_seconds=3))
    finally:
        stop.set()
        writer.join()
    assert str(run.state) == "success"
    assert run.get_task_instance("wait").xcom_pull(task_ids="wait")[0]["num_files"] == 9
