"""One segmentation on its way into an NWBFile: found, then read, then added; only adding changes the NWBFile."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hdmf.common import VectorData
from pynwb import NWBFile

from airflow_provider_ophys.exceptions import ConfigurationError, EmptyRecordingError, MetadataError
from airflow_provider_ophys.extractor_internals import TRACE_ROLES, images_of
from airflow_provider_ophys.models.conversion import CentroidType, MaskType
from airflow_provider_ophys.models.metadata_sections import Metadata, RoiResponseMetadata
from airflow_provider_ophys.models.remarks import remark
from airflow_provider_ophys.nwb.devices import add_imaging_plane, check_imaging_plane
from airflow_provider_ophys.nwb.nwbfile import add_subject
from airflow_provider_ophys.nwb.roi_responses import (
    FoundTraces,
    add_traces,
    check_lengths,
    container_of,
    find_traces,
    holds_only_zeros,
    make_iterators,
    response_fields,
    rows_of_columns,
)
from airflow_provider_ophys.nwb.roi_table import (
    add_table,
    background_columns,
    find_series,
    roi_columns,
)
from airflow_provider_ophys.nwb.segmentation_entry import SegmentationEntry
from airflow_provider_ophys.nwb.summary_images import CONTAINER, Image, add_images, make_images

if TYPE_CHECKING:
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

# Of the iterators' options, those that are shapes: they are of traces, as masks have other axes.
SHAPE_OPTIONS = frozenset({"chunk_shape", "buffer_shape"})


@dataclass(frozen=True)
class Include:
    """
    What is written of a segmentation, and how; see ``add_segmentation_to_nwbfile``.

    :param background: Background components.
    :param roi_centroids: What the column ``ROICentroids`` holds; ``None`` for no such column.
    :param roi_acceptance: The columns ``Accepted`` and ``Rejected``.
    :param mask_type: Form of the masks.
    :param iterator_options: Of masks and traces.
    """

    background: bool
    roi_centroids: CentroidType | None
    roi_acceptance: bool
    mask_type: MaskType
    iterator_options: Mapping[str, Any]

    @property
    def mask_options(self) -> dict[str, Any]:
        """Iterator options of the masks."""
        return {name: value for name, value in self.iterator_options.items() if name not in SHAPE_OPTIONS}


@dataclass
class PlannedSegmentation:
    """
    A segmentation that is to be added.

    :param extractor: The segmentation.
    :param metadata: All of it, validated.
    :param entry: What of it describes this segmentation.
    :param traces: What the extractor has.
    :param images: By role.
    :param include: What is written.
    """

    extractor: Any
    metadata: Metadata
    entry: SegmentationEntry
    traces: FoundTraces
    images: Mapping[str, NDArray[Any]]
    include: Include
    made_images: list[Image] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.num_rois = int(self.extractor.get_num_rois())
        self.num_background = self.traces.num_background if self.include.background else 0

    @property
    def source(self) -> str:
        """What the extractor is called in messages."""
        return type(self.extractor).__name__

    def check(self) -> None:
        """
        Check that there is something to write, and that the user described nothing that cannot be.

        :raises EmptyRecordingError: If there is nothing.
        :raises ConfigurationError: If background components are wanted and there are none.
        :raises MetadataError: If traces of an unknown role are described.
        """
        has_traces = self.traces.of_rois or (self.include.background and self.traces.of_background)
        if not (self.num_rois or self.num_background or has_traces or self.images):
            raise EmptyRecordingError(
                f"{self.source} has no ROIs, no traces and no summary images; there is nothing to convert."
            )
        if self.include.background and not self.num_background:
            raise ConfigurationError(
                f"include_background_segmentation is set, but {self.source} has no background components. "
                "Leave it out."
            )
        if self.num_rois and not self.traces.of_rois:
            remark(f"{self.source} has no traces; its {self.num_rois} ROIs are written without.")
        if self.traces.of_background and not self.include.background:
            log.info("Background components are not written; include_background_segmentation=True writes them.")
        self._check_roles()

    def _check_roles(self) -> None:
        found = {*self.traces.of_rois, *self.traces.of_background}
        unknown = sorted({*self.entry.responses, *self.entry.background_responses} - found - {*TRACE_ROLES})
        if unknown:
            raise MetadataError(
                f"Ophys.RoiResponses describes {', '.join(map(repr, unknown))}, which are no traces that "
                f"{self.source} has (it has: {', '.join(sorted(found)) or 'none'})."
            )
        # One description may serve many recordings, of which not each has all.
        described = {**self.entry.responses, **self.entry.images}
        wanted = [role for role, entry in described.items() if entry is not None]
        if absent := sorted({*wanted} - found - {*self.images}):
            remark(f"Described, but not there: {', '.join(absent)} of {self.entry.table.name!r}.")

    def choose(self) -> None:
        """
        Choose which traces and images are written: what is described, else all but traces of zeros.

        :raises MetadataError: If what is described is not there.
        """
        of_rois, of_background = (
            {
                role: traces[role]
                for role in self.entry.chosen_traces(traces, of_background=is_background)
                if self._is_wanted(role, traces[role])
            }
            for traces, is_background in ((self.traces.of_rois, False), (self.traces.of_background, True))
        )
        self.traces = replace(
            self.traces, of_rois=of_rois, of_background=of_background if self.include.background else {}
        )
        self.images = {role: self.images[role] for role in self.entry.chosen_images(self.images)}

    def _is_wanted(self, role: str, trace: Any) -> bool:
        is_named = self.entry.responses.get(role) or self.entry.background_responses.get(role)
        if is_named or not holds_only_zeros(trace):
            return True
        remark(
            f"The {role} traces of {self.source} are nothing but zeros and were left out. Name them in "
            "Ophys.RoiResponses to have them written."
        )
        return False

    def responses(self, *, of_background: bool) -> dict[str, RoiResponseMetadata]:
        """Return name, unit and description of the traces that are written, by role."""
        traces = self.traces.of_background if of_background else self.traces.of_rois
        return {role: self.entry.response(role, of_background=of_background) for role in traces}

    def names(self) -> Iterator[tuple[str, str, str]]:
        """Yield what would be written: container in the module ``ophys``, name, section of the metadata."""
        if self.num_rois:
            yield "ImageSegmentation", self.entry.table.name, "PlaneSegmentations"
        if self.num_background:
            yield "ImageSegmentation", self.entry.background_table.name, "PlaneSegmentations"
        for of_background in (False, True):
            for role, response in self.responses(of_background=of_background).items():
                yield container_of(role), response.name, "RoiResponses"
        for image in self.made_images:
            yield CONTAINER, image.name, "SegmentationImages"

    def make_images(self) -> None:
        """Make the summary images, of which a volume has one for each plane."""
        self.made_images = make_images(self.images, self.entry, extractor=self.extractor)

    def read(self) -> None:
        """Go through what the extractor has; masks and traces are read again when the file is written."""
        include = self.include
        self._columns: list[VectorData] = []
        if self.num_rois:
            self._columns = roi_columns(
                self.extractor,
                mask_type=include.mask_type,
                roi_centroids=include.roi_centroids,
                include_roi_acceptance=include.roi_acceptance,
                mask_options=include.mask_options,
            )
        self._background_columns: list[VectorData] = []
        if self.num_background:
            self._background_columns = background_columns(
                self.extractor, self.num_background, include.mask_type, include.mask_options
            )
        check_lengths(self.extractor, self.traces)
        self._traces = make_iterators(self.traces.of_rois, self.source, include.iterator_options)
        self._background_traces = make_iterators(self.traces.of_background, self.source, include.iterator_options)
        self._fields = {
            of_background: {
                role: response_fields(self.extractor, entry)
                for role, entry in self.responses(of_background=of_background).items()
            }
            for of_background in (False, True)
        }

    def add(self, nwbfile: NWBFile) -> None:
        """Add tables, traces and images."""
        for entry, columns, traces, of_background in (
            (self.entry.table, self._columns, self._traces, False),
            (self.entry.background_table, self._background_columns, self._background_traces, True),
        ):
            if columns:
                plane = add_imaging_plane(nwbfile, self.metadata, entry.imaging_plane_metadata_key)
                table = add_table(nwbfile, entry, plane, columns, find_series(nwbfile, entry.reference_images))
                rows = {role: rows_of_columns(self.extractor, role, len(table.id)) for role in traces}
                add_traces(nwbfile, table, traces, rows=rows, fields=self._fields[of_background])
        add_images(nwbfile, self.made_images)
        add_subject(nwbfile, self.metadata)


def plan_segmentation(
    extractor: Any, metadata: Metadata, entry: SegmentationEntry, include: Include
) -> PlannedSegmentation:
    """
    Look at what an extractor has.

    :raises SourceDataError: If it makes no sense.
    """
    return PlannedSegmentation(extractor, metadata, entry, find_traces(extractor), images_of(extractor), include)


def check_names(nwbfile: NWBFile, planned: Sequence[PlannedSegmentation]) -> None:
    """
    Check that nothing is written over, nothing left out, and nothing mixed up, because of its name.

    :raises ConfigurationError: If two things would have the same name, or the file has one of it.
    """
    module = nwbfile.processing.get("ophys")
    taken = {
        (container, child.name)
        for container in ("ImageSegmentation", "Fluorescence", "DfOverF", CONTAINER)
        if module is not None and container in module.data_interfaces
        for child in module[container].children
    }
    for segmentation in planned:
        for entry in (segmentation.entry.table, segmentation.entry.background_table):
            check_imaging_plane(nwbfile, segmentation.metadata, entry.imaging_plane_metadata_key)
            find_series(nwbfile, entry.reference_images)
        for container, name, section in segmentation.names():
            if (container, name) in taken:
                raise ConfigurationError(
                    f"{container} already has {name!r}. Give it another name in Ophys.{section}, or the "
                    "segmentation a metadata_key of its own, with which names that are not given end."
                )
            taken.add((container, name))
