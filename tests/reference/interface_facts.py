"""
What the reference's interfaces say of recordings: ``python interface_facts.py RECORDINGS.json``.

Runs in the reference's environment. The file is a list of ``[extractor, arguments]``; for each, the standard
output gets a line of JSON: the fields of ``get_metadata()`` by their path, or a text that says why there are none.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from neuroconv import datainterfaces

# Where an interface is not called as the extractor that it opens.
NAMES = {"ThorTiffImagingExtractor": "ThorImagingInterface"}
RENAMED = {"ScanImageLegacyImagingExtractor": {"sampling_frequency": "fallback_sampling_frequency"}}


def fields_of(extractor: str, arguments: dict[str, Any]) -> dict[str, str] | str:
    interface = getattr(datainterfaces, NAMES.get(extractor, extractor.replace("Extractor", "Interface")), None)
    if interface is None:
        return "no interface"
    renamed = RENAMED.get(extractor, {})
    try:
        opened = interface(**{renamed.get(name, name): value for name, value in arguments.items()})
        return dict(leaves(opened.get_metadata()))
    except Exception as error:  # noqa: BLE001 - any error is a reason
        return f"{type(error).__name__}: {error}"


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if _is_list_of_dicts(value) else None
    if items is None:
        yield path, str(value)
        return
    for key, item in items:
        yield from leaves(item, f"{path}.{key}" if path else str(key))


def _is_list_of_dicts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for extractor, arguments in json.loads(Path(sys.argv[1]).read_text()):
        sys.stdout.write(json.dumps(fields_of(extractor, arguments)) + "\n")
