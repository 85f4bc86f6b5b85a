"""Traces of ROIs and of background components: which there are, and the series that hold them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pynwb import NWBFile
from pynwb.ophys import DfOverF, Fluorescence, PlaneSegmentation, RoiResponseSeries

from airflow_provider_ophys.exceptions import SourceDataError
from airflow_provider_ophys.models.metadata import RoiResponseMetadata
from airflow_provider_ophys.nwb.nwbfile import ophys_module
from airflow_provider_ophys.nwb.timing import timing_of
from airflow_provider_ophys.writing.traces import TraceDataChunkIterator

CONTAINERS = {"DfOverF": DfOverF, "Fluorescence": Fluorescence}

# What roiextractors calls traces; others are written too, if an extractor has them.
TRACE_ROLES = frozenset({"raw", "dff", "neuropil", "deconvolved", "denoised", "baseline", "background"})

TRACE_AXES = 2


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
    traces = {role: trace for role, trace in extractor.get_traces_dict().items() if _holds_data(trace)}
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


def _holds_data(trace: Any) -> bool:
    return trace is not None and 0 not in trace.shape


def make_iterators(traces: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, TraceDataChunkIterator]:
    """
    Return what the traces are written from, by role.

    :raises ConfigurationError: If the options do not fit.
    """
    return {role: TraceDataChunkIterator(trace, **options) for role, trace in traces.items()}


def container_of(role: str) -> str:
    """Return where the traces of a role belong, in either form of metadata."""
    return "DfOverF" if role == "dff" else "Fluorescence"


def rows_of_columns(extractor: Any, role: str, num_rows: int) -> list[int]:
    """
    Return which row of the table each column of a trace is about.

    roiextractors keeps with each trace which ROIs it is of; they may be in another order than the ROIs.
    """
    places = {roi_id: row for row, roi_id in enumerate(extractor.get_roi_ids())}
    for response in getattr(extractor, "_roi_responses", ()):
        if response.response_type == role and set(response.roi_ids) == set(places) and len(places) == num_rows:
            return [places[roi_id] for roi_id in response.roi_ids]
    return list(range(num_rows))


def add_traces(
    nwbfile: NWBFile,
    table: PlaneSegmentation,
    traces: Mapping[str, TraceDataChunkIterator],
    *,
    rows: Mapping[str, list[int]],
    described: Mapping[str, RoiResponseMetadata],
    timing: Mapping[str, Any],
    comments: str,
) -> None:
    """
    Add a series for each role.

    :param table: What the columns of the traces are rows of.
    :param traces: By role, (time, rows of the table).
    :param rows: By role: which row each column of the traces is about.
    :param described: By role: name, unit and description.
    :param timing: ``rate`` and ``starting_time``, or ``timestamps``.
    :param comments: What they were read from.
    """
    module = ophys_module(nwbfile)
    for role, trace in traces.items():
        container, entry = container_of(role), described[role]
        if container not in module.data_interfaces:
            module.add(CONTAINERS[container](name=container))
        region = table.create_roi_table_region(region=rows[role], description=f"The ROIs of {table.name}.")
        module[container].add_roi_response_series(
            RoiResponseSeries(
                name=entry.name,
                description=entry.description,
                data=trace,
                unit=entry.unit,
                rois=region,
                comments=comments,
                **timing,
            )
        )


def trace_timing(extractor: Any, traces: FoundTraces) -> dict[str, Any]:
    """
    Return when the samples of all traces were taken, as :func:`airflow_provider_ophys.nwb.timing.timing_of` does.

    :raises SourceDataError: If the traces are not all as long as the recording, or its times make no sense.
    """
    lengths = {role: len(trace) for role, trace in {**traces.of_background, **traces.of_rois}.items()}
    for role, length in lengths.items():
        if length != extractor.get_num_samples():
            raise SourceDataError(
                f"The {role} traces of {type(extractor).__name__} have {length} samples, but it has "
                f"{extractor.get_num_samples()}. Check that the segmentation's files belong together."
            )
    return timing_of(extractor, always_write_timestamps=False) if lengths else {}
