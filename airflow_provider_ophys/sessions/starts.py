"""When the movies of a session start, where there are several acquisitions in one folder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from airflow_provider_ophys.models.recording import HeaderMetadata
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
    folder: Path,
) -> list[str]:
    """
    Lay ``starting_time`` of the movies under what was given, by the starts that the headers of several tell.

    :param layers: Metadata that were given, and what headers say.
    :param parts: Movies, then segmentations.
    :param headers: Of each.
    :param keys: Of the entry of each.
    :param tied: The movie of each segmentation, by its place among the parts.
    :param folder: Of the session, for remarks.
    :returns: Remarks of what nobody can tell.
    """
    starts = [_start(header) for header in headers]
    known = [start for start in starts if start is not None]
    if len(set(known)) < 2:  # noqa: PLR2004
        return []
    are_comparable = len({start.tzinfo is None for start in known}) == 1
    if not are_comparable or (max(known) - min(known)).total_seconds() > LONGEST_SESSION_SECONDS:
        why = "more than a day" if are_comparable else "not known: some have a time zone, and some have none"
        give = "Give starting_time (seconds after the session's start) of their series in metadata.yaml."
        return [f"How far apart the recordings start, by their headers, is {why}. {give}"]
    remarks: list[str] = []
    for number, (part, start, key) in enumerate(zip(parts, starts, keys, strict=True)):
        if part.kind == "imaging" and start is not None:
            _lay(layers, key, (start - min(known)).total_seconds())
        movie = tied.get(number)
        of_movie = None if movie is None else starts[parts.index(movie)]
        if of_movie is not None and of_movie > min(known):
            remarks.append(
                f"The traces of {os.path.relpath(part.place, folder)} have their own times, though their movie "
                "starts later than the session. Give starting_time of each in Ophys.RoiResponses."
            )
    return remarks


def _start(header: HeaderMetadata) -> datetime | None:
    text = section_of(header.metadata, "NWBFile").get("session_start_time")
    return None if text is None else datetime.fromisoformat(text)


def _lay(layers: Layers, key: str, seconds: float) -> None:
    section = SECTIONS["imaging"]
    entry = section_of(section_of(section_of(layers.metadata, "Ophys"), section), key)
    if seconds and not entry.keys() & {"starting_time", "timestamps"}:
        found = {"Ophys": {section: {key: {"starting_time": seconds}}}}
        layers.lay_under(found, {f"Ophys.{section}.{key}.starting_time": SOURCE})
