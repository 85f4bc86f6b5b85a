"""
Make all calls of the behaviours of one writer: ``python run_side.py reference|ours FOLDER``.

Writes ``FOLDER/outcomes.json``: for each behaviour what was written or returned, or the error.
"""

from __future__ import annotations

import json
import sys
import traceback
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cell_behaviours  # noqa: F401 - registers them
import file_values
import movie_behaviours  # noqa: F401
from calls import BEHAVIOURS


def writer(side: str) -> SimpleNamespace:
    """Return the functions of a writer, under the names that both have."""
    if side == "ours":
        from airflow_provider_ophys import nwb

        names = {name: getattr(nwb, name) for name in nwb.__all__}
    else:
        from neuroconv.tools import roiextractors
        from neuroconv.tools.nwb_helpers import get_default_backend_configuration

        names = {name: value for name, value in vars(roiextractors).items() if name.endswith("_to_nwbfile")}
        names["ImagingExtractorDataChunkIterator"] = roiextractors.roiextractors.ImagingExtractorDataChunkIterator
        names["get_default_backend_configuration"] = get_default_backend_configuration
    return SimpleNamespace(**names, read_chunks=file_values.read_chunks)


def outcome(call: Any, functions: SimpleNamespace, folder: Path) -> dict[str, Any]:
    folder.mkdir(parents=True)
    try:
        result = call(functions, folder)
        if isinstance(result, Path):
            return {"values": file_values.read_values(result)}
        return {"values": file_values.plain(result)}
    except Exception as error:  # noqa: BLE001 - any error is an outcome, which is compared
        return {
            "error": [kind.__name__ for kind in type(error).__mro__],
            "message": str(error),
            "raised": traceback.format_exc(limit=-3),
        }


def main(side: str, folder: Path) -> None:
    warnings.simplefilter("ignore")
    functions = writer(side)
    outcomes = {name: outcome(call, functions, folder / name) for name, call in BEHAVIOURS.items()}
    (folder / "outcomes.json").write_text(json.dumps(outcomes, indent=1))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
