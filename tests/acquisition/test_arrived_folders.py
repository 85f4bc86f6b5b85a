"""Which run handles which folder, given the events that Airflow hands to it and those that it leaves behind."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from airflow.sdk import Asset
from folder_states import DictStore

from airflow_provider_ophys.assets import arrived_folders
from airflow_provider_ophys.exceptions import ConfigurationError

ASSET = Asset("acquisitions")
START = datetime(2026, 11, 22, tzinfo=UTC)


def event(second: int, name: str) -> SimpleNamespace:
    payload = {"path": f"/data/{name}", "name": name, "num_files": 1, "size_bytes": 1}
    extra = {"from_trigger": True, "payload": payload}
    return SimpleNamespace(timestamp=START + timedelta(seconds=second), extra=extra)


class Stored(list):
    """The events of the asset, as a task asks for them."""

    def after(self, after: str) -> list:
        return [event for event in self if event.timestamp > datetime.fromisoformat(after)]


class Platform:
    def __init__(self, *events: SimpleNamespace) -> None:
        self.store = DictStore()
        self.events = Stored(events)

    def run(self, run_id: str, *own: SimpleNamespace, dag_id: str = "convert") -> list[str]:
        context = {
            "triggering_asset_events": {ASSET: list(own)} if own else {},
            "inlet_events": {ASSET: self.events},
            "asset_state_store": {ASSET: self.store},
            "dag_run": SimpleNamespace(dag_id=dag_id, run_id=run_id),
        }
        return [folder["name"] for folder in arrived_folders(ASSET, context)]


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
    platform.events.append(event(3, "three"))
    assert platform.run("run 1", one) == ["one", "two", "three"]


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
    by_hand = SimpleNamespace(timestamp=START, extra=extra)
    assert Platform(by_hand, event(1, "one")).run("run 1", by_hand) == ["one"]


def test_a_task_without_the_inlet_is_told_to_name_it():
    context = {"triggering_asset_events": {ASSET: [event(1, "one")]}, "inlet_events": {}}
    with pytest.raises(ConfigurationError, match=r"@task\(inlets=\["):
        arrived_folders(ASSET, context)


def test_what_a_sensor_announces_is_understood_too():
    folders = [{"path": f"/data/{name}", "name": name} for name in "ab"]
    for extra, names in (({"folders": folders}, ["a", "b"]), (folders[0], ["a"])):
        announced = SimpleNamespace(timestamp=START, extra=extra)
        assert Platform(announced).run("run 1", announced) == names
