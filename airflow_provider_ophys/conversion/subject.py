"""Whose session a finished file holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow_provider_ophys.conversion.storages import open_storage
from airflow_provider_ophys.exceptions import SourceDataError

_FIELDS = {"subject_id": "general/subject/subject_id", "session_id": "general/session_id"}


def subject_in(path: Path) -> dict[str, str]:
    """
    Read the ids of the subject and of the session from an NWB file on a disk.

    :returns: ``subject_id`` and ``session_id``, each only if the file has it; nothing if it cannot be read.
    """
    try:
        with open_storage(path).open_groups(path, "r") as root:
            return {name: _text(root[field]) for name, field in _FIELDS.items() if field in root}
    except (SourceDataError, OSError, KeyError, RuntimeError):
        return {}


def _text(dataset: Any) -> str:
    value = dataset[()]
    # Zarr stores a text as an array of one.
    value = value.item() if getattr(value, "size", None) == 1 and hasattr(value, "item") else value
    return value.decode() if isinstance(value, bytes) else str(value)
