"""Which entry of the metadata describes a segmentation, and what its parts are called in the file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_ophys.exceptions import MetadataError
from airflow_provider_ophys.models.metadata_sections import (
    Metadata,
    OphysMetadata,
    PlaneSegmentationMetadata,
    RoiResponseMetadata,
    SummaryImageMetadata,
)
from airflow_provider_ophys.models.segmentation_names import BACKGROUND_TABLE_NAME, TABLE_NAME, name_suffix

TABLE_DESCRIPTION = "Segmented ROIs"
BACKGROUND_TABLE_DESCRIPTION = "Segmented Background Components"


@dataclass(frozen=True)
class SegmentationEntry:
    """
    The description of one segmentation.

    :param table: Of its ROIs.
    :param background_table: Of its background components.
    :param responses: Of the traces of its ROIs, by role.
    :param background_responses: Of those of its background components.
    :param images: Of its summary images, by role. In these three, ``None`` is of what is not to be written.
    :param names_select: Whether only what is described is written, where anything is.
    :param suffix: At the end of every name that is not given, where several segmentations may be in one file.
    """

    table: PlaneSegmentationMetadata
    background_table: PlaneSegmentationMetadata
    responses: Mapping[str, RoiResponseMetadata | None]
    background_responses: Mapping[str, RoiResponseMetadata | None]
    images: Mapping[str, SummaryImageMetadata | None]
    names_select: bool
    suffix: str

    def chosen_traces(self, found: Iterable[str], *, of_background: bool) -> list[str]:
        """
        Return the roles of the traces that are written.

        :raises MetadataError: If traces are described, and none of those is there.
        """
        described = self.background_responses if of_background else self.responses
        return self._chosen("RoiResponses", found, described)

    def chosen_images(self, found: Iterable[str]) -> list[str]:
        """
        Return the roles of the summary images that are written.

        :raises MetadataError: As :meth:`chosen_traces`.
        """
        return self._chosen("SegmentationImages", found, self.images)

    def _chosen(self, section: str, found: Iterable[str], described: Mapping[str, object | None]) -> list[str]:
        kept = [role for role in found if described.get(role, True) is not None]
        named = [role for role, entry in described.items() if entry is not None]
        if not self.names_select or not named:
            return kept
        chosen = [role for role in kept if role in named]
        if kept and not chosen:
            raise MetadataError(
                f"Ophys.{section} describes {', '.join(map(repr, named))}, which selects what is written, but "
                f"none of these is there (there is: {', '.join(map(repr, kept))}). Name what there is, or nothing."
            )
        return chosen

    def response(self, role: str, *, of_background: bool) -> RoiResponseMetadata:
        """Return the name, unit, description and start of the traces of a role, given or not."""
        name = "RoiResponseSeries" if role in ("raw", "dff") else role.capitalize()
        given = (
            (self.background_responses.get(role) if of_background else None)
            or self.responses.get(role)
            or RoiResponseMetadata(name=name + self.suffix, unit="n.a.")
        )
        description = f"Array of {'raw fluorescence' if role == 'raw' else role} traces."
        update: dict[str, Any] = {"description": given.description or description}
        if given.starting_time is None and given.timestamps is None:
            update["starting_time"] = self.table.starting_time
        return given.model_copy(update=update)

    def image(self, role: str) -> SummaryImageMetadata:
        """Return the name and description of the summary image of a role, given or not."""
        given = self.images.get(role) or SummaryImageMetadata(name=role + self.suffix)
        return given.model_copy(update={"description": given.description or f"The {role} image."})


def find_segmentation(
    metadata: Metadata,
    *,
    metadata_key: str | None = None,
    plane_segmentation_name: str | None = None,
    background_plane_segmentation_name: str | None = None,
    names_select: bool = True,
) -> SegmentationEntry:
    """
    Find what the metadata says of one segmentation.

    :param metadata: Validated, in the dict form.
    :param metadata_key: Of the segmentation in ``Ophys.PlaneSegmentations``, ``RoiResponses`` and
        ``SegmentationImages``; ``None`` if there is one only. Names that are not given end with it.
    :param plane_segmentation_name: Name of the table: chooses the entry of that name, or gives the name where
        nothing is described.
    :param background_plane_segmentation_name: The same for the background components.
    :param names_select: Whether naming traces or images selects them.
    :raises MetadataError: If there is no such entry, or no single one; names the known ones.
    """
    ophys = metadata.Ophys
    background_name = background_plane_segmentation_name or BACKGROUND_TABLE_NAME
    background_key = _key_of_name(ophys, background_name)
    _check_background(ophys, background_plane_segmentation_name, background_key)
    candidates = [key for key in _described(ophys) if key not in (background_key, BACKGROUND_TABLE_NAME)]
    key = _find_key(ophys, candidates, metadata_key, plane_segmentation_name)
    _check_sections(ophys, {key, background_key})
    is_one_of_several = metadata_key is not None or len(candidates) > 1
    suffix = name_suffix(key) if key is not None and is_one_of_several else ""
    table = ophys.PlaneSegmentations.get(key or "") or PlaneSegmentationMetadata(
        name=plane_segmentation_name or TABLE_NAME + suffix, description=TABLE_DESCRIPTION
    )
    return SegmentationEntry(
        table=table,
        background_table=ophys.PlaneSegmentations.get(background_key or "")
        or PlaneSegmentationMetadata(
            name=background_plane_segmentation_name or BACKGROUND_TABLE_NAME + suffix,
            description=BACKGROUND_TABLE_DESCRIPTION,
            imaging_plane_metadata_key=table.imaging_plane_metadata_key,
        ),
        responses=ophys.RoiResponses.get(key or "", {}),
        background_responses=ophys.RoiResponses.get(background_key or BACKGROUND_TABLE_NAME, {}),
        images=ophys.SegmentationImages.get(key or "", {}),
        names_select=names_select,
        suffix=suffix,
    )


def described_keys(metadata: Metadata) -> list[str]:
    """Return the keys of the segmentations that are described, without that of the background components."""
    background = _key_of_name(metadata.Ophys, BACKGROUND_TABLE_NAME)
    return [key for key in _described(metadata.Ophys) if key not in (background, BACKGROUND_TABLE_NAME)]


def _described(ophys: OphysMetadata) -> list[str]:
    return list(dict.fromkeys([*ophys.PlaneSegmentations, *ophys.RoiResponses, *ophys.SegmentationImages]))


def _key_of_name(ophys: OphysMetadata, name: str) -> str | None:
    keys = [key for key, entry in ophys.PlaneSegmentations.items() if entry.name == name]
    return keys[0] if keys else None


def _check_background(ophys: OphysMetadata, name: str | None, key: str | None) -> None:
    # Of the ROIs' table the name may be given beside a description of the others; so it may be of this one.
    if name is not None and key is None and BACKGROUND_TABLE_NAME in ophys.PlaneSegmentations:
        raise MetadataError(
            f"background_plane_segmentation_name {name!r} is no name in Ophys.PlaneSegmentations "
            f"({_known(entry.name for entry in ophys.PlaneSegmentations.values())})."
        )


def _find_key(
    ophys: OphysMetadata, candidates: list[str], metadata_key: str | None, name: str | None
) -> str | None:
    if metadata_key is not None:
        if candidates and metadata_key not in candidates:
            raise MetadataError(
                f"metadata_key {metadata_key!r} is not in Ophys.PlaneSegmentations ({_known(candidates)})."
            )
        entry = ophys.PlaneSegmentations.get(metadata_key)
        if name is not None and entry is not None and entry.name != name:
            raise MetadataError(
                f"metadata_key {metadata_key!r} is the segmentation {entry.name!r}, but "
                f"plane_segmentation_name is {name!r}. Leave one of the two out."
            )
        return metadata_key
    if name is not None and ophys.PlaneSegmentations:
        key = _key_of_name(ophys, name)
        if key is None and name in candidates and name not in ophys.PlaneSegmentations:
            return name  # in the list form, traces and images are described by the name of their table
        if key is None:
            names = _known(entry.name for key, entry in ophys.PlaneSegmentations.items() if key in candidates)
            raise MetadataError(
                f"plane_segmentation_name {name!r} is no name in Ophys.PlaneSegmentations ({names})."
            )
        return key
    if len(candidates) > 1 and TABLE_NAME in candidates:
        return TABLE_NAME  # the list form's default
    if len(candidates) > 1:
        raise MetadataError(
            f"Ophys.PlaneSegmentations has several entries ({_known(candidates)}). "
            "Say which one with metadata_key or plane_segmentation_name."
        )
    return next(iter(candidates), None)


def _check_sections(ophys: OphysMetadata, chosen: set[str | None]) -> None:
    """Refuse descriptions that belong to no segmentation: a typo must not lose them."""
    known = {*ophys.PlaneSegmentations, *chosen, TABLE_NAME, BACKGROUND_TABLE_NAME}
    for section in ("RoiResponses", "SegmentationImages"):
        for key in getattr(ophys, section):
            if key not in known:
                raise MetadataError(
                    f"Ophys.{section} describes {key!r}, which is not in Ophys.PlaneSegmentations "
                    f"({_known(ophys.PlaneSegmentations)})."
                )


def _known(names: object) -> str:
    return f"known: {', '.join(map(repr, names)) or 'none'}"  # type: ignore[call-overload]
