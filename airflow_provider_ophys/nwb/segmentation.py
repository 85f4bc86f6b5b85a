"""Segmentations: from segmentation extractors to tables of ROIs, their traces and summary images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pynwb import NWBFile

from airflow_provider_ophys.exceptions import ConfigurationError, MetadataError
from airflow_provider_ophys.models.backend import Backend, BackendConfiguration, Compression
from airflow_provider_ophys.models.metadata import Metadata, load_metadata, validate_metadata, with_own_metadata
from airflow_provider_ophys.nwb.files import WriteOptions, write_nwbfile
from airflow_provider_ophys.nwb.roi_table import MaskType, check_mask_type
from airflow_provider_ophys.nwb.segmentation_entry import described_keys, find_segmentation
from airflow_provider_ophys.nwb.segmentation_plan import (
    Include,
    PlannedSegmentation,
    check_names,
    plan_segmentation,
)
from airflow_provider_ophys.writing.sharing import Wish

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
        extractors, one for all of them or a list with one for each.
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
    check_mask_type(mask_type)
    include = Include(
        background=include_background_segmentation,
        roi_centroids=include_roi_centroids,
        roi_acceptance=include_roi_acceptance,
        mask_type=mask_type,
        iterator_options=dict(iterator_options or {}),
    )
    planned = [
        _plan(source, plane_segmentation_name, background_plane_segmentation_name, include)
        for source in _pair(segmentation_extractor, metadata, metadata_key)
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
    return nwbfile


@dataclass(frozen=True)
class _Source:
    extractor: Any
    metadata: Mapping[str, Any]
    metadata_key: str | None


def _plan(source: _Source, name: str | None, background_name: str | None, include: Include) -> PlannedSegmentation:
    checked = validate_metadata(source.metadata)
    entry = find_segmentation(
        checked,
        metadata_key=source.metadata_key,
        plane_segmentation_name=name,
        background_plane_segmentation_name=background_name,
    )
    planned = plan_segmentation(source.extractor, checked, entry, include)
    planned.check()
    planned.make_images()
    return planned


def _pair(extractors: Any, metadata: Any, keys: Any) -> list[_Source]:
    """Bring together what belongs together of lists, and check that they are equally long."""
    if not isinstance(extractors, (list, tuple)):
        if isinstance(metadata, (list, tuple)) or isinstance(keys, (list, tuple)):
            raise ConfigurationError(
                "metadata and metadata_key are lists where there is a list of extractors, but there is only one."
            )
        return [_Source(extractors, with_own_metadata(extractors, metadata or {}), keys)]
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


def _in_list(place: int, extractor: Any, metadata: Mapping[str, Any], key: str | None) -> _Source:
    if key is None:
        described = described_keys(validate_metadata(metadata))
        if len(described) > 1:
            raise MetadataError(
                f"The metadata of the extractor {place} (counted from 0) describes several segmentations "
                f"({', '.join(map(repr, described))}). Say which one each is with a list metadata_key."
            )
        key = described[0] if described else str(place)
    return _Source(extractor, metadata, key)


def write_segmentation_to_nwbfile(
    segmentation_extractor: SegmentationExtractor | Sequence[SegmentationExtractor],
    nwbfile_path: str | Path,
    *,
    nwbfile: NWBFile | None = None,
    metadata: object = None,
    overwrite: bool = False,
    append_on_disk_nwbfile: bool = False,
    metadata_key: str | Sequence[str | None] | None = None,
    plane_segmentation_name: str | None = None,
    background_plane_segmentation_name: str | None = None,
    include_background_segmentation: bool = False,
    include_roi_centroids: bool = True,
    include_roi_acceptance: bool = True,
    mask_type: MaskType = "image",
    iterator_options: Mapping[str, Any] | None = None,
    backend: Backend | None = None,
    backend_configuration: Mapping[str, Any] | BackendConfiguration | None = None,
    compression: Compression = "fast",
    memory_limit: int | None = None,
    threads: int | None = None,
    validate: bool = True,
) -> NWBFile | None:
    """
    Write segmentations into a new NWB file, or append to one on disk; all of it or, after an error, nothing.

    :param segmentation_extractor: The segmentation, or a list of several.
    :param nwbfile_path: Where the file (HDF5) or folder (Zarr) goes; its parent folder must exist.
    :param nwbfile: An NWBFile in memory to add the segmentation to and write; default: a new one.
    :param metadata: A dict, the path of a YAML or JSON file, or a list of these, merged left to right. For a list
        of extractors, a list is one of these for each; ``NWBFile`` and ``Subject`` of a new file are the first's.
    :param overwrite: Replace what is at ``nwbfile_path``; until the new file is complete the old one stays.
    :param append_on_disk_nwbfile: Add to the file that is at ``nwbfile_path``.
    :param metadata_key: As for :func:`add_segmentation_to_nwbfile`, like the next seven.
    :param plane_segmentation_name: See there.
    :param background_plane_segmentation_name: See there.
    :param include_background_segmentation: See there.
    :param include_roi_centroids: See there.
    :param include_roi_acceptance: See there.
    :param mask_type: See there.
    :param iterator_options: See there.
    :param backend: As for :func:`airflow_provider_ophys.nwb.write_imaging_to_nwbfile`, like the rest.
    :param backend_configuration: See there.
    :param compression: See there.
    :param memory_limit: See there.
    :param threads: See there.
    :param validate: See there.
    :returns: The NWBFile that was written; ``None`` after appending.
    :raises OphysError: See :func:`add_segmentation_to_nwbfile` and
        :func:`airflow_provider_ophys.nwb.files.write_nwbfile`.
    """
    given = _load(segmentation_extractor, metadata)

    def add(target: NWBFile) -> None:
        add_segmentation_to_nwbfile(
            segmentation_extractor,
            target,
            given,
            metadata_key=metadata_key,
            plane_segmentation_name=plane_segmentation_name,
            background_plane_segmentation_name=background_plane_segmentation_name,
            include_background_segmentation=include_background_segmentation,
            include_roi_centroids=include_roi_centroids,
            include_roi_acceptance=include_roi_acceptance,
            mask_type=mask_type,
            iterator_options=iterator_options,
        )

    return write_nwbfile(
        Path(nwbfile_path),
        add,
        metadata=_of_file(_pair(segmentation_extractor, given, metadata_key)),
        nwbfile=nwbfile,
        overwrite=overwrite,
        append=append_on_disk_nwbfile,
        options=WriteOptions(
            backend=backend,
            backend_configuration=backend_configuration,
            compression=compression,
            wish=Wish(memory_limit=memory_limit, threads=threads),
            validate=validate,
        ),
    ).nwbfile


def _load(extractors: Any, metadata: object) -> dict[str, Any] | list[dict[str, Any]]:
    if isinstance(extractors, (list, tuple)) and isinstance(metadata, (list, tuple)):
        return [load_metadata(part) for part in metadata]
    return load_metadata(metadata)


def _of_file(sources: Sequence[_Source]) -> Metadata:
    """
    Return the metadata of a new file: those of the first segmentation.

    :raises MetadataError: If another's describe another session or subject.
    """
    if not sources:
        raise ConfigurationError("The list of extractors is empty; there is nothing to convert.")
    first, *others = (validate_metadata(source.metadata) for source in sources)
    for place, other in enumerate(others, start=1):
        for section in ("NWBFile", "Subject"):
            if getattr(other, section) not in (None, getattr(first, section)):
                raise MetadataError(
                    f"{section} in the metadata of the extractor {place} (counted from 0) is not "
                    "that of the first. One file has one session and one subject: give them with the first only."
                )
    return first
