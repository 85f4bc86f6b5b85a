"""What is known of recordings that are open already: what their headers say, and the state of their files."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from pynwb import NWBFile

from airflow_provider_ophys.conversion.recording_errors import naming_recordings
from airflow_provider_ophys.conversion.run import planes_and_devices
from airflow_provider_ophys.exceptions import SourceDataError, SourceNotFoundError
from airflow_provider_ophys.models.conversion import SeriesType
from airflow_provider_ophys.models.metadata import merge_metadata
from airflow_provider_ophys.models.recording import Kind
from airflow_provider_ophys.models.remarks import remark
from airflow_provider_ophys.opened_recordings import recording_behind
from airflow_provider_ophys.recordings import Recording
from airflow_provider_ophys.recordings.state import SourceState
from airflow_provider_ophys.sessions.source_metadata import (
    DescribedPart,
    described_segmentation,
    of_series_type,
    with_headers,
)

Metadata = dict[str, Any]


def existing_names(path: Path, nwbfile: NWBFile | None, *, append: bool) -> Collection[str]:
    """
    Return the names of the imaging planes and devices that are there already, which no header describes.

    :param path: Of the file that is added to, if one is.
    :param nwbfile: In memory, that is added to.
    :param append: Whether a file is added to.
    """
    if nwbfile is not None:
        return {*nwbfile.imaging_planes, *nwbfile.devices}
    return planes_and_devices(path) if append else ()


def state_behind(kind: Kind, extractors: Sequence[object]) -> SourceState | None:
    """
    Return the state of the files that extractors read, as far as they are known; ``None`` if none is.

    :param kind: Which of the two they are.
    :param extractors: They are open.
    :raises SourceAccessError: If the disk or share with the files fails.
    """
    recordings = [known for each in extractors if (known := recording_behind(kind, each)) is not None]
    try:
        with naming_recordings(recordings):
            return SourceState.of(recordings) if recordings else None
    except (SourceDataError, SourceNotFoundError):
        return None  # an object that is open may read what nobody can open any more


def movie_with_headers(
    imaging: object,
    given: Mapping[str, Any],
    metadata_key: str | None,
    photon_series_type: SeriesType,
    existing: Collection[str],
) -> tuple[Metadata, SeriesType]:
    """
    Put what the headers of a movie's recording say under metadata.

    :param imaging: Its extractor; where that reads no file, or it is not known which, there are no headers.
    :param given: The metadata.
    :param metadata_key: Of the entry that describes the movie.
    :param photon_series_type: As it was asked for.
    :param existing: As :func:`existing_names` returns.
    :returns: The metadata, and the type of the series, if that is known now.
    """
    recording = recording_behind("imaging", imaging)
    if recording is None:
        return dict(given), photon_series_type
    part = of_series_type(DescribedPart(recording, "imaging", metadata_key), photon_series_type, given)
    return _remarking([part], given, existing), part.photon_series_type


def segmentations_with_headers(
    extractors: Any, given: Any, keys: Any, name: str | None, existing: Collection[str]
) -> tuple[Any, Any]:
    """
    Put what the headers of segmentations' recordings say under metadata.

    :param extractors: One, or a list; where none reads files that are known, there are no headers.
    :param given: One metadata for all of them, or a list of one for each; of a list, the session is the first's.
    :param keys: Of their entries, as metadata.
    :param name: Of the table, if there is one only.
    :param existing: As :func:`existing_names` returns.
    :returns: Metadata and keys, in the same form.
    """
    is_list = isinstance(extractors, (list, tuple))
    recordings = [recording_behind("segmentation", each) for each in (extractors if is_list else [extractors])]
    each_given, each_key = (list(each) if _is_list(each) else [each] * len(recordings) for each in (given, keys))
    fits = len(each_given) == len(each_key) == len(recordings) and (is_list or not _is_list(keys))
    if not fits or not any(recordings):
        return given, keys  # what does not fit is said where they are brought together
    parts = [
        described_segmentation(recording or Recording("", {}), said or {}, key, name=name, place=place)
        for recording, said, key, place in zip(
            recordings, each_given, each_key, range(len(recordings)) if is_list else [None], strict=True
        )
    ]
    keys = [part.metadata_key for part in parts] if is_list else keys
    if not _is_list(given):
        return _remarking(parts, given or {}, existing), keys
    found: list[Metadata] = []
    for part, said in zip(parts, each_given, strict=True):
        found.append(_of_one(part, said or {}, found, existing))
    return found, keys


def _of_one(
    part: DescribedPart, given: Mapping[str, Any], before: Sequence[Metadata], existing: Collection[str]
) -> Metadata:
    """
    Put headers under the metadata of one of several segmentations that each have metadata of their own.

    :param before: Metadata of those before it: theirs are the session and, where this one has none, the devices.
    """
    if not before:
        return _remarking([part], given, existing)
    devices = () if given.get("Devices") else ("DeviceModels", "Devices")
    shared = {name: before[0][name] for name in devices if name in before[0]}
    full = _remarking([part], merge_metadata(shared, given), existing)
    kept = {name: section for name, section in full.items() if name not in ("NWBFile", "Subject")}
    return kept | {name: given[name] for name in ("NWBFile", "Subject") if name in given}


def _is_list(value: object) -> bool:
    return isinstance(value, (list, tuple))


def _remarking(parts: Sequence[DescribedPart], given: Mapping[str, Any], existing: Collection[str]) -> Metadata:
    with naming_recordings([part.recording for part in parts]):
        metadata, remarks = with_headers(parts, given, existing=existing)
    for text in remarks:
        remark(text)
    return metadata
