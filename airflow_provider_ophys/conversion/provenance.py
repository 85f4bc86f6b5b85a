"""
What made an object in an NWB file: recorded with the object, so that the same conversion is recognised later.

The record is an attribute of the series' or table's group. NWB readers pass over attributes they do not know, an
appended object brings its own, and it is read without touching an array.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from airflow_provider_ophys import __version__
from airflow_provider_ophys.conversion.storages import open_storage
from airflow_provider_ophys.exceptions import OutputExistsError, OutputWriteError, SourceDataError, is_passing
from airflow_provider_ophys.models.session_name import share_a_file
from airflow_provider_ophys.nwb.existing import RECORD_ATTRIBUTE


def conversion_digest(content: dict[str, Any]) -> str:
    """
    Return what tells one conversion from another.

    :param content: JSON-able: the recording's fingerprint and every option that decides what is written.
    """
    content = content | {"major_version": __version__.split(".", maxsplit=1)[0]}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(canonical.encode()).hexdigest()}"


def record_conversion(root: Any, path: str, record: Mapping[str, Any]) -> None:
    """
    Attach a record to an object.

    :param root: Root group of the open file.
    :param path: Of the object's group.
    :param record: JSON-able; its ``digest`` is what :func:`find_conversion` looks for.
    """
    root[path].attrs[RECORD_ATTRIBUTE] = json.dumps(dict(record), sort_keys=True)


def find_conversion(path: Path, digest: str) -> dict[str, Any] | None:
    """
    Return the record of a conversion in a file on disk, or ``None`` if that conversion did not write there.

    The record's ``path`` is that of the object in the file.

    What cannot be read as HDF5 or Zarr was not written by it either.
    """
    return next((record for record in recorded_conversions(path) if record["digest"] == digest), None)


def recorded_conversions(path: Path) -> list[dict[str, Any]]:
    """
    Return what conversions of this package recorded in a file on disk: a record for each object that they wrote.

    No array is read; none for a path at which there is no file, or none of ours.

    :raises OutputWriteError: If the disk or share fails.
    """
    try:
        storage = open_storage(path)
        with storage.open_groups(path, "r") as root:
            return [
                json.loads(text) | {"path": group.name.strip("/")}
                for group in _groups(root)
                if (text := group.attrs.get(RECORD_ATTRIBUTE))
            ]
    except (SourceDataError, OSError, KeyError, RuntimeError) as error:
        if is_passing(error):
            raise OutputWriteError(
                f"{path} cannot be read at this moment: {error}. Check the disk or network share of its folder."
            ) from error
        if isinstance(error, (SourceDataError, OSError)):
            return []
        raise


def names_in(record: Mapping[str, Any]) -> set[str]:
    """Return the names of the series and tables that the conversion of a record wrote."""
    series = {each["name"] for each in record.get("facts", {}).get("photon_series", ())}
    return series | set(record.get("facts", {}).get("plane_segmentations", ()))


def check_no_other_session(path: Path, name: str) -> None:
    """
    Check that an output is not of another session that has the same name for a file, such as a/b and a_b.

    :param name: Of the session whose output it is to be.
    :raises OutputExistsError: If it is of another.
    """
    for record in recorded_conversions(path):
        other = record.get("session", "")
        if other and share_a_file(name, other):
            raise OutputExistsError(
                f"{path} is the NWB file of the session {other!r}, and that of {name!r} would have the same name. "
                "Rename one of the two folders, or write one of them elsewhere."
            )


def _groups(root: Any) -> Iterator[Any]:
    """Yield the groups in which series and tables are: those of the acquisition and of processing modules."""
    for section in ("acquisition", "processing"):
        if section in root:
            yield from _below(root[section])


def _below(group: Any) -> Iterator[Any]:
    for name in group:
        member = group[name]
        if not hasattr(member, "shape"):
            yield member
            yield from _below(member)
