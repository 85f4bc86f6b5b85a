"""Where a file goes by what it says of itself: fields in the destination, and the names of the DANDI archive."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from string import Formatter
from typing import Any

from airflow_provider_ophys.exceptions import ConfigurationError, SourceDataError
from airflow_provider_ophys.staging.plan import Destination

# Field of a destination -> where it stands in a file.
FIELDS = {
    "subject_id": "general/subject/subject_id",
    "session_id": "general/session_id",
    "session_start_time": "session_start_time",
    "identifier": "identifier",
}
# What dandi-cli 0.81 replaces in a name (dandi/organize.py), besides full stops.
_REPLACED = re.compile(r"[_*\\/<>:|\"'?%@;,\s.]")
# Parts of NWB's schema that say nothing of what was recorded (the same file).
_NO_MODALITY = frozenset({"base", "device", "file", "misc"})


def destination_of(uri: str, source: Path, *, dandi_path: bool = False) -> Destination:
    """
    Return where a file goes.

    :param uri: ``s3://bucket/prefix/``, in which fields such as ``{subject_id}``, ``{session_id}``,
        ``{session_start_time:%Y%m%d}`` and ``{identifier}`` stand for what the file says.
    :param source: The file, or Zarr tree.
    :param dandi_path: Whether the file is named as ``dandi organize`` would: ``sub-m1/sub-m1_ses-a_ophys.nwb``.
    :raises ConfigurationError: If there is no such field, or the destination is no place in S3.
    :raises SourceDataError: If the file does not say what is named, or is not one for DANDI.
    """
    pieces = _pieces(uri)
    named = {field for _, field, _ in pieces if field is not None}
    if not named and not dandi_path:
        return Destination.parse(uri)
    if dandi_path and (source.is_dir() or source.suffix != ".nwb"):
        raise SourceDataError(
            f"{source} cannot have a name of DANDI: dandi_path is for HDF5 files that end in .nwb, for dandi-cli "
            "0.81 refuses stores of Zarr's format 3. Write the file as HDF5, or leave dandi_path out."
        )
    with _opened(source) as root:
        facts = {field: _fact(root, path) for field, path in FIELDS.items()}
        modalities = _modalities(root) if dandi_path else set()
    place = Destination.parse("".join(_filled(piece, facts, source) for piece in pieces))
    if not dandi_path:
        return place
    folder, name = dandi_name({field: _text(facts, field, source) for field in FIELDS}, modalities)
    return replace(place, prefix=f"{place.prefix}{folder}/", name=name)


def dandi_name(facts: Mapping[str, str], modalities: set[str]) -> tuple[str, str]:
    """
    Return the folder and the name that ``dandi organize`` gives to a file.

    A session is always named, by its start if it has no id, so that the name of one file does not depend on which
    others there are.

    :param facts: Texts of :data:`FIELDS`; of those that may be missing, empty ones.
    :param modalities: What was recorded: the parts of NWB's schema that its types are from, such as ``ophys``.
    """
    start = datetime.fromisoformat(facts["session_start_time"])
    subject = _clean(facts["subject_id"])
    session = _clean(facts["session_id"] or f"{start:%Y%m%dT%H%M%S}")
    recorded = f"_{'+'.join(sorted(modalities))}" if modalities else ""
    return f"sub-{subject}", f"sub-{subject}_ses-{session}{recorded}.nwb"


def fixed_part(uri: str) -> Destination:
    """
    Return the last folder of a destination that is above all of its fields.

    :raises ConfigurationError: As :func:`destination_of`.
    """
    fixed, brace, _ = uri.partition("{")
    return Destination.parse(fixed.rpartition("/")[0] if brace else uri)


def _pieces(uri: str) -> list[tuple[str, str | None, str | None]]:
    try:
        pieces = [(text, field, spec) for text, field, spec, _ in Formatter().parse(uri)]
    except ValueError as error:
        raise ConfigurationError(f"The destination {uri!r} cannot be read: {error}.") from error
    unknown = sorted({field for _, field, _ in pieces if field is not None} - FIELDS.keys())
    if unknown:
        raise ConfigurationError(
            f"The destination {uri!r} names {', '.join(map(repr, unknown))}; a file has {', '.join(FIELDS)}."
        )
    return pieces


def _filled(piece: tuple[str, str | None, str | None], facts: Mapping[str, str], source: Path) -> str:
    text, field, spec = piece
    if field is None:
        return text
    value = _text(facts, field, source)
    if not value:
        raise SourceDataError(f"{source} has no {field}, which the destination names. Write it into the metadata.")
    if field == "session_start_time":
        value = format(datetime.fromisoformat(value), spec or "%Y%m%dT%H%M%S")
    return text + _clean(value)


def _text(facts: Mapping[str, str], field: str, source: Path) -> str:
    if not facts[field] and field == "subject_id":
        raise SourceDataError(f"{source} has no subject_id, of which its place is made. Write Subject.subject_id.")
    return facts[field]


def _clean(value: str) -> str:
    return _REPLACED.sub("-", value)


def _modalities(root: Any) -> set[str]:
    """Return the parts of NWB's schema that the groups of an HDF5 file are from, but for the general ones."""
    types = set(_types(root))
    parts: set[str] = set()
    for version in (root.get("specifications/core") or {}).values():
        for name, stored in version.items():
            defined = {group.get("neurodata_type_def") for group in json.loads(stored[()]).get("groups", [])}
            if name.startswith("nwb.") and defined & types:
                parts.add(name.removeprefix("nwb."))
    return parts - _NO_MODALITY


def _opened(source: Path) -> Any:
    if source.is_dir():
        import zarr

        return _Closing(zarr.open_group(str(source), mode="r"))
    import h5py

    try:
        return h5py.File(source, "r")
    except OSError as error:
        raise SourceDataError(
            f"{source} cannot be read as HDF5, for what the destination names: {error}. Check the file."
        ) from error


class _Closing:
    """A Zarr group, which needs no closing, as a context like HDF5's file."""

    def __init__(self, group: Any) -> None:
        self.group = group

    def __enter__(self) -> Any:
        return self.group

    def __exit__(self, *_: object) -> None:
        pass


def _fact(root: Any, path: str) -> str:
    if path not in root:
        return ""
    value = root[path][()]
    value = value.item() if hasattr(value, "item") else value
    return value.decode() if isinstance(value, bytes) else str(value)


def _types(group: Any) -> Iterator[str]:
    """Yield the NWB types of all groups in an HDF5 group, as dandi-cli counts them."""
    if "neurodata_type" in group.attrs:
        yield str(group.attrs["neurodata_type"])
    for name in group:
        if group.get(name, getclass=True).__name__ == "Group":
            yield from _types(group[name])
