"""What the headers say of devices, planes and series, under what was given, each with a key of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from airflow_provider_ophys.exceptions import MetadataError
from airflow_provider_ophys.models.conversion import MovieOptions
from airflow_provider_ophys.models.metadata import DEFAULT_METADATA_KEY, PLACEHOLDERS, merge_metadata
from airflow_provider_ophys.models.recording import HeaderMetadata
from airflow_provider_ophys.sessions.layers import Layers, leaves
from airflow_provider_ophys.sessions.parts import Part
from airflow_provider_ophys.sessions.source_metadata import SECTIONS, DescribedPart, placed, section_of, title

PLANES, PLANE_KEY = "ImagingPlanes", "imaging_plane_metadata_key"
REQUIRED = ("excitation_lambda", "indicator", "location", "optical_channel")


def lay_headers(
    layers: Layers,
    parts: Sequence[Part],
    tied: Mapping[int, Part | None],
    read: Callable[[Part], HeaderMetadata],
    remarks: list[str],
) -> list[tuple[str, str, str]]:
    """
    Lay what the headers say of devices, planes and series under what was given.

    :param layers: Metadata that were given.
    :param parts: Movies, then segmentations.
    :param tied: The movie of each segmentation, by its place among the parts.
    :param read: Returns the headers of a part.
    :param remarks: To which what is assumed is added.
    :returns: Of each part the key of its entry and of its plane, and its name in the file.
    :raises MetadataError: If what was given refers to a plane or a device that there is not.
    """
    _spread(layers, parts, remarks)
    _check_ties(layers, parts)
    keys: list[tuple[str, str, str]] = []
    are_devices_given = bool(layers.metadata.get("Devices"))
    devices: list[Mapping[str, Any]] = []
    for number, part in enumerate(parts):
        movie = tied.get(number)
        header = read(part)
        own: dict[str, Any] = {}
        if movie is not None:
            plane_key = keys[parts.index(movie)][1]
            own = _entry_on(part, plane_key, layers.metadata)
        elif not are_devices_given:
            own = _own_device(part, header, devices)
        found = placed(_described(part), header, merge_metadata(own, layers.metadata))
        found = merge_metadata(found, {"Devices": own.get("Devices", {})})
        key, entry = next(iter(found["Ophys"][SECTIONS[part.kind]].items()))
        if movie is not None:
            # The plane, and what took it, are those of the movie.
            found = {"Ophys": {SECTIONS[part.kind]: {key: entry}}}
        else:
            plane_key, plane = next(iter(found["Ophys"]["ImagingPlanes"].items()))
            found["Ophys"]["ImagingPlanes"][plane_key] = {name: PLACEHOLDERS[name] for name in REQUIRED} | plane
        layers.lay_under(found, _sources(found, header))
        entry = section_of(section_of(layers.metadata, "Ophys"), SECTIONS[part.kind])[key]
        keys.append((key, entry.get("imaging_plane_metadata_key", plane_key), str(entry.get("name"))))
    _remark_assumed(layers, keys, remarks)
    return keys


def _described(part: Part) -> DescribedPart:
    options = part.options
    series_type = options.photon_series_type if isinstance(options, MovieOptions) else "auto"
    key = options.metadata_key or part.label or None
    return DescribedPart(part.recording, part.kind, key, part.label, True, series_type)


def _entry_on(part: Part, plane_key: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata that tie a segmentation to a plane."""
    section = SECTIONS[part.kind]
    entries = section_of(section_of(given, "Ophys"), section)
    only = next(iter(entries)) if len(entries) == 1 else DEFAULT_METADATA_KEY
    key = part.options.metadata_key or part.label or only
    return {"Ophys": {section: {key: {"imaging_plane_metadata_key": plane_key}}}}


def _own_device(part: Part, header: HeaderMetadata, devices: list[Mapping[str, Any]]) -> dict[str, Any]:
    """
    Give a plane that was recorded with another device a device of its own.

    :param devices: Of the parts before this one, each once; this one's is added.
    """
    device = {"name": "Microscope", **header.metadata.get("Devices", {}).get(DEFAULT_METADATA_KEY, {})}
    if device not in devices:
        devices.append(device)
    number = devices.index(device)
    if number == 0:
        return {}
    key = f"device{number}"
    is_taken = any(other["name"] == device["name"] for other in devices[:number])
    name = f"{device['name']}{number}" if is_taken else device["name"]
    plane_key = part.options.metadata_key or part.label or DEFAULT_METADATA_KEY
    planes = {plane_key: {"device_metadata_key": key}}
    return {"Ophys": {"ImagingPlanes": planes}, "Devices": {key: {"name": name}}}


def _sources(found: Mapping[str, Any], header: HeaderMetadata) -> dict[str, str]:
    """Return where each field stands, by the path that it has now."""
    sources = {}
    for path, _ in leaves(found):
        section, _, rest = path.removeprefix("Ophys.").partition(".")
        field = rest.rpartition(".")[2]
        before = f"{'Ophys.' if path.startswith('Ophys.') else ''}{section}.{DEFAULT_METADATA_KEY}.{field}"
        if before in header.sources:
            sources[path] = header.sources[before]
    return sources


def _spread(layers: Layers, parts: Sequence[Part], remarks: list[str]) -> None:
    """Give to each of several what was given for all, or for all of its channel; the nearer wins."""
    for section, kinds in {
        "MicroscopySeries": {"imaging"},
        "PlaneSegmentations": {"segmentation"},
        PLANES: {"imaging"} if any(part.kind == "imaging" for part in parts) else {"segmentation"},
    }.items():
        own = [part for part in parts if part.kind in kinds]
        entries = section_of(section_of(layers.metadata, "Ophys"), section)
        if not own or not entries:
            continue
        keys = _keys(own, entries)
        for key, channel in keys.items():
            for general in (channel, DEFAULT_METADATA_KEY):
                said = section_of(entries, general)
                if general == key or not said:
                    continue
                fields = {name: value for name, value in said.items() if name != "name"}
                sources = {
                    f"Ophys.{section}.{key}.{name}": layers.sources.get(f"Ophys.{section}.{general}.{name}", "")
                    for name in fields
                }
                layers.lay_under({"Ophys": {section: {key: fields}}}, sources)
        shared = {DEFAULT_METADATA_KEY, *keys.values()} - keys.keys()
        _drop(layers, section, shared)
        idle = _idle(layers, section, keys)
        _drop(layers, section, idle)
        if idle:
            remarks.append(
                f"Ophys.{section} tells of {', '.join(sorted(idle))}, which this session does not have; that is "
                f"left out (known here: {', '.join(keys)})."
            )
        if section == PLANES:
            _untie(layers, shared)


def _keys(parts: Sequence[Part], entries: Mapping[str, Any]) -> dict[str, str]:
    """Return the key of each of several parts, with its channel; of the only one, that of its entry."""
    if len(parts) > 1 or parts[0].options.metadata_key:
        return {part.options.metadata_key or part.label: title(part.channel or "") for part in parts}
    channel = title(parts[0].channel or "")
    key = next(iter(entries)) if len(entries) == 1 else DEFAULT_METADATA_KEY
    return {channel if channel in entries else key: channel}


def _idle(layers: Layers, section: str, keys: Mapping[str, str]) -> set[str]:
    """Return entries of no part that cannot stand alone: of a channel that is not here, or misspelt."""
    ophys = section_of(layers.metadata, "Ophys")
    tied = [entry.get(PLANE_KEY) for name in SECTIONS.values() for entry in _entries(ophys, name).values()]
    return {
        key
        for key, entry in _entries(ophys, section).items()
        if key not in keys and "name" not in entry and not (section == PLANES and key in tied)
    }


def _entries(metadata: Mapping[str, Any], section: str) -> dict[str, Mapping[str, Any]]:
    return {key: entry for key, entry in section_of(metadata, section).items() if isinstance(entry, Mapping)}


def _drop(layers: Layers, section: str, keys: set[str]) -> None:
    """Take out entries that were for several, and are for none now."""
    ophys = dict(layers.metadata["Ophys"])
    ophys[section] = {key: entry for key, entry in ophys[section].items() if key not in keys}
    layers.metadata = layers.metadata | {"Ophys": ophys}
    gone = tuple(f"Ophys.{section}.{key}." for key in keys)
    layers.sources = {path: said for path, said in layers.sources.items() if not path.startswith(gone)}


def _untie(layers: Layers, planes: set[str]) -> None:
    """Let what was tied to the plane of all, or of a channel, find its own."""
    ophys = dict(layers.metadata["Ophys"])
    for section in SECTIONS.values():
        for key, entry in _entries(ophys, section).items():
            if entry.get(PLANE_KEY) in list(planes):  # what is no text, the check will tell
                own = {name: value for name, value in entry.items() if name != PLANE_KEY}
                ophys[section] = {**ophys[section], key: own}
                layers.sources.pop(f"Ophys.{section}.{key}.{PLANE_KEY}", None)
    layers.metadata = layers.metadata | {"Ophys": ophys}


def _check_ties(layers: Layers, parts: Sequence[Part]) -> None:
    """
    Check that what was given refers to what was given, or to what the headers will describe.

    :raises MetadataError: If it does not.
    """
    ophys = section_of(layers.metadata, "Ophys")
    planes, devices = _entries(ophys, PLANES), _entries(layers.metadata, "Devices")
    of_headers = {part.options.metadata_key or part.label for part in parts} - {""}
    for section, field, known in (
        *((section, PLANE_KEY, {*planes, *of_headers} if planes else set()) for section in SECTIONS.values()),
        (PLANES, "device_metadata_key", set(devices)),
    ):
        for key, entry in _entries(ophys, section).items():
            told = entry.get(field)
            if told is None or (isinstance(told, str) and (not known or told in known)):
                continue
            path = f"Ophys.{section}.{key}.{field}"
            listed = f" (known: {', '.join(sorted(known))})" if known else ""
            raise MetadataError(
                f"{path} in {layers.sources.get(path, 'the metadata')} is {told!r}, which is no key of "
                f"{'Devices' if section == PLANES else f'Ophys.{PLANES}'}{listed}. Correct it."
            )


def _remark_assumed(layers: Layers, keys: Sequence[tuple[str, str, str]], remarks: list[str]) -> None:
    """Say which fields of planes nobody told."""
    planes = layers.metadata["Ophys"]["ImagingPlanes"]
    unknown: dict[tuple[str, ...], list[str]] = {}
    plane_keys = tuple(dict.fromkeys(plane for _, plane, _ in keys))
    for name in REQUIRED:
        of = tuple(key for key in plane_keys if section_of(planes, key).get(name) == PLACEHOLDERS[name])
        unknown.setdefault(of, []).append(name)
    for of, names in unknown.items():
        if of:
            remarks.append(
                f"Nothing says {', '.join(names)} of Ophys.ImagingPlanes: {', '.join(of)}. Write it into lab.yaml "
                f"or metadata.yaml, under this key, or for all planes under {DEFAULT_METADATA_KEY}."
            )
