"""Movies: from an imaging extractor to a photon series in an NWB file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

from hdmf.utils import get_data_shape
from pynwb import NWBFile
from pynwb.ophys import OnePhotonSeries, TwoPhotonSeries

from airflow_provider_ophys.exceptions import ConfigurationError, EmptyRecordingError, MetadataError
from airflow_provider_ophys.models.conversion import IteratorType, ParentContainer, SeriesType
from airflow_provider_ophys.models.legacy_metadata import is_list_form, series_key
from airflow_provider_ophys.models.metadata import validate_metadata, with_own_metadata
from airflow_provider_ophys.models.metadata_sections import Metadata, MicroscopySeriesMetadata
from airflow_provider_ophys.nwb.devices import add_device, add_imaging_plane, find_entry
from airflow_provider_ophys.nwb.nwbfile import add_subject, ophys_module, read_from
from airflow_provider_ophys.nwb.timing import series_fields, timing_of
from airflow_provider_ophys.writing.iterator import ImagingExtractorDataChunkIterator
from airflow_provider_ophys.writing.iterator_options import iterator_options_of

if TYPE_CHECKING:
    from roiextractors import ImagingExtractor  # noqa: TID251 - the type only

SERIES_CLASSES = {"TwoPhotonSeries": TwoPhotonSeries, "OnePhotonSeries": OnePhotonSeries}

# Parts of the names of extractors that read recordings of head-mounted and other one-photon microscopes.
ONE_PHOTON = ("Miniscope", "Inscopix")
# Fields that only one of the two types has.
FIELDS_OF: Mapping[SeriesType, tuple[str, ...]] = {
    "OnePhotonSeries": ("exposure_time", "binning", "power", "intensity"),
    "TwoPhotonSeries": ("field_of_view",),
}


def add_imaging_to_nwbfile(
    imaging: ImagingExtractor,
    nwbfile: NWBFile,
    metadata: Mapping[str, Any] | None = None,
    *,
    photon_series_type: SeriesType = "auto",
    photon_series_index: int = 0,
    metadata_key: str | None = None,
    parent_container: ParentContainer = "acquisition",
    always_write_timestamps: bool = False,
    iterator_type: IteratorType = "v2",
    iterator_options: Mapping[str, Any] | None = None,
) -> NWBFile:
    """
    Add a movie to an NWBFile in memory; the pixels are read when the file is written.

    The data is (time, columns, rows[, planes]): NWB's x is the image column.

    :param imaging: The movie, of at least one sample.
    :param nwbfile: Changed and returned.
    :param metadata: Dict form or list form; never changed. Without it, placeholders are written.
    :param photon_series_type: Type of the series in NWB; in the list form, also where it is described. ``"auto"``
        goes by what is described, then by the extractor: those of one-photon microscopes, and of a
        OnePhotonSeries in an NWB file, give a OnePhotonSeries, all others a TwoPhotonSeries.
    :param photon_series_index: Which of the descriptions of that type, in the list form.
    :param metadata_key: Key in ``Ophys.MicroscopySeries``, in the dict form; may be left out if there is at most
        one.
    :param parent_container: Raw movies belong to the acquisition, motion-corrected ones to processing/ophys.
    :param always_write_timestamps: Write one stamp per sample (seconds) even if they are regular.
    :param iterator_type: ``"v2"`` reads the movie piece by piece when the file is written; ``None`` all of it now.
    :param iterator_options: Those of :class:`ImagingExtractorDataChunkIterator`, for ``"v2"``.
    :raises MetadataError: If the metadata is wrong; names every problem.
    :raises EmptyRecordingError: If the movie has no samples.
    :raises ConfigurationError: If an option is wrong, or the file has a series of that name already.
    :raises MemoryBudgetError: If ``iterator_type`` is ``None`` and the movie is more than what memory is left.
    """
    if int(imaging.get_num_samples()) == 0:
        raise EmptyRecordingError(f"{type(imaging).__name__} has no samples; there is nothing to convert.")
    full = with_own_metadata(imaging, metadata or {})
    checked = validate_metadata(full)
    if photon_series_type not in get_args(SeriesType):
        raise ConfigurationError(
            f"photon_series_type is {photon_series_type!r}; write one of {', '.join(get_args(SeriesType))}."
        )
    if photon_series_type == "auto":
        photon_series_type = _series_type(imaging, full, checked, metadata_key)
    if is_list_form(full):
        metadata_key = _key_in_list_form(checked, photon_series_type, photon_series_index, metadata_key)
    elif photon_series_index != 0:
        raise ConfigurationError("photon_series_index is for the list form of metadata; say metadata_key instead.")
    series = find_entry("Ophys.MicroscopySeries", checked.Ophys.MicroscopySeries, metadata_key)
    if series is None:
        series = MicroscopySeriesMetadata(name=photon_series_type, unit="n.a.")
    parent = _parent(nwbfile, parent_container)
    if series.name in parent:
        raise ConfigurationError(
            f"{parent_container} already has {series.name!r}. Give the series another name in "
            "Ophys.MicroscopySeries."
        )
    data = _make_data(imaging, iterator_type, iterator_options_of(iterator_options))
    fields = series_fields(series)
    fields["dimension"] = _dimension(series, get_data_shape(data)[1:])
    fields.setdefault("comments", read_from("imaging", imaging))
    fields |= timing_of(imaging, always_write_timestamps=always_write_timestamps, given=series)
    plane = add_imaging_plane(nwbfile, checked, series.imaging_plane_metadata_key)
    fields |= {"data": data, "imaging_plane": plane}
    if series.device_metadata_key is not None:
        fields["device"] = add_device(nwbfile, checked, series.device_metadata_key)
    photon_series = _make_series(photon_series_type, fields)
    add_subject(nwbfile, checked)
    _add(nwbfile, parent_container, photon_series)
    return nwbfile


def _series_type(
    imaging: Any, given: Mapping[str, Any], metadata: Metadata, metadata_key: str | None
) -> SeriesType:
    """Choose the type of a series that nobody chose."""
    if is_list_form(given):
        described: list[SeriesType] = [kind for kind in FIELDS_OF if given["Ophys"].get(kind)]
        if len(described) == 1:
            return described[0]
    else:
        series = find_entry("Ophys.MicroscopySeries", metadata.Ophys.MicroscopySeries, metadata_key)
        for kind, fields in FIELDS_OF.items():
            if series is not None and any(getattr(series, name) is not None for name in fields):
                return kind
    read = getattr(imaging, "photon_series", None)  # of an NWB file
    if isinstance(read, OnePhotonSeries) or any(part in type(imaging).__name__ for part in ONE_PHOTON):
        return "OnePhotonSeries"
    return "TwoPhotonSeries"


def _key_in_list_form(
    metadata: Metadata, photon_series_type: str, photon_series_index: int, metadata_key: str | None
) -> str:
    if metadata_key is not None:
        raise ConfigurationError("metadata_key is for the dict form of metadata; say photon_series_index instead.")
    key = series_key(photon_series_type, photon_series_index)
    if key not in metadata.Ophys.MicroscopySeries:
        count = sum(known.startswith(f"{photon_series_type}/") for known in metadata.Ophys.MicroscopySeries)
        raise MetadataError(
            f"photon_series_index is {photon_series_index}, but Ophys.{photon_series_type} describes {count} "
            "series. Count from 0, and describe the series if it is not there."
        )
    return key


def _make_data(imaging: Any, iterator_type: IteratorType, options: Mapping[str, Any]) -> Any:
    if iterator_type not in ("v2", None):
        raise ConfigurationError(f"iterator_type is {iterator_type!r}; write 'v2' or None.")
    if iterator_type is None and options:
        raise ConfigurationError(
            f"iterator_options {dict(options)!r} are for iterator_type 'v2'; with None there is no iterator."
        )
    iterator = make_iterator(imaging, options)
    return iterator.read_all() if iterator_type is None else iterator


def make_iterator(imaging: Any, options: Mapping[str, Any]) -> ImagingExtractorDataChunkIterator:
    """
    Return what reads a movie.

    :param imaging: The movie.
    :param options: Those of :class:`ImagingExtractorDataChunkIterator`.
    :raises ConfigurationError: If they are wrong.
    """
    try:
        iterator = ImagingExtractorDataChunkIterator(imaging, **options)
    except TypeError as error:
        raise ConfigurationError(f"The iterator options {dict(options)!r} are wrong: {error}.") from error
    iterator.quiet = options.get("display_progress") is False
    return iterator


def _dimension(series: MicroscopySeriesMetadata, sample_shape: Sequence[int]) -> list[int]:
    """
    Return the (columns, rows[, planes]) of the data.

    :raises MetadataError: If the metadata says something else.
    """
    if series.dimension not in (None, list(sample_shape)):
        raise MetadataError(
            f"The dimension of the series {series.name!r} is {series.dimension} in the metadata, but its data has "
            f"(columns, rows[, planes]) = {list(sample_shape)}. Leave dimension out, or write the latter."
        )
    return list(sample_shape)


def _make_series(photon_series_type: SeriesType, fields: dict[str, Any]) -> TwoPhotonSeries | OnePhotonSeries:
    try:
        return SERIES_CLASSES[photon_series_type](**fields)
    except TypeError as error:
        # A field of the other series type, such as scan_line_rate of a one-photon series.
        raise ConfigurationError(f"The series {fields['name']!r} is no {photon_series_type}: {error}.") from error


def _parent(nwbfile: NWBFile, parent_container: ParentContainer) -> Any:
    if parent_container == "acquisition":
        return nwbfile.acquisition
    if parent_container == "processing/ophys":
        return nwbfile.processing["ophys"].data_interfaces if "ophys" in nwbfile.processing else {}
    raise ConfigurationError(
        f"parent_container is {parent_container!r}; write 'acquisition' or 'processing/ophys'."
    )


def _add(nwbfile: NWBFile, parent_container: ParentContainer, series: TwoPhotonSeries | OnePhotonSeries) -> None:
    if parent_container == "acquisition":
        nwbfile.add_acquisition(series)
    else:
        ophys_module(nwbfile).add(series)
