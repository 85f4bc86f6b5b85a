"""
Which acquisition folders were seen but are not complete, as their watchers note in Airflow's state store.

Before Airflow 3.3, which has none, it cannot be told.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from airflow.models.asset import DagScheduleAssetReference, TaskInletAssetReference, TaskOutletAssetReference
from pydantic import TypeAdapter, ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from airflow_provider_ophys.acquisition.ledger import WAITING_PREFIX, WaitingFolders
from airflow_provider_ophys.compat import HAS_STATE_STORES

if HAS_STATE_STORES:
    from airflow.models.asset_state_store import AssetStateStoreModel

    _IS_NOTE = AssetStateStoreModel.key.startswith(WAITING_PREFIX, autoescape=True)

_NOTE = TypeAdapter(WaitingFolders)


@dataclass(frozen=True)
class WatchedFolder:
    """
    A watched folder in which acquisition folders wait.

    :param seen: Since when it is so.
    """

    note: WaitingFolders
    seen: datetime


def assets_of_dags(session: Session) -> dict[str, set[int]]:
    """Give the ids of the assets that DAGs have to do with, by the DAGs' ids."""
    found: dict[str, set[int]] = {}
    for model in (DagScheduleAssetReference, TaskInletAssetReference, TaskOutletAssetReference):
        for dag_id, asset_id in session.execute(select(model.dag_id, model.asset_id)):
            found.setdefault(dag_id, set()).add(asset_id)
    return found


def waiting_folders(session: Session, asset_ids: Collection[int]) -> list[WatchedFolder]:
    """
    List the watched folders in which something waits.

    :param asset_ids: The assets in whose state store to look.
    """
    if not HAS_STATE_STORES:
        return []
    rows = session.execute(
        select(AssetStateStoreModel.value, AssetStateStoreModel.updated_at)
        .where(_IS_NOTE, AssetStateStoreModel.asset_id.in_(asset_ids))
        .order_by(AssetStateStoreModel.updated_at)
    )
    latest: dict[str, WatchedFolder] = {}
    for value, seen in rows:
        # A task may keep anything under any key of its asset.
        with suppress(ValidationError):
            note = _NOTE.validate_json(value)
            latest[note["path"]] = WatchedFolder(note, seen)
    return [folder for folder in latest.values() if folder.note["folders"]]
