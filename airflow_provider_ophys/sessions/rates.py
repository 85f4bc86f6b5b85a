"""Movies and traces of formats that need not say how fast they were recorded, and what to write then."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from airflow_provider_ophys.exceptions import ConfigurationError, SourceDataError
from airflow_provider_ophys.models.recording import Movie
from airflow_provider_ophys.recordings.formats import is_meant
from airflow_provider_ophys.sessions.finding import LESSER
from airflow_provider_ophys.sessions.parts import Part
from airflow_provider_ophys.sessions.session_yaml import NAME

# Formats whose extractor has to be told the rate where the file does not say it.
ASKING = LESSER | {"OMETiffImagingExtractor"}
# Formats that do not hold the rate of their traces.
WITHOUT_RATE = frozenset({"ExtractSegmentationExtractor"})
MOST_NAMES = 5


def pass_over_pictures(parts: Sequence[Part], folder: Path) -> tuple[list[Part], list[str]]:
    """
    Leave out pictures without a rate beside a movie that has one, such as means that were taken of it.

    :param parts: Movies and segmentations that were found.
    :param folder: Of the session, for messages.
    :returns: The others; and what was passed over, relative to the folder.
    :raises SourceDataError: If there is no other movie; says what to write.
    """
    unclear = [part for part in parts if _asks_for_rate(part)]
    others = [part for part in parts if part not in unclear]
    names = list(dict.fromkeys(os.path.relpath(part.place, folder) for part in unclear))
    if unclear and not any(part.kind == "imaging" for part in others):
        raise SourceDataError(
            f"{_listed(names)} in {folder} {'do' if len(names) > 1 else 'does'} not say how fast it was recorded. "
            f"Write {folder / NAME}, with the true rate (Hz), of those that are movies:\n  imaging:\n"
            + "\n".join(f"    - {_entry(part, folder)}" for part in unclear[:MOST_NAMES])
        )
    return others, names


def check_rates_written(parts: Iterable[Part], folder: Path) -> None:
    """
    Check that ``session.yaml`` says the rate of each movie of which the file does not say it.

    :raises ConfigurationError: If it does not; says what to write.
    """
    for part in parts:
        if _asks_for_rate(part):
            raise ConfigurationError(
                f"{os.path.relpath(part.place, folder)} in {folder} does not say how fast it was recorded. Write "
                f"the true rate (Hz) into {folder / NAME}: sampling_frequency in its extractor_kwargs."
            )


def with_rate(segmentation: Part, movie: Part | None, folder: Path) -> Part:
    """
    Return a segmentation of which the rate is known: its own, or else that of its movie.

    :param movie: In whose plane it lies, if it does.
    :param folder: Of the session, for messages.
    :raises ConfigurationError: If nothing says the rate; says what to write.
    """
    options = segmentation.options
    if options.extractor not in WITHOUT_RATE or "sampling_frequency" in options.extractor_kwargs:
        return segmentation
    rate = movie.known.rate if movie is not None and isinstance(movie.known, Movie) else None
    if rate is None:
        raise ConfigurationError(
            f"{os.path.relpath(segmentation.place, folder)} in {folder} does not say how fast it was recorded. "
            f"Write {folder / NAME}, with the true rate (Hz):\n  segmentation: {_entry(segmentation, folder)}"
        )
    arguments = {**options.extractor_kwargs, "sampling_frequency": rate}
    return replace(segmentation, options=options.model_copy(update={"extractor_kwargs": arguments}))


def _asks_for_rate(part: Part) -> bool:
    if not isinstance(part.known, Movie) or part.known.rate is not None:
        return False
    return any(is_meant(part.options.extractor, name) for name in ASKING)


def _entry(part: Part, folder: Path) -> str:
    """Return the lines of a part in ``session.yaml``, with a rate to be corrected."""
    arguments = _relative(part.options.extractor_kwargs, folder) | {"sampling_frequency": 30.0}
    listed = ", ".join(f"{name}: {value}" for name, value in arguments.items()).replace("'", "")
    return f"{{extractor: {part.options.extractor}, extractor_kwargs: {{{listed}}}}}"


def _relative(value: Any, folder: Path) -> Any:
    if isinstance(value, dict):
        return {name: _relative(each, folder) for name, each in value.items()}
    if isinstance(value, list):
        return [_relative(each, folder) for each in value]
    return os.path.relpath(value, folder) if isinstance(value, str) and Path(value).is_absolute() else value


def _listed(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
