"""The table of ROIs, or of background components: their masks and what is known of each."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from hdmf.common import VectorData, VectorIndex
from pynwb import NWBFile
from pynwb.image import ImageSeries
from pynwb.ophys import ImageSegmentation, ImagingPlane, PlaneSegmentation

from airflow_provider_ophys.exceptions import ConfigurationError, MetadataError
from airflow_provider_ophys.models.conversion import CentroidType, MaskType
from airflow_provider_ophys.models.metadata_sections import PlaneSegmentationMetadata
from airflow_provider_ophys.nwb.nwbfile import ophys_module
from airflow_provider_ophys.nwb.roi_properties import acceptance_columns, given_centroids, property_columns
from airflow_provider_ophys.writing.mask_iterators import (
    ImageMaskDataChunkIterator,
    SparseMaskDataChunkIterator,
    check_sparse_type,
    record_dtype,
)
from airflow_provider_ophys.writing.roi_masks import MaskStatistics, RoiMasks, measure_masks

if TYPE_CHECKING:
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

# What a centroid is.
CENTROIDS: Mapping[CentroidType, str] = {
    "mean": "Mean position of the pixels",
    "peak": "Pixel of the greatest weight, or the median of several,",
}


def check_options(mask_type: str, roi_centroids: str) -> None:
    """
    Check the options of a table.

    :raises ConfigurationError: If one is none of what it may be.
    """
    if roi_centroids not in CENTROIDS:
        raise ConfigurationError(f"roi_centroids is {roi_centroids!r}; write 'mean' or 'peak'.")
    if mask_type not in get_args(MaskType):
        raise ConfigurationError(f"mask_type is {mask_type!r}; write 'image', 'pixel' or 'voxel'.")


def add_table(
    nwbfile: NWBFile,
    entry: PlaneSegmentationMetadata,
    imaging_plane: ImagingPlane,
    columns: list[VectorData],
    reference_images: list[ImageSeries] | None,
) -> PlaneSegmentation:
    """
    Add a table to the container ``ImageSegmentation``.

    :param columns: The first has one value for each ROI.
    :param reference_images: What the masks were found in.
    """
    module = ophys_module(nwbfile)
    if "ImageSegmentation" not in module.data_interfaces:
        module.add(ImageSegmentation(name="ImageSegmentation"))
    table = PlaneSegmentation(
        name=entry.name,
        description=entry.description,
        imaging_plane=imaging_plane,
        reference_images=reference_images,
        id=np.arange(len(columns[0].data)),
        columns=columns,
        colnames=[column.name for column in columns if not isinstance(column, VectorIndex)],
    )
    module["ImageSegmentation"].add_plane_segmentation(table)
    return table


def find_series(nwbfile: NWBFile, names: Sequence[str] | None) -> list[ImageSeries] | None:
    """
    Find series of images by their names, in the acquisition or the processed data.

    :param names: ``None`` for none.
    :raises MetadataError: If there is none of a name.
    """
    if names is None:
        return None
    processed = nwbfile.processing["ophys"].data_interfaces if "ophys" in nwbfile.processing else {}
    series = {
        name: found
        for name, found in {**processed, **nwbfile.acquisition}.items()
        if isinstance(found, ImageSeries)
    }
    missing = [name for name in names if name not in series]
    if missing:
        raise MetadataError(
            f"reference_images names {', '.join(map(repr, missing))}, but the file has no such series of images "
            f"(it has: {', '.join(map(repr, series)) or 'none'}). Write the movie first, or leave it out."
        )
    return [series[name] for name in names]


def roi_columns(
    extractor: Any,
    *,
    mask_type: MaskType,
    roi_centroids: CentroidType | None,
    include_roi_acceptance: bool,
    mask_options: Mapping[str, Any],
) -> list[VectorData]:
    """Make the columns of the ROIs: names, masks, centroids, acceptance and every property."""
    masks = RoiMasks(extractor)
    ids = list(extractor.get_roi_ids())
    if not masks.exist:
        log.warning("%s has no masks; its ROIs are written without a place.", masks.name)
    # What the segmentation software says of itself comes before what is computed, unless something else is wanted.
    centroids = given_centroids(extractor) if roi_centroids == "mean" else None
    meaning = "Place, as the segmentation software gives it," if centroids is not None else ""
    measures = roi_centroids is not None and centroids is None
    statistics = None
    if masks.exist and (measures or mask_type != "image"):
        statistics = measure_masks(masks, with_peaks=roi_centroids == "peak")
    if roi_centroids is not None and centroids is None and statistics is not None:
        centroids = statistics.centroids if roi_centroids == "mean" else statistics.peaks
        meaning = CENTROIDS[roi_centroids]
    columns = [
        _names(ids, "The unique identifier of each ROI in the segmentation software."),
        *_masks(masks, len(ids), statistics, mask_type, mask_options),
        *(_centroids(centroids, meaning) if centroids is not None else []),
        *(acceptance_columns(extractor) if include_roi_acceptance else []),
    ]
    taken = {"id", *(column.name for column in columns)}
    return [*columns, *property_columns(extractor, taken)]


def background_columns(
    extractor: Any, num_components: int, mask_type: MaskType, mask_options: Mapping[str, Any]
) -> list[VectorData]:
    """Make the columns of the background components: names and masks."""
    masks = RoiMasks(extractor, "background")
    ids = list(extractor.get_background_ids() if len(masks) == num_components else range(num_components))
    statistics = measure_masks(masks) if masks.exist and mask_type != "image" else None
    return [
        _names(ids, "The unique identifier of each background component in the segmentation software."),
        *_masks(masks, len(ids), statistics, mask_type, mask_options),
    ]


def _names(ids: list[Any], description: str) -> VectorData:
    return VectorData(name="roi_name", description=description, data=[str(roi_id) for roi_id in ids])


def _masks(
    masks: RoiMasks,
    num_rois: int,
    statistics: MaskStatistics | None,
    mask_type: MaskType,
    options: Mapping[str, Any],
) -> list[VectorData]:
    if not masks.exist:
        # NWB wants one of the three columns in a table; this one says of each ROI that no pixel is known.
        return _sparse_column("pixel", np.zeros(0, record_dtype("pixel")), np.zeros(num_rois, dtype=np.int64))
    if mask_type == "image":
        return [
            VectorData(
                name="image_mask",
                description="Weight of each pixel for each ROI, (ROIs, columns, rows[, planes]).",
                data=ImageMaskDataChunkIterator(masks, **options),
            )
        ]
    assert statistics is not None  # noqa: S101 - for the type checker
    check_sparse_type(mask_type, statistics.centroids.shape[1])
    ends = np.cumsum(statistics.counts)
    data: Any = np.zeros(0, record_dtype(mask_type))
    if ends[-1]:
        data = SparseMaskDataChunkIterator(masks, mask_type, ends, **options)
    return _sparse_column(mask_type, data, ends)


def _sparse_column(mask_type: Literal["pixel", "voxel"], data: Any, ends: NDArray[Any]) -> list[VectorData]:
    fields = ", ".join(record_dtype(mask_type).names or ())
    column = VectorData(
        name=f"{mask_type}_mask", description=f"Members of each ROI ({fields}); x is the image column.", data=data
    )
    # Before its target: of columns whose lengths it compares hdmf drops iterators, and then misses this target.
    return [VectorIndex(name=f"{mask_type}_mask_index", data=ends, target=column), column]


def _centroids(centroids: NDArray[Any], meaning: str) -> list[VectorData]:
    return [
        VectorData(
            name="ROICentroids",
            description=f"{meaning} of each ROI: x (image column), y (image row)[, z (plane)].",
            data=centroids,
        )
    ]
