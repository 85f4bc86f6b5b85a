"""Planes of volumes that one extractor reads: each by itself, by an argument of this package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_provider_ophys.models.recording import HeaderMetadata, Movie

# ScanImage's extractor has an argument of this name; of those of other volumes, this package takes it.
PLANE_INDEX = "plane_index"
PLANAR_AXES = 2

# Facts that have one number for each axis.
BY_AXIS = {"ImagingPlanes": ("grid_spacing",), "MicroscopySeries": ("field_of_view",)}


def by_plane(movies: Sequence[Movie], arguments: Mapping[str, Any]) -> list[Movie]:
    """
    Tell of volumes by which arguments each of their planes is opened, or of the plane that is chosen.

    :param movies: Of a recording.
    :param arguments: With which it is opened.
    """
    chosen = arguments.get(PLANE_INDEX)
    return [
        movie if len(movie.sample_shape) == PLANAR_AXES else movie.model_copy(update=_planes(movie, chosen))
        for movie in movies
    ]


def _planes(movie: Movie, chosen: int | None) -> dict[str, Any]:
    if chosen is not None:
        return {"plane": chosen, "sample_shape": movie.sample_shape[:PLANAR_AXES]}
    numbers = range(movie.sample_shape[PLANAR_AXES])
    return {"planes": [movie.extractor_kwargs | {PLANE_INDEX: number} for number in numbers]}


def of_plane(headers: HeaderMetadata, arguments: Mapping[str, Any]) -> HeaderMetadata:
    """
    Return what headers say of a volume, for the plane that is chosen if one is: without what is of the third axis.

    :param arguments: With which the recording is opened.
    """
    if arguments.get(PLANE_INDEX) is None:
        return headers
    ophys = {
        section: {
            key: entry | {name: entry[name][:PLANAR_AXES] for name in BY_AXIS.get(section, ()) if name in entry}
            for key, entry in entries.items()
        }
        for section, entries in headers.metadata.get("Ophys", {}).items()
    }
    return headers.model_copy(update={"metadata": headers.metadata | ({"Ophys": ophys} if ophys else {})})
