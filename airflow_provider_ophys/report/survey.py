"""Everything that a report shows, looked up in the open file once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from airflow_provider_ophys.models.segmentation_names import TABLE_NAME
from airflow_provider_ophys.nwb.contents import Contents, Movie, Segmentation
from airflow_provider_ophys.report.marks import Marks, find_marks
from airflow_provider_ophys.report.movie import MovieSurvey, survey_movie
from airflow_provider_ophys.report.photons import photon_gain, signal_to_noise
from airflow_provider_ophys.report.rois import (
    Outline,
    SampleTraces,
    choose_rois,
    frame_shape,
    outlines,
    sample_traces,
)
from airflow_provider_ophys.report.saturation import Saturation, find_saturation
from airflow_provider_ophys.writing.frame_statistics import FrameStatistics
from airflow_provider_ophys.writing.sharing import Resources

if TYPE_CHECKING:
    from numpy.typing import NDArray

# A file may hold any number of series; a page that people look at does not.
MOST_SECTIONS = 4

# Another plane's picture would show cells where there are none.
NO_IMAGE = "no image that is known to be of this plane"


@dataclass(frozen=True)
class SeenMovie:
    """A movie and what was found in it; ``times`` are the seconds of the samples that were looked at."""

    movie: Movie
    survey: MovieSurvey
    times: NDArray[np.float64]
    saturation: Saturation
    found: Marks

    @cached_property
    def photon_gain(self) -> float | None:
        """How many counts a photon makes, from how the variance of pixels grows with their mean."""
        return photon_gain(self.survey)

    @cached_property
    def signal_to_noise(self) -> float:
        """Median over pixels of the mean, above what is dark, over the standard deviation."""
        return signal_to_noise(self.survey)

    def summary(self) -> dict[str, Any]:
        """Return what a machine wants to know of it, as small JSON."""
        mean = self.survey.mean
        planes = mean.mean(axis=(0, 1)) if mean.ndim == 3 else [mean.mean()]  # noqa: PLR2004 - columns, rows, planes
        return {
            "path": self.movie.path,
            "num_samples": self.movie.timing.num_samples,
            "samples_looked_at": len(self.times),
            "plane_means": [_number(plane) for plane in planes],
            "saturation_level": self.saturation.level,
            "saturation_share": self.saturation.share,
            "num_marks": len(self.found.marks),
            "marks": [mark.to_json() for mark in self.found.marks],
            "checked": list(self.found.checked),
            "not_checked": dict(self.found.not_checked),
        }


@dataclass(frozen=True)
class SeenSegmentation:
    """
    A segmentation and what is drawn of it.

    :param shape: (columns, rows[, planes]) of the frame.
    :param background: The image under the outlines, (columns, rows[, planes]), and what it is.
    :param chosen: The ROIs that have an outline.
    """

    segmentation: Segmentation
    shape: tuple[int, ...]
    background: NDArray[Any]
    background_name: str
    background_step: int
    chosen: NDArray[np.int64]
    outlines: list[Outline]
    traces: SampleTraces | None

    def summary(self) -> dict[str, Any]:
        """Return what a machine wants to know of it, as small JSON."""
        accepted = self.segmentation.accepted
        return {
            "path": self.segmentation.path,
            "num_rois": self.segmentation.num_rois,
            "accepted": None if accepted is None else int(accepted.sum()),
            "rejected": None if accepted is None else int((~accepted).sum()),
            "outlines": len(self.chosen),
            "traces": [f"{trace.container}/{trace.name}" for trace in self.segmentation.traces],
        }


@dataclass(frozen=True)
class Seen:
    """What a report shows; ``left_out`` are paths and why."""

    movies: list[SeenMovie]
    segmentations: list[SeenSegmentation]
    left_out: dict[str, str]

    def summary(self) -> dict[str, Any]:
        """Return what a machine wants to know of it, as small JSON."""
        return {
            "movies": [movie.summary() for movie in self.movies],
            "segmentations": [segmentation.summary() for segmentation in self.segmentations],
            "left_out": self.left_out,
        }


def look_at(
    contents: Contents,
    resources: Resources,
    *,
    sample_limit: int | None = None,
    known: Mapping[str, FrameStatistics] | None = None,
) -> Seen:
    """
    Read what the report of a file shows.

    :param contents: Of the open file.
    :param resources: What it may use of this machine.
    :param sample_limit: Most bytes to read of a movie, uncompressed; default: all.
    :param known: What was found in movies while they were written, by the ``object_id`` of the series.
    """
    known = known or {}
    movies = [
        _look_at_movie(movie, resources, sample_limit, known.get(movie.object_id))
        for movie in contents.movies[:MOST_SECTIONS]
    ]
    too_many = [movie.path for movie in contents.movies[MOST_SECTIONS:]]
    too_many += [segmentation.path for segmentation in contents.segmentations[MOST_SECTIONS:]]
    return Seen(
        movies,
        [_look_at_segmentation(found, movies, contents) for found in contents.segmentations[:MOST_SECTIONS]],
        {**contents.left_out, **dict.fromkeys(too_many, f"only the first {MOST_SECTIONS} are shown")},
    )


def _look_at_movie(
    movie: Movie, resources: Resources, sample_limit: int | None, known: FrameStatistics | None
) -> SeenMovie:
    survey = survey_movie(movie.data, resources, sample_limit=sample_limit, known=known)
    saturation = find_saturation(survey)
    return SeenMovie(
        movie,
        survey,
        movie.timing.at(survey.indices),
        saturation,
        find_marks(survey, saturation, movie.timing),
    )


def _look_at_segmentation(
    segmentation: Segmentation, movies: list[SeenMovie], contents: Contents
) -> SeenSegmentation:
    chosen = choose_rois(segmentation) if segmentation.mask_type else np.empty(0, dtype=np.int64)
    drawn = list(outlines(segmentation, chosen))
    shape = frame_shape(segmentation)
    background, name, step = _background(segmentation, shape, movies, contents)
    if background is None:
        shape = shape or _extent(drawn)
        background, name, step = np.zeros(shape), NO_IMAGE, 1
    return SeenSegmentation(
        segmentation=segmentation,
        shape=shape or _frame(background, step),
        background=background,
        background_name=name,
        background_step=step,
        chosen=chosen,
        outlines=drawn,
        traces=sample_traces(segmentation),
    )


def _background(
    segmentation: Segmentation, shape: tuple[int, ...] | None, movies: list[SeenMovie], contents: Contents
) -> tuple[NDArray[Any] | None, str, int]:
    """Choose the mean of a movie of the same plane or, without one, an image of this very segmentation."""
    for movie in movies:
        is_of_plane = movie.movie.imaging_plane is segmentation.imaging_plane
        if is_of_plane and shape in (None, tuple(movie.movie.data.shape[1:])):
            return movie.survey.mean, f"the mean of {movie.movie.name}", movie.survey.pixel_step
    for name in sorted(_own_images(segmentation, contents), key=lambda name: "mean" not in name.lower()):
        image = contents.images[name]
        if len(image.shape) == 2 and shape in (None, tuple(image.shape)):  # noqa: PLR2004 - a plane
            return np.asarray(image[:], dtype=np.float64), f"the image {name}", 1
    return None, "", 1


def _own_images(segmentation: Segmentation, contents: Contents) -> list[str]:
    """
    Return the names of the summary images that are of a segmentation's plane.

    NWB does not link the two. They are those whose name ends as that of the table does, which is how they are
    named where nobody names them; a table that has none takes, of a file of one plane, those of no other table.
    """
    others = [other for other in contents.segmentations if other is not segmentation]
    suffix, *suffixes = (each.name.removeprefix(TABLE_NAME) for each in (segmentation, *others))
    if segmentation.name.startswith(TABLE_NAME):
        longer = tuple(other for other in suffixes if other.endswith(suffix) and other != suffix)
        own = [
            name for name in contents.images if name.endswith(suffix) and not (longer and name.endswith(longer))
        ]
        if own:
            return own
    if any(other.imaging_plane is not segmentation.imaging_plane for other in others):
        return []
    return [name for name in contents.images if not name.endswith(tuple(filter(None, suffixes)))]


def _extent(drawn: list[Outline]) -> tuple[int, ...]:
    corners = [loop.max(axis=0) for outline in drawn for loop in outline.loops]
    width, height = np.max(corners, axis=0) + 0.5 if corners else (1, 1)
    planes = max((outline.plane for outline in drawn), default=0) + 1
    return (int(width), int(height)) if planes == 1 else (int(width), int(height), planes)


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _frame(image: NDArray[Any], step: int) -> tuple[int, ...]:
    """Return (columns, rows[, planes]) of the frame of which an image has every so many pixels."""
    columns, rows, *planes = image.shape
    return (columns * step, rows * step, *planes)
