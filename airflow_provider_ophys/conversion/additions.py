"""What a conversion adds to an NWB file, as values: movies and segmentations with their metadata and options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hdmf.utils import get_data_shape
from pynwb import NWBFile
from pynwb.ophys import ImageSegmentation, OnePhotonSeries, PlaneSegmentation, TwoPhotonSeries

from airflow_provider_ophys.conversion.datasets import path_of
from airflow_provider_ophys.nwb.imaging import add_imaging_to_nwbfile
from airflow_provider_ophys.nwb.segmentation import add_segmentations
from airflow_provider_ophys.nwb.segmentation_plan import PlannedSegmentation
from airflow_provider_ophys.nwb.summary_images import CONTAINER as SUMMARY_IMAGES

if TYPE_CHECKING:
    from roiextractors import ImagingExtractor, SegmentationExtractor  # noqa: TID251 - the types only


@dataclass(frozen=True)
class MovieAddition:
    """
    A movie that is to be added.

    :param imaging: The movie.
    :param metadata: As for :func:`add_imaging_to_nwbfile`.
    :param options: The other arguments of :func:`add_imaging_to_nwbfile`.
    """

    imaging: ImagingExtractor
    metadata: Mapping[str, Any]
    options: Mapping[str, Any]

    def add_to(self, nwbfile: NWBFile) -> list[PlannedSegmentation]:
        """Add it to an NWBFile in memory."""
        add_imaging_to_nwbfile(self.imaging, nwbfile, self.metadata, **self.options)
        return []


@dataclass(frozen=True)
class SegmentationAddition:
    """
    A segmentation, or several that are described together, to be added.

    :param segmentation: One extractor, or a list.
    :param metadata: As for ``add_segmentation_to_nwbfile``.
    :param options: All other arguments of ``add_segmentation_to_nwbfile``.
    """

    segmentation: SegmentationExtractor | Sequence[SegmentationExtractor]
    metadata: Mapping[str, Any] | Sequence[Mapping[str, Any] | None]
    options: Mapping[str, Any]

    def add_to(self, nwbfile: NWBFile) -> list[PlannedSegmentation]:
        """Add it to an NWBFile in memory; return what was added."""
        return add_segmentations(self.segmentation, nwbfile, self.metadata, **self.options)


Addition = MovieAddition | SegmentationAddition


def added_objects(nwbfile: NWBFile) -> list[Any]:
    """Return the series and tables that were just added, which no file holds yet, in the order of their adding."""
    kinds = (OnePhotonSeries, TwoPhotonSeries, PlaneSegmentation)
    found = list(nwbfile.acquisition.values())
    for interface in nwbfile.processing["ophys"].data_interfaces.values() if "ophys" in nwbfile.processing else ():
        is_tables = isinstance(interface, ImageSegmentation)
        found += interface.plane_segmentations.values() if is_tables else [interface]
    return [each for each in found if isinstance(each, kinds) and each.container_source is None]


def location_of_record(nwbfile: NWBFile) -> str:
    """Return the path of the object beside which the record of a conversion is kept: the first that it added."""
    added = added_objects(nwbfile)
    return path_of(added[0] if added else nwbfile.processing["ophys"][SUMMARY_IMAGES])


def facts_of(nwbfile: NWBFile, segmentations: Sequence[PlannedSegmentation]) -> dict[str, Any]:
    """
    Tell what was added, for the result of a conversion.

    :param nwbfile: To which it was just added.
    :param segmentations: That were added.
    :returns: Of movies ``photon_series`` and, of the first, ``num_samples``, ``sample_shape`` and ``dtype``; of
        segmentations ``num_rois``, ``traces`` and ``plane_segmentations``.
    """
    facts: dict[str, Any] = {}
    objects = added_objects(nwbfile)
    series = [_facts_of_series(each) for each in objects if not isinstance(each, PlaneSegmentation)]
    if series:
        first = {name: series[0][name] for name in ("num_samples", "sample_shape", "dtype")}
        facts |= first | {"photon_series": series}
    if segmentations:
        traces = [role for each in segmentations for role in (*each.traces.of_rois, *each.traces.of_background)]
        facts |= {
            "num_rois": sum(each.num_rois for each in segmentations),
            "traces": list(dict.fromkeys(traces)),
            "plane_segmentations": [each.name for each in objects if isinstance(each, PlaneSegmentation)],
        }
    return facts


def _facts_of_series(series: Any) -> dict[str, Any]:
    num_samples, *sample_shape = get_data_shape(series.data)
    return {
        "name": series.name,
        "num_samples": num_samples,
        "sample_shape": sample_shape,
        "dtype": series.data.dtype.name,
    }
