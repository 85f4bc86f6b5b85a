"""The sessions that somebody may see: rows are made when something changed, and kept for the next who asks."""

from __future__ import annotations

import logging
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterable
from datetime import datetime, tzinfo

from airflow.utils.session import create_session
from sqlalchemy.exc import SQLAlchemyError

from airflow_provider_ophys.plugin.sessions import SessionRow, session_row
from airflow_provider_ophys.plugin.task_notes import NoteIndex
from airflow_provider_ophys.plugin.tasks import ASSET

log = logging.getLogger(__name__)

# People who may see the same DAGs share the rows.
MOST_AUDIENCES = 8


class Listing:
    """All notes, and the rows made of them."""

    def __init__(self) -> None:
        self.index = NoteIndex()
        self._lock = threading.Lock()
        self._rows: OrderedDict[frozenset[str], dict[str, tuple[int, SessionRow | None]]] = OrderedDict()

    def rows(self, dag_ids: Iterable[str], asset_ids: Iterable[int]) -> list[SessionRow]:
        """
        List the sessions of which somebody may see something.

        :param dag_ids: The DAGs that may be seen.
        :param asset_ids: The assets whose events may be seen.
        """
        with self._lock:
            dags = self.index.dag_ids.intersection(dag_ids)
            assets = set(map(str, self.index.asset_ids.intersection(asset_ids)))
            audience = frozenset(dags | {f"{ASSET} {asset}" for asset in assets})
            known = self._rows.setdefault(audience, {})
            self._rows.move_to_end(audience)
            while len(self._rows) > MOST_AUDIENCES:
                self._rows.popitem(last=False)
            made: dict[str, tuple[int, SessionRow | None]] = {}
            for place, version in self.index.versions():
                if place not in known or known[place][0] != version:
                    seen = [
                        one
                        for one in self.index.notes_of(place)
                        if one.key.dag_id in dags or (one.key.dag_id == ASSET and one.key.run_id in assets)
                    ]
                    made[place] = (version, session_row(place, seen))
                else:
                    made[place] = known[place]
            self._rows[audience] = made
            return [row for _, row in made.values() if row is not None]


def today_in(rows: Iterable[SessionRow], zone: tzinfo) -> Counter[str]:
    """Count what was done and what failed today, and what is under way or waits now."""
    today = datetime.now(zone).date()
    counts: Counter[str] = Counter()
    for row in rows:
        if row.state in ("running", "retrying", "waiting"):
            counts[row.state] += 1
        elif row.at.astimezone(zone).date() == today:
            counts["failed" if row.state == "failed" else "done"] += 1
    return counts


LISTING = Listing()


def warm_up() -> None:
    """Read all notes, and make the rows for those who may see everything."""
    try:
        with create_session() as session:
            LISTING.index.refresh(session)
            LISTING.rows(LISTING.index.dag_ids, LISTING.index.asset_ids)
    except SQLAlchemyError as error:
        # As before the database is migrated; the first who looks has it read then.
        log.warning("The page Ophys cannot read its sessions yet: %s", type(error).__name__)
