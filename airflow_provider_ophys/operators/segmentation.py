"""Write a segmentation to an NWB file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_ophys.models.conversion import SegmentationConversion
from airflow_provider_ophys.operators.conversion import RecordingConversionOperator

if TYPE_CHECKING:
    from airflow_provider_ophys.conversion.environment import Environment
    from airflow_provider_ophys.models.result import SegmentationResult


class WriteSegmentationOperator(RecordingConversionOperator):
    """
    Writes ROIs, traces and summary images to an NWB file.

    It takes the options of :class:`~airflow_provider_ophys.operators.conversion.RecordingConversionOperator` and
    :class:`~airflow_provider_ophys.operators.conversion.ConversionOperator` too.

    Returns JSON with ``nwbfile_path``, ``backend``, ``size_bytes``, ``num_rois``, ``traces`` (their roles),
    ``plane_segmentations`` (names of the tables), ``elapsed_seconds``, ``throughput_mb_per_s``,
    ``peak_memory_bytes``, ``reused`` and ``validation``; the same is on the event of the outlet asset.

    Several segmentations, of planes or of pipelines, go into one file in one task: ``extractor_kwargs`` is then a
    list, ``extractor`` one name for all or a list, and ``metadata_key`` a list that says which entry of
    ``Ophys.PlaneSegmentations`` each one is.

    :param metadata_key: Which entry of ``Ophys.PlaneSegmentations`` describes the segmentation. It may be left out
        if there is at most one. Names of tables, traces and images that are not given end with it.
    :param plane_segmentation_name: Name of the table of ROIs, instead of a ``metadata_key``.
    :param background_plane_segmentation_name: Name of the table of background components. Default:
        ``"BackgroundPlaneSegmentation"``.
    :param include_background_segmentation: Write background components too: their masks and traces.
    :param include_roi_centroids: Write the centroid of each ROI, (x, y[, z]) in pixels.
    :param roi_centroids: ``"mean"``: those of the segmentation software, or else the mean position of the pixels;
        ``"peak"``: the pixel with the greatest weight.
    :param include_roi_acceptance: Write which ROIs were accepted and rejected, where the segmentation knows it.
    :param mask_type: ``"image"`` for dense masks, ``"pixel"`` for lists of pixels, ``"voxel"`` for lists of the
        voxels of a volume.
    :param iterator_options: ``buffer_gb``, ``chunk_mb`` ... for masks and traces; ``chunk_shape`` and
        ``buffer_shape`` for the traces, (samples, ROIs).
    """

    conversion_class = SegmentationConversion
    template_fields: Sequence[str] = tuple(SegmentationConversion.defaults())

    def __init__(
        self,
        *,
        metadata_key: str | Sequence[str | None] | None = None,
        plane_segmentation_name: str | None = None,
        background_plane_segmentation_name: str | None = None,
        include_background_segmentation: bool | str = False,
        include_roi_centroids: bool | str = True,
        roi_centroids: str = "mean",
        include_roi_acceptance: bool | str = True,
        mask_type: str = "image",
        iterator_options: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.metadata_key = metadata_key
        self.plane_segmentation_name = plane_segmentation_name
        self.background_plane_segmentation_name = background_plane_segmentation_name
        self.include_background_segmentation = include_background_segmentation
        self.include_roi_centroids = include_roi_centroids
        self.roi_centroids = roi_centroids
        self.include_roi_acceptance = include_roi_acceptance
        self.mask_type = mask_type
        self.iterator_options = iterator_options

    def _convert(self, conversion: SegmentationConversion, environment: Environment) -> SegmentationResult:
        from airflow_provider_ophys.conversion.run import convert_segmentation

        return convert_segmentation(conversion, environment)
