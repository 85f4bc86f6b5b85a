"""Which acquisition folders have arrived, as the events of assets tell; no task may have looked at them yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from airflow.models.asset import AssetEvent
from sqlalchemy import select
from sqlalchemy.orm import Session

from airflow_provider_ophys.models.session_note import SessionNote
from airflow_provider_ophys.plugin.tasks import ASSET, TaskKey, TaskNote


class Arrivals:
    """Reads the events of assets once, and then those that have come since."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin again."""
        self._last = 0

    def read(self, session: Session) -> Iterator[tuple[str, TaskNote]]:
        """Yield the folders of the events that have come since it was asked last, and what is noted of each."""
        statement = (
            select(AssetEvent.id, AssetEvent.asset_id, AssetEvent.extra, AssetEvent.timestamp)
            # Those of a sensor come from a task, which leaves notes itself.
            .where(AssetEvent.id > self._last, AssetEvent.source_dag_id.is_(None))
            .order_by(AssetEvent.id)
        )
        for event_id, asset_id, extra, at in session.execute(statement):
            self._last = event_id
            for number, (folder, name) in enumerate(_folders_in(extra or {})):
                note = SessionNote(step="arrive", folder=folder, name=name)
                yield folder, TaskNote(TaskKey(ASSET, str(asset_id), str(event_id), number), note, at)


def _folders_in(extra: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    """A trigger's payload, or what a sensor puts there; anybody may create an event about anything."""
    folders = extra.get("folders", [extra.get("payload", extra)])
    for folder in folders if isinstance(folders, list) else ():
        if isinstance(folder, Mapping) and isinstance(folder.get("path"), str) and "num_files" in folder:
            name = folder.get("name")
            yield folder["path"], name if isinstance(name, str) else None
