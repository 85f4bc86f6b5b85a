"""Traces of ROIs and of background components: which there are, and the series that hold them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pynwb import NWBFile
from pynwb.ophys import DfOverF, Fluorescence, PlaneSegmentation, RoiResponseSeries

from airflow_provider_ophys.exceptions import SourceDataError
from airflow_provider_ophys.extractor_internals import roi_ids_of_trace, traces_of
from airflow_provider_ophys.models.metadata_sections import RoiResponseMetadata
from airflow_provider_ophys.nwb.nwbfile import ophys_module, read_from
from airflow_provider_ophys.nwb.timing import series_fields, timing_of
from airflow_provider_ophys.writing.traces import TraceDataChunkIterator

CONTAINERS = {"DfOverF": DfOverF, "Fluorescence": Fluorescence}

TRACE_AXES = 2

SCANNED_VALUES = 2**20


@dataclass(frozen=True)
class FoundTraces:
    """
    The traces of a segmentation, by role; each is (time, ROIs) or (time, background components).

    :param of_rois: One for each ROI.
    :param of_background: One for each background component.
    :param num_background: How many of these there are.
    """

    of_rois: Mapping[str, Any]
    of_background: Mapping[str, Any]
    num_background: int


def find_traces(extractor: Any) -> FoundTraces:
    """
    Sort the traces of a segmentation into those of its ROIs and those of its background components.

    :raises SourceDataError: If a trace is of neither.
    """
    num_rois = int(extractor.get_num_rois())
    ids = extractor.get_background_ids()
    traces = traces_of(extractor)
    background = traces.get("background")
    # Some have traces of background components, but no masks of them.
    num_background = len(ids) or (0 if background is None else int(background.shape[-1]))
    of_rois, of_background = {}, {}
    for role, trace in traces.items():
        width = int(trace.shape[1]) if len(trace.shape) == TRACE_AXES else None
        if role == "background" and width == num_background and (ids or width != num_rois):
            of_background[role] = trace
        elif width == num_rois:
            of_rois[role] = trace
        elif width == num_background:
            of_background[role] = trace
        else:
            raise SourceDataError(
                f"The {role} traces of {type(extractor).__name__} are {tuple(trace.shape)}, but it has {num_rois} "
                f"ROIs and {len(ids)} background components. Check that the segmentation's files belong together."
            )
    return FoundTraces(of_rois, of_background, num_background if ids or of_background else 0)


def make_iterators(
    traces: Mapping[str, Any], source: str, options: Mapping[str, Any]
) -> dict[str, TraceDataChunkIterator]:
    """
    Return what the traces are written from, by role.

    :param source: What they are of, for messages.
    :raises SourceDataError: If they are numbers that NWB does not have.
    :raises ConfigurationError: If the options do not fit.
    """
    return {
        role: TraceDataChunkIterator(trace, what=f"The {role} traces of {source}", **options)
        for role, trace in traces.items()
    }


def container_of(role: str) -> str:
    """Return where the traces of a role belong, in either form of metadata."""
    return "DfOverF" if role == "dff" else "Fluorescence"


def rows_of_columns(extractor: Any, role: str, num_rows: int) -> list[int]:
    """
    Return which row of the table each column of a trace is about.

    roiextractors keeps with each trace which ROIs it is of; they may be in another order than the ROIs.
    """
    places = {roi_id: row for row, roi_id in enumerate(extractor.get_roi_ids())}
    ids = roi_ids_of_trace(extractor, role)
    if ids is not None and set(ids) == set(places) and len(places) == num_rows:
        return [places[roi_id] for roi_id in ids]
    return list(range(num_rows))


def holds_only_zeros(trace: Any) -> bool:
    """Tell whether there is nothing in a trace, reading no more of it at a time than a few megabytes."""
    rows = max(1, SCANNED_VALUES // math.prod(trace.shape[1:]))
    return not any(np.any(np.asarray(trace[start : start + rows])) for start in range(0, len(trace), rows))


def response_fields(extractor: Any, entry: RoiResponseMetadata) -> dict[str, Any]:
    """
    Return what a series of traces has beside its data, as arguments of its pynwb class.

    :param extractor: What they were read from; it knows when the samples were taken.
    :param entry: Name, unit and whatever else the metadata says.
    :raises SourceDataError: If the extractor's times make no sense.
    """
    described = {"comments": read_from("segmentation", extractor)} | series_fields(entry)
    return described | timing_of(extractor, always_write_timestamps=False, given=entry)


def add_traces(
    nwbfile: NWBFile,
    table: PlaneSegmentation,
    traces: Mapping[str, TraceDataChunkIterator],
    *,
    rows: Mapping[str, list[int]],
    fields: Mapping[str, Mapping[str, Any]],
) -> None:
    """
    Add a series for each role.

    :param table: What the columns of the traces are rows of.
    :param traces: By role, (time, rows of the table).
    :param rows: By role: which row each column of the traces is about.
    :param fields: By role: all else, as :func:`response_fields` returns it.
    """
    module = ophys_module(nwbfile)
    for role, trace in traces.items():
        container = container_of(role)
        if container not in module.data_interfaces:
            module.add(CONTAINERS[container](name=container))
        region = table.create_roi_table_region(region=rows[role], description=f"The ROIs of {table.name}.")
        module[container].add_roi_response_series(RoiResponseSeries(data=trace, rois=region, **fields[role]))


def check_lengths(extractor: Any, traces: FoundTraces) -> None:
    """
    Check that all traces are as long as the recording.

    :raises SourceDataError: If one is not.
    """
    for role, trace in {**traces.of_background, **traces.of_rois}.items():
        if len(trace) != extractor.get_num_samples():
            raise SourceDataError(
                f"The {role} traces of {type(extractor).__name__} have {len(trace)} samples, but it has "
                f"{extractor.get_num_samples()}. Check that the segmentation's files belong together."
            )
