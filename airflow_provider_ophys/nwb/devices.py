"""Devices and imaging planes: what a movie or a segmentation was recorded with."""

from __future__ import annotations

from typing import Any

from pynwb import NWBFile
from pynwb.device import Device, DeviceModel
from pynwb.ophys import ImagingPlane, OpticalChannel

from airflow_provider_ophys.exceptions import MetadataError
from airflow_provider_ophys.models.metadata import (
    NAN,
    UNKNOWN,
    DeviceMetadata,
    DeviceModelMetadata,
    ImagingPlaneMetadata,
    Metadata,
    OpticalChannelMetadata,
)

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


def add_imaging_plane(nwbfile: NWBFile, metadata: Metadata, metadata_key: str | None) -> ImagingPlane:
    """
    Return the imaging plane that an entry of the metadata refers to; add it, and its device, if it is new.

    A plane or device of that name that the file already has is used as it is.

    :param metadata_key: Key in ``Ophys.ImagingPlanes``; ``None`` for a placeholder.
    """
    plane = PLACEHOLDER_PLANE if metadata_key is None else metadata.Ophys.ImagingPlanes[metadata_key]
    if plane.name in nwbfile.imaging_planes:
        return nwbfile.imaging_planes[plane.name]
    fields: dict[str, Any] = plane.model_dump(
        exclude_none=True, exclude={"device_metadata_key", "optical_channel"}
    )
    return nwbfile.create_imaging_plane(
        **fields,
        device=_add_device(nwbfile, metadata, plane.device_metadata_key),
        optical_channel=[OpticalChannel(**channel.model_dump()) for channel in plane.optical_channel],
    )


def _add_device(nwbfile: NWBFile, metadata: Metadata, metadata_key: str | None) -> Device:
    device = PLACEHOLDER_DEVICE if metadata_key is None else metadata.Devices[metadata_key]
    if device.name in nwbfile.devices:
        return nwbfile.devices[device.name]
    fields = device.model_dump(exclude_none=True, exclude={"device_model_metadata_key", "manufacturer"})
    return nwbfile.create_device(**fields, model=_add_device_model(nwbfile, metadata, device))


def _add_device_model(nwbfile: NWBFile, metadata: Metadata, device: DeviceMetadata) -> DeviceModel | None:
    if device.device_model_metadata_key is not None:
        model = metadata.DeviceModels[device.device_model_metadata_key]
    elif device.manufacturer is not None:
        model = DeviceModelMetadata(name=device.name, manufacturer=device.manufacturer)
    else:
        return None
    if model.name in nwbfile.device_models:
        return nwbfile.device_models[model.name]
    return nwbfile.create_device_model(**model.model_dump(exclude_none=True))


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
        if metadata_key not in entries:
            raise MetadataError(f"metadata_key {metadata_key!r} is not in {section} (known: {known}).")
        return entries[metadata_key]
    if len(entries) > 1:
        raise MetadataError(f"{section} has several entries ({known}). Say which one with metadata_key.")
    return next(iter(entries.values()), None)
