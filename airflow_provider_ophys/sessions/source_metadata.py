"""What the headers of recordings say, under the metadata that the user gives."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from airflow_provider_ophys.exceptions import SourceDataError, SourceNotFoundError
from airflow_provider_ophys.models.conversion import Conversion, MovieOptions, SegmentationConversion, SeriesType
from airflow_provider_ophys.models.legacy_metadata import is_list_form
from airflow_provider_ophys.models.metadata import DEFAULT_METADATA_KEY, PLACEHOLDERS, merge_metadata
from airflow_provider_ophys.models.recording import (
    Contents,
    HeaderMetadata,
    Kind,
    Movie,
    PhotonSeriesType,
    SegmentedPlane,
)
from airflow_provider_ophys.models.segmentation_names import BACKGROUND_TABLE_NAME, TABLE_NAME, name_suffix
from airflow_provider_ophys.recordings import Recording

log = logging.getLogger(__name__)

SECTIONS: dict[Kind, str] = {"imaging": "MicroscopySeries", "segmentation": "PlaneSegmentations"}

# Fields of a series that only the other type has in NWB.
FOREIGN_FIELDS: dict[PhotonSeriesType, frozenset[str]] = {
    "TwoPhotonSeries": frozenset({"exposure_time", "binning", "power", "intensity"}),
    "OnePhotonSeries": frozenset({"field_of_view"}),
}


@dataclass(frozen=True)
class DescribedPart:
    """
    A movie or segmentation whose headers describe it.

    :param recording: What it is read from.
    :param kind: What it is.
    :param metadata_key: Of the entry that describes it; ``None`` for the only one there is, or for none.
    :param suffix: What its names end with where the metadata does not name it: nothing, or what tells it from the
        others of the conversion.
    :param is_undescribed: Whether an entry of its own is made for it, whatever the headers say.
    :param photon_series_type: Of a movie; ``"auto"`` where neither the user nor the format says.
    :param entry_key: Of the entry that describes it, where that need not be said: no name ends with it.
    :param name: Of its entry where the metadata does not name it. Default: its type and the suffix.
    """

    recording: Recording
    kind: Kind
    metadata_key: str | None = None
    suffix: str = ""
    is_undescribed: bool = False
    photon_series_type: SeriesType = "auto"
    entry_key: str | None = None
    name: str | None = None


def described_parts(
    conversion: Conversion, recordings: Sequence[Recording], given: Mapping[str, Any]
) -> list[DescribedPart]:
    """
    Tell which entry of the metadata describes each movie and segmentation of a conversion.

    Of several that neither name an entry nor find one, each gets an entry of its own, named after its channel and
    plane, or after its place where the format does not know them.

    :param recordings: One for each part of the conversion.
    :param given: The metadata.
    """
    ophys = section_of(given, "Ophys")
    kinds = [part.kind for part in conversion.parts]
    described: list[DescribedPart] = []
    for part, recording in zip(conversion.parts, recordings, strict=True):
        key, is_undescribed = part.metadata_key, False
        if isinstance(conversion, SegmentationConversion):
            place, name = len(described) if conversion.is_of_several else None, conversion.plane_segmentation_name
            described.append(described_segmentation(recording, given, key, name=name, place=place))
            continue
        is_described = is_list_form(given) or bool(ophys.get(SECTIONS[part.kind]))
        if key is None and kinds.count(part.kind) > 1 and not is_described:
            place = sum(each.kind == part.kind for each in described)
            key, is_undescribed = _label(recording) or str(place), True
        suffix = title(key) if key is not None and len(kinds) > 1 else ""
        found = DescribedPart(recording, part.kind, key, suffix, is_undescribed)
        if isinstance(part, MovieOptions):
            found = of_series_type(found, part.photon_series_type, given)
        elif is_undescribed:
            found = replace(found, name=part.plane_segmentation_name)
        else:
            found = described_segmentation(recording, given, key, name=part.plane_segmentation_name)
            found = replace(found, suffix=suffix)
        described.append(found)
    return described


def described_segmentation(
    recording: Recording,
    given: Mapping[str, Any],
    key: str | None,
    *,
    name: str | None = None,
    place: int | None = None,
) -> DescribedPart:
    """
    Tell which entry of the metadata describes a segmentation.

    :param recording: What it is read from.
    :param given: The metadata.
    :param key: Of its entry, if that was said.
    :param name: Of its table, if that was said: it chooses an entry, or names what is not described.
    :param place: In a list of several, from 0; those that are not described are numbered.
    """
    ophys = section_of(given, "Ophys")
    entries = section_of(ophys, SECTIONS["segmentation"])
    names = {each: section_of(entries, each).get("name", each) for each in entries}
    sections = (SECTIONS["segmentation"], "RoiResponses", "SegmentationImages")
    found = dict.fromkeys(each for section in sections for each in section_of(ophys, section))
    described = [each for each in found if BACKGROUND_TABLE_NAME not in (each, names.get(each))]
    if is_list_form(given):
        return DescribedPart(recording, "segmentation", key)
    if key is None and place is not None and not described:
        key = str(place)
    chosen = [each for each in described if name is not None and names.get(each) == name]
    only = described if len(described) == 1 else []
    entry = key or next(iter(chosen or only), None)
    return DescribedPart(
        recording,
        "segmentation",
        key,
        title(key) if key is not None and place is not None else "",
        is_undescribed=key is not None and key not in entries and (not described or key in described),
        entry_key=entry,
        name=name or (None if key is None else TABLE_NAME + name_suffix(key)),
    )


def of_series_type(part: DescribedPart, wanted: SeriesType, given: Mapping[str, Any]) -> DescribedPart:
    """
    Return a movie with the type of its series: what was asked for, else what the metadata tells, else its format.

    :param wanted: What was asked for.
    :param given: The metadata.
    """
    if wanted == "auto" and not is_list_form(given):
        entries = section_of(section_of(given, "Ophys"), SECTIONS["imaging"])
        entry = section_of(entries, part.metadata_key or _only(entries) or "")
        possible = [kind for kind, foreign in FOREIGN_FIELDS.items() if not foreign & entry.keys()]
        is_told = len(possible) == 1
        wanted = possible[0] if is_told else _contents(part.recording).photon_series_type or "auto"
    return replace(part, photon_series_type=wanted)


def with_headers(
    parts: Sequence[DescribedPart],
    given: Mapping[str, Any],
    *,
    read_headers: bool = True,
    existing: Collection[str] = (),
) -> tuple[dict[str, Any], list[str]]:
    """
    Put what the headers of several recordings say under the metadata of all of them, as :func:`under_given` does.

    :param parts: Which movies and segmentations; the first of two that say the same counts.
    :param given: As for :func:`under_given`, like the rest.
    :returns: The metadata, and remarks, each once.
    """
    metadata, remarks = merge_metadata({}, given), dict[str, None]()
    for part in parts:
        metadata, more = under_given(part, metadata, read_headers=read_headers, existing=existing)
        remarks |= dict.fromkeys(more)
    return metadata, list(remarks)


def _contents(recording: Recording) -> Contents:
    try:
        return recording.contents() or Contents()
    except (SourceDataError, SourceNotFoundError, TypeError):
        return Contents()  # what is wrong with it, or with its arguments, opening it tells


def _label(recording: Recording) -> str:
    """Name a movie or segmentation by its channel and plane, as in ``"GreenPlane0"``."""
    contents = _contents(recording)
    known: list[Movie | SegmentedPlane] = [*contents.movies, *contents.segmentations]
    for each in known:
        if each.extractor_kwargs == recording.arguments:
            return title(each.channel or "") + ("" if each.plane is None else f"Plane{each.plane}")
    return ""


def title(text: str) -> str:
    """Return a text as a part of a name, such as ``"GreenLeft"`` for ``"green_left"``."""
    return "".join(word[:1].upper() + word[1:] for word in re.findall(r"[A-Za-z0-9]+", text))


def under_given(
    part: DescribedPart, given: Mapping[str, Any], *, read_headers: bool = True, existing: Collection[str] = ()
) -> tuple[dict[str, Any], list[str]]:
    """
    Put what a recording's headers say under metadata.

    The headers' device, plane and series take the keys of those that the metadata has for this part, so that given
    fields win one by one; what the metadata does not describe gets entries of its own. In the list form of
    metadata the places of devices, planes and series are all taken, so there only the session and the subject are
    filled.

    :param part: Which movie or segmentation.
    :param given: Dict form or list form; never changed.
    :param read_headers: Whether the headers are asked at all.
    :param existing: Names of the planes and devices of the file that is added to: what is there is used as it is,
        and the headers do not describe it.
    :returns: The metadata, and remarks of what the headers leave open.
    """
    try:
        header = headers_of(part.recording) if read_headers else HeaderMetadata()
    except (SourceDataError, SourceNotFoundError, TypeError) as error:
        # The pixels may be fine all the same; whether they are is not for the headers' reader to say.
        log.warning("The headers of the recording cannot be read: %s", error)
        return merge_metadata({}, given), [f"The headers of the recording cannot be read: {error}"]
    remarks = list(header.remarks)
    if "session_start_time" in section_of(given, "NWBFile"):
        remarks = [text for text in remarks if not text.startswith("session_start_time")]
    session: dict[str, Any] = {
        name: header.metadata[name] for name in ("NWBFile", "Subject") if name in header.metadata
    }
    if is_list_form(given):
        return merge_metadata(session, given), remarks
    return merge_metadata(session | placed(part, header, given, existing), given), remarks


def headers_of(recording: Recording) -> HeaderMetadata:
    """
    Return what the headers of a recording say, at the second try if need be: a share may fail for a moment.

    :raises OphysError: As :meth:`Recording.metadata` does.
    """
    try:
        return recording.metadata()
    except SourceDataError:
        return recording.metadata()


def placed(
    part: DescribedPart, header: HeaderMetadata, given: Mapping[str, Any], existing: Collection[str] = ()
) -> dict[str, Any]:
    """
    Return the headers' devices, plane and series, under the keys that the metadata has for them.

    :param part: Which movie or segmentation.
    :param header: What its headers say.
    :param given: In the dict form.
    :param existing: As for :func:`under_given`.
    """
    ophys = header.metadata.get("Ophys", {})
    section = SECTIONS[part.kind]
    device = header.metadata.get("Devices", {}).get(DEFAULT_METADATA_KEY)
    plane = ophys.get("ImagingPlanes", {}).get(DEFAULT_METADATA_KEY)
    entry = ophys.get(section, {}).get(DEFAULT_METADATA_KEY)
    if device is None and plane is None and entry is None and not part.is_undescribed:
        return {}
    given_ophys = section_of(given, "Ophys")
    entries, planes = section_of(given_ophys, section), section_of(given_ophys, "ImagingPlanes")
    devices = section_of(given, "Devices")
    if part.metadata_key is not None and part.metadata_key not in entries and not part.is_undescribed:
        return {}  # a key that is not there: an error, and no reason for an entry
    key = part.entry_key or part.metadata_key or _only(entries) or DEFAULT_METADATA_KEY
    if key not in entries and len(entries) > 1 and not part.is_undescribed:
        return {}  # it is not said which one of several it is
    only_plane = _only(planes) if part.metadata_key is None else None
    plane_key = section_of(entries, key).get("imaging_plane_metadata_key") or only_plane or key
    device_key = section_of(planes, plane_key).get("device_metadata_key") or _only(devices) or DEFAULT_METADATA_KEY
    if section_of(planes, plane_key).get("name", f"ImagingPlane{part.suffix}") in existing:
        plane = None
    if section_of(devices, device_key).get("name", (device or {}).get("name", "Microscope")) in existing:
        device = None
    placed_device, models = _device(device or {}, section_of(devices, device_key), header, device_key)
    return {
        "DeviceModels": models,
        "Devices": {device_key: placed_device},
        "Ophys": {
            "ImagingPlanes": {plane_key: _plane(part, plane or {}, planes.get(plane_key), device_key)},
            section: {key: _entry(part, entry or {}, plane_key)},
        },
    }


def section_of(metadata: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return a part of metadata that nobody has checked yet; what is no mapping, the check will tell."""
    section = metadata.get(key)
    return section if isinstance(section, Mapping) else {}


def _only(entries: Mapping[str, Any]) -> str | None:
    return next(iter(entries)) if len(entries) == 1 else None


def _device(
    device: Mapping[str, Any], given: Mapping[str, Any], header: HeaderMetadata, key: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the device and its model; a given maker or model replaces the headers'."""
    placed = {"name": "Microscope", **device}
    model_key = placed.pop("device_model_metadata_key", None)
    if "manufacturer" in given or "device_model_metadata_key" in given:
        placed.pop("manufacturer", None)
        return placed, {}
    if model_key is None:
        return placed, {}
    return placed | {"device_model_metadata_key": key}, {key: header.metadata["DeviceModels"][model_key]}


def _plane(
    part: DescribedPart, plane: Mapping[str, Any], given: Mapping[str, Any] | None, device_key: str
) -> dict[str, Any]:
    placed = {**plane, "name": f"ImagingPlane{part.suffix}", "device_metadata_key": device_key}
    if given is None:
        # Nobody describes the plane: what NWB requires and no header says is marked as not known.
        required = ("excitation_lambda", "indicator", "location", "optical_channel")
        placed = {name: PLACEHOLDERS[name] for name in required} | placed
    return placed


def _entry(part: DescribedPart, entry: Mapping[str, Any], plane_key: str) -> dict[str, Any]:
    if part.kind == "segmentation":
        named = {"name": part.name or f"{TABLE_NAME}{part.suffix}", "description": "Segmented ROIs"}
        return {**named, **entry, "imaging_plane_metadata_key": plane_key}
    series_type = part.photon_series_type
    foreign = frozenset() if series_type == "auto" else FOREIGN_FIELDS[series_type]
    kept = {name: value for name, value in entry.items() if name not in foreign}
    type_name = "TwoPhotonSeries" if series_type == "auto" else series_type
    named = {"name": f"{type_name}{part.suffix}", "unit": "n.a."}
    return {**named, **kept, "imaging_plane_metadata_key": plane_key}
