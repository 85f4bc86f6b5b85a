"""
The list form of metadata, in which entries are addressed by their place in a list and refer to each other by name.

It is translated once, before anything else looks at the metadata, into the dict form of
:mod:`airflow_provider_ophys.models.metadata`. What it leaves out is filled with what NWB requires and says that it
is not known, which the dict form asks for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_provider_ophys.exceptions import MetadataError

SERIES_TYPES = {
    "TwoPhotonSeries": "Imaging data from two-photon excitation microscopy.",
    "OnePhotonSeries": "Imaging data from one-photon excitation microscopy.",
}
LIST_SECTIONS = frozenset(
    {"Device", "ImagingPlane", *SERIES_TYPES, "ImageSegmentation", "Fluorescence", "DfOverF"}
)

# Where things are in the translation -> what they are called in the list form.
WORDS = {
    r"Ophys\.MicroscopySeries\.(\w+)/(\d+)": r"Ophys.\1.\2",
    r"Ophys\.ImagingPlanes": "Ophys.ImagingPlane",
    r"Ophys\.PlaneSegmentations": "Ophys.ImageSegmentation.plane_segmentations",
    r"Ophys\.RoiResponses\.([^.]+)\.dff": r"Ophys.DfOverF.\1.dff",
    r"Ophys\.RoiResponses": "Ophys.Fluorescence",
    r"\bDevices\b": "Ophys.Device",
    r"device_metadata_key": "device",
    r"imaging_plane_metadata_key": "imaging_plane",
    r"metadata_key or plane_segmentation_name": "plane_segmentation_name",
}

# The fields by which entries of the list form are known, and refer to each other.
NAMES = ("name", "device", "imaging_plane")

DEVICE = {"name": "Microscope"}
CHANNEL = {
    "name": "OpticalChannel",
    "emission_lambda": "nan",
    "description": "An optical channel of the microscope.",
}
PLANE = {
    "name": "ImagingPlane",
    "description": "The plane or volume being imaged by the microscope.",
    "excitation_lambda": "nan",
    "indicator": "unknown",
    "location": "unknown",
    "optical_channel": [CHANNEL],
    "device": DEVICE["name"],
}
PLANE_SEGMENTATION = {
    "name": "PlaneSegmentation",
    "description": "Segmented ROIs",
    "imaging_plane": PLANE["name"],
}


def series_key(photon_series_type: str, photon_series_index: int) -> str:
    """Return the key that the translation gives to a series of the list form."""
    return f"{photon_series_type}/{photon_series_index}"


def is_list_form(metadata: Mapping[str, Any]) -> bool:
    """Tell whether metadata has a section that only the list form has."""
    ophys = metadata.get("Ophys")
    if not isinstance(ophys, Mapping):
        return False
    images = ophys.get("SegmentationImages")
    return bool(LIST_SECTIONS & set(ophys)) or (
        isinstance(images, Mapping) and any(not isinstance(value, Mapping) for value in images.values())
    )


def translate(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return metadata in its dict form; what is in it already stays as it is. The argument is never changed.

    :raises MetadataError: If the two forms are mixed, or a section of the list form is not what it should be.
    """
    if not is_list_form(metadata):
        return dict(metadata)
    ophys = dict(metadata["Ophys"])
    mixed = sorted(set(ophys) - LIST_SECTIONS - {"SegmentationImages"})
    if mixed or "Devices" in metadata:
        raise MetadataError(
            f"The metadata mixes its two forms: {', '.join(sorted(LIST_SECTIONS & set(ophys)))} are of the list "
            f"form, {', '.join(mixed or ['Devices'])} are not. Write all of it in the dict form."
        )
    devices = _devices(ophys)
    planes = _planes(ophys, devices)
    translated = {
        "ImagingPlanes": planes,
        "MicroscopySeries": _series(ophys, planes),
        "PlaneSegmentations": _plane_segmentations(ophys, planes),
        "RoiResponses": _responses(ophys),
        "SegmentationImages": _images(ophys),
    }
    others = {key: value for key, value in metadata.items() if key != "Ophys"}
    return {**others, "Devices": devices, "Ophys": translated}


def _devices(ophys: Mapping[str, Any]) -> dict[str, Any]:
    # A device without a name is left to the check of the dict form, which says what is missing.
    devices = _entries(ophys, "Device") or [DEVICE]
    return _by_name([(device.get("name", DEVICE["name"]), device) for device in devices])


def _by_name(entries: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """Turn a list into entries by name; of two that differ, the second gets another key, for the check to see."""
    named: dict[str, Any] = {}
    for name, entry in entries:
        key = name
        while key in named and named[key] != entry:
            key += " (again)"
        named[key] = entry
    return named


def _planes(ophys: Mapping[str, Any], devices: Mapping[str, Any]) -> dict[str, Any]:
    planes = []
    for given in _entries(ophys, "ImagingPlane") or [{}]:
        plane = {**PLANE, **given}
        device = plane.pop("device")
        # A plane that names no device belongs to the only one there is.
        if "device" not in given and device not in devices and len(devices) == 1:
            device = next(iter(devices))
        planes.append((plane["name"], {**plane, "device_metadata_key": device}))
    return _by_name(planes)


def _series(ophys: Mapping[str, Any], planes: Mapping[str, Any]) -> dict[str, Any]:
    series = {}
    for kind, description in SERIES_TYPES.items():
        default = {"name": kind, "description": description, "unit": "n.a."}
        for index, given in enumerate(_entries(ophys, kind) or _undescribed(planes)):
            entry = {**default, **given}
            device = entry.pop("device", None)
            of_device = {} if device is None else {"device_metadata_key": device}
            series[series_key(kind, index)] = _on_plane({**entry, **of_device}, planes)
    return series


def _plane_segmentations(ophys: Mapping[str, Any], planes: Mapping[str, Any]) -> dict[str, Any]:
    container = _container(ophys, "ImageSegmentation")
    tables = _entries(container, "plane_segmentations", where="Ophys.ImageSegmentation")
    named = [{**PLANE_SEGMENTATION, **table} for table in tables or _undescribed(planes)]
    return _by_name([(table["name"], _on_plane(table, planes)) for table in named])


def _undescribed(planes: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the entry, all placeholders, of a section that is left out; none if its plane is anyone's guess."""
    return [{}] if len(planes) == 1 or PLANE["name"] in planes else []


def _on_plane(entry: dict[str, Any], planes: Mapping[str, Any]) -> dict[str, Any]:
    """Turn the name of an imaging plane into a reference; without one, the only plane there is."""
    plane = entry.pop("imaging_plane", PLANE["name"])
    if plane not in planes and plane == PLANE["name"] and len(planes) == 1:
        plane = next(iter(planes))
    return {**entry, "imaging_plane_metadata_key": plane}


def _responses(ophys: Mapping[str, Any]) -> dict[str, Any]:
    responses: dict[str, dict[str, Any]] = {}
    for section in ("Fluorescence", "DfOverF"):
        for table, roles in _container(ophys, section).items():
            for role, entry in _mapping(roles, f"Ophys.{section}.{table}").items():
                given = None if entry is None else _mapping(entry, f"Ophys.{section}.{table}.{role}")
                responses.setdefault(table, {})[role] = None if given is None else {"unit": "n.a.", **given}
    return responses


def _images(ophys: Mapping[str, Any]) -> dict[str, Any]:
    images = _container(ophys, "SegmentationImages")
    return {table: _mapping(roles, f"Ophys.SegmentationImages.{table}") for table, roles in images.items()}


def _container(ophys: Mapping[str, Any], section: str) -> dict[str, Any]:
    """Return what a container holds; its name is fixed, because readers look for it."""
    container = dict(_mapping(ophys.get(section) or {}, f"Ophys.{section}"))
    name = container.pop("name", section)
    if name != section:
        raise MetadataError(
            f"Ophys.{section}.name is {name!r}, but containers have the names that NWB gives them. "
            f"Leave it out, or write {section!r}."
        )
    container.pop("description", None)
    return container


def _entries(section: Mapping[str, Any], name: str, where: str = "Ophys") -> list[Mapping[str, Any]]:
    entries = section.get(name) or []
    if not isinstance(entries, (list, tuple)) or not all(isinstance(entry, Mapping) for entry in entries):
        raise MetadataError(f"{where}.{name} must be a list of mappings, as the list form has it.")
    for index, entry in enumerate(entries):
        for field in NAMES:
            if field in entry and not isinstance(entry[field], str):
                raise MetadataError(f"{where}.{name}.{index}.{field} must be a text (given: {entry[field]!r}).")
    return list(entries)


def _mapping(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise MetadataError(f"{where} must be a mapping, as the list form has it.")
    return value


def in_words_of_list_form(message: str) -> str:
    """Return a message about translated metadata in the words of the list form, which its user wrote."""
    for pattern, written in WORDS.items():
        message = re.sub(pattern, written, message)
    return message
