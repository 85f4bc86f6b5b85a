"""
Add to one output again and again, as a task on a host of its own: ``python adding_hosts.py FOLDER NAME COUNT``.

Prints as JSON what was added to it by all.
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path

import h5py

from airflow_provider_ophys.conversion.publishing import publishing
from airflow_provider_ophys.exceptions import OutputBusyError
from airflow_provider_ophys.writing.copying import copy_output
from airflow_provider_ophys.writing.replacement import state_of


def add(output: Path, name: str) -> None:
    if output.is_file():
        with h5py.File(output, "r+") as file:
            file.attrs[name] = 1
        return
    document = json.loads((output / "zarr.json").read_text())
    document["attributes"][name] = 1
    (output / "zarr.json").write_text(json.dumps(document))


def added(output: Path) -> list[str]:
    if output.is_file():
        with h5py.File(output, "r") as file:
            return sorted(set(file.attrs) - {"nwb_version", "object_id"})
    document = json.loads((output / "zarr.json").read_text())
    return sorted(set(document["attributes"]) - {"nwb_version", "object_id"})


def main(folder: str, name: str, count: int) -> None:
    path = Path(folder) / "a.nwb"
    while count:
        try:
            with publishing(path, replace=True, found=state_of(path)) as part:
                copy_output(path, part)
                add(part, f"{name}{count - 1}")
            count -= 1
        except OutputBusyError:
            time.sleep(random.uniform(0, 0.02))  # noqa: S311
    print(json.dumps(added(path)))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
