"""
NWB metadata: devices, planes, series and segmentations addressed by key.

Field names and meanings are those of the NWB schema (core 2.11); a key such as ``"two_photon"`` only links the
entries of the metadata to each other and is not written to the file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Self, get_args

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeInt,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from airflow_provider_ophys.exceptions import MetadataError
from airflow_provider_ophys.models.legacy_metadata import translate
from airflow_provider_ophys.models.timestamps_file import read_timestamps

DEFAULT_METADATA_KEY = "default_metadata_key"

# In HDF5 a name is part of a path, in Zarr of a file's path too; some are taken in every group.
SEPARATORS = "/\\:"
RESERVED_NAMES = frozenset({"description", "namespace", "neurodata_type", "object_id", "zarr.json"})
LONGEST_NAME = 200

UNKNOWN = "unknown"
NAN = float("nan")


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


TextList = Annotated[list[str], BeforeValidator(_as_list)]
"""One text or a list of texts; a single one becomes a list."""


class _Section(BaseModel):
    """A part of the metadata; a field that NWB does not know there is an error, not a loss."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    @field_validator("*")
    @classmethod
    def _check_texts(cls, value: object) -> object:
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and not text.isprintable():
                _check_storable(text)
        return value

    @field_validator("name", check_fields=False)
    @classmethod
    def _check_name(cls, value: str) -> str:
        if not value.strip(".") or value in RESERVED_NAMES or set(value) & set(SEPARATORS):
            raise PydanticCustomError(
                "name",
                "A name in NWB may not be empty, '.' or '..', nor hold any of {separators}, nor be one of {names}",
                {"separators": " ".join(SEPARATORS), "names": ", ".join(sorted(RESERVED_NAMES))},
            )
        if len(value.encode()) > LONGEST_NAME:
            raise PydanticCustomError("name", "A name may have {most} bytes at most", {"most": LONGEST_NAME})
        return value


def _check_storable(text: str) -> None:
    """HDF5 ends a text at a NUL, and a lone surrogate has no bytes in UTF-8."""
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise PydanticCustomError(
            "text", "A text may hold neither NUL nor lone surrogates, which cannot be stored"
        )


class NWBFileMetadata(_Section):
    """What describes the session, as in ``pynwb.NWBFile``."""

    session_start_time: datetime = Field(description="Start of the recording session, ISO 8601.")
    session_description: str = "no description"
    identifier: str | None = Field(None, description="Globally unique; a random UUID when not given.")
    session_id: str | None = None
    timestamps_reference_time: datetime | None = None
    experimenter: TextList | None = None
    experiment_description: str | None = None
    institution: str | None = None
    lab: str | None = None
    keywords: TextList | None = None
    notes: str | None = None
    pharmacology: str | None = None
    protocol: str | None = None
    related_publications: TextList | None = None
    slices: str | None = None
    data_collection: str | None = None
    surgery: str | None = None
    virus: str | None = None
    stimulus_notes: str | None = None
    source_script: str | None = None
    source_script_file_name: str | None = None


class SubjectMetadata(_Section):
    """The animal or person, as in ``pynwb.file.Subject``."""

    subject_id: str | None = None
    species: str | None = Field(None, description="Latin binomial, for example 'Mus musculus'.")
    sex: str | None = Field(None, description="'M', 'F', 'O' or 'U'.")
    age: str | None = Field(None, description="ISO 8601 duration, for example 'P90D'.")
    date_of_birth: datetime | None = None
    description: str | None = None
    genotype: str | None = None
    strain: str | None = None
    weight: str | float | None = Field(None, description="Kilograms if a number.")


class DeviceModelMetadata(_Section):
    """A make of device, as in ``pynwb.device.DeviceModel``."""

    name: str
    manufacturer: str
    model_number: str | None = None
    description: str | None = None


class DeviceMetadata(_Section):
    """A microscope or another device, as in ``pynwb.device.Device``."""

    name: str
    description: str | None = None
    manufacturer: str | None = Field(
        None, description="Written as that of a DeviceModel of the device's name, where NWB 2.9 moved it."
    )
    serial_number: str | None = None
    device_model_metadata_key: str | None = None

    @model_validator(mode="after")
    def _check_manufacturer(self) -> Self:
        if self.manufacturer is not None and self.device_model_metadata_key is not None:
            raise ValueError(
                f"The device {self.name!r} has both a manufacturer and a device_model_metadata_key; "
                "give the manufacturer in DeviceModels only"
            )
        return self


class OpticalChannelMetadata(_Section):
    """A detection channel, as in ``pynwb.ophys.OpticalChannel``."""

    name: str
    description: str
    emission_lambda: float = Field(description="Nanometres; NaN if not known.")


class ImagingPlaneMetadata(_Section):
    """An imaging plane or volume, as in ``pynwb.ophys.ImagingPlane``."""

    name: str
    excitation_lambda: float = Field(description="Nanometres; NaN if not known.")
    indicator: str
    location: str
    optical_channel: list[OpticalChannelMetadata] = Field(min_length=1)
    description: str | None = None
    device_metadata_key: str | None = None
    imaging_rate: float | None = Field(None, gt=0, allow_inf_nan=False, description="Hertz.")
    reference_frame: str | None = None
    origin_coords: list[float] | None = Field(None, min_length=2, max_length=3)
    origin_coords_unit: str | None = None
    grid_spacing: list[float] | None = Field(None, min_length=2, max_length=3)
    grid_spacing_unit: str | None = None


class SeriesMetadata(_Section):
    """What all series have, as in ``pynwb.TimeSeries``; times that are given win over the recording's."""

    name: str
    unit: str
    description: str | None = None
    comments: str | None = None
    conversion: float | None = Field(None, description="Of a value of the data to the unit.")
    offset: float | None = Field(None, description="Added after the conversion, in the unit.")
    resolution: float | None = Field(None, description="Smallest difference between values, in the unit.")
    rate: float | None = Field(None, gt=0, allow_inf_nan=False, description="Samples per second.")
    starting_time: float | None = Field(
        None, allow_inf_nan=False, description="Of the first sample, in seconds from the session's start."
    )
    timestamps: Annotated[list[FiniteFloat] | None, BeforeValidator(read_timestamps)] = Field(
        None, description="Of each sample, in seconds from the session's start; or the path of a file of them."
    )
    control: list[NonNegativeInt] | None = Field(None, description="Of each sample: a number of a category.")
    control_description: TextList | None = Field(None, description="What each number in control means.")

    @model_validator(mode="after")
    def _check_times(self) -> Self:
        if self.timestamps is not None and (self.rate is not None or self.starting_time is not None):
            raise ValueError(
                f"The series {self.name!r} has timestamps and a rate or starting_time; give one or the other"
            )
        return self


class MicroscopySeriesMetadata(SeriesMetadata):
    """A movie, as in ``pynwb.ophys.TwoPhotonSeries`` and ``OnePhotonSeries``."""

    imaging_plane_metadata_key: str | None = None
    dimension: list[int] | None = Field(None, description="(columns, rows[, planes]), as the data is stored.")
    field_of_view: list[float] | None = Field(None, min_length=2, max_length=3, description="Metres.")
    pmt_gain: float | None = None
    scan_line_rate: float | None = Field(None, description="Lines per second; two-photon only.")
    exposure_time: float | None = Field(None, description="Seconds; one-photon only.")
    binning: int | None = Field(None, ge=1, description="One-photon only.")
    power: float | None = Field(None, description="Watts; one-photon only.")
    intensity: float | None = Field(None, description="Watts per square millimetre; one-photon only.")


class PlaneSegmentationMetadata(_Section):
    """A table of ROIs, as in ``pynwb.ophys.PlaneSegmentation``."""

    name: str
    description: str
    imaging_plane_metadata_key: str | None = None


class RoiResponseMetadata(SeriesMetadata):
    """The traces of one role (raw, neuropil ...), as in ``pynwb.ophys.RoiResponseSeries``."""


class SummaryImageMetadata(_Section):
    """A summary image of one role (mean, correlation ...), as in ``pynwb.image.GrayscaleImage``."""

    name: str
    description: str | None = None


class OphysMetadata(_Section):
    """
    Everything of optical physiology, addressed by metadata key.

    The traces and images that are described here are those that are written; without a description, all are.
    ``None`` (``null``) in place of a description leaves one out.
    """

    ImagingPlanes: dict[str, ImagingPlaneMetadata] = {}
    MicroscopySeries: dict[str, MicroscopySeriesMetadata] = {}
    PlaneSegmentations: dict[str, PlaneSegmentationMetadata] = {}
    RoiResponses: dict[str, dict[str, RoiResponseMetadata | None]] = {}
    SegmentationImages: dict[str, dict[str, SummaryImageMetadata | None]] = {}


class Metadata(_Section):
    """The whole metadata of a conversion; every section may be left out."""

    NWBFile: NWBFileMetadata | None = None
    Subject: SubjectMetadata | None = None
    DeviceModels: dict[str, DeviceModelMetadata] = {}
    Devices: dict[str, DeviceMetadata] = {}
    Ophys: OphysMetadata = OphysMetadata()

    @model_validator(mode="after")
    def _check_references(self) -> Self:
        for key, device in self.Devices.items():
            _check_reference(f"Devices.{key}", "DeviceModels", device.device_model_metadata_key, self.DeviceModels)
        for key, plane in self.Ophys.ImagingPlanes.items():
            _check_reference(f"Ophys.ImagingPlanes.{key}", "Devices", plane.device_metadata_key, self.Devices)
        for section in ("MicroscopySeries", "PlaneSegmentations"):
            for key, entry in getattr(self.Ophys, section).items():
                _check_reference(
                    f"Ophys.{section}.{key}",
                    "Ophys.ImagingPlanes",
                    entry.imaging_plane_metadata_key,
                    self.Ophys.ImagingPlanes,
                )
        return self


def _check_reference(where: str, section: str, key: str | None, known: Mapping[str, object]) -> None:
    if key is None or key in known:
        return
    raise ValueError(f"{where} refers to {section}.{key}, which is not there (known: {_listed(known)})")


def _listed(names: Mapping[str, object] | Sequence[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def load_metadata(metadata: object) -> dict[str, Any]:
    """
    Read metadata from what users give: a dict, the path of a YAML or JSON file, or a list of these.

    :param metadata: ``None``, a mapping, a path, or a list of those, merged left to right: mappings are
        merged key by key, everything else (lists too) is replaced by the later value.
    :returns: A new dict; the one given is never changed.
    :raises MetadataError: If a file is missing, is neither YAML nor JSON, or does not hold a mapping.
    """
    if metadata is None:
        return {}
    if isinstance(metadata, (str, Path)):
        return _read_metadata_file(Path(metadata))
    if isinstance(metadata, Mapping):
        return merge_metadata({}, metadata)
    if isinstance(metadata, Sequence):
        merged: dict[str, Any] = {}
        for part in metadata:
            merged = merge_metadata(merged, load_metadata(part))
        return merged
    raise MetadataError(
        f"metadata is a {type(metadata).__name__}. "
        "Give a dict, the path of a YAML or JSON file, or a list of these."
    )


def merge_metadata(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two metadata mappings into a new one; where both have a value, the one in ``over`` counts."""
    merged = dict(under)
    for key, value in over.items():
        if isinstance(value, Mapping):
            below = merged.get(key)
            merged[key] = merge_metadata(below if isinstance(below, Mapping) else {}, value)
        else:
            merged[key] = value
    return merged


def with_own_metadata(extractor: object, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Put the caller's metadata over what the extractor itself knows, if it has ``nwb_metadata``."""
    return merge_metadata(getattr(extractor, "nwb_metadata", None) or {}, metadata)


def _read_metadata_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MetadataError(f"The metadata file {path} cannot be read: {error}. Check the path.") from error
    try:
        content = json.loads(text) if path.suffix.lower() == ".json" else yaml.safe_load(text)
    except (json.JSONDecodeError, yaml.YAMLError) as error:
        raise MetadataError(f"The metadata file {path} is not valid YAML or JSON: {error}") from error
    if not isinstance(content, dict):
        raise MetadataError(f"The metadata file {path} holds no mapping. Give it keys like NWBFile.")
    return content


def validate_metadata(metadata: Mapping[str, Any]) -> Metadata:
    """
    Check metadata, in its dict form or translated from its list form.

    :param metadata: Mapping with the sections ``NWBFile``, ``Subject``, ``DeviceModels``, ``Devices``, ``Ophys``.
    :raises MetadataError: One error that names every problem, where it is, and what to write instead.
    """
    try:
        return Metadata.model_validate(translate(metadata))
    except ValidationError as error:
        problems = "\n".join(f"  {_explain(dict(problem))}" for problem in error.errors())
        raise MetadataError(f"The metadata has {error.error_count()} problem(s):\n{problems}") from error


# As text, which pydantic reads as the number: JSON, in which Airflow carries arguments and XComs, has no NaN.
UNKNOWN_WAVELENGTH = "nan"

PLACEHOLDERS: dict[str, Any] = {
    "excitation_lambda": UNKNOWN_WAVELENGTH,
    "emission_lambda": UNKNOWN_WAVELENGTH,
    "indicator": UNKNOWN,
    "location": UNKNOWN,
    "unit": "n.a.",
    "optical_channel": [{"name": "OpticalChannel", "description": UNKNOWN, "emission_lambda": UNKNOWN_WAVELENGTH}],
}
"""What may be written where a required field is honestly not known."""


def spell_nan(metadata: Any) -> Any:
    """Return metadata with every NaN spelled ``"nan"``, so that it can travel as JSON; all else as it is."""
    if isinstance(metadata, Mapping):
        return {key: spell_nan(value) for key, value in metadata.items()}
    if isinstance(metadata, (list, tuple)):
        return [spell_nan(value) for value in metadata]
    return UNKNOWN_WAVELENGTH if isinstance(metadata, float) and math.isnan(metadata) else metadata


def _explain(problem: dict[str, Any]) -> str:
    location = [str(part) for part in problem["loc"]]
    where = ".".join(location)
    if problem["type"] == "missing":
        if location[-1] in PLACEHOLDERS:
            return f"{where} is missing. If it is not known, write {PLACEHOLDERS[location[-1]]!r}."
        return f"{where} is missing and has no placeholder: it must be given."
    if problem["type"] == "extra_forbidden":
        return f"{where} is not known (known there: {_listed(_known_fields(location[:-1]))})."
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"]) + "."
    return f"{where}: {problem['msg']} (given: {problem['input']!r})."


def _known_fields(location: Sequence[str]) -> list[str]:
    """Fields of the section at a location such as ``("Ophys", "ImagingPlanes", "plane0")``."""
    annotation: Any = Metadata
    for part in location:
        if _is_section(annotation):
            annotation = _without_none(annotation.model_fields[part].annotation)
        else:  # a dict by key or a list by position: its values
            annotation = get_args(annotation)[-1]
    return list(annotation.model_fields) if _is_section(annotation) else []


def _without_none(annotation: object) -> object:
    kinds = get_args(annotation)
    return kinds[0] if type(None) in kinds else annotation


def _is_section(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, _Section)


def require_session_start_time(metadata: Metadata) -> NWBFileMetadata:
    """
    Return the section ``NWBFile``, which a new file cannot do without.

    :raises MetadataError: If there is no ``NWBFile`` section.
    """
    if metadata.NWBFile is None:
        raise MetadataError(
            "The metadata has no NWBFile.session_start_time, which every NWB file needs. "
            "Give it as ISO 8601 with a time zone, for example '2026-11-22T09:30:00+01:00'."
        )
    return metadata.NWBFile
