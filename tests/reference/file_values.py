"""Every value of an NWB file, by where it stands, as plain data: what two files are compared by."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from hdmf_zarr import NWBZarrIO
from pynwb import NWBHDF5IO, NWBFile
from pynwb.core import NWBContainer

# Different in any two files, or how a file refers to itself.
PASSED_OVER = {"file_create_date", "timestamps_reference_time", "id", "parent"}


def read_values(path: Path) -> dict[str, Any]:
    io = NWBZarrIO(str(path), "r") if path.is_dir() else NWBHDF5IO(path, "r", load_namespaces=True)
    with io:
        return _values_of(io.read())


def read_chunks(path: Path, location: str) -> list[int]:
    if path.is_dir():
        import zarr

        return list(zarr.open(str(path), mode="r")[location].chunks)
    with h5py.File(path) as file:
        return list(file[location].chunks)


def _values_of(nwbfile: NWBFile) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for container in nwbfile.objects.values():
        place = _place_of(container)
        values[f"{place}.type"] = type(container).__name__
        data = {"data": container.data} if hasattr(container, "data") else {}
        for name, value in (data | container.fields).items():
            if name not in PASSED_OVER and not _holds_containers(value):
                values[f"{place}.{name}"] = plain(value)
    return values


def _place_of(container: Any) -> str:
    names = []
    while container.parent is not None:
        names.append(container.name)
        container = container.parent
    return "/" + "/".join(reversed(names))


def _holds_containers(value: Any) -> bool:
    """Tell whether these are members, which are told of by themselves."""
    if isinstance(value, (list, tuple)):
        return bool(value) and isinstance(value[0], NWBContainer)
    return isinstance(value, dict)


def plain(value: Any) -> Any:
    """Return a value as JSON has it; an array with its number type."""
    if hasattr(value, "object_id"):
        return f"-> {_place_of(value)}"
    if getattr(value, "shape", ()):
        array = np.asarray(value[:])
        return {"dtype": str(array.dtype.newbyteorder("=")), "values": plain(array.tolist())}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    value = value.item() if isinstance(value, np.generic) else value
    value = value.decode() if isinstance(value, bytes) else value
    is_number = isinstance(value, (int, float)) and not math.isnan(value)
    return value if is_number or value is None else str(value)
