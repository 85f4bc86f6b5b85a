"""The writers that users call from Python: extractors or a session in, one NWB file out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pynwb import NWBFile

from airflow_provider_ophys.conversion.additions import MovieAddition, SegmentationAddition
from airflow_provider_ophys.conversion.opened_headers import (
    existing_names,
    movie_with_headers,
    segmentations_with_headers,
    state_behind,
)
from airflow_provider_ophys.conversion.output import WriteOptions, prepare_output, write_nwbfile
from airflow_provider_ophys.conversion.replacing import Kept, kept_for
from airflow_provider_ophys.conversion.session import convert_session
from airflow_provider_ophys.exceptions import ConfigurationError, MetadataError
from airflow_provider_ophys.models.backend import Backend, BackendConfiguration, Compression
from airflow_provider_ophys.models.conversion import (
    CentroidType,
    IfExists,
    IteratorType,
    MaskType,
    ParentContainer,
    Reuse,
    SeriesType,
)
from airflow_provider_ophys.models.metadata import load_metadata, validate_metadata, with_own_metadata
from airflow_provider_ophys.models.metadata_sections import Metadata
from airflow_provider_ophys.models.output_path import check_output_path
from airflow_provider_ophys.models.session import Session, session_conversion
from airflow_provider_ophys.nwb.segmentation import SegmentationSource, pair_sources
from airflow_provider_ophys.opened_recordings import opened_paths
from airflow_provider_ophys.writing.sharing import Wish

if TYPE_CHECKING:
    from roiextractors import ImagingExtractor, SegmentationExtractor  # noqa: TID251 - the types only

    from airflow_provider_ophys.models.result import SessionResult


def write_imaging_to_nwbfile(
    imaging: ImagingExtractor,
    nwbfile_path: str | Path,
    *,
    nwbfile: NWBFile | None = None,
    metadata: object = None,
    overwrite: bool = False,
    append_on_disk_nwbfile: bool = False,
    photon_series_type: SeriesType = "auto",
    photon_series_index: int = 0,
    metadata_key: str | None = None,
    parent_container: ParentContainer = "acquisition",
    always_write_timestamps: bool = False,
    iterator_type: IteratorType = "v2",
    iterator_options: Mapping[str, Any] | None = None,
    backend: Backend | None = None,
    backend_configuration: Mapping[str, Any] | BackendConfiguration | None = None,
    compression: Compression = "fast",
    memory_limit: int | None = None,
    threads: int | None = None,
    validate: bool = True,
    source_metadata: bool = True,
) -> NWBFile | None:
    """
    Write a movie into a new NWB file, or append it to one on disk; all of it or, after an error, nothing.

    If it is known which files the movie is in, nothing is written if they change meanwhile.

    :param imaging: The movie.
    :param nwbfile_path: Where the file (HDF5) or folder (Zarr) goes; its parent folder must exist.
    :param nwbfile: An NWBFile in memory to add the movie to and write; default: a new one from the metadata.
    :param metadata: A dict, the path of a YAML or JSON file, or a list of these, merged left to right.
    :param overwrite: Replace what is at ``nwbfile_path``; until the new file is complete the old one stays.
    :param append_on_disk_nwbfile: Add to the file that is at ``nwbfile_path``.
    :param photon_series_type: As for :func:`add_imaging_to_nwbfile`, like the next six.
    :param photon_series_index: See there.
    :param metadata_key: See there.
    :param parent_container: See there.
    :param always_write_timestamps: See there.
    :param iterator_type: See there.
    :param iterator_options: See there.
    :param backend: ``"hdf5"`` or ``"zarr"``. Default: what the name says (``.zarr``, ``.h5``, ``.hdf5``), else
        HDF5; appending takes that of the file.
    :param backend_configuration: Storage per dataset; see :class:`HDF5BackendConfiguration`.
    :param compression: ``"fast"``, ``"small"`` or ``"none"``, for datasets that do not say otherwise.
    :param memory_limit: Most bytes in flight; default: 256 MiB or a quarter of what is available. Conversions that
        run at the same time share what there is.
    :param threads: Encoding threads; default: one per CPU that this process may use.
    :param validate: Check the file against the NWB schema before it is published.
    :param source_metadata: Use what the recording's headers say, where ``metadata`` does not say it; of an object
        that reads no file, or does not tell which, there are none.
    :returns: The NWBFile that was written; ``None`` after appending.
    :raises OphysError: See :func:`add_imaging_to_nwbfile`, and ``prepare_output`` and ``write_nwbfile`` of
        :mod:`airflow_provider_ophys.conversion.output`.
    """
    path = check_output_path(nwbfile_path, relative=True)
    source = state_behind("imaging", [imaging])
    given = load_metadata(metadata)
    if source_metadata:
        existing = existing_names(path, nwbfile, append=append_on_disk_nwbfile)
        given, photon_series_type = movie_with_headers(imaging, given, metadata_key, photon_series_type, existing)
    added = {
        "photon_series_type": photon_series_type,
        "photon_series_index": photon_series_index,
        "metadata_key": metadata_key,
        "parent_container": parent_container,
        "always_write_timestamps": always_write_timestamps,
        "iterator_type": iterator_type,
        "iterator_options": iterator_options,
    }
    options = WriteOptions(
        backend, backend_configuration, compression, Wish(memory_limit=memory_limit, threads=threads), validate
    )
    output = prepare_output(
        path,
        [MovieAddition(imaging, given, added)],
        metadata=validate_metadata(with_own_metadata(imaging, given)),
        kept=_kept([imaging], metadata),
        nwbfile=nwbfile,
        overwrite=overwrite,
        append=append_on_disk_nwbfile,
        options=options,
    )
    return write_nwbfile(output, options, source).nwbfile


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
    roi_centroids: CentroidType = "mean",
    include_roi_acceptance: bool = True,
    mask_type: MaskType = "image",
    iterator_options: Mapping[str, Any] | None = None,
    backend: Backend | None = None,
    backend_configuration: Mapping[str, Any] | BackendConfiguration | None = None,
    compression: Compression = "fast",
    memory_limit: int | None = None,
    threads: int | None = None,
    validate: bool = True,
    source_metadata: bool = True,
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
    :param metadata_key: As for :func:`add_segmentation_to_nwbfile`, like the next eight.
    :param plane_segmentation_name: See there.
    :param background_plane_segmentation_name: See there.
    :param include_background_segmentation: See there.
    :param include_roi_centroids: See there.
    :param roi_centroids: See there.
    :param include_roi_acceptance: See there.
    :param mask_type: See there.
    :param iterator_options: See there.
    :param backend: As for :func:`airflow_provider_ophys.nwb.write_imaging_to_nwbfile`, like the rest.
    :param backend_configuration: See there.
    :param compression: See there.
    :param memory_limit: See there.
    :param threads: See there.
    :param validate: See there.
    :param source_metadata: See there.
    :returns: The NWBFile that was written; ``None`` after appending.
    :raises OphysError: See :func:`add_segmentation_to_nwbfile`, and ``prepare_output`` and ``write_nwbfile`` of
        :mod:`airflow_provider_ophys.conversion.output`.
    """
    path = check_output_path(nwbfile_path, relative=True)
    source = state_behind("segmentation", _listed(segmentation_extractor))
    given = _load(segmentation_extractor, metadata)
    if source_metadata:
        existing = existing_names(path, nwbfile, append=append_on_disk_nwbfile)
        given, metadata_key = segmentations_with_headers(
            segmentation_extractor, given, metadata_key, plane_segmentation_name, existing
        )
    added = {
        "metadata_key": metadata_key,
        "plane_segmentation_name": plane_segmentation_name,
        "background_plane_segmentation_name": background_plane_segmentation_name,
        "include_background_segmentation": include_background_segmentation,
        "include_roi_centroids": include_roi_centroids,
        "roi_centroids": roi_centroids,
        "include_roi_acceptance": include_roi_acceptance,
        "mask_type": mask_type,
        "iterator_options": iterator_options,
    }
    options = WriteOptions(
        backend, backend_configuration, compression, Wish(memory_limit=memory_limit, threads=threads), validate
    )
    output = prepare_output(
        path,
        [SegmentationAddition(segmentation_extractor, given, added)],
        metadata=_of_file(pair_sources(segmentation_extractor, given, metadata_key)),
        kept=_kept(_listed(segmentation_extractor), metadata),
        nwbfile=nwbfile,
        overwrite=overwrite,
        append=append_on_disk_nwbfile,
        options=options,
    )
    return write_nwbfile(output, options, source).nwbfile


def write_session(
    session: Session | Mapping[str, Any],
    nwbfile_path: str | Path,
    *,
    if_exists: IfExists = "reuse",
    backend: Backend | None = None,
    backend_configuration: Mapping[str, Any] | None = None,
    compression: Compression | None = None,
    memory_limit: int | str | None = None,
    threads: int | None = None,
    validate: bool = True,
    inspect: str | None = None,
    source_metadata: bool = True,
    check_recording: bool = True,
    reuse: Reuse = "state",
) -> SessionResult:
    """
    Write all movies and segmentations of a session into one NWB file; all of it or, after an error, nothing.

    :param session: What :func:`airflow_provider_ophys.sessions.describe_session` returned; or a dict with the
        lists ``imaging`` and ``segmentation``, of the options of each movie and segmentation, and with
        ``metadata``.
    :param nwbfile_path: Where the file (HDF5) or folder (Zarr) goes, absolute; its parent folder must exist.
    :param if_exists: ``"reuse"`` what this conversion wrote before, ``"fail"``, ``"overwrite"`` or ``"append"``.
    :param backend: ``"hdf5"`` or ``"zarr"``. Default: what the name says (``.zarr``), else HDF5.
    :param backend_configuration: Storage per dataset; see :class:`HDF5BackendConfiguration`.
    :param compression: ``"fast"`` (default), ``"small"`` or ``"none"``.
    :param memory_limit: Most bytes in flight, such as ``"512MiB"``. Default: 256 MiB or a quarter of what is
        available.
    :param threads: Encoding threads. Default: one per CPU that this process may use.
    :param validate: Check the file against the NWB schema before it is published.
    :param inspect: What nwbinspector finds is in the result (``"report"``), or an error where it is critical
        (``"fail"``), or where the DANDI archive would not take it (``"dandi"``). Default: it is not run.
    :param source_metadata: Use what the recordings' headers say, where ``metadata`` does not say it; what
        ``describe_session`` returned has that already.
    :param check_recording: Check that the recording is whole before it is read.
    :param reuse: What proves that it is the recording that the output was made from: the ``"state"`` of its files,
        or all of their ``"content"``.
    :returns: What was written, as the operators return it.
    :raises OphysError: As :func:`airflow_provider_ophys.conversion.session.convert_session` does.
    """
    return convert_session(
        session_conversion(
            session,
            nwbfile_path,
            if_exists=if_exists,
            backend=backend,
            backend_configuration=backend_configuration,
            compression=compression,
            memory_limit=memory_limit,
            threads=threads,
            validate=validate,
            inspect=inspect,
            source_metadata=source_metadata,
            check_recording=check_recording,
            reuse=reuse,
        )
    )


def _listed(extractors: Any) -> Sequence[Any]:
    return extractors if isinstance(extractors, (list, tuple)) else [extractors]


def _kept(extractors: Sequence[Any], metadata: object) -> Kept:
    return kept_for([str(path) for extractor in extractors for path in opened_paths(extractor)], metadata)


def _load(extractors: Any, metadata: object) -> dict[str, Any] | list[dict[str, Any]]:
    if isinstance(extractors, (list, tuple)) and isinstance(metadata, (list, tuple)):
        return [load_metadata(part) for part in metadata]
    return load_metadata(metadata)


def _of_file(sources: Sequence[SegmentationSource]) -> Metadata:
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
