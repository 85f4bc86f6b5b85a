"""What is wrong with a file beside its pixels: findings of checks, placeholders, times that cannot be right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import numpy as np

from airflow_provider_ophys.nwb.contents import Contents
from airflow_provider_ophys.report.facts import placeholders

# What nwbinspector calls what must not stay so.
SERIOUS = ("CRITICAL", "ERROR")
MOST_TOLD = 5

SECONDS_PER_DAY, SECONDS_PER_YEAR = 86_400.0, 365.25 * 86_400.0
# A session begins with its recordings, or on the day before.
MOST_DAYS = 1.0


def concerns(contents: Contents, result: Mapping[str, Any]) -> list[str]:
    """
    Return what a person should know before anything else, a sentence each.

    :param result: What a write operator returned of the file; empty if another software wrote it.
    """
    return [*_findings(result), *_times(contents), *_placeholders(contents)]


def _findings(result: Mapping[str, Any]) -> Iterator[str]:
    serious = [found for found in result.get("inspection") or () if found["importance"] in SERIOUS]
    for found in serious[:MOST_TOLD]:
        yield f"nwbinspector, {found['importance']}: {found['message']} ({found['location']})"
    if len(serious) > MOST_TOLD:
        yield f"nwbinspector: {len(serious) - MOST_TOLD} more findings as serious"


def _times(contents: Contents) -> Iterator[str]:
    start: datetime = contents.nwbfile.session_start_time
    for movie in contents.movies:
        first = float(movie.timing.at(np.array([0]))[0])
        if abs(first) > MOST_DAYS * SECONDS_PER_DAY:
            yield f"{movie.name} begins {_long(first)} {'after' if first > 0 else 'before'} the session's start"
    written = min(contents.nwbfile.file_create_date or [start])
    ahead = (start - written).total_seconds() if written.tzinfo and start.tzinfo else 0.0
    if ahead > MOST_DAYS * SECONDS_PER_DAY:
        yield f"the session starts {_long(ahead)} after the file was made"


def _long(seconds: float) -> str:
    years, days = abs(seconds) / SECONDS_PER_YEAR, abs(seconds) / SECONDS_PER_DAY
    return f"{years:.0f} years" if years >= 2 else f"{days:.0f} days"  # noqa: PLR2004 - of one year, the days


def _placeholders(contents: Contents) -> Iterator[str]:
    held = sorted(set(placeholders(contents)))
    if held:
        what = "a field holds a placeholder" if len(held) == 1 else f"{len(held)} fields hold placeholders"
        yield f"{what}: {', '.join(held)}"
