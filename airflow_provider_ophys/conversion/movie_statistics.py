"""Statistics of movies that are taken while they are converted, kept beside the file for its report."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from pynwb.image import ImageSeries

from airflow_provider_ophys.conversion.datasets import MOVIE_AXES, BulkDataset
from airflow_provider_ophys.conversion.storages import Storage
from airflow_provider_ophys.writing.frame_statistics import (
    MOST_IMAGE_BYTES,
    FrameStatistics,
    pixel_step,
    statistics_bytes,
)
from airflow_provider_ophys.writing.shards import UNFINISHED_SUFFIX
from airflow_provider_ophys.writing.sharing import Resources
from airflow_provider_ophys.writing.statistics_file import load_statistics, save_statistics

log = logging.getLogger(__name__)

# What is added to the name of an NWB file for the statistics of its movies.
STATISTICS_SUFFIX = ".report.frames.npz"

# Of the memory budget, what statistics may take at most.
MOST_SHARE = 1 / 2

# In the folder of the array that several tasks fill; whoever publishes removes what has such a name.
_SHARE = ".frames-{first}-{stop}" + UNFINISHED_SUFFIX


def watch(datasets: Sequence[BulkDataset], resources: Resources) -> None:
    """Have statistics taken of movies while they are filled; not of those for which there is too little memory."""
    for dataset in datasets:
        is_movie = dataset.container is None or isinstance(dataset.container, ImageSeries)
        if is_movie and len(dataset.shape) in MOVIE_AXES:
            # The same for all tasks that fill it, however much memory each has.
            step = pixel_step(dataset.shape, dataset.dtype, MOST_IMAGE_BYTES)
            if statistics_bytes(dataset.shape, dataset.dtype, step) <= resources.budget_bytes * MOST_SHARE:
                dataset.statistics = FrameStatistics(dataset.shape, dataset.dtype, step)


def statistics_of(datasets: Sequence[BulkDataset]) -> dict[str, FrameStatistics]:
    """Return what was found, by the ``object_id`` of the series."""
    return {
        dataset.container.object_id: dataset.statistics for dataset in datasets if dataset.statistics is not None
    }


def keep_statistics(path: Path, found: Mapping[str, FrameStatistics], *, more: bool) -> None:
    """
    Keep statistics beside an NWB file that was just published; without them a report reads the movies again.

    :param found: By the ``object_id`` of the series.
    :param more: Whether the file was added to: what is known of its other movies is kept.
    """
    file = path.with_name(path.name + STATISTICS_SUFFIX)
    try:
        known = load_statistics(file) if more and found else {}
        if found:
            save_statistics(file, known | dict(found))
        elif not more:
            file.unlink(missing_ok=True)
    except OSError:
        log.warning("The statistics of frames could not be kept in %s.", file, exc_info=True)


def keep_share(part: Path, dataset: BulkDataset, bands: Sequence[int]) -> None:
    """Keep what a task found in its share of a movie, for :func:`gather_shares`."""
    if dataset.statistics is None:
        return
    name = _SHARE.format(first=bands[0], stop=bands[-1] + 1)
    try:
        save_statistics(part / dataset.path / name, {"": dataset.statistics})
    except OSError:
        log.warning("The statistics of frames could not be kept in %s.", part, exc_info=True)


def gather_shares(storage: Storage, part: Path, dataset_path: str) -> dict[str, FrameStatistics]:
    """
    Bring together what the tasks found that filled a movie; see :func:`keep_share`.

    :param part: The store that they filled.
    :returns: By the ``object_id`` of the series. What a killed task had seen is missing in it.
    """
    together: FrameStatistics | None = None
    for file in sorted((part / dataset_path).glob(_SHARE.format(first="*", stop="*"))):
        for found in load_statistics(file).values():
            if together is None:
                together = found
            elif together.shape == found.shape and together.pixel_step == found.pixel_step:
                together.merge(found)
    if together is None:
        return {}
    with storage.open_groups(part, "r") as root:
        return {str(root[dataset_path.rpartition("/")[0]].attrs["object_id"]): together}
