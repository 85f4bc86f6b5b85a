"""When the movies of a session start, where there are several acquisitions in one folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from airflow_provider_ophys.models.recording import HeaderMetadata, Kind
from airflow_provider_ophys.sessions.layers import Layers
from airflow_provider_ophys.sessions.parts import Part
from airflow_provider_ophys.sessions.source_metadata import SECTIONS, section_of

SOURCE = "starts of the recordings"
# Clocks of machines that differ by more are wrong.
LONGEST_SESSION_SECONDS = 86_400.0


def lay_starts(
    layers: Layers,
    parts: Sequence[Part],
    *,
    headers: Sequence[HeaderMetadata],
    keys: Sequence[str],
    tied: Mapping[int, Part | None],
) -> list[str]:
    """
    Lay ``starting_time`` under what was given.

    That of movies is by the starts that the headers of several tell, that of traces is their movie's.

    :param layers: Metadata that were given, and what headers say.
    :param parts: Movies, then segmentations.
    :param headers: Of each.
    :param keys: Of the entry of each.
    :param tied: The movie of each segmentation, by its place among the parts.
    :returns: Remarks of what nobody can tell.
    """
    remarks = _lay_movies(layers, parts, [_start(header) for header in headers], keys)
    for number, movie in tied.items():
        if movie is not None:
            seconds = _entry(layers, "imaging", keys[parts.index(movie)]).get("starting_time")
            _lay(layers, "segmentation", keys[number], seconds, "start of its movie")
    return remarks


def _lay_movies(
    layers: Layers, parts: Sequence[Part], starts: Sequence[datetime | None], keys: Sequence[str]
) -> list[str]:
    known = [start for start in starts if start is not None]
    if len(set(known)) < 2:  # noqa: PLR2004
        return []
    are_comparable = len({start.tzinfo is None for start in known}) == 1
    if not are_comparable or (max(known) - min(known)).total_seconds() > LONGEST_SESSION_SECONDS:
        why = "more than a day" if are_comparable else "not known: some have a time zone, and some have none"
        give = "Give starting_time (seconds after the session's start) of their series in metadata.yaml."
        return [f"How far apart the recordings start, by their headers, is {why}. {give}"]
    for part, start, key in zip(parts, starts, keys, strict=True):
        if part.kind == "imaging" and start is not None:
            _lay(layers, "imaging", key, (start - min(known)).total_seconds(), SOURCE)
    return []


def _start(header: HeaderMetadata) -> datetime | None:
    text = section_of(header.metadata, "NWBFile").get("session_start_time")
    return None if text is None else datetime.fromisoformat(text)


def _entry(layers: Layers, kind: Kind, key: str) -> Mapping[str, Any]:
    return section_of(section_of(section_of(layers.metadata, "Ophys"), SECTIONS[kind]), key)


def _lay(layers: Layers, kind: Kind, key: str, seconds: object, source: str) -> None:
    if seconds and not _entry(layers, kind, key).keys() & {"starting_time", "timestamps"}:
        found = {"Ophys": {SECTIONS[kind]: {key: {"starting_time": seconds}}}}
        layers.lay_under(found, {f"Ophys.{SECTIONS[kind]}.{key}.starting_time": source})
