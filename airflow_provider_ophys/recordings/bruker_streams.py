"""How the older Bruker extractors name what they read: by streams, of a channel or of one plane of a channel."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from airflow_provider_ophys.models.recording import Movie
from airflow_provider_ophys.recordings.bruker_index import BrukerIndex


def stream_movies(
    extractor: str, arguments: Mapping[str, Any], index: BrukerIndex, facts: dict[str, Any]
) -> list[Movie]:
    """
    Tell of the movies as ``BrukerTiffSinglePlaneImagingExtractor`` and its sister for volumes read them.

    :param facts: Of a movie of all planes.
    """
    rows_and_columns, planes, chosen = facts["sample_shape"][:2], index.num_planes, arguments.get("stream_name")
    movies = []
    for number, channel in sorted(index.channels.items()):
        streams = _plane_streams(index, number)
        if "multi" in extractor.lower():
            movie = Movie(extractor_kwargs=dict(arguments) | {"stream_name": streams[0]}, channel=channel, **facts)
            movies += [movie] if chosen in (None, *streams) else []
            continue
        flat = facts | {"sample_shape": rows_and_columns}
        names: list[tuple[int | None, str]] = list(enumerate(streams)) if planes > 1 else [(None, channel)]
        movies += [
            Movie(extractor_kwargs=dict(arguments) | {"stream_name": name}, channel=channel, plane=plane, **flat)
            for plane, name in names
            if chosen in (None, name)
        ]
        if chosen == channel and planes > 1:
            # All planes one after the other, as one movie.
            samples = {"num_samples": facts["num_samples"] * planes, "rate": (facts["rate"] or 0) * planes or None}
            movies.append(Movie(extractor_kwargs=dict(arguments), channel=channel, **flat | samples))
    return movies


def _plane_streams(index: BrukerIndex, channel: int) -> list[str]:
    pattern = re.compile(rf"Ch{channel}_\d+")
    of_first_cycle = [
        name for name, (frame, number, _) in index.files.items() if frame < index.lengths[0] and number == channel
    ]
    found = {match[0] for name in of_first_cycle if (match := pattern.search(name))}
    return sorted(found) or [index.channels[channel]]
