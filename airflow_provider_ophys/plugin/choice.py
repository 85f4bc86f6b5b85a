"""What a person has chosen to see, from the query in the page's address."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Annotated, Any, Literal
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from fastapi import Depends, Query
from pydantic import BeforeValidator

from airflow_provider_ophys.compat import conf
from airflow_provider_ophys.plugin.sessions import STATES, SessionRow, State

type Sort = Literal["", "when", "name", "subject", "size", "speed", "state"]

# How many days are looked back where nothing else is asked for.
DAYS, TRENDS_DAYS = 7, 30
PER_PAGE = 50

# What an empty field asks for, where a missing one asks for the last days.
_ALL_DAYS = date.min
# Others that are left empty say nothing.
_Date = Annotated[date | None, BeforeValidator(lambda value: value or None), Query()]
_State = Annotated[State | Literal["no file"] | None, BeforeValidator(lambda value: value or None), Query()]


def time_zone() -> tzinfo:
    """Give the time zone of this Airflow, in which days begin."""
    name = conf.get("core", "default_timezone", fallback="utc")
    if name == "system":
        return datetime.now().astimezone().tzinfo or UTC
    return UTC if name.lower() == "utc" else ZoneInfo(name)


@dataclass(frozen=True)
class Choice:
    """
    Which sessions to show, and how.

    :param q: Texts that must all be in the session's name, subject, paths, addresses or error.
    :param dag_id: Of which a task of this DAG noted something; empty for all.
    :param state: In this state, or without an NWB file; None for all.
    :param since: Of which something was noted on this day or later. Default: a week ago, unless a text is given.
    :param until: Of which something was noted on this day or earlier.
    :param sort: By what; default: failed ones first, then what is under way, then the newest.
    :param descending: The other way round.
    :param page: Which page of them, from 1.
    """

    q: str
    dag_id: str
    state: State | Literal["no file"] | None
    since: date | None
    until: date | None
    sort: Sort
    descending: bool
    page: int
    zone: tzinfo

    def pick(self, rows: Iterable[SessionRow]) -> list[SessionRow]:
        """Pick the sessions that are chosen, in their order, of all pages."""
        words = self.q.casefold().split()
        found = [row for row in rows if self._is_chosen(row) and all(word in _text_of(row) for word in words)]
        # The newest first, whatever else they are sorted by.
        found.sort(key=lambda row: row.at, reverse=True)
        if self.sort != "when":
            found.sort(key=lambda row: _order(row, self.sort))
        return found[::-1] if self.descending else found

    def _is_chosen(self, row: SessionRow) -> bool:
        day = row.at.astimezone(self.zone).date()
        return (
            (self.since is None or day >= self.since)
            and (self.until is None or day <= self.until)
            and (not self.dag_id or self.dag_id in row.dag_ids)
            and (self.state is None or row.state == self.state or (self.state == "no file" and not row.has_file))
        )

    def query(self, **changes: Any) -> str:
        """Write the query of the same page, but for some of it."""
        asked = asdict(self) | changes
        del asked["zone"]
        asked["descending"] = "1" if asked["descending"] else ""
        asked["page"] = "" if asked["page"] == 1 else asked["page"]
        # A day that was taken away is not the same as none.
        return urlencode({name: value or "" for name, value in asked.items() if value or name == "since"})

    def sorted_by(self, sort: Sort) -> str:
        """Write the query that sorts by something, or the other way round if it is sorted by that."""
        return self.query(sort=sort, descending=not self.descending if self.sort == sort else False, page=1)

    def one_page(self, rows: Sequence[SessionRow]) -> Sequence[SessionRow]:
        """Cut out the page that is shown."""
        return rows[(self.page - 1) * PER_PAGE : self.page * PER_PAGE]


def _order(row: SessionRow, sort: Sort) -> tuple[Any, ...]:
    if sort == "name":
        return (row.name.casefold(),)
    if sort == "subject":
        return (not row.subject, row.subject.casefold())
    if sort in ("size", "speed"):
        number = row.size_bytes if sort == "size" else row.speed
        return (number is None, -(number or 0))
    # What is done and what was reused is alike.
    return (min(STATES.index(row.state), STATES.index("done")),)


def _text_of(row: SessionRow) -> str:
    places = (place.uri for place in row.places)
    return "\n".join((row.name, row.subject, row.path, row.folder, row.source, row.error, *places)).casefold()


def _choice_since(days: int) -> Callable[..., Choice]:
    """Make what reads a query; where it says nothing else, it begins so many days ago."""

    def choice(  # noqa: PLR0917 -- FastAPI passes them by name
        q: Annotated[str, Query(max_length=500)] = "",
        dag_id: Annotated[str, Query()] = "",
        state: _State = None,
        since: Annotated[date | None, BeforeValidator(lambda value: value or _ALL_DAYS), Query()] = None,
        until: _Date = None,
        sort: Annotated[Sort, Query()] = "",
        descending: Annotated[bool, BeforeValidator(lambda value: value or False), Query()] = False,
        page: Annotated[int, BeforeValidator(lambda value: value or 1), Query(ge=1, le=10**6)] = 1,
    ) -> Choice:
        zone = time_zone()
        if since is None and not q:
            since = datetime.now(zone).date() - timedelta(days=days)
        return Choice(q, dag_id, state, None if since == _ALL_DAYS else since, until, sort, descending, page, zone)

    return choice


ChoiceDep = Annotated[Choice, Depends(_choice_since(DAYS))]
TrendsChoiceDep = Annotated[Choice, Depends(_choice_since(TRENDS_DAYS))]
