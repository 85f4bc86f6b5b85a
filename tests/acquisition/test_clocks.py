"""No folder comes too soon, twice or never because a clock is set or because two wait for the same folders."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from airflow.sdk import Asset
from airflow_versions import TaskDeferred
from folder_states import DictStore, put

from airflow_provider_ophys.acquisition import Clocks
from airflow_provider_ophys.sensors.acquisition import AcquisitionFolderSensor
from airflow_provider_ophys.triggers.acquisition import AcquisitionFolderTrigger

HOUR = 3600.0
LEDGER = Asset("acquisitions")


class Machine:
    """A machine whose clocks the test sets."""

    def __init__(self, name: str, *, started: float = 1000.0, time_of_day: float = 1.8e9) -> None:
        self.name, self.started, self.time_of_day = name, started, time_of_day

    def pass_seconds(self, seconds: float) -> None:
        self.started += seconds
        self.time_of_day += seconds

    @property
    def clocks(self) -> Clocks:
        return Clocks(self.name, lambda: self.started, lambda: self.time_of_day)


class Sensing:
    """A sensor in reschedule mode, each poke of which is a new process on some machine."""

    def __init__(self, root: Path) -> None:
        self.root, self.ledger, self.task_store = root, DictStore(), DictStore()

    def poke(self, machine: Machine) -> list[str]:
        class OnMachine(AcquisitionFolderSensor):
            clocks: ClassVar[Clocks] = machine.clocks

        sensor = OnMachine(
            task_id="wait", path=str(self.root), mode="reschedule", poke_interval=10, inlets=[LEDGER]
        )
        found = sensor.poke(context("run 1", self.ledger, self.task_store))
        return [folder["name"] for folder in found.xcom_value or []]


def context(run_id: str, ledger: Any, task_store: DictStore | None = None) -> dict[str, Any]:
    task = SimpleNamespace(dag_id="d", run_id=run_id, task_id="wait", map_index=-1, try_number=1)
    return {"ti": task, "asset_state_store": {LEDGER: ledger}, "task_state_store": task_store or DictStore()}


@pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["forward", "back"])
def test_a_clock_that_is_set_by_an_hour_makes_no_folder_complete_sooner_or_later(tmp_path, jump):
    put(tmp_path / "rec", "movie.tif")
    sensing, machine = Sensing(tmp_path), Machine("a")
    assert sensing.poke(machine) == []
    machine.pass_seconds(10)
    machine.time_of_day += jump
    assert sensing.poke(machine) == []
    machine.pass_seconds(49)
    assert sensing.poke(machine) == []
    machine.pass_seconds(1.1)
    assert sensing.poke(machine) == ["rec"]


@pytest.mark.parametrize("ahead", [0.0, HOUR, -HOUR], ids=["the same", "an hour ahead", "an hour behind"])
def test_workers_whose_clocks_differ_hand_over_no_growing_folder_and_every_quiet_one(tmp_path, ahead):
    put(tmp_path / "rec", "movie.tif")
    sensing = Sensing(tmp_path)
    machines = [Machine("a"), Machine("b", started=50.0, time_of_day=1.8e9 + ahead)]
    passed = 0
    while not sensing.poke(machines[passed // 10 % 2]):
        for machine in machines:
            machine.pass_seconds(10)
        passed += 10
        assert passed <= 300, "a quiet folder is never handed over"
    assert passed >= 60


def test_a_machine_that_was_started_again_goes_on_by_the_time_of_day(tmp_path):
    put(tmp_path / "rec", "movie.tif")
    sensing, machine = Sensing(tmp_path), Machine("a")
    sensing.poke(machine)
    for _ in range(5):
        machine.pass_seconds(10)
        assert sensing.poke(machine) == []
    machine.pass_seconds(11)
    machine.started = 5.0
    assert sensing.poke(machine) == ["rec"]


def test_nobody_waits_for_longer_than_the_timeout_because_a_clock_was_set_back(tmp_path):
    machine = Machine("a")

    class OnMachine(AcquisitionFolderSensor):
        clocks: ClassVar[Clocks] = machine.clocks

    sensor = OnMachine(task_id="wait", path=str(tmp_path), deferrable=True, timeout=100, inlets=[LEDGER])
    with pytest.raises(TaskDeferred) as first:
        sensor.poke(context("run 1", DictStore()))
    machine.time_of_day -= HOUR
    with pytest.raises(TaskDeferred) as again:
        sensor.execute_complete(context("run 1", DictStore()), {"folders": []}, **first.value.kwargs)
    assert again.value.timeout.total_seconds() == 100


def test_this_machine_knows_its_own_moments():
    here = Clocks.here()
    assert 0 <= here.seconds_since(here.moment(), at_most=0) < 60
    assert here.seconds_since({**here.moment(), "machine": "another"}, at_most=0) == 0


# --- two who wait for the same folders ------------------------------------------------------------------


class Interrupted(DictStore):
    """A ledger at one of whose writes somebody else comes between."""

    def __init__(self) -> None:
        super().__init__()
        self.interruption: Callable[[], object] | None = None

    def set(self, key: str, value: Any) -> None:
        super().set(key, value)
        if self.interruption is not None:
            interruption, self.interruption = self.interruption, None
            interruption()


def poke(root: Path, run_id: str, ledger: DictStore) -> list[str]:
    sensor = AcquisitionFolderSensor(task_id="wait", path=str(root), marker_file="DONE", inlets=[LEDGER])
    return [folder["name"] for folder in sensor.poke(context(run_id, ledger)).xcom_value or []]


def test_a_run_that_looks_while_another_takes_folders_gets_the_others(tmp_path):
    """Two schedulers, or max_active_runs above 1."""
    for name in "abc":
        put(tmp_path / name, "movie.tif", "DONE")
    ledger, second = Interrupted(), []
    ledger.interruption = lambda: second.extend(poke(tmp_path, "run 2", ledger))
    first = poke(tmp_path, "run 1", ledger)
    assert sorted([*first, *second]) == ["a", "b", "c"]
    assert poke(tmp_path, "run 1", ledger) == first
    assert poke(tmp_path, "run 2", ledger) == second


def test_a_sensor_beside_a_trigger_keeps_what_it_got_before_the_triggers_event_was_safe(tmp_path):
    put(tmp_path / "rec", "movie.tif", "DONE")
    ledger = DictStore()
    trigger = AcquisitionFolderTrigger(path=tmp_path, marker_file="DONE", poke_interval=0.1)
    trigger.asset_state_store = ledger

    fired: list[str] = []

    async def listen() -> None:
        async for event in trigger.run():
            fired.append(event.payload["name"])
            if fired == ["rec"]:
                assert poke(tmp_path, "run 1", ledger) == ["rec"]
                put(tmp_path / "later", "movie.tif", "DONE")

    async def scenario() -> None:
        listener = asyncio.create_task(listen())
        # What the trigger does with its first event in the ledger, it has done when the second one is there.
        async with asyncio.timeout(60):
            while ledger.names != ["later", "rec"]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        listener.cancel()
        await asyncio.gather(listener, return_exceptions=True)

    asyncio.run(scenario())
    assert fired == ["rec", "later"]
    assert poke(tmp_path, "run 1", ledger) == ["rec"]
