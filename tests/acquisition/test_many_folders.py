"""
Thousands of folders that are complete at once, on Airflow's metadata database: none is lost, whatever is killed.

Where Airflow's own processes matter, ``tests/chaos/test_many_arrivals.py`` has them.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow_versions import needs_state_stores
from folder_states import DictStore
from sqlalchemy import text
from thorough import THOROUGH

from airflow_provider_ophys.acquisition.ledger import Folder
from airflow_provider_ophys.sensors.acquisition import AcquisitionFolderSensor
from airflow_provider_ophys.triggers.acquisition import AcquisitionFolderTrigger

NUM_FOLDERS = 10_000 if THOROUGH else 2_000
MOST = NUM_FOLDERS * 2 // 5
BEFORE_THE_KILL = NUM_FOLDERS // 4

pytestmark = needs_state_stores


class Killed(BaseException):
    """What a SIGKILL looks like to those who come later: nothing after it happened."""


class Ledger:
    """The state store of an asset in the metadata database; whoever writes may be killed at a write."""

    def __init__(self, session: Any, asset_id: int) -> None:
        from airflow._shared.state import AssetScope
        from airflow.state.metastore import MetastoreBackend

        self.session, self.scope, self.backend = session, AssetScope(asset_id=asset_id), MetastoreBackend()
        self.writes_left: int | None = None

    def get(self, key: str, default: Any = None) -> Any:
        value = self.backend.get(self.scope, key, session=self.session)
        return default if value is None else json.loads(value)

    def set(self, key: str, value: Any) -> None:
        if self.writes_left == 0:
            raise Killed
        self.backend.set(self.scope, key, json.dumps(value), session=self.session)
        self.session.commit()
        if self.writes_left:
            self.writes_left -= 1

    def size_bytes(self) -> int:
        """What all the keys and values take in the database."""
        query = text("SELECT sum(length(key) + length(value)) FROM asset_state_store WHERE asset_id = :id")
        return int(self.session.scalar(query, {"id": self.scope.asset_id}))


@pytest.fixture
def ledger(airflow_db: Path, request: pytest.FixtureRequest) -> Iterator[Ledger]:
    from airflow.models.asset import AssetModel
    from airflow.settings import Session

    with Session() as session:
        # Nobody pulls the plug here: what is committed need not wait for the disk.
        session.execute(text("PRAGMA synchronous = OFF"))
        asset = AssetModel(name=request.node.name, uri=request.node.name, group="asset")
        session.add(asset)
        session.commit()
        yield Ledger(session, asset.id)


def put_complete(root: Path, number: int) -> set[str]:
    names = {f"m{each:05d}" for each in range(number)}
    for name in names:
        folder = root / name
        folder.mkdir(parents=True)
        for file in ("movie.tif", "DONE"):
            os.close(os.open(folder / file, os.O_CREAT | os.O_WRONLY))
    return names


def test_folders_beyond_the_length_of_a_map_go_to_one_run_each_though_runs_are_killed(
    tmp_path, ledger, monkeypatch
):
    monkeypatch.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", str(MOST))
    names = put_complete(tmp_path, NUM_FOLDERS)

    def poke(run_id: str, killed_after: int | None = None) -> list[str]:
        sensor = AcquisitionFolderSensor(task_id="wait", path=str(tmp_path), marker_file="DONE")
        task = SimpleNamespace(dag_id="d", run_id=run_id, task_id="wait", map_index=-1, try_number=1)
        stores = {sensor.inlets[0]: ledger}
        ledger.writes_left = killed_after
        result = sensor.poke({"ti": task, "asset_state_store": stores, "task_state_store": DictStore()})
        return [folder["name"] for folder in result.xcom_value or []]

    with pytest.raises(Killed):
        poke("run 0", killed_after=BEFORE_THE_KILL)
    got = {"run 0": poke("run 0"), "run 1": poke("run 1"), "run 2": poke("run 2")}

    assert [len(folders) for folders in got.values()] == [
        BEFORE_THE_KILL,
        MOST,
        NUM_FOLDERS - MOST - BEFORE_THE_KILL,
    ]
    assert Counter(name for folders in got.values() for name in folders) == dict.fromkeys(names, 1)
    assert poke("run 1") == got["run 1"]
    assert ledger.size_bytes() < 600 * len(names)


def test_a_triggerer_that_is_killed_loses_no_event_and_repeats_only_what_is_not_in_the_ledger(tmp_path, ledger):
    names = put_complete(tmp_path, 1000)

    async def watch(enough: int, killed_after: int | None = None) -> list[str]:
        ledger.writes_left = killed_after
        trigger = AcquisitionFolderTrigger(path=tmp_path, marker_file="DONE", poke_interval=0.2)
        trigger.asset_state_store = ledger
        fired: list[str] = []
        try:
            async for event in trigger.run():
                fired.append(event.payload["name"])
                if len(fired) == enough:
                    break
        except Killed:
            pass
        return fired

    first = asyncio.run(watch(enough=2000, killed_after=150))
    in_ledger = {name for name in names if ledger.get(Folder.below(tmp_path, name).key)}
    assert len(in_ledger) == 150
    second = asyncio.run(watch(enough=850))
    assert set(second) == names - in_ledger
    assert set(first) | set(second) == names
