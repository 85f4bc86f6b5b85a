"""The picture of a report: one row of images and one of curves per movie, outlines and traces per segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from airflow_provider_ophys.report.panels import (
    Montage,
    draw_histogram,
    draw_image,
    draw_intensity,
    drawable,
    grey_levels,
)
from airflow_provider_ophys.report.roi_panels import draw_events, draw_outlines, draw_traces
from airflow_provider_ophys.report.survey import Seen, SeenMovie, SeenSegmentation

if TYPE_CHECKING:
    from matplotlib.figure import SubFigure
    from numpy.typing import NDArray

WIDTH, DPI = 14.0, 100
TITLE_HEIGHT, CURVES_HEIGHT = 0.7, 2.9
# Inches across that an image has in its panel, and what is needed above and below it.
IMAGE_WIDTH, OUTLINES_WIDTH, ABOVE_IMAGE, BELOW_IMAGE = 2.9, 4.75, 0.75, 0.5
LEAST_IMAGE_HEIGHT, MOST_IMAGE_HEIGHT = 2.2, 7.0
LONGEST_SUBTITLE = 160
THUMBNAIL_PIXELS, MOST_PIXELS = 320, 1024
# Images of noise get no smaller with the next levels, and take longer.
PNG_LEVEL = 3


def draw_report(seen: Seen, *, title: str, subtitle: str) -> Figure:
    """
    Draw everything, movies first.

    Uses matplotlib's objects and not pyplot, whose figures are the process's and not ours.
    """
    heights = [TITLE_HEIGHT]
    heights += [_image_height(movie.movie.data.shape[1:], IMAGE_WIDTH) + CURVES_HEIGHT for movie in seen.movies]
    heights += [_image_height(found.shape, OUTLINES_WIDTH) for found in seen.segmentations]
    figure = Figure(figsize=(WIDTH, sum(heights)), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    parts[0].text(0.01, 0.62, drawable(title), fontsize=16, fontweight="bold", va="center")
    parts[0].text(0.01, 0.18, drawable(subtitle, LONGEST_SUBTITLE), fontsize=10, va="center", color="#333333")
    places = iter(parts[1:])
    for movie in seen.movies:
        _draw_movie(next(places), movie)
    for segmentation in seen.segmentations:
        _draw_segmentation(next(places), segmentation, _image_height(segmentation.shape, OUTLINES_WIDTH))
    return figure


def _draw_movie(part: SubFigure, seen: SeenMovie) -> None:
    survey, unit = seen.survey, seen.movie.unit
    _name(part, seen.movie.path)
    shape = seen.movie.data.shape[1:]
    heights = [_image_height(shape, IMAGE_WIDTH), CURVES_HEIGHT]
    images, curves = part.subfigures(2, 1, squeeze=False, height_ratios=heights)[:, 0]
    montage = Montage.of(shape)
    panels = images.subplots(
        1, 4, gridspec_kw={"left": 0.05, "right": 0.99, "wspace": 0.22, **_margins(heights[0])}
    )
    micrometres = seen.movie.micrometres_per_pixel
    for axes, (name, image, scale) in zip(panels, shown_images(seen), strict=True):
        draw_image(
            axes, image, montage, step=survey.pixel_step, title=name, unit=scale or unit, micrometres=micrometres
        )
    over_time, values = curves.subplots(
        1,
        2,
        gridspec_kw={
            "left": 0.05,
            "right": 0.99,
            "top": 0.88,
            "bottom": 0.19,
            "wspace": 0.15,
            "width_ratios": [3, 1],
        },
    )
    draw_intensity(over_time, seen)
    draw_histogram(values, seen)


def shown_images(seen: SeenMovie) -> list[tuple[str, NDArray[Any], str]]:
    """Return the images of a movie, each with its name and, if it is not the movie's, its unit."""
    survey = seen.survey
    return [
        ("Mean", survey.mean, ""),
        ("Maximum", survey.maximum, ""),
        ("Standard deviation", survey.deviation, ""),
        ("Correlation", survey.likeness, "with the neighbours"),
    ]


def _draw_segmentation(part: SubFigure, seen: SeenSegmentation, height: float) -> None:
    segmentation = seen.segmentation
    _name(part, segmentation.path)
    left, right = part.subfigures(1, 2, width_ratios=[2, 3], squeeze=False)[0]
    where = left.subplots(gridspec_kw={"left": 0.12, "right": 0.98, **_margins(height)})
    traces, events = right.subplots(
        2,
        1,
        gridspec_kw={"left": 0.09, "right": 0.94, "height_ratios": [3, 2], "hspace": 0.22, **_margins(height)},
    )
    montage = Montage.of(seen.shape)
    is_part = len(seen.chosen) < segmentation.num_rois
    part_of = f" ({len(seen.chosen)} of {segmentation.num_rois})" if is_part else ""
    draw_image(
        where,
        seen.background,
        montage,
        step=seen.background_step,
        title=f"ROIs{part_of}",
        unit=drawable(f"over {seen.background_name}"),
    )
    names = [] if seen.traces is None else [_roi_name(segmentation.names[int(roi)]) for roi in seen.traces.rois]
    rois = [] if seen.traces is None else seen.traces.rois.tolist()
    draw_outlines(
        where,
        seen.outlines,
        segmentation.accepted,
        montage,
        numbered=list(zip(rois, names, strict=True)),
    )
    if seen.outlines:
        # Above the picture, and not over it.
        where.legend(fontsize=8, loc="lower right", bbox_to_anchor=(1.0, 1.03), frameon=False, ncols=3)
    if seen.traces is None:
        traces.set_axis_off()
        events.set_axis_off()
        traces.text(0.5, 0.5, "no traces in the file", ha="center")
    else:
        draw_traces(traces, seen.traces, names)
        draw_events(events, seen.traces)


def _image_height(shape: Sequence[int], width: float) -> float:
    """Return the inches that a row of images needs."""
    across, down = Montage.of(shape).size
    return min(max(width * down / across, LEAST_IMAGE_HEIGHT), MOST_IMAGE_HEIGHT) + ABOVE_IMAGE + BELOW_IMAGE


def _margins(height: float) -> dict[str, float]:
    """Leave room for a title above and the axis below, in a row of this height in inches."""
    return {"top": 1 - ABOVE_IMAGE / height, "bottom": BELOW_IMAGE / height}


def _name(part: SubFigure, path: str) -> None:
    part.text(0.01, 0.985, drawable(path), fontsize=12, fontweight="bold", va="top")


def _roi_name(name: Any) -> str:
    text = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
    return f"ROI {text}" if text.isdigit() else text


def draw_thumbnail(seen: Seen) -> Figure:
    """Draw the first image alone, about 320 pixels wide."""
    figure = Figure(figsize=(3.2, 3.2), dpi=100, facecolor="black")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    if seen.movies:
        first = seen.movies[0]
        shape, image, step = first.movie.data.shape[1:], first.survey.mean, first.survey.pixel_step
    elif seen.segmentations:
        table = seen.segmentations[0]
        shape, image, step = table.shape, table.background, table.background_step
    else:
        shape, image, step = (1, 1), np.zeros((1, 1)), 1
    montage = Montage.of(shape)
    draw_image(axes, image, montage, step=step, title="", unit="")
    for segmentation in seen.segmentations[:1]:
        if Montage.of(segmentation.shape) == montage:
            # Thin, for there the picture is what is looked at.
            draw_outlines(axes, segmentation.outlines, segmentation.segmentation.accepted, montage, width=0.5)
    axes.set_axis_off()
    width, height = montage.size
    longest = max(width, height)
    figure.set_size_inches(3.2 * width / longest, 3.2 * height / longest)
    return figure


def pixel_pictures(seen: Seen) -> dict[str, bytes]:
    """Return the images of all movies as PNG, a pixel for a pixel (of large ones every second, third ...)."""
    pictures = {}
    for movie in seen.movies:
        montage = Montage.of(movie.movie.data.shape[1:])
        for name, image, _ in shown_images(movie):
            picture = montage.picture(image, movie.survey.pixel_step)
            picture = picture[:: 1 + picture.shape[0] // MOST_PIXELS, :: 1 + picture.shape[1] // MOST_PIXELS]
            pictures[f"{movie.movie.name}: {name}"] = _grey_png(picture)
    return pictures


def _grey_png(picture: NDArray[Any]) -> bytes:
    black, white = grey_levels(picture)
    grey = np.nan_to_num((picture.astype(np.float64) - black) / (white - black) * 255)
    stream = BytesIO()
    Image.fromarray(grey.clip(0, 255).astype(np.uint8)).save(stream, format="png", compress_level=PNG_LEVEL)
    return stream.getvalue()


def to_png(figure: Figure, metadata: dict[str, str]) -> bytes:
    """
    Render a figure.

    :param metadata: Texts that are stored in the PNG.
    """
    stream = BytesIO()
    figure.savefig(stream, format="png", metadata=metadata, pil_kwargs={"compress_level": PNG_LEVEL})
    return stream.getvalue()
