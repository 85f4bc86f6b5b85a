"""What a task tells of a session, for people who look for it later: plain JSON, and little of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Self, TypedDict

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass

S3 = "s3://"
# What the page shows in a row; a log has all of it.
LONGEST_TEXT, MOST_TEXTS = 1000, 20
# The least of nwbinspector's findings.
SUGGESTION = "BEST_PRACTICE_SUGGESTION"

type Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True, config=ConfigDict(extra="ignore", coerce_numbers_to_str=True))
class SessionNote:
    """
    What a task knows of one session.

    :param step: Which step it takes: ``"arrive"``, ``"describe"``, ``"convert"`` (of many tasks ``"plan"``,
        ``"fill"`` and ``"convert"``), ``"report"`` or ``"stage"``.
    :param folder: Absolute path of the acquisition folder.
    :param nwbfile_path: Absolute path of the NWB file; with it a session is known whatever else tells of it.
    :param source: A file or folder that is converted.
    :param name: What people call the session.
    :param subject: Id of the subject.
    :param seconds: How long the work took.
    :param speed: In megabytes (10^6 bytes, uncompressed) per second.
    :param reused: Whether there was nothing to do.
    :param valid: What the check against the schema said; ``None`` if it was not done.
    :param findings: Of nwbinspector, those that are more than suggestions first; ``None`` if it was not asked.
    :param serious: How many of these are more than suggestions.
    :param marks: What the report marks.
    :param report: Where its files are, by kind.
    :param report_problem: Why there is none.
    :param s3_uri: Where it was staged.
    :param aws_conn_id: By which connection.
    :param shares: How many tasks fill the file; of a task that fills, which one it is.
    :param error: Why the task failed.
    :param failed: Whether the session failed, though the task went on with others.
    :param done: Whether the session is done, whatever becomes of the task.
    """

    step: str
    folder: str | None = None
    nwbfile_path: str | None = None
    source: str | None = None
    name: str | None = None
    subject: str | None = None
    session_id: str | None = None
    size_bytes: int | None = None
    seconds: float | None = None
    speed: float | None = None
    reused: bool = False
    valid: str | None = None
    findings: tuple[str, ...] | None = None
    serious: int = 0
    marks: tuple[str, ...] = ()
    report: dict[str, str] | None = None
    report_problem: str | None = None
    s3_uri: str | None = None
    aws_conn_id: str | None = None
    shares: int | None = None
    error: str | None = None
    failed: bool = False
    done: bool = False

    @classmethod
    def of_options(cls, step: str, options: Json) -> Self:
        """
        Say what the options of an operator, which are rendered, tell of the session that it is about.

        :param step: Which step the operator takes.
        """
        known: dict[str, Any] = {name: text for name, text in _known_from_options(options) if text}
        return cls(step=step, **known)

    def with_result(self, result: object, subject: Mapping[str, str] | None = None) -> Self:
        """
        Add what the task returned.

        :param subject: What the file says that it wrote: ``subject_id`` and ``session_id``.
        """
        if isinstance(result, list):
            return replace(self, shares=len(result))
        if not isinstance(result, Mapping):
            return self
        known = {name: text for name, text in _known_from_session(subject) if text} | _known_from_result(result)
        found = {name: value for name, value in known.items() if value is not None}
        return replace(self, **found)

    def with_error(self, message: str) -> Self:
        """Add why it failed."""
        return replace(self, error=_short(message), failed=True)

    def to_json(self) -> dict[str, Any]:
        """Return it as an XCom carries it, without what is not known."""
        told: dict[str, Any] = _NOTES.dump_python([self], mode="json", exclude_defaults=True)[0]
        return told

    @staticmethod
    def read(told: str) -> tuple[SessionNote, ...]:
        """
        Read the notes that a task left.

        :param told: The JSON that an XCom holds, where people may write anything.
        :raises ValidationError: If they are none.
        """
        return _TOLD.validate_json(told)["sessions"]


class _Told(TypedDict):
    sessions: tuple[SessionNote, ...]


_NOTES, _TOLD = TypeAdapter(list[SessionNote]), TypeAdapter(_Told)


def _known_from_options(options: Json) -> Iterator[tuple[str, str | None]]:
    """Of two that tell the same the later one counts."""
    yield "source", _first_path(options.get("extractor_kwargs"))
    metadata = options.get("metadata")
    for part in metadata if isinstance(metadata, list) else [metadata]:
        yield from _known_from_metadata(part)
    yield from _known_from_folder(options.get("folder"))
    yield from _known_from_source(options.get("source"))
    plan = options.get("plan")
    if isinstance(plan, Mapping) and isinstance(plan.get("conversion"), Mapping):
        yield from _known_from_options(plan["conversion"])
    yield from _known_from_session(options.get("session"))
    yield "nwbfile_path", _text(options.get("nwbfile_path"))
    yield "aws_conn_id", _text(options.get("aws_conn_id"))


def _known_from_folder(told: object) -> Iterator[tuple[str, str | None]]:
    if isinstance(told, Mapping):
        yield "folder", _text(told.get("path"))
        yield "name", _text(told.get("name"))
    else:
        yield "folder", _text(told)


def _known_from_source(told: object) -> Iterator[tuple[str, str | None]]:
    """A path, an address, or what a task returned."""
    if isinstance(told, Mapping):
        yield "nwbfile_path", _text(told.get("nwbfile_path")) or _text(told.get("source"))
        yield "s3_uri", _text(told.get("s3_uri"))
        yield from _known_from_session(told.get("session"))
    elif path := _text(told):
        yield "s3_uri" if path.startswith(S3) else "nwbfile_path", path


def _known_from_session(told: object) -> Iterator[tuple[str, str | None]]:
    """What describing a session returns, or what tells one session from others."""
    if isinstance(told, Mapping):
        yield from _known_from_metadata(told.get("metadata"))
        for name in ("folder", "name", "session_id"):
            yield name, _text(told.get(name))
        yield "subject", _text(told.get("subject_id"))


def _known_from_metadata(told: object) -> Iterator[tuple[str, str | None]]:
    if isinstance(told, Mapping):
        for section, field, name in (
            ("Subject", "subject_id", "subject"),
            ("NWBFile", "session_id", "session_id"),
        ):
            if isinstance(told.get(section), Mapping):
                yield name, _text(told[section].get(field))


def _known_from_result(result: Json) -> dict[str, Any]:
    known: dict[str, Any] = {
        **{name: text for name, text in _known_from_source(result) if text},
        **{name: text for name, text in _known_from_session(result.get("session")) if text},
        **{name: result.get(name) for name in ("size_bytes", "reused", "report_problem")},
        "valid": result.get("validation"),
        "seconds": result.get("elapsed_seconds"),
        "speed": result.get("throughput_mb_per_s"),
    }
    if "folder" in result:
        known |= {name: text for name, text in _known_from_session(result) if text}
    if isinstance(findings := result.get("inspection"), list):
        found = [finding for finding in findings if isinstance(finding, Mapping)]
        found.sort(key=lambda finding: finding.get("importance") == SUGGESTION)
        known["serious"] = sum(finding.get("importance") != SUGGESTION for finding in found)
        known["findings"] = [_finding(finding) for finding in found[:MOST_TEXTS]]
    if isinstance(report := result.get("report"), Mapping):
        known["report"] = {kind: report[kind] for kind in ("html", "png", "thumbnail") if _text(report.get(kind))}
        known["marks"] = _marks(report.get("summary"))
    return known


def _finding(finding: Json) -> str:
    return _short(
        " ".join(str(finding[name]) for name in ("importance", "message", "location") if name in finding)
    )


def _marks(summary: object) -> list[str]:
    movies = summary.get("movies") if isinstance(summary, Mapping) else None
    marks = [
        mark
        for movie in (movies if isinstance(movies, list) else [])
        if isinstance(movie, Mapping) and isinstance(movie.get("marks"), list)
        for mark in movie["marks"]
        if isinstance(mark, Mapping)
    ]
    return [_short(f"{mark.get('kind')}: {mark.get('detail')}") for mark in marks[:MOST_TEXTS]]


def _first_path(arguments: object) -> str | None:
    for one in arguments if isinstance(arguments, list) else [arguments]:
        if isinstance(one, Mapping):
            for name, value in one.items():
                if str(name).endswith(("_path", "_paths")):
                    return _text(value[0] if isinstance(value, list) and value else value)
    return None


def _text(value: object) -> str | None:
    """What may be a name or a path; a template that is not rendered is none."""
    if isinstance(value, (str, os.PathLike, int)) and not isinstance(value, bool):
        return str(value)
    return None


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]} ..."
