"""What the checks of a file found, for one look. A result may be of any shape, so nothing is taken for granted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from airflow_provider_ophys.plugin.tasks import Json

# What nwbinspector calls the least of its findings.
SUGGESTION = "BEST_PRACTICE_SUGGESTION"


@dataclass(frozen=True)
class Check:
    """
    What a check of a file found.

    :param text: In a few words.
    :param kind: How much it matters.
    :param detail: What there is to say beyond that.
    """

    text: str
    kind: Literal["good", "care"]
    detail: str = ""


def checks(results: Sequence[Json]) -> list[Check]:
    """
    Tell what is known of a file: schema, nwbinspector, and what its report marks.

    :param results: What the tasks that are about it returned, the latest last, which counts.
    """
    return [*_schema(results), *_inspection(results), *_marks(results), *_no_report(results)]


def last(results: Sequence[Json], name: str) -> object:
    """Look up what the last of some tasks that said something under a name said."""
    return next((result[name] for result in reversed(results) if result.get(name) is not None), None)


def _schema(results: Sequence[Json]) -> Iterator[Check]:
    if validation := last(results, "validation"):
        yield Check(str(validation), "good" if validation == "valid" else "care", "NWB schema")


def _inspection(results: Sequence[Json]) -> Iterator[Check]:
    findings = last(results, "inspection")
    if isinstance(findings, list):
        serious = [finding for finding in findings if _dict(finding).get("importance") != SUGGESTION]
        count = f"{len(findings)} finding{'' if len(findings) == 1 else 's'}" if findings else "no findings"
        detail = "\n".join(["nwbinspector", *map(_told, findings)])
        yield Check(count, "care" if serious else "good", detail)


def _marks(results: Sequence[Json]) -> Iterator[Check]:
    # Staging tells where the report is, but not again what it says.
    summary = last([_dict(result.get("report")) for result in results], "summary")
    marks = [mark for movie in _dicts(_dict(summary).get("movies")) for mark in _dicts(movie.get("marks"))]
    for kind, count in Counter(str(mark.get("kind")) for mark in marks).items():
        details = [str(mark.get("detail")) for mark in marks if str(mark.get("kind")) == kind]
        yield Check(f"{kind}: {count}" if count > 1 else kind, "care", "\n".join(details))


def _no_report(results: Sequence[Json]) -> Iterator[Check]:
    if problem := last(results, "report_problem"):
        yield Check("no report", "care", str(problem))


def _told(finding: object) -> str:
    known = _dict(finding)
    return " ".join(str(known[name]) for name in ("importance", "message", "location") if name in known)


def _dict(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _dicts(value: object) -> list[Json]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
