"""Devices and imaging planes: what a movie or a segmentation was recorded with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from pynwb import NWBFile
from pynwb.device import Device, DeviceModel
from pynwb.ophys import ImagingPlane, OpticalChannel

from airflow_provider_ophys.exceptions import MetadataError
from airflow_provider_ophys.models.legacy_metadata import CHANNEL, PLANE
from airflow_provider_ophys.models.metadata_sections import (
    NAN,
    UNKNOWN,
    DeviceMetadata,
    DeviceModelMetadata,
    ImagingPlaneMetadata,
    Metadata,
    OpticalChannelMetadata,
)
from airflow_provider_ophys.models.remarks import remark
from airflow_provider_ophys.nwb.extension_types import make_of_type

# Written where the user says nothing at all: marked as not known, and nothing made up.
PLACEHOLDER_DEVICE = DeviceMetadata(name="Microscope")
PLACEHOLDER_PLANE = ImagingPlaneMetadata(
    name="ImagingPlane",
    excitation_lambda=NAN,
    indicator=UNKNOWN,
    location=UNKNOWN,
    optical_channel=[
        OpticalChannelMetadata(
            name="OpticalChannel",
            emission_lambda=NAN,
            description="An optical channel of the microscope.",
        )
    ],
)

# What the list form, and files that were written from it, say where nobody knew anything.
PLACEHOLDER_DESCRIPTIONS = (PLANE["description"], CHANNEL["description"])


def add_imaging_plane(nwbfile: NWBFile, metadata: Metadata, metadata_key: str | None) -> ImagingPlane:
    """
    Return the imaging plane that an entry of the metadata refers to; add it, and its device, if it is new.

    A plane or device of that name that the file already has is used as it is.

    :param metadata_key: Key in ``Ophys.ImagingPlanes``; ``None`` for a placeholder.
    :raises MetadataError: If the file has another one of that name.
    """
    plane = PLACEHOLDER_PLANE if metadata_key is None else metadata.Ophys.ImagingPlanes[metadata_key]
    fields: dict[str, Any] = plane.model_dump(
        exclude_none=True, exclude={"device_metadata_key", "optical_channel"}
    )
    if plane.name in nwbfile.imaging_planes:
        check_imaging_plane(nwbfile, metadata, metadata_key)
        return nwbfile.imaging_planes[plane.name]
    if not plane.manifold and (plane.unit or plane.conversion):
        remark(f"The unit and conversion of the plane {plane.name!r} were left out: NWB has them of a manifold.")
    return nwbfile.create_imaging_plane(
        **fields,
        device=add_device(nwbfile, metadata, plane.device_metadata_key),
        optical_channel=[OpticalChannel(**channel.model_dump()) for channel in plane.optical_channel],
    )


def check_imaging_plane(nwbfile: NWBFile, metadata: Metadata, metadata_key: str | None) -> None:
    """
    Check that a plane that the file has, if it has one of that name, is the one of the metadata.

    :param metadata_key: As for :func:`add_imaging_plane`.
    :raises MetadataError: If it is another.
    """
    plane = PLACEHOLDER_PLANE if metadata_key is None else metadata.Ophys.ImagingPlanes[metadata_key]
    existing = nwbfile.imaging_planes.get(plane.name)
    if existing is None:
        return
    _check_same(existing, plane.model_dump(exclude_none=True, exclude={"device_metadata_key", "optical_channel"}))
    _check_channels(existing, plane)
    if plane.device_metadata_key is not None:
        device = metadata.Devices[plane.device_metadata_key]
        _check_device_of(existing, device)
        if device.name == existing.device.name:
            _check_device(existing.device, metadata, device)


def _check_channels(existing: ImagingPlane, plane: ImagingPlaneMetadata) -> None:
    known = {channel.name: channel for channel in existing.optical_channel}
    for channel in plane.optical_channel:
        if channel.name in known:
            _check_same(known[channel.name], channel.model_dump())
        elif not math.isnan(channel.emission_lambda):
            raise MetadataError(
                f"The file has a plane {plane.name!r} with the optical channels {', '.join(map(repr, known))}, "
                f"but the metadata describes {channel.name!r} in it. Give the plane another name."
            )


def _check_device_of(existing: ImagingPlane, device: DeviceMetadata) -> None:
    if device != PLACEHOLDER_DEVICE and device.name != existing.device.name:
        raise MetadataError(
            f"The file has a plane {existing.name!r} of the device {existing.device.name!r}, but in the "
            f"metadata it is of {device.name!r}. Give the plane another name."
        )


def _check_same(existing: Any, described: Mapping[str, Any]) -> None:
    """
    Check that what a file has is what the metadata describes by its name.

    What the metadata does not know, or does not say, may be anything.

    :param existing: The pynwb object.
    :param described: Its fields; without those that are not given.
    :raises MetadataError: If it is another.
    """
    for name, value in described.items():
        found = getattr(existing, name)
        if not _is_placeholder(value) and not _are_same(found, value):
            raise MetadataError(
                f"The file has a {type(existing).__name__} {existing.name!r} with the {name} {found!r}, but in "
                f"the metadata it is {value!r}. Give one of the two another name, or the same {name}."
            )


def _is_placeholder(value: Any) -> bool:
    return value in (UNKNOWN, *PLACEHOLDER_DESCRIPTIONS) or (isinstance(value, float) and math.isnan(value))


def _are_same(found: Any, value: Any) -> bool:
    if isinstance(value, (int, float, list)) and found is not None:
        # What NWB keeps with fewer digits.
        ours, theirs = np.asarray(value, dtype=float), np.asarray(found, dtype=float)
        return ours.shape == theirs.shape and np.allclose(theirs, ours, rtol=1e-6, equal_nan=True)
    return bool(found == value)


def add_device(nwbfile: NWBFile, metadata: Metadata, metadata_key: str | None) -> Device:
    """
    Return the device that an entry of the metadata refers to; add it, and its model, if it is new.

    :param metadata_key: Key in ``Devices``; ``None`` for a placeholder.
    :raises MetadataError: If the file has another one of that name.
    """
    device = PLACEHOLDER_DEVICE if metadata_key is None else metadata.Devices[metadata_key]
    if device.name in nwbfile.devices:
        _check_device(nwbfile.devices[device.name], metadata, device)
        return nwbfile.devices[device.name]
    model = _model_of(metadata, device)
    made = make_of_type(
        Device,
        device.extension_type,
        {**device.fields_of_type, **_own_fields_of(device)},
        model=None if model is None else _add_device_model(nwbfile, model),
    )
    nwbfile.add_device(made)
    return made


def _check_device(existing: Device, metadata: Metadata, device: DeviceMetadata) -> None:
    """
    Check that a device that the file has is the one of the metadata that has its name.

    :raises MetadataError: If it is another.
    """
    _check_same(existing, _own_fields_of(device))
    _check_type(existing, device.extension_type)
    model = _model_of(metadata, device)
    if model is not None and existing.model is not None:
        _check_same(existing.model, _fields_of(model))


def _own_fields_of(device: DeviceMetadata) -> dict[str, Any]:
    return device.model_dump(exclude_none=True, include={"name", "description", "serial_number"})


def _model_of(metadata: Metadata, device: DeviceMetadata) -> DeviceModelMetadata | None:
    """Return a device's model; ``None`` if nothing is said of it."""
    if device.device_model_metadata_key is not None:
        return metadata.DeviceModels[device.device_model_metadata_key]
    given = device.model_fields_given
    return DeviceModelMetadata(**{"name": device.name, "manufacturer": UNKNOWN} | given) if given else None


def _fields_of(model: DeviceModelMetadata) -> dict[str, Any]:
    return model.model_dump(exclude_none=True, exclude={"type", "fields_of_type"})


def _add_device_model(nwbfile: NWBFile, model: DeviceModelMetadata) -> DeviceModel:
    if model.name in nwbfile.device_models:
        existing = nwbfile.device_models[model.name]
        _check_same(existing, _fields_of(model))
        _check_type(existing, model.extension_type)
        return existing
    made = make_of_type(DeviceModel, model.extension_type, {**model.fields_of_type, **_fields_of(model)})
    nwbfile.add_device_model(made)
    return made


def _check_type(existing: Any, extension_type: str | None) -> None:
    if extension_type not in (None, existing.neurodata_type):
        raise MetadataError(
            f"The file has a {existing.neurodata_type} {existing.name!r}, but in the metadata it is a "
            f"{extension_type}. Give one of the two another name."
        )


def find_entry[Entry](section: str, entries: dict[str, Entry], metadata_key: str | None) -> Entry | None:
    """
    Find the entry that a conversion is about.

    :param section: For the message, for example ``Ophys.MicroscopySeries``.
    :param metadata_key: The user's choice; ``None`` takes the only entry there is.
    :returns: ``None`` if there are no entries and the user chose none: placeholders are then written.
    :raises MetadataError: If the key is not there, or none is given and there are several.
    """
    known = ", ".join(map(repr, entries)) or "none"
    if metadata_key is not None:
        if not isinstance(metadata_key, str) or metadata_key not in entries:
            raise MetadataError(f"metadata_key {metadata_key!r} is not in {section} (known: {known}).")
        return entries[metadata_key]
    if len(entries) > 1:
        raise MetadataError(f"{section} has several entries ({known}). Say which one with metadata_key.")
    return next(iter(entries.values()), None)
