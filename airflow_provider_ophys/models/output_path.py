"""Where an output goes, and what its name says of it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from airflow_provider_ophys.exceptions import ConfigurationError
from airflow_provider_ophys.models.backend import Backend

# Also of what a Path has made of an address: "s3:/bucket/key".
ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")

# Not ".nwb", which is the name of both.
BACKEND_BY_SUFFIX: dict[str, Backend] = {".zarr": "zarr", ".h5": "hdf5", ".hdf5": "hdf5"}


def check_output_path(
    value: str | os.PathLike[str], *, relative: bool = False, option: str = "nwbfile_path"
) -> Path:
    """
    Check the path of an output, as far as it can be without looking at the disk.

    :param value: A text or a path.
    :param relative: Whether it may be relative, as in a script that knows its working folder.
    :param option: What it is called in messages.
    :raises ConfigurationError: If it is none, an address of an object store, or relative to the folder that the
        worker happens to run in.
    """
    path = os.fspath(value)
    if not path.strip() or "\0" in path:
        raise ConfigurationError(f"{option} {path!r} is not a path. Correct it.")
    if address := ADDRESS.match(path):
        then = "stage it from there with StageToS3Operator" if address[1] == "s3" else "copy it from there"
        raise ConfigurationError(
            f"{option} {path!r} is an address, and outputs are written to local paths. Write to a folder that "
            f"the workers share, and {then}."
        )
    if not relative and not Path(path).is_absolute():
        raise ConfigurationError(
            f"{option} {path!r} is relative, and would go into the folder that the worker happens to run in. "
            "Write the absolute path."
        )
    return Path(path)


def choose_backend(path: Path, given: Backend | None) -> Backend:
    """
    Return the backend of a new file: the one given, or the one that its name says, or HDF5.

    :param path: Names that end in ``.zarr``, ``.h5`` and ``.hdf5`` say one; ``.nwb`` is used for both.
    :param given: What the user chose.
    :raises ConfigurationError: If the name says another than was given.
    """
    named = BACKEND_BY_SUFFIX.get(path.suffix.lower())
    if given is not None and named not in (None, given):
        raise ConfigurationError(
            f"{path} is to be {given!r}, but its name says {named!r}, which readers go by. Change the name or the "
            "backend."
        )
    return given or named or "hdf5"


def spell_paths(value: Any) -> Any:
    """Return a value with every path in it as a text, so that it can travel as JSON; all else as it is."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, dict):
        return {key: spell_paths(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [spell_paths(item) for item in value]
    return value
