"""Planes that are recordings of their own, stacked to a volume by ``PlanarStackImagingExtractor``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from airflow_provider_ophys.exceptions import ConfigurationError
from airflow_provider_ophys.models.recording import Contents, HeaderMetadata
from airflow_provider_ophys.recordings.formats import recording_of
from airflow_provider_ophys.recordings.recording import Recording


class PlanarStackRecording(Recording):
    """Recordings of one plane each, by name and arguments, the uppermost first."""

    @cached_property
    def planes(self) -> list[Recording]:
        """
        The recordings; none of those that are extractors already.

        :raises ConfigurationError: If one is neither an extractor, nor a name with arguments.
        """
        return [
            recording_of("imaging", name, arguments)
            for name, arguments in named_planes(self.arguments)
            if name is not None
        ]

    @cached_property
    def files(self) -> list[Path]:
        """The files of all planes."""
        return list(dict.fromkeys(file for plane in self.planes for file in plane.files))

    def check(self) -> None:
        """
        Check that every plane is whole.

        :raises SourceDataError: Names the file, and counts.
        """
        for plane in self.planes:
            plane.check()

    def contents(self) -> Contents | None:
        """Tell of the volumes; ``None`` if a plane's format does not know what is in it."""
        contents = [plane.contents() for plane in self.planes]
        movies = [known.movies[0] for known in contents if known is not None and len(known.movies) == 1]
        if not movies or len(movies) < len(named_planes(self.arguments)):
            return None
        first = movies[0]
        volume = first.model_copy(
            update={
                "extractor_kwargs": dict(self.arguments),
                "plane": None,
                "sample_shape": (*first.sample_shape[:2], len(movies)),
            }
        )
        remarks = [remark for known in contents if known for remark in known.remarks]
        return Contents(movies=[volume], remarks=list(dict.fromkeys(remarks)))

    def metadata(self) -> HeaderMetadata:
        """Tell what the headers of the first plane say."""
        return self.planes[0].metadata() if self.planes else HeaderMetadata()


def named_planes(arguments: Mapping[str, Any]) -> list[tuple[str | None, Any]]:
    """
    Return name and arguments of each plane's extractor; ``None`` and the object of one that is open already.

    :param arguments: ``imaging_extractors``: a list, each with ``extractor`` and ``extractor_kwargs``.
    :raises ConfigurationError: If it is something else.
    """
    planes = arguments.get("imaging_extractors")
    found: list[tuple[str | None, Any]] = []
    for plane in planes if isinstance(planes, (list, tuple)) else []:
        if not isinstance(plane, Mapping):
            found.append((None, plane))
        elif set(plane) == {"extractor", "extractor_kwargs"} and isinstance(plane["extractor_kwargs"], Mapping):
            found.append((str(plane["extractor"]), plane["extractor_kwargs"]))
        else:
            raise ConfigurationError(
                f"Plane {len(found)} of imaging_extractors has {sorted(plane)}: give extractor, extractor_kwargs."
            )
    if not found:
        raise ConfigurationError(
            "imaging_extractors is no list of planes. Give a list, each with extractor and extractor_kwargs."
        )
    return found
