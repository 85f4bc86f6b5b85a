"""
Whether an NWB file in a Zarr store leads out of the store.

hdmf-zarr keeps links and references as attributes that name the store they lead to, ``"."`` for the same one, and
opens any other that they name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from airflow_provider_ophys.exceptions import SourceDataError
from airflow_provider_ophys.models.folder_contents import walk
from airflow_provider_ophys.recordings.json_headers import read_json_object
from airflow_provider_ophys.recordings.recording import require_within

ATTRIBUTE_FILES = frozenset({"zarr.json", ".zattrs", ".zmetadata"})
LINK_LISTS = frozenset({"_LINKS", "zarr_link"})


def require_no_links_out(store: Path) -> None:
    """
    Check that every link and reference of a store leads to the store itself.

    :param store: Folder of the store.
    :raises SourceDataError: If one does not; names it, and where it stands.
    """
    root = store.resolve()
    files = [
        Path(folder, name) for folder, _, names in walk(store) for name in ATTRIBUTE_FILES.intersection(names)
    ]
    for file in sorted(files):
        require_within(file, root)
        for source in _sources([read_json_object(file)]):
            try:
                leads_out = (root / source).resolve() != root
            except (OSError, RuntimeError, ValueError):
                leads_out = True
            if leads_out:
                raise SourceDataError(
                    f"{file} has a link to {source[:300]!r}, outside of the store {store}. Copy the data into the "
                    "store (NWB's export), or remove the link."
                )


def _sources(values: Iterable[Any]) -> Iterator[str]:
    """Yield the stores that links and references name, however deep they are in attributes."""
    remaining = list(values)
    while remaining:
        value = remaining.pop()
        if isinstance(value, dict):
            if isinstance(value.get("source"), str) and "path" in value:
                yield value["source"]
            for name in LINK_LISTS & value.keys():
                listed = value[name] if isinstance(value[name], list) else []
                # Without a source, the path names the store.
                yield from (str(link["path"]) for link in listed if _has_path_only(link))
            remaining += value.values()
        elif isinstance(value, list):
            remaining += value


def _has_path_only(link: object) -> bool:
    return isinstance(link, dict) and link.get("source") is None and "path" in link
