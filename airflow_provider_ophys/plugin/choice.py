"""What a person has chosen to see, from the query in the page's address."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Literal, NamedTuple, Protocol
from urllib.parse import urlencode

from airflow.models.dagrun import DagRun
from fastapi import Depends, Query
from pydantic import AwareDatetime, BeforeValidator
from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from airflow_provider_ophys.plugin.tasks import is_ours

type State = Literal["running", "success", "failed", "upstream_failed", "skipped", "up_for_retry", "queued"]

STATES = ("running", "success", "failed", "upstream_failed", "skipped", "up_for_retry", "queued")
DAYS = 7

# A field of the form that is left empty says nothing.
_Date = Annotated[date | None, BeforeValidator(lambda value: value or None), Query()]
_State = Annotated[State | None, BeforeValidator(lambda value: value or None), Query()]
_Latest = Annotated[AwareDatetime | None, BeforeValidator(lambda value: value or None), Query()]


class Run(NamedTuple):
    """Which run, and when it was due."""

    dag_id: str
    run_id: str
    run_after: datetime


class HasRunAfter(Protocol):
    """A run, or a task of one."""

    @property
    def run_after(self) -> datetime:
        """When the run was due."""


def whole_moments[T: HasRunAfter](entries: Sequence[T], limit: int) -> tuple[list[T], datetime | None]:
    """
    Keep what fits on a page, so that what was due at the same moment is on the same page.

    :param entries: Newest first; one more than fit if there are more.
    :param limit: How many fit.
    :returns: What to show, and the moment at which the next page begins; None when all is shown.
    """
    if len(entries) <= limit:
        return list(entries), None
    rest = entries[limit].run_after
    kept = [entry for entry in entries if entry.run_after > rest]
    # A single run may have more tasks than fit.
    return (kept, rest) if kept else (list(entries[:limit]), rest - timedelta(microseconds=1))


@dataclass(frozen=True)
class Choice:
    """
    Which runs to show.

    :param dag_id: Of this DAG only; empty for all that the person may see.
    :param state: With a task in this state only; None for all.
    :param since: Due on this day (UTC) or later. Default: a week ago, which keeps the search short.
    :param until: Due on this day (UTC) or earlier.
    :param latest: Due at this moment or before: where the previous page ended.
    """

    dag_id: str
    state: State | None
    since: date
    until: date | None
    latest: datetime | None

    def of(self, dag_ids: Iterable[str]) -> list[str]:
        """Pick those of some DAGs that are chosen."""
        return [dag_id for dag_id in dag_ids if self.dag_id in ("", dag_id)]

    def dag_ids(self, session: Session) -> list[str]:
        """List the DAGs of which a run of these days has tasks of ours, whatever else is chosen."""
        statement = select(DagRun.dag_id).where(*self._days(), is_ours()).distinct().order_by(DagRun.dag_id)
        return list(session.scalars(statement))

    def runs(self, session: Session, dag_ids: Collection[str], *, limit: int) -> list[Run]:
        """
        List the runs that are chosen, the newest first.

        :param dag_ids: The DAGs that may be shown.
        :param limit: Most runs to list.
        """
        statement = (
            select(DagRun.dag_id, DagRun.run_id, DagRun.run_after)
            .where(DagRun.dag_id.in_(self.of(dag_ids)), *self._days(), is_ours(self.state))
            .order_by(DagRun.run_after.desc(), DagRun.id.desc())
            .limit(limit)
        )
        if self.latest:
            statement = statement.where(DagRun.run_after <= self.latest)
        return [Run(*row) for row in session.execute(statement)]

    def older(self, latest: datetime) -> str:
        """Write the query of the page that begins at a moment."""
        asked = {
            "dag_id": self.dag_id,
            "state": self.state or "",
            "since": self.since.isoformat(),
            "until": self.until.isoformat() if self.until else "",
            "latest": latest.isoformat(),
        }
        return urlencode(asked)

    def _days(self) -> list[ColumnElement[bool]]:
        conditions = [DagRun.run_after >= datetime.combine(self.since, time(), UTC)]
        if self.until:
            conditions.append(DagRun.run_after < datetime.combine(self.until + timedelta(days=1), time(), UTC))
        return conditions


def _choice(
    dag_id: Annotated[str, Query()] = "",
    state: _State = None,
    since: _Date = None,
    until: _Date = None,
    latest: _Latest = None,
) -> Choice:
    return Choice(dag_id, state, since or datetime.now(UTC).date() - timedelta(days=DAYS), until, latest)


ChoiceDep = Annotated[Choice, Depends(_choice)]
