"""What was converted, by day and by subject, how much was left to do, and how full the disks are."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta, tzinfo
from pathlib import Path

from airflow_provider_ophys.exceptions import ConfigurationError
from airflow_provider_ophys.plugin.choice import TRENDS_DAYS, Choice
from airflow_provider_ophys.plugin.sessions import SessionRow
from airflow_provider_ophys.settings import allowed_roots

MOST_DAYS, MOST_SUBJECTS = 366, 50
# A day before which nothing was converted.
EARLIEST = date(2000, 1, 1)


@dataclass(frozen=True)
class Amount:
    """
    What was converted of some sessions.

    :param name: A day or a subject.
    :param speed: Median of the sessions, in megabytes (uncompressed) per second; None when none says it.
    :param backlog: Of a day: how many sessions that had arrived had no NWB file at its end.
    """

    name: str
    sessions: int = 0
    size_bytes: int = 0
    speed: float | None = None
    backlog: int = 0


@dataclass(frozen=True)
class Volume:
    """A disk, or a bucket of which only what was staged is known."""

    name: str
    used_bytes: int
    total_bytes: int | None = None


@dataclass(frozen=True)
class Trends:
    """Amounts by day, the oldest first, and by subject, the most sessions first; and volumes."""

    days: Sequence[Amount]
    subjects: Sequence[Amount]
    volumes: Sequence[Volume]


def trends_of(choice: Choice, rows: Sequence[SessionRow]) -> Trends:
    """
    Count what was converted in the chosen days, by default the last thirty.

    :param rows: All that the person may see.
    """
    last = max(min(choice.until or date.max, datetime.now(choice.zone).date()), EARLIEST)
    first = max(choice.since or last - timedelta(days=TRENDS_DAYS), last - timedelta(days=MOST_DAYS - 1))
    of_any_day = replace(choice, since=None, until=None).pick(rows)
    chosen = [row for row in of_any_day if first <= _day(row, choice.zone) <= last]
    return Trends(
        days=list(_by_day(chosen, of_any_day, first, last, choice.zone)),
        subjects=_by_subject(chosen),
        volumes=[*_disks(), *_buckets(of_any_day)],
    )


def _day(row: SessionRow, zone: tzinfo) -> date:
    return row.converted.at.astimezone(zone).date() if row.converted else date.min


def _by_day(
    chosen: Sequence[SessionRow], every: Sequence[SessionRow], first: date, last: date, zone: tzinfo
) -> Iterable[Amount]:
    by_day = defaultdict(list)
    for row in chosen:
        by_day[_day(row, zone)].append(row)
    waits = [
        (row.arrived.astimezone(zone).date(), _day(row, zone) if row.converted else None)
        for row in every
        if row.arrived and (row.converted or not row.has_file)
    ]
    for number in range((last - first).days + 1):
        day = first + timedelta(days=number)
        backlog = sum(arrived <= day and (done is None or done > day) for arrived, done in waits)
        yield _amount(day.isoformat(), by_day[day], backlog)


def _by_subject(rows: Sequence[SessionRow]) -> list[Amount]:
    by_subject = defaultdict(list)
    for row in rows:
        by_subject[row.subject or "unknown"].append(row)
    amounts = [_amount(subject, of_subject) for subject, of_subject in by_subject.items()]
    return sorted(amounts, key=lambda amount: (-amount.sessions, amount.name))[:MOST_SUBJECTS]


def _amount(name: str, rows: Sequence[SessionRow], backlog: int = 0) -> Amount:
    speeds = sorted(row.speed for row in rows if row.speed is not None)
    median = speeds[len(speeds) // 2] if speeds else None
    return Amount(name, len(rows), sum(row.size_bytes or 0 for row in rows), median, backlog)


def _disks() -> Iterable[Volume]:
    """The disks of the allowed folders, as far as the API server sees them, each once."""
    try:
        roots = allowed_roots()
    except ConfigurationError:
        return
    seen = set()
    for root in roots:
        try:
            device, usage = Path(root).stat().st_dev, shutil.disk_usage(root)
        except OSError:
            continue
        if device not in seen:
            seen.add(device)
            yield Volume(str(root), usage.used, usage.total)


def _buckets(rows: Sequence[SessionRow]) -> Iterable[Volume]:
    used: dict[str, int] = defaultdict(int)
    for row in rows:
        for place in row.places:
            used[place.uri.removeprefix("s3://").partition("/")[0]] += row.size_bytes or 0
    return (Volume(f"s3://{bucket}", size) for bucket, size in sorted(used.items()))
