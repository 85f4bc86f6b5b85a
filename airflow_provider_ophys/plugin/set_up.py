"""What is set up, for a page that has nothing to show yet: folders that are watched, and DAGs that are paused."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from airflow.models.asset import AssetModel, DagScheduleAssetReference
from airflow.models.dag import DagModel, DagTag
from airflow.models.trigger import Trigger
from sqlalchemy import select
from sqlalchemy.orm import Session

TRIGGER = "airflow_provider_ophys.triggers.acquisition.AcquisitionFolderTrigger"
TAG = "ophys"


@dataclass(frozen=True)
class Watched:
    """
    A folder that an event trigger watches.

    :param marker: The file that says that an acquisition is complete; empty when none does.
    """

    path: str
    marker: str


@dataclass(frozen=True)
class SetUp:
    """
    What somebody may see of what is set up.

    :param dags: DAGs with the tag "ophys", and those that wait for folders: their ids, and whether each is paused.
    """

    folders: tuple[Watched, ...]
    dags: tuple[tuple[str, bool], ...]


def set_up(session: Session, readable: Callable[[Iterable[str]], set[str]]) -> SetUp:
    """
    Look up what is set up.

    :param readable: Picks the DAGs that may be seen.
    """
    watchers = _watchers(session)
    tagged = select(DagTag.dag_id).where(DagTag.name == TAG)
    dags = session.execute(
        select(DagModel.dag_id, DagModel.is_paused)
        .where(DagModel.is_stale.is_(False), DagModel.dag_id.in_(tagged) | DagModel.dag_id.in_(set(watchers)))
        .order_by(DagModel.dag_id)
    ).all()
    seen = readable([dag_id for dag_id, _ in dags])
    folders = {folder for dag_id in seen for folder in watchers.get(dag_id, ())}
    return SetUp(
        tuple(sorted(folders, key=lambda folder: folder.path)),
        tuple((dag_id, bool(paused)) for dag_id, paused in dags if dag_id in seen),
    )


def _watchers(session: Session) -> dict[str, set[Watched]]:
    """Give the folders that event triggers watch, by the DAGs that their assets start."""
    rows = session.execute(
        select(DagScheduleAssetReference.dag_id, Trigger)
        .join(AssetModel, AssetModel.id == DagScheduleAssetReference.asset_id)
        .join(AssetModel.triggers)
        .where(Trigger.classpath == TRIGGER)
    )
    found: dict[str, set[Watched]] = {}
    for dag_id, trigger in rows:
        path, marker = trigger.kwargs.get("path"), trigger.kwargs.get("marker_file")
        if isinstance(path, str):
            found.setdefault(dag_id, set()).add(Watched(path, marker if isinstance(marker, str) else ""))
    return found
