"""
The sections of NWB metadata: devices, planes, series and segmentations addressed by key.

Field names and meanings are those of the NWB schema (core 2.11); a key such as ``"two_photon"`` only links the
entries of the metadata to each other and is not written to the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    JsonValue,
    NonNegativeInt,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from airflow_provider_ophys.models.remarks import remark
from airflow_provider_ophys.models.timestamps_file import read_timestamps
from airflow_provider_ophys.models.validation import number_check

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


class Section(BaseModel):
    """A part of the metadata; a field that NWB does not know there is an error, not a loss."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
    _wants_numbers = number_check()

    @field_validator("*")
    @classmethod
    def _check_texts(cls, value: object) -> object:
        for text in _texts_in(value):
            if not text.isprintable():
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
        if len(value.splitlines()) > 1:
            raise PydanticCustomError("name", "A name may not have several lines")
        if len(value.encode()) > LONGEST_NAME:
            raise PydanticCustomError("name", "A name may have {most} bytes at most", {"most": LONGEST_NAME})
        return value


def _texts_in(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts_in(part)


def _check_storable(text: str) -> None:
    """HDF5 ends a text at a NUL, and a lone surrogate has no bytes in UTF-8."""
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise PydanticCustomError(
            "text", "A text may hold neither NUL nor lone surrogates, which cannot be stored"
        )


# Sections that other software has in the metadata of a session, beside those of optical physiology.
OTHER_MODALITIES = frozenset(
    {"Behavior", "Ecephys", "Electrodes", "Events", "FiberPhotometry", "Icephys", "Images", "LabMetaData"}
    | {"MedPC", "Ogen", "Optogenetics", "Pose", "PoseEstimation", "Sorting", "Stimulus", "TimeIntervals"}
    | {"TimeSeries", "Videos"}
)


class NWBFileMetadata(Section):
    """What describes the session, as in ``pynwb.NWBFile``."""

    session_start_time: datetime | None = Field(
        None, description="Start of the recording session, ISO 8601; a new file cannot do without."
    )
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
    was_generated_by: list[tuple[str, str]] | None = Field(
        None, description="Software and its version, of what made the data, for example [['ScanImage', '2023.1']]."
    )


class SubjectMetadata(Section):
    """The animal or person, as in ``pynwb.file.Subject``."""

    subject_id: str | None = None
    species: str | None = Field(None, description="Latin binomial, for example 'Mus musculus'.")
    sex: str | None = Field(None, description="'M', 'F', 'O' or 'U'.")
    age: str | None = Field(None, description="ISO 8601 duration, for example 'P90D'.")
    age__reference: Literal["birth", "gestational"] | None = Field(None, description="What age counts from.")
    date_of_birth: datetime | None = None
    description: str | None = None
    genotype: str | None = None
    strain: str | None = None
    weight: str | float | None = Field(None, description="Kilograms if a number.")


class TypedSection(Section):
    """What may be of a type that an extension of NWB defines, whose fields stand beside the others."""

    # The type that needs no extension.
    core_type: ClassVar[str]

    type: str | None = Field(None, description="Of an extension that is installed, for example 'Miniscope'.")
    fields_of_type: dict[str, JsonValue] = Field({}, description="Those of the extension; filled from the others.")

    @model_validator(mode="before")
    @classmethod
    def _gather_fields_of_type(cls, value: object) -> object:
        if not isinstance(value, Mapping) or value.get("type") in (None, cls.core_type):
            return value
        known = {name: entry for name, entry in value.items() if name in cls.model_fields}
        others = {name: entry for name, entry in value.items() if name not in known and entry is not None}
        gathered = value.get("fields_of_type", {})
        return {**known, "fields_of_type": {**gathered, **others} if isinstance(gathered, Mapping) else gathered}

    @property
    def extension_type(self) -> str | None:
        """The type, if it is one of an extension."""
        return None if self.type == self.core_type else self.type


class DeviceModelMetadata(TypedSection):
    """A make of device, as in ``pynwb.device.DeviceModel``."""

    core_type = "DeviceModel"

    name: str
    manufacturer: str
    model_number: str | None = None
    description: str | None = None


class DeviceMetadata(TypedSection):
    """
    A microscope or another device, as in ``pynwb.device.Device``.

    Its maker and model are written as a DeviceModel, where NWB 2.9 moved them.
    """

    core_type = "Device"

    name: str
    description: str | None = None
    manufacturer: str | None = None
    model_name: str | None = Field(None, description="Name of the DeviceModel; by default that of the device.")
    model_number: str | None = None
    serial_number: str | None = None
    device_model_metadata_key: str | None = None

    @property
    def model_fields_given(self) -> dict[str, str]:
        """What is said of its model here."""
        fields = {"manufacturer": self.manufacturer, "name": self.model_name, "model_number": self.model_number}
        return {name: value for name, value in fields.items() if value is not None}

    @model_validator(mode="after")
    def _check_model(self) -> Self:
        if self.model_fields_given and self.device_model_metadata_key is not None:
            raise ValueError(
                f"The device {self.name!r} has a manufacturer, model_name or model_number, and a "
                "device_model_metadata_key; give these in DeviceModels only"
            )
        return self


class OpticalChannelMetadata(Section):
    """A detection channel, as in ``pynwb.ophys.OpticalChannel``."""

    name: str
    description: str
    emission_lambda: float = Field(description="Nanometres; NaN if not known.")


class ImagingPlaneMetadata(Section):
    """An imaging plane or volume, as in ``pynwb.ophys.ImagingPlane``."""

    name: str
    excitation_lambda: float = Field(description="Nanometres; NaN if not known.")
    indicator: str
    location: str
    optical_channel: list[OpticalChannelMetadata] = Field(min_length=1)
    description: str | None = None
    device_metadata_key: str | None = None
    imaging_rate: float | None = Field(None, gt=0, allow_inf_nan=False, description="Hertz.")
    manifold: list[Any] | None = Field(None, description="Deprecated by NWB: x, y, z of each pixel.")
    conversion: float | None = Field(None, description="Of the manifold to its unit.")
    unit: str | None = Field(None, description="Of the manifold; NWB keeps it only beside one.")
    reference_frame: str | None = None
    origin_coords: list[float] | None = Field(None, min_length=2, max_length=3)
    origin_coords_unit: str | None = None
    grid_spacing: list[float] | None = Field(None, min_length=2, max_length=3)
    grid_spacing_unit: str | None = None


class SeriesMetadata(Section):
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
    device_metadata_key: str | None = Field(None, description="Of the camera or detector.")
    bits_per_pixel: int | None = Field(None, ge=1)
    field_of_view: list[float] | None = Field(None, min_length=2, max_length=3, description="Metres.")
    pmt_gain: float | None = None
    scan_line_rate: float | None = Field(None, description="Lines per second; two-photon only.")
    exposure_time: float | None = Field(None, description="Seconds; one-photon only.")
    binning: int | None = Field(None, ge=1, description="One-photon only.")
    power: float | None = Field(None, description="Watts; one-photon only.")
    intensity: float | None = Field(None, description="Watts per square millimetre; one-photon only.")


class PlaneSegmentationMetadata(Section):
    """A table of ROIs, as in ``pynwb.ophys.PlaneSegmentation``."""

    name: str
    description: str
    imaging_plane_metadata_key: str | None = None
    reference_images: TextList | None = Field(
        None, description="Names of the series in the file that the masks were found in."
    )
    starting_time: float | None = Field(
        None,
        allow_inf_nan=False,
        description="Of its traces, in seconds from the session's start, where RoiResponses does not say.",
    )


class RoiResponseMetadata(SeriesMetadata):
    """The traces of one role (raw, neuropil ...), as in ``pynwb.ophys.RoiResponseSeries``."""


class SummaryImageMetadata(Section):
    """A summary image of one role (mean, correlation ...), as in ``pynwb.image.GrayscaleImage``."""

    name: str
    description: str | None = None
    resolution: float | None = Field(None, gt=0, allow_inf_nan=False, description="Pixels per centimetre.")


class OphysMetadata(Section):
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


class Metadata(Section):
    """The whole metadata of a conversion; every section may be left out."""

    NWBFile: NWBFileMetadata | None = None
    Subject: SubjectMetadata | None = None
    DeviceModels: dict[str, DeviceModelMetadata] = {}
    Devices: dict[str, DeviceMetadata] = {}
    Ophys: OphysMetadata = OphysMetadata()

    @model_validator(mode="before")
    @classmethod
    def _pass_over_other_modalities(cls, value: object) -> object:
        """Let one metadata file serve all modalities of a laboratory."""
        if not isinstance(value, Mapping):
            return value
        others = OTHER_MODALITIES & set(value)
        for name in sorted(others):
            remark(f"The section {name} of the metadata is of another modality and was passed over.")
        return {name: section for name, section in value.items() if name not in others}

    @model_validator(mode="after")
    def _check_dates(self) -> Self:
        """Refuse a subject that was born after its session: an age would be negative."""
        born = self.Subject.date_of_birth if self.Subject else None
        start = self.NWBFile.session_start_time if self.NWBFile else None
        if born is not None and start is not None and born.date() > start.date():
            raise ValueError(
                f"Subject.date_of_birth is {born.date()}, after NWBFile.session_start_time, {start.date()}; "
                "correct one of them"
            )
        return self

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        """Refuse two different things of one name, of which a file can hold one."""
        sections: Mapping[str, Mapping[str, Any]] = {
            "DeviceModels": self.DeviceModels,
            "Devices": self.Devices,
            "Ophys.ImagingPlanes": self.Ophys.ImagingPlanes,
        }
        for section, entries in sections.items():
            known: dict[str, tuple[str, dict[str, object]]] = {}
            for key, entry in entries.items():
                described = self._described(entry)
                first, other = known.setdefault(entry.name, (key, described))
                if other != described:
                    raise ValueError(
                        f"{section} has two different entries of the name {entry.name!r}, {first!r} and {key!r}, "
                        "but a file can hold one of a name; give one of them another name"
                    )
        return self

    def _described(self, entry: Section) -> dict[str, object]:
        """Return what an entry says, with names in place of keys; NaN, which JSON has not, equals itself then."""
        fields: dict[str, object] = json.loads(entry.model_dump_json())
        references: Mapping[str, Mapping[str, Any]] = {
            "device_metadata_key": self.Devices,
            "device_model_metadata_key": self.DeviceModels,
        }
        for field, entries in references.items():
            if (key := fields.get(field)) in entries:
                fields[field] = entries[str(key)].name
        return fields

    @model_validator(mode="after")
    def _check_references(self) -> Self:
        for key, device in self.Devices.items():
            _check_reference(f"Devices.{key}", "DeviceModels", device.device_model_metadata_key, self.DeviceModels)
        for key, plane in self.Ophys.ImagingPlanes.items():
            _check_reference(f"Ophys.ImagingPlanes.{key}", "Devices", plane.device_metadata_key, self.Devices)
        for key, series in self.Ophys.MicroscopySeries.items():
            _check_reference(f"Ophys.MicroscopySeries.{key}", "Devices", series.device_metadata_key, self.Devices)
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
    raise ValueError(f"{where} refers to {section}.{key}, which is not there (known: {listed(known)})")


def listed(names: Mapping[str, object] | Sequence[str]) -> str:
    """Return names in a message, sorted."""
    return ", ".join(sorted(names)) or "none"
