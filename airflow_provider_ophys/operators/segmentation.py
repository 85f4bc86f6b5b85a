"""Write a segmentation to an NWB file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_ophys.models.conversion import SegmentationConversion
from airflow_provider_ophys.operators.conversion import ConversionOperator

if TYPE_CHECKING:
    from airflow_provider_ophys.models.result import SegmentationResult
    from airflow_provider_ophys.nwb.conversion import Circumstances


class WriteSegmentationOperator(ConversionOperator):
    """
    Writes ROIs, their traces and summary images to an NWB file, with everything of :class:`ConversionOperator`.

    Returns JSON with ``nwbfile_path``, ``backend``, ``size_bytes``, ``num_rois``, ``traces`` (their roles),
    ``elapsed_seconds``, ``throughput_mb_per_s``, ``peak_memory_bytes``, ``reused`` and ``validation``; the same is
    on the event of the outlet asset.

    :param metadata_key: Which of ``Ophys.PlaneSegmentations``; may be left out if there is at most one.
    :param mask_type: ``"image"`` for dense masks, ``"pixel"`` for lists of pixels, ``"voxel"`` for those of a
        volume.
    :param include_roi_centroids: Write the centroid of each ROI, (x, y) in pixels.
    :param include_roi_acceptance: Write which ROIs were accepted and rejected, where the segmentation knows it.
    :param iterator_options: ``chunk_mb``, ``chunk_shape`` ... of the image masks.
    """

    template_fields: Sequence[str] = (
        *ConversionOperator.template_fields,
        "metadata_key",
        "mask_type",
        "include_roi_centroids",
        "include_roi_acceptance",
        "iterator_options",
    )
    conversion_class = SegmentationConversion

    def __init__(
        self,
        *,
        metadata_key: str | None = None,
        mask_type: str = "image",
        include_roi_centroids: bool | str = True,
        include_roi_acceptance: bool | str = True,
        iterator_options: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.metadata_key = metadata_key
        self.mask_type = mask_type
        self.include_roi_centroids = include_roi_centroids
        self.include_roi_acceptance = include_roi_acceptance
        self.iterator_options = iterator_options

    def _convert(self, conversion: SegmentationConversion, circumstances: Circumstances) -> SegmentationResult:
        from airflow_provider_ophys.nwb.conversion import convert_segmentation

        return convert_segmentation(conversion, circumstances)
