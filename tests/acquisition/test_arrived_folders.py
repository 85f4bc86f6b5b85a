"""Which run handles which folder or file, given the events that Airflow hands to it and those it leaves behind."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from itertools import chain, count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time.comms import ErrorResponse
from folder_states import DictStore

from airflow_provider_ophys.assets import arrived_folders, finished_nwbfiles
from airflow_provider_ophys.exceptions import ConfigurationError

ASSET = Asset("acquisitions")
START = datetime(2026, 11, 22, tzinfo=UTC)


ids = count(1)


def stored_event(at: datetime, extra: dict | None) -> SimpleNamespace:
    return SimpleNamespace(id=next(ids), timestamp=at, extra=extra)


def event(second: float, name: str) -> SimpleNamespace:
    payload = {"path": f"/data/{name}", "name": name, "num_files": 1, "size_bytes": 1}
    return stored_event(START + timedelta(seconds=second), {"from_trigger": True, "payload": payload})


class Stored:
    """The events of the asset, as a task asks for them; Airflow fails if a run that is not started has one."""

    def __init__(self, events: list[SimpleNamespace], of_waiting_runs: Collection[SimpleNamespace] = ()) -> None:
        self.events, self.of_waiting_runs = events, of_waiting_runs
        self.since, self.until, self.most = START, datetime.max.replace(tzinfo=UTC), 0

    def after(self, after: str) -> Stored:
        self.since = datetime.fromisoformat(after)
        return self

    def before(self, before: str) -> Stored:
        self.until = datetime.fromisoformat(before)
        return self

    def limit(self, limit: int) -> Stored:
        self.most = limit
        return self

    def __iter__(self) -> Iterator[SimpleNamespace]:
        events = sorted(self.events, key=lambda event: event.timestamp)
        found = [event for event in events if self.since <= event.timestamp <= self.until][: self.most]
        if any(event in self.of_waiting_runs for event in found):
            raise AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail={}))
        return iter(found)


class Inlets(dict):
    """``context["inlet_events"]``, which makes a new query for each that is asked for."""

    def __getitem__(self, asset: Asset) -> Stored:
        return Stored(*super().__getitem__(asset))


class Platform:
    """What Airflow keeps of an asset, and what it starts of a DAG."""

    def __init__(self, *events: SimpleNamespace, find: Any = arrived_folders) -> None:
        self.store = DictStore()
        self.events = list(events)
        self.of_waiting_runs: list[SimpleNamespace] = []
        self.find = find

    def run(self, run_id: str, *own: SimpleNamespace, dag_id: str = "convert") -> list[str]:
        """Run a task on its events; an event by which it asks for another run is stored when it succeeds."""
        outlet = SimpleNamespace(extra={})
        task = SimpleNamespace(outlets=[])
        context = {
            "ti": SimpleNamespace(task=task),
            "triggering_asset_events": {ASSET: list(own)} if own else {},
            "inlet_events": Inlets({ASSET: (self.events, self.of_waiting_runs)}),
            "outlet_events": {ASSET: outlet},
            "asset_state_store": {ASSET: self.store},
            "dag_run": SimpleNamespace(dag_id=dag_id, run_id=run_id),
        }
        found = self.find(ASSET, context)
        if task.outlets == [ASSET]:
            self.store_event(outlet.extra)
        return [Path(item["path"] if isinstance(item, dict) else item).name for item in found]

    def store_event(self, extra: dict) -> None:
        last = max(event.timestamp for event in self.events)
        self.events.append(stored_event(last + timedelta(seconds=1), extra))

    def run_all(self, *own: SimpleNamespace) -> list[list[str]]:
        """Run on some events, and then as long as a run asks for another one."""
        runs = [self.run("run 0", *own)]
        while (asked := self.events[-1]).extra.get("rest_since"):
            found = self.run(f"run {len(runs)}", asked)
            if self.events[-1] is asked:
                return [*runs, found]
            runs.append(found)
        return runs


def test_what_airflow_leaves_for_the_next_event_is_handled_now_and_not_again():
    one, two, three = event(1, "one"), event(2, "two"), event(3, "three")
    platform = Platform(one, two)
    assert platform.run("run 1", one) == ["one", "two"]
    platform.events.append(three)
    assert platform.run("run 2", two, three) == ["three"]


def test_a_retry_or_clear_gets_the_same_again():
    one, two = event(1, "one"), event(2, "two")
    platform = Platform(one, two)
    assert platform.run("run 1", one) == platform.run("run 1", one) == ["one", "two"]
    three = event(3, "three")
    platform.events.append(three)
    assert platform.run("run 1", one) == ["one", "two"]
    assert platform.run("run 2", three) == ["three"]


def test_a_run_for_events_that_another_has_handled_has_nothing_to_do():
    one, two = event(1, "one"), event(2, "two")
    platform = Platform(one, two)
    platform.run("run 1", one)
    assert platform.run("run 2", two) == []


def test_a_folder_that_was_recorded_again_is_handled_again():
    first, second = event(1, "rec"), event(5, "rec")
    platform = Platform(first)
    assert platform.run("run 1", first) == ["rec"]
    platform.events.append(second)
    assert platform.run("run 2", second) == ["rec"]
    assert platform.run("run 1", first) == []


def test_each_dag_handles_every_folder():
    one = event(1, "one")
    platform = Platform(one)
    assert platform.run("run 1", one) == platform.run("run 1", one, dag_id="archive") == ["one"]


def test_a_run_that_no_event_started_has_nothing_to_do():
    assert Platform(event(1, "one")).run("manual") == []


@pytest.mark.parametrize("extra", [None, {}, {"note": "by hand"}])
def test_an_event_about_no_folder_is_passed_over(extra):
    by_hand = stored_event(START, extra)
    assert Platform(by_hand, event(1, "one")).run("run 1", by_hand) == ["one"]


def test_a_task_without_the_inlet_is_told_to_name_it():
    context = {"triggering_asset_events": {ASSET: [event(1, "one")]}, "inlet_events": {}}
    with pytest.raises(ConfigurationError, match=r"@task\(inlets=\["):
        arrived_folders(ASSET, context)


def test_what_a_sensor_announces_is_understood_too():
    folders = [{"path": f"/data/{name}", "name": name} for name in "ab"]
    for extra, names in (({"folders": folders}, ["a", "b"]), (folders[0], ["a"])):
        announced = stored_event(START, extra)
        assert Platform(announced).run("run 1", announced) == names


def test_a_folder_with_two_events_is_handled_once_in_a_run():
    first, second, other = event(1, "rec"), event(5, "rec"), event(3, "other")
    platform = Platform(first, other, second)
    assert platform.run("run 1", first, other) == platform.run("run 1", first, other) == ["other", "rec"]


# --- more than can be mapped ----------------------------------------------------------------------------


@pytest.fixture
def few(monkeypatch) -> int:
    monkeypatch.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", "4")
    return 4


def many(number: int) -> list[SimpleNamespace]:
    return [event(second, f"m{second:05d}") for second in range(number)]


@pytest.mark.parametrize("in_its_hands", [1, 5, 10], ids=["the first", "some", "all"])
def test_a_run_gets_no_more_than_can_be_mapped_and_the_others_come_without_a_new_event(few, in_its_hands):
    events = many(10)
    runs = Platform(*events).run_all(*events[:in_its_hands])
    assert [len(run) for run in runs] == [4, 4, 2]
    assert list(chain(*runs)) == [f"m{number:05d}" for number in range(10)]


def test_ten_thousand_folders_take_ten_runs():
    events = many(10_000)
    runs = Platform(*events).run_all(events[0])
    assert [len(run) for run in runs] == [1024] * 9 + [784]
    assert len(set(chain(*runs))) == 10_000


def test_exactly_as_many_as_can_be_mapped_ask_for_no_other_run(few):
    events = many(4)
    assert Platform(*events).run_all(*events) == [[f"m{number:05d}" for number in range(4)]]


def test_the_folders_of_one_event_of_a_sensor_are_shared_out_too(few):
    folders = [{"path": f"/data/{number}", "name": str(number)} for number in range(10)]
    announced = stored_event(START, {"folders": folders})
    assert [len(run) for run in Platform(announced).run_all(announced)] == [4, 4, 2]


def test_a_retry_or_clear_of_a_run_that_got_a_part_gets_that_part_again(few):
    events = many(10)
    platform = Platform(*events)
    first, second, third = platform.run_all(*events)
    asked = [event for event in platform.events if event not in events]
    assert platform.run("run 1", asked[0]) == second
    assert platform.run("run 0", *events) == first
    assert platform.run("run 2", asked[1]) == third
    # A run that was asked for again finds all in good hands.
    assert platform.run("run 3", platform.events[-1]) == []


def test_what_a_task_asks_for_and_airflow_leaves_behind_is_done_by_the_run_that_finds_it(few):
    events = many(6)
    platform = Platform(*events)
    platform.run("run 0", *events)
    (asked,) = [event for event in platform.events if event not in events]
    new = event(5.5, "new")
    platform.events.append(new)
    assert asked.timestamp > new.timestamp
    assert platform.run("run 1", new) == ["m00004", "m00005", "new"]


def test_a_run_that_waits_for_its_start_keeps_no_other_from_its_folders(few):
    """Airflow fails to list events that such a run has; that run gets all from those on by itself."""
    events = many(8)
    platform = Platform(*events)
    platform.of_waiting_runs = events[6:]
    assert platform.run("run 0", *events[:2]) == ["m00000", "m00001"]
    platform.of_waiting_runs = []
    assert platform.run("run 1", *events[2:]) == ["m00002", "m00003", "m00004", "m00005"]


def test_what_is_left_and_cannot_be_listed_is_not_forgotten(few):
    """A run of another DAG has the events, and waits."""
    events = many(10)
    platform = Platform(*events)
    platform.run("run 0", *events)
    asked = platform.events[-1]
    platform.of_waiting_runs = events[5:]
    assert platform.run("run 1", asked) == []
    asked_again = platform.events[-1]
    assert asked_again is not asked
    platform.of_waiting_runs = []
    assert platform.run("run 2", asked_again) == [f"m{number:05d}" for number in range(4, 8)]


class Killed(BaseException):
    """What a SIGKILL looks like to those who come later: nothing after it happened."""


class Mortal(DictStore):
    """A store that is killed at a write, before or after it."""

    def __init__(self, values: dict[str, str], write: int, *, after: bool) -> None:
        super().__init__()
        self.values, self.write, self.after = values, write, after

    def set(self, key: str, value: Any) -> None:
        self.write -= 1
        if self.write == 0 and not self.after:
            raise Killed
        super().set(key, value)
        if self.write == 0:
            raise Killed


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("write", range(1, 7))
def test_a_run_that_was_killed_at_any_write_loses_nothing(few, write, after):
    events = many(10)
    platform = Platform(*events)
    alive = platform.store
    platform.store = Mortal(alive.values, write, after=after)
    with pytest.raises(Killed):
        platform.run("run 0", *events)
    platform.store = alive
    assert [len(run) for run in platform.run_all(*events)] == [4, 4, 2]


def test_a_clear_where_less_can_be_mapped_than_before_leaves_the_others_to_the_next_run(few, monkeypatch):
    events = many(4)
    platform = Platform(*events)
    platform.run("run 0", *events)
    monkeypatch.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", "3")
    assert platform.run_all(*events) == [["m00000", "m00001", "m00002"], ["m00003"]]


def test_events_of_one_moment_are_told_apart(monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", "600")
    events = [event(0, f"m{number:05d}") for number in range(1300)]
    runs = Platform(*events).run_all(*events)
    assert [len(run) for run in runs] == [600, 600, 100]
    assert len(set(chain(*runs))) == 1300


def test_a_clock_that_is_set_back_makes_no_folder_look_handled():
    """The folder is recorded again, an hour later, at a time that was an hour ago."""
    first = event(7200, "rec")
    platform = Platform(first)
    assert platform.run("run 1", first) == ["rec"]
    again = event(5400, "rec")
    platform.events.append(again)
    assert platform.run("run 2", again) == ["rec"]
    assert platform.run("run 2", again) == ["rec"]
    assert platform.run("run 1", first) == []


# --- NWB files ------------------------------------------------------------------------------------------


def written(second: int, name: str, key: str = "source") -> SimpleNamespace:
    return stored_event(START + timedelta(seconds=second), {key: f"/nwb/{name}", "size_bytes": 1})


def test_files_that_are_finished_together_are_all_handled_each_once():
    events = [written(second, f"{second % 8}.nwb") for second in range(10)]
    events.append(written(11, "written.nwb", key="nwbfile_path"))
    platform = Platform(*events, find=finished_nwbfiles)
    # Airflow hands over two, and would leave the others for the next event.
    files = platform.run("run 1", *events[:2])
    assert sorted(files) == [*(f"{number}.nwb" for number in range(8)), "written.nwb"]
    assert platform.run("run 2", *events) == []
    assert platform.run("run 1", *events[:2]) == files


def test_more_files_than_can_be_mapped_take_several_runs(few):
    events = [written(second, f"{second}.nwb") for second in range(10)]
    runs = Platform(*events, find=finished_nwbfiles).run_all(*events[:2])
    assert [len(run) for run in runs] == [4, 4, 2]


@pytest.mark.parametrize("extra", [None, {}, {"note": "by hand"}, {"source": None}])
def test_an_event_about_no_file_is_passed_over(extra):
    by_hand = stored_event(START, extra)
    assert Platform(by_hand, written(1, "a.nwb"), find=finished_nwbfiles).run("run 1", by_hand) == ["a.nwb"]
