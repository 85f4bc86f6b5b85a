"""Headers that are JSON files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_provider_ophys.exceptions import SourceDataError
from airflow_provider_ophys.recordings.bounded_files import read_bounded

MOST_BYTES = 8 * 1024 * 1024


def read_json_object(file: Path) -> dict[str, Any]:
    """
    Read a JSON file that holds an object.

    :param file: At most 8 MiB.
    :raises SourceNotFoundError: If it does not exist.
    :raises SourceDataError: If it is no regular file, too large, no JSON, or no object.
    """
    text = read_bounded(file, MOST_BYTES)
    try:
        content = json.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise SourceDataError(
            f"{file} cannot be read: {type(error).__name__}: {str(error)[:200]}. Check that it was copied "
            "completely."
        ) from error
    if not isinstance(content, dict):
        raise SourceDataError(f"{file} holds a JSON {type(content).__name__}, not an object. Copy it again.")
    return content


def scalar(content: Mapping[str, Any], name: str) -> str | int | float | None:
    """Return a text or a number of a JSON object, ``None`` for all else: it may hold anything."""
    value = content.get(name)
    return value if isinstance(value, (str, int, float)) and not isinstance(value, bool) else None
