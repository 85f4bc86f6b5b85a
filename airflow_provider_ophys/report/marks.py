"""
What catches the eye in a movie, each precisely defined, and what was and what was not looked for.

``docs/report.md`` has the definitions for users; a change here belongs there too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from airflow_provider_ophys.nwb.contents import Timing
from airflow_provider_ophys.report.evidence import Evidence, NotChecked, Sighting
from airflow_provider_ophys.report.light_marks import (
    bleaching,
    dark_detector,
    light_leaks,
    line_noise,
    partly_zero,
    saturated,
)
from airflow_provider_ophys.report.motion_marks import drift, jitter, jumps, z_drift
from airflow_provider_ophys.report.movie import MovieSurvey
from airflow_provider_ophys.report.saturation import Saturation
from airflow_provider_ophys.report.sequence_marks import blank, duplicated, gaps, interleaved

Kind = Literal[
    "dark detector",
    "light leak",
    "saturated",
    "dropped",
    "duplicated",
    "partly zero",
    "interleaved",
    "jump",
    "jitter",
    "drift",
    "z-drift",
    "bleaching",
    "line noise",
]

# Of one kind more than these are neither drawn nor told one by one.
MOST_SPANS = 200
MOST_TOLD = 4


@dataclass(frozen=True)
class Mark:
    """
    Something that a person should look at; what happens again and again is one mark.

    :param start: Seconds, on the clock of the movie; of the first frame concerned.
    :param stop: Seconds; of the last frame concerned.
    :param samples: How many frames are concerned.
    :param count: How many times it happens.
    :param detail: A sentence for people.
    :param spans: When it happens, at most 200 times: first and last second of each.
    """

    kind: Kind
    start: float
    stop: float
    samples: int
    count: int
    detail: str
    spans: tuple[tuple[float, float], ...]

    def to_json(self) -> dict[str, Any]:
        """Return the mark as plain JSON."""
        return {name: getattr(self, name) for name in ("kind", "start", "stop", "samples", "count", "detail")}


@dataclass(frozen=True)
class Marks:
    """
    What was found.

    :param marks: In the order of time.
    :param checked: What was looked for.
    :param not_checked: What was not, and why.
    """

    marks: list[Mark]
    checked: list[Kind]
    not_checked: Mapping[Kind, str]


Check = Callable[[Evidence], Iterable[Sighting]]
CHECKS: tuple[tuple[Kind, tuple[Check, ...]], ...] = (
    ("dark detector", (dark_detector,)),
    ("light leak", (light_leaks,)),
    ("saturated", (saturated,)),
    ("dropped", (blank, gaps)),
    ("duplicated", (duplicated,)),
    ("partly zero", (partly_zero,)),
    ("interleaved", (interleaved,)),
    ("jump", (jumps,)),
    ("jitter", (jitter,)),
    ("drift", (drift,)),
    ("z-drift", (z_drift,)),
    ("bleaching", (bleaching,)),
    ("line noise", (line_noise,)),
)


def find_marks(survey: MovieSurvey, saturation: Saturation, timing: Timing) -> Marks:
    """Find everything that a person should look at."""
    evidence = Evidence(survey, saturation, timing)
    marks: list[Mark] = []
    checked: list[Kind] = []
    not_checked: dict[Kind, str] = {}
    for kind, checks in CHECKS:
        seen: list[Sighting] = []
        for check in checks:
            try:
                seen += check(evidence)
            except NotChecked as reason:
                not_checked[kind] = str(reason)
        if kind not in not_checked or seen:
            checked.append(kind)
        if seen:
            marks.append(_together(kind, seen))
    return Marks(sorted(marks, key=lambda mark: mark.start), checked, not_checked)


def _together(kind: Kind, seen: list[Sighting]) -> Mark:
    """Make one mark of all sightings of a kind."""
    seen = sorted(seen, key=lambda sighting: sighting.start)
    details = list(dict.fromkeys(sighting.detail for sighting in seen))
    detail = "; ".join(details[:MOST_TOLD]) + (
        f"; and {len(details) - MOST_TOLD} more" if len(details) > MOST_TOLD else ""
    )
    return Mark(
        kind,
        seen[0].start,
        max(sighting.stop for sighting in seen),
        sum(sighting.samples for sighting in seen),
        len(seen),
        detail,
        tuple((sighting.start, sighting.stop) for sighting in seen[:MOST_SPANS]),
    )
