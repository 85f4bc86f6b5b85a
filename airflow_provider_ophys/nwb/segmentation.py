"""Segmentations: from a segmentation extractor to a table of ROIs, their traces and summary images."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from hdmf.common import VectorData, VectorIndex
from pynwb import NWBFile, ProcessingModule
from pynwb.base import Images
from pynwb.image import GrayscaleImage
from pynwb.ophys import DfOverF, Fluorescence, ImageSegmentation, PlaneSegmentation, RoiResponseSeries

from airflow_provider_ophys.exceptions import ConfigurationError, EmptyRecordingError, SourceDataError
from airflow_provider_ophys.models.backend import Backend, BackendConfiguration, Compression
from airflow_provider_ophys.models.metadata import (
    Metadata,
    PlaneSegmentationMetadata,
    RoiResponseMetadata,
    SummaryImageMetadata,
    load_metadata,
    validate_metadata,
    with_own_metadata,
)
from airflow_provider_ophys.nwb.devices import add_imaging_plane, find_entry
from airflow_provider_ophys.nwb.files import WriteOptions, ophys_module, write_nwbfile
from airflow_provider_ophys.nwb.timing import timing_of
from airflow_provider_ophys.writing.iterator import ArrayDataChunkIterator, ImageMaskDataChunkIterator
from airflow_provider_ophys.writing.sharing import Wish

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from roiextractors import SegmentationExtractor  # noqa: TID251 - the type only

log = logging.getLogger(__name__)

MaskType = Literal["image", "pixel", "voxel"]

DEFAULT_PLANE_SEGMENTATION = PlaneSegmentationMetadata(name="PlaneSegmentation", description="Segmented ROIs")
SUMMARY_IMAGES = "SegmentationImages"

# Columns of NWB's sparse masks, in the order of the rows of an extractor's: row before column.
SPARSE_AXES = {"pixel": ("y", "x", "weight"), "voxel": ("y", "x", "z", "weight")}

# How extractors name what they know about the acceptance of an ROI, and whether it means the opposite.
ACCEPTANCE_PROPERTIES = {
    "is_accepted": False,
    "iscell": False,
    "accepted": False,
    "is_rejected": True,
    "rejected": True,
}


def add_segmentation_to_nwbfile(
    segmentation_extractor: SegmentationExtractor,
    nwbfile: NWBFile,
    metadata: Mapping[str, Any] | None = None,
    *,
    metadata_key: str | None = None,
    mask_type: MaskType = "image",
    include_roi_centroids: bool = True,
    include_roi_acceptance: bool = True,
    iterator_options: Mapping[str, Any] | None = None,
) -> NWBFile:
    """
    Add a segmentation to an NWBFile in memory; masks and traces are read when the file is written.

    In every part x is the image column and y the row: image masks are (ROIs, columns, rows), pixel and voxel masks
    have the fields x, y[, z] and weight, centroids are (x, y[, z]), summary images are (columns, rows). Traces are
    (time, ROIs): dF/F in the container ``DfOverF``, all others in ``Fluorescence``.

    :param segmentation_extractor: With at least one ROI.
    :param nwbfile: Changed and returned.
    :param metadata: Dict form or list form; never changed. Without it, placeholders are written.
    :param metadata_key: Key in ``Ophys.PlaneSegmentations`` (in the list form: the table's name), and in
        ``RoiResponses`` and ``SegmentationImages``; may be left out if there is at most one segmentation.
    :param mask_type: ``"image"`` for dense masks, ``"pixel"`` for lists of pixels, ``"voxel"`` for those of a
        volume.
    :param include_roi_centroids: Write the column ``ROICentroids``, in pixels.
    :param include_roi_acceptance: Write the boolean columns ``Accepted`` and ``Rejected`` where the extractor
        knows them.
    :param iterator_options: ``chunk_mb``, ``chunk_shape`` ... of the image masks.
    :raises MetadataError: If the metadata is wrong; names every problem.
    :raises EmptyRecordingError: If there are no ROIs.
    :raises ConfigurationError: If an option is wrong, or the file has a segmentation of that name already.
    """
    if int(segmentation_extractor.get_num_rois()) == 0:
        raise EmptyRecordingError(
            f"{type(segmentation_extractor).__name__} has no ROIs; there is nothing to convert."
        )
    checked = validate_metadata(with_own_metadata(segmentation_extractor, metadata or {}))
    entry = find_entry("Ophys.PlaneSegmentations", checked.Ophys.PlaneSegmentations, metadata_key)
    key = metadata_key or next(iter(checked.Ophys.PlaneSegmentations), None)
    # Making them may mean going through every dense mask, so it is done once, and only if they are wanted.
    wants_sparse = include_roi_centroids or mask_type != "image"
    sparse_masks = segmentation_extractor.get_roi_pixel_masks() if wants_sparse else []
    table = _make_table(
        segmentation_extractor,
        nwbfile,
        checked,
        entry or DEFAULT_PLANE_SEGMENTATION,
        columns=[
            _roi_names(segmentation_extractor),
            *_masks(segmentation_extractor, sparse_masks, mask_type, iterator_options or {}),
            *(_centroids(sparse_masks) if include_roi_centroids else []),
            *(_acceptance(segmentation_extractor) if include_roi_acceptance else []),
            *_properties(segmentation_extractor),
        ],
    )
    _add_traces(segmentation_extractor, nwbfile, table, checked.Ophys.RoiResponses.get(key or "", {}))
    _add_summary_images(
        segmentation_extractor, ophys_module(nwbfile), checked.Ophys.SegmentationImages.get(key or "", {})
    )
    return nwbfile


def _make_table(
    extractor: Any,
    nwbfile: NWBFile,
    metadata: Metadata,
    entry: PlaneSegmentationMetadata,
    columns: list[VectorData],
) -> PlaneSegmentation:
    module = ophys_module(nwbfile)
    container = _container(module, ImageSegmentation, "ImageSegmentation")
    if entry.name in container.plane_segmentations:
        raise ConfigurationError(
            f"The file already has a segmentation {entry.name!r}. Give this one another name in "
            "Ophys.PlaneSegmentations."
        )
    table = PlaneSegmentation(
        name=entry.name,
        description=entry.description,
        imaging_plane=add_imaging_plane(nwbfile, metadata, entry.imaging_plane_metadata_key),
        id=list(range(int(extractor.get_num_rois()))),
        columns=columns,
        colnames=[column.name for column in columns if not isinstance(column, VectorIndex)],
    )
    container.add_plane_segmentation(table)
    return table


def _container(module: ProcessingModule, kind: type, name: str) -> Any:
    if name not in module.data_interfaces:
        module.add(kind(name=name))
    return module[name]


def _roi_names(extractor: Any) -> VectorData:
    return VectorData(
        name="roi_name",
        description="The unique identifier of each ROI in the segmentation software.",
        data=[str(roi_id) for roi_id in extractor.get_roi_ids()],
    )


def _masks(
    extractor: Any, sparse_masks: Sequence[Any], mask_type: MaskType, iterator_options: Mapping[str, Any]
) -> list[VectorData]:
    if mask_type == "image":
        return [
            VectorData(
                name="image_mask",
                description="Weight of each pixel for each ROI, (ROIs, columns, rows).",
                data=ImageMaskDataChunkIterator(extractor, **iterator_options),
            )
        ]
    if mask_type not in SPARSE_AXES:
        raise ConfigurationError(f"mask_type is {mask_type!r}; write 'image', 'pixel' or 'voxel'.")
    masks = [sparse_mask(mask, mask_type) for mask in sparse_masks]
    column = VectorData(
        name=f"{mask_type}_mask",
        description=f"Members of each ROI ({', '.join(masks[0].dtype.names or ())}); x is the image column.",
        data=np.concatenate(masks),
    )
    ends = np.cumsum([len(mask) for mask in masks])
    return [column, VectorIndex(name=f"{mask_type}_mask_index", data=ends, target=column)]


def sparse_mask(mask: NDArray[Any], mask_type: MaskType) -> NDArray[Any]:
    """
    Turn an extractor's rows (row, column[, plane], weight) into NWB's records (x, y[, z], weight).

    :raises ConfigurationError: If the mask is of a plane but voxels are wanted, or the other way round.
    """
    axes = SPARSE_AXES[mask_type]
    rows = np.asarray(mask)
    if rows.size and rows.shape[1] != len(axes):
        other = "voxel" if mask_type == "pixel" else "pixel"
        raise ConfigurationError(
            f"mask_type is {mask_type!r}, but the ROIs have {rows.shape[1] - 1} coordinates. Write {other!r}."
        )
    coordinates = sorted(axes[:-1])
    records = np.empty(len(rows), dtype=[*((axis, "u4") for axis in coordinates), ("weight", "f4")])
    for axis, values in zip(axes, rows.reshape(len(rows), len(axes)).T, strict=True):
        records[axis] = values
    return records


def _centroids(sparse_masks: Sequence[Any]) -> list[VectorData]:
    # Rows before columns, as in all of roiextractors; here it becomes x before y. An ROI may have no pixels.
    masks = [np.asarray(mask) for mask in sparse_masks]
    order = (
        [1, 0, 2] if any(mask.size and mask.shape[1] == len(SPARSE_AXES["voxel"]) for mask in masks) else [1, 0]
    )
    centroids = [mask[:, order].mean(axis=0) if mask.size else np.full(len(order), np.nan) for mask in masks]
    return [
        VectorData(
            name="ROICentroids",
            description="Mean position of each ROI's pixels: x (image column), y (image row)[, z (plane)].",
            data=np.array(centroids, dtype=np.float64),
        )
    ]


def _acceptance(extractor: Any) -> list[VectorData]:
    known = extractor.get_property_keys()
    name = next((name for name in ACCEPTANCE_PROPERTIES if name in known), None)
    if name is None:
        return []
    values = np.asarray(extractor.get_property(name, ids=extractor.get_roi_ids())).astype(bool)
    accepted = ~values if ACCEPTANCE_PROPERTIES[name] else values
    return [
        VectorData(
            name="Accepted",
            description="Whether the segmentation software or its user accepted the ROI.",
            data=accepted,
        ),
        VectorData(
            name="Rejected",
            description="Whether the segmentation software or its user rejected the ROI.",
            data=~accepted,
        ),
    ]


def _properties(extractor: Any) -> list[VectorData]:
    columns = []
    for name in extractor.get_property_keys():
        values = np.asarray(extractor.get_property(name, ids=extractor.get_roi_ids()))
        is_text = values.dtype.kind in "OU"
        data = [str(value) for value in values] if is_text else values
        description = extractor.get_property_info(name).description
        columns.append(VectorData(name=name, description=description or f"{name} of each ROI.", data=data))
    return columns


def _add_traces(
    extractor: Any, nwbfile: NWBFile, table: PlaneSegmentation, described: Mapping[str, RoiResponseMetadata]
) -> None:
    traces = found_traces(extractor)
    unknown = sorted(set(described) - set(traces))
    if unknown:
        raise ConfigurationError(
            f"Ophys.RoiResponses describes traces that the segmentation does not have: {', '.join(unknown)} "
            f"(it has: {', '.join(traces) or 'none'})."
        )
    for role, trace in traces.items():
        if trace.shape[1] != len(table):
            raise SourceDataError(
                f"The {role} traces of {type(extractor).__name__} are of {trace.shape[1]} ROIs, but it has "
                f"{len(table)} masks. Check that the segmentation's files belong together."
            )
        if trace.shape[0] != extractor.get_num_samples():
            raise SourceDataError(
                f"The {role} traces of {type(extractor).__name__} have {trace.shape[0]} samples, but it "
                f"has {extractor.get_num_samples()}. Check that the segmentation's files belong together."
            )
        kind = DfOverF if role == "dff" else Fluorescence
        container = _container(ophys_module(nwbfile), kind, kind.__name__)
        entry = described.get(role) or RoiResponseMetadata(name=_series_name(role), unit="n.a.")
        series = _make_series(extractor, table, role, trace, entry)
        if series.name in container.roi_response_series:
            raise ConfigurationError(
                f"{container.name} already has {series.name!r}. Give the {role} traces another name in "
                "Ophys.RoiResponses."
            )
        container.add_roi_response_series(series)


def found_traces(extractor: Any) -> dict[str, Any]:
    """Return the traces of the ROIs by role, each (time, ROIs); those of background components are left out."""
    found = {}
    for role, trace in extractor.get_traces_dict().items():
        if trace is None or 0 in trace.shape:
            continue
        if role == "background":
            log.info("Traces of background components are not written.")
            continue
        found[role] = trace
    return found


def _series_name(role: str) -> str:
    return "RoiResponseSeries" if role in ("raw", "dff") else role.capitalize()


def _make_series(
    extractor: Any, table: PlaneSegmentation, role: str, trace: Any, entry: RoiResponseMetadata
) -> RoiResponseSeries:
    return RoiResponseSeries(
        name=entry.name,
        description=entry.description or f"Array of {'raw fluorescence' if role == 'raw' else role} traces.",
        data=ArrayDataChunkIterator(trace),
        unit=entry.unit,
        rois=table.create_roi_table_region(
            region=list(range(len(table))), description=f"The ROIs of {table.name}."
        ),
        **timing_of(extractor, always_write_timestamps=False),
    )


def _add_summary_images(
    extractor: Any, module: ProcessingModule, described: Mapping[str, SummaryImageMetadata]
) -> None:
    for role, image in extractor.get_images_dict().items():
        if image is None:
            continue
        if SUMMARY_IMAGES not in module.data_interfaces:
            module.add(Images(name=SUMMARY_IMAGES, description="The summary images of the segmentation."))
        images = module[SUMMARY_IMAGES]
        entry = described.get(role) or SummaryImageMetadata(name=role)
        if entry.name in images.images:
            raise ConfigurationError(
                f"{SUMMARY_IMAGES} already has {entry.name!r}. Give the {role} image another name in "
                "Ophys.SegmentationImages."
            )
        images.add_image(
            GrayscaleImage(
                name=entry.name,
                description=entry.description or f"The {role} image.",
                data=np.ascontiguousarray(np.asarray(image).T),
            )
        )


def write_segmentation_to_nwbfile(
    segmentation_extractor: SegmentationExtractor,
    nwbfile_path: str | Path,
    *,
    nwbfile: NWBFile | None = None,
    metadata: object = None,
    overwrite: bool = False,
    append_on_disk_nwbfile: bool = False,
    metadata_key: str | None = None,
    mask_type: MaskType = "image",
    include_roi_centroids: bool = True,
    include_roi_acceptance: bool = True,
    iterator_options: Mapping[str, Any] | None = None,
    backend: Backend | None = None,
    backend_configuration: Mapping[str, Any] | BackendConfiguration | None = None,
    compression: Compression = "fast",
    memory_limit: int | None = None,
    threads: int | None = None,
    validate: bool = True,
) -> NWBFile | None:
    """
    Write a segmentation into a new NWB file, or append it to one on disk; all of it or, after an error, nothing.

    :param segmentation_extractor: The segmentation.
    :param nwbfile_path: Where the file (HDF5) or folder (Zarr) goes; its parent folder must exist.
    :param nwbfile: An NWBFile in memory to add the segmentation to and write; default: a new one.
    :param metadata: A dict, the path of a YAML or JSON file, or a list of these, merged left to right.
    :param overwrite: Replace what is at ``nwbfile_path``; until the new file is complete the old one stays.
    :param append_on_disk_nwbfile: Add to the file that is at ``nwbfile_path``.
    :param metadata_key: As for :func:`add_segmentation_to_nwbfile`, like the next four.
    :param mask_type: See there.
    :param include_roi_centroids: See there.
    :param include_roi_acceptance: See there.
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
    given = load_metadata(metadata)

    def add(target: NWBFile) -> None:
        add_segmentation_to_nwbfile(
            segmentation_extractor,
            target,
            given,
            metadata_key=metadata_key,
            mask_type=mask_type,
            include_roi_centroids=include_roi_centroids,
            include_roi_acceptance=include_roi_acceptance,
            iterator_options=iterator_options,
        )

    return write_nwbfile(
        Path(nwbfile_path),
        add,
        metadata=validate_metadata(with_own_metadata(segmentation_extractor, given)),
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
