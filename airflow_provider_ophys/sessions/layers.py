"""Metadata of several origins, one over the other, field by field, with where each field stands."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Any

from airflow_provider_ophys.models.metadata import merge_metadata, spell_nan

# Of these it is remarked if two origins differ: they tell one session from another.
TELLING = frozenset({"NWBFile.session_start_time", "NWBFile.session_id", "Subject.subject_id"})
ASSUMED = "assumed"


class Layers:
    """
    Metadata, and where each of its fields stands.

    :ivar metadata: All that was laid down.
    :ivar sources: Path of a field -> where it stands.
    :ivar remarks: Where two origins contradict each other.
    """

    def __init__(self) -> None:
        self.metadata: dict[str, Any] = {}
        self.sources: dict[str, str] = {}
        self.remarks: list[str] = []

    def lay(self, metadata: Mapping[str, Any], source: str | Mapping[str, str]) -> None:
        """
        Lay metadata over what is there; each of its fields wins.

        :param metadata: In the dict form.
        :param source: Where it stands; or of each of its fields, by path.
        """
        below = dict(leaves(self.metadata))
        for path, value in leaves(metadata):
            where = source if isinstance(source, str) else source.get(path, ASSUMED)
            if path in TELLING and path in below and below[path] != value:
                self.remarks.append(
                    f"{path} is {value!r} by {where}, and {below[path]!r} by {self.sources[path]}; "
                    "the first is taken."
                )
            self.sources = {
                known: said for known, said in self.sources.items() if not known.startswith(f"{path}.")
            }
            self.sources[path] = where
        self.metadata = merge_metadata(self.metadata, metadata)

    def lay_under(self, metadata: Mapping[str, Any], sources: Mapping[str, str]) -> None:
        """
        Lay metadata under what is there; only fields that are not there yet are taken.

        :param sources: Path of a field -> where it stands; those that are not in it are assumed.
        """
        self.metadata = merge_metadata(metadata, self.metadata)
        kept = {path: sources.get(path, ASSUMED) for path, _ in leaves(metadata)}
        present = {path for path, _ in leaves(self.metadata)}
        self.sources = {path: said for path, said in (kept | self.sources).items() if path in present}


def leaves(metadata: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the path of each field, and its value; a list is a value."""
    for key, value in metadata.items():
        where = f"{path}.{key}" if path else str(key)
        if isinstance(value, Mapping):
            yield from leaves(value, where)
        else:
            yield where, value


def in_json(metadata: Any) -> Any:
    """Return metadata as YAML gives it, with dates as ISO 8601, and NaN as JSON can carry it."""
    if isinstance(metadata, Mapping):
        return {str(key): in_json(value) for key, value in metadata.items()}
    if isinstance(metadata, (list, tuple)):
        return [in_json(value) for value in metadata]
    if isinstance(metadata, (dt.datetime, dt.date)):
        return metadata.isoformat()
    return spell_nan(metadata)
