"""Folders as makers' software leaves them, with the values that have to be in the file that is made of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, timedelta
from pathlib import Path

import numpy as np
import pytest
import yaml
from pynwb import NWBFile
from pynwb.base import TimeSeries
from session_recordings import MAKERS, Made, recording

from airflow_provider_ophys.recordings import recording_of

__all__ = ["MAKERS", "START", "check_values", "maker_folder", "series_of"]

START = "2026-11-22T09:30:00+01:00"


def maker_folder(name: str, folder: Path) -> Made:
    """
    Make a recording, and write down beside it what its files cannot say.

    That is the extractor and its arguments where nothing is found, or a rate is missing, and the start.
    """
    made = recording(name, folder)
    if made.unknown or made.found_arguments or not made.is_found:
        contents = recording_of(made.kind, made.extractor, made.arguments).contents()
        each = [movie.extractor_kwargs for movie in contents.movies] or made.arguments
        entry = {"extractor": made.extractor, "extractor_kwargs": each}
        # Relative, so that the folder may be moved.
        (folder / "session.yaml").write_text(yaml.safe_dump({made.kind: entry}).replace(f"{folder}", "."))
    if made.start is None and "NWBFile.session_start_time" not in made.facts:
        (folder / "metadata.yaml").write_text(f"NWBFile: {{session_start_time: '{START}'}}\n")
    return made


def check_values(made: Made, nwbfile: NWBFile) -> None:
    """Compare pixels or traces, their times and the start with the truth about a recording."""
    right = [
        series
        for series, values in series_of(nwbfile, made.kind)
        if values.shape == made.truth.shape and np.array_equal(values, made.truth)
    ]
    assert right, f"none of the series has the values of {made.folder}"
    assert _rate(right[0]) == pytest.approx(made.rate, rel=0.02)
    if made.start is not None:
        first = right[0].starting_time if right[0].timestamps is None else right[0].timestamps[0]
        start = nwbfile.session_start_time + timedelta(seconds=first)
        # Without a zone it is that of this machine; tests run in UTC.
        assert start == (made.start if made.start.tzinfo else made.start.replace(tzinfo=UTC))


def series_of(nwbfile: NWBFile, kind: str) -> Iterator[tuple[TimeSeries, np.ndarray]]:
    """Yield movies as (samples, rows, columns[, planes]), or traces as (samples, ROIs)."""
    if kind == "imaging":
        yield from ((series, series.data[:].swapaxes(1, 2)) for series in nwbfile.acquisition.values())
        return
    for container in nwbfile.processing["ophys"].data_interfaces.values():
        for series in getattr(container, "roi_response_series", {}).values():
            yield series, series.data[:]


def _rate(series: TimeSeries) -> float:
    return series.rate or 1 / np.median(np.diff(series.timestamps[:]))
