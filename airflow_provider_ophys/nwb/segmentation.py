"""Segmentations: from segmentation extractors to tables of ROIs, their traces and summary images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pynwb import NWBFile

from airflow_provider_ophys.exceptions import ConfigurationError, MetadataError
from airflow_provider_ophys.models.conversion import CentroidType, MaskType
from airflow_provider_ophys.models.legacy_metadata import in_words_of_list_form, is_list_form
from airflow_provider_ophys.models.metadata import validate_metadata, with_own_metadata
from airflow_provider_ophys.nwb.roi_table import check_options
from airflow_provider_ophys.nwb.segmentation_entry import described_keys, find_segmentation
from airflow_provider_ophys.nwb.segmentation_plan import (
    Include,
    PlannedSegmentation,
    check_names,
    plan_segmentation,
)
from airflow_provider_ophys.writing.iterator_options import iterator_options_of

if TYPE_CHECKING:
    from roiextractors import SegmentationExtractor  # noqa: TID251 - the type only


def add_segmentation_to_nwbfile(
    segmentation_extractor: SegmentationExtractor | Sequence[SegmentationExtractor],
    nwbfile: NWBFile,
    metadata: Mapping[str, Any] | Sequence[Mapping[str, Any] | None] | None = None,
    *,
    metadata_key: str | Sequence[str | None] | None = None,
    plane_segmentation_name: str | None = None,
    background_plane_segmentation_name: str | None = None,
    include_background_segmentation: bool = False,
    include_roi_centroids: bool = True,
    roi_centroids: CentroidType = "mean",
    include_roi_acceptance: bool = True,
    mask_type: MaskType = "image",
    iterator_options: Mapping[str, Any] | None = None,
) -> NWBFile:
    """
    Add segmentations to an NWBFile in memory; masks and traces are read when the file is written.

    In every part x is the image column and y the row: image masks are (ROIs, columns, rows[, planes]), pixel and
    voxel masks have the fields x, y[, z] and weight, centroids are (x, y[, z]), images are (columns, rows).
    Traces are (time, ROIs): dF/F in the container ``DfOverF``, all others in ``Fluorescence``. Every property of
    the extractor is a column. After an error the NWBFile is as it was.

    :param segmentation_extractor: With ROIs, traces or summary images; or a list of such, for several planes or
        pipelines.
    :param nwbfile: Changed and returned.
    :param metadata: Dict form or list form; never changed. Without it, placeholders are written. For a list of
        extractors, one for all of them or a list with one for each. In the dict form, naming traces or summary
        images selects them; ``None`` in place of a description leaves one out, in both forms. Traces of nothing
        but zeros are written only if they are named.
    :param metadata_key: Key in ``Ophys.PlaneSegmentations`` (in the list form: the table's name), and in
        ``RoiResponses`` and ``SegmentationImages``; may be left out if there is at most one segmentation. Names
        that are not given end with it. For a list of extractors, a list; default: the only key that each one's
        metadata describes, else its place in the list.
    :param plane_segmentation_name: Name of the table: chooses the entry of that name, or gives the name where
        nothing is described. For a single extractor.
    :param background_plane_segmentation_name: The same for the table of background components; default
        ``"BackgroundPlaneSegmentation"``.
    :param include_background_segmentation: Write the background components too: their masks in a table of their
        own, and their traces.
    :param include_roi_centroids: Write the column ``ROICentroids``, in pixels.
    :param roi_centroids: What they are: ``"mean"``, those that the segmentation software gives, else the mean
        position of the pixels; or ``"peak"``, the pixel of the greatest weight. The column's description says it.
    :param include_roi_acceptance: Write the boolean columns ``Accepted`` and ``Rejected`` where the extractor
        knows them.
    :param mask_type: ``"image"`` for dense masks, ``"pixel"`` for lists of pixels, ``"voxel"`` for those of a
        volume.
    :param iterator_options: ``buffer_gb``, ``chunk_mb``, ``display_progress`` ... of masks and traces;
        ``chunk_shape`` and ``buffer_shape`` are of the traces, (samples, ROIs).
    :raises MetadataError: If the metadata is wrong; names every problem.
    :raises EmptyRecordingError: If an extractor has neither ROIs nor traces nor summary images.
    :raises SourceDataError: If what an extractor gives makes no sense.
    :raises ConfigurationError: If an option is wrong, or a name that would be written is taken.
    """
    add_segmentations(
        segmentation_extractor,
        nwbfile,
        metadata,
        metadata_key=metadata_key,
        plane_segmentation_name=plane_segmentation_name,
        background_plane_segmentation_name=background_plane_segmentation_name,
        include_background_segmentation=include_background_segmentation,
        include_roi_centroids=include_roi_centroids,
        roi_centroids=roi_centroids,
        include_roi_acceptance=include_roi_acceptance,
        mask_type=mask_type,
        iterator_options=iterator_options,
    )
    return nwbfile


def add_segmentations(
    segmentation_extractor: Any,
    nwbfile: NWBFile,
    metadata: Any,
    *,
    metadata_key: Any,
    plane_segmentation_name: str | None,
    background_plane_segmentation_name: str | None,
    include_background_segmentation: bool,
    include_roi_centroids: bool,
    roi_centroids: CentroidType,
    include_roi_acceptance: bool,
    mask_type: MaskType,
    iterator_options: Mapping[str, Any] | None,
) -> list[PlannedSegmentation]:
    """
    Do what :func:`add_segmentation_to_nwbfile` does, which has the parameters.

    :returns: What was added.
    """
    check_options(mask_type, roi_centroids)
    include = Include(
        background=include_background_segmentation,
        roi_centroids=roi_centroids if include_roi_centroids else None,
        roi_acceptance=include_roi_acceptance,
        mask_type=mask_type,
        iterator_options=dict(iterator_options_of(iterator_options)),
    )
    planned = [
        _plan(source, plane_segmentation_name, background_plane_segmentation_name, include)
        for source in pair_sources(segmentation_extractor, metadata, metadata_key)
    ]
    if len(planned) > 1 and (plane_segmentation_name or background_plane_segmentation_name):
        raise ConfigurationError(
            "plane_segmentation_name and background_plane_segmentation_name are of one segmentation, but "
            f"there are {len(planned)}. Give names in Ophys.PlaneSegmentations."
        )
    check_names(nwbfile, planned)
    for segmentation in planned:
        segmentation.read()
    for segmentation in planned:
        segmentation.add(nwbfile)
    return planned


@dataclass(frozen=True)
class SegmentationSource:
    """A segmentation, its metadata, and which of their entries describes it."""

    extractor: Any
    metadata: Mapping[str, Any]
    metadata_key: str | None


def _plan(
    source: SegmentationSource, name: str | None, background_name: str | None, include: Include
) -> PlannedSegmentation:
    checked, is_lists = validate_metadata(source.metadata), is_list_form(source.metadata)
    try:
        entry = find_segmentation(
            checked,
            metadata_key=source.metadata_key,
            plane_segmentation_name=name,
            background_plane_segmentation_name=background_name,
            names_select=not is_lists,
        )
        planned = plan_segmentation(source.extractor, checked, entry, include)
        planned.check()
        planned.choose()
    except MetadataError as error:
        if not is_lists:
            raise
        raise MetadataError(in_words_of_list_form(str(error))) from error
    planned.make_images()
    return planned


def pair_sources(extractors: Any, metadata: Any, keys: Any) -> list[SegmentationSource]:
    """
    Bring together extractors, their metadata and keys.

    :param extractors: One, or a list.
    :param metadata: For all of them, or a list of one for each.
    :param keys: As metadata.
    :raises ConfigurationError: If lists differ in length.
    """
    if not isinstance(extractors, (list, tuple)):
        if isinstance(metadata, (list, tuple)) or isinstance(keys, (list, tuple)):
            raise ConfigurationError(
                "metadata and metadata_key are lists where there is a list of extractors, but there is only one."
            )
        return [SegmentationSource(extractors, with_own_metadata(extractors, metadata or {}), keys)]
    return [
        _in_list(place, extractor, with_own_metadata(extractor, given or {}), key)
        for place, (extractor, given, key) in enumerate(
            zip(
                extractors,
                _one_for_each(extractors, metadata, "metadata"),
                _one_for_each(extractors, keys, "metadata_key"),
                strict=True,
            )
        )
    ]


def _one_for_each(extractors: Sequence[Any], given: Any, name: str) -> list[Any]:
    if not isinstance(given, (list, tuple)):
        return [given] * len(extractors)
    if len(given) != len(extractors):
        raise ConfigurationError(
            f"There are {len(extractors)} extractors, but {len(given)} in the list {name}. Give one for each."
        )
    return list(given)


def _in_list(place: int, extractor: Any, metadata: Mapping[str, Any], key: str | None) -> SegmentationSource:
    if key is None:
        described = described_keys(validate_metadata(metadata))
        if len(described) > 1:
            raise MetadataError(
                f"The metadata of the extractor {place} (counted from 0) describes several segmentations "
                f"({', '.join(map(repr, described))}). Say which one each is with a list metadata_key."
            )
        key = described[0] if described else str(place)
    return SegmentationSource(extractor, metadata, key)
