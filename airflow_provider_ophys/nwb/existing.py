"""An NWB file that is on disk: HDF5 or Zarr, told by its content."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import Any

from airflow_provider_ophys.exceptions import SourceDataError, SourceNotFoundError, is_passing
from airflow_provider_ophys.models.backend import Backend
from airflow_provider_ophys.writing.network_shares import read_small
from airflow_provider_ophys.writing.replacement import ROOT_DOCUMENTS, settle

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
ZARR_ROOT = "zarr.json"

# Of a group, of an array and of either, in Zarr format 2 and 3; what is in an array's folder besides are chunks:
# "c/0/1" and "c.0.1", "c" of a scalar, and without the "c" as format 2 has them.
ARRAY_DOCUMENTS = frozenset({ZARR_ROOT, ".zarray", ".zattrs"})
CHUNK = re.compile(r"c|(c[/.])?\d+([/.]\d+)*")
# What a writer that was killed leaves of a chunk: ours, and zarr-python's.
UNFINISHED = re.compile(r"(.*/)?(\..+\.[0-9a-f]{8}\.part|.+\.[0-9a-f]{32}\.partial)")
# What operating systems and file servers put into every folder.
LITTER = re.compile(r"(.*/)?(\.DS_Store|\._.*|Thumbs\.db|desktop\.ini|\.nfs[0-9a-f]+)")

# Of the group of a series or a table: the record of the conversion that wrote it. NWB readers pass over it.
RECORD_ATTRIBUTE = "airflow_provider_ophys"


def backend_of(path: Path) -> Backend:
    """
    Tell whether an output on disk is HDF5 or Zarr (format 3), from what it is and not from its name.

    A replacement of it that was interrupted is finished before, or taken back.

    :raises SourceNotFoundError: If there is nothing at the path.
    :raises SourceDataError: If it is neither.
    """
    settle(path)
    if path.is_dir():
        if (path / ZARR_ROOT).is_file():
            return "zarr"
    elif path.is_file():
        if _has_hdf5_signature(path):
            return "hdf5"
    else:
        raise SourceNotFoundError(f"There is no NWB file at {path}. Check the path.")
    raise SourceDataError(
        f"{path} is neither an HDF5 file nor a Zarr (format 3) store. Move it, or write elsewhere."
    )


def _has_hdf5_signature(path: Path) -> bool:
    return read_small(path, len(HDF5_SIGNATURE)) == HDF5_SIGNATURE


def find_foreign(path: Path) -> str | None:
    """
    Tell what keeps a path from being an NWB file or an NWB Zarr store (format 2 or 3), and nothing else.

    :param path: Of a file or folder; links are followed.
    :returns: The reason, to stand after the path and "cannot be replaced: "; ``None`` if there is none.
    :raises OSError: If the disk or share fails at this moment.
    """
    try:
        return _foreign(path)
    except Exception as error:
        if is_passing(error):
            raise
    # HDF5 does not always tell of a disk that fails for a moment.
    try:
        return _foreign(path)
    except Exception as error:
        if is_passing(error):
            raise
        return f"it cannot be read as an NWB file ({type(error).__name__}: {error})"


def _foreign(path: Path) -> str | None:
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        return _foreign_in_folder(path)
    return _foreign_file(path) if stat.S_ISREG(mode) else "it is neither a file nor a folder"


def _foreign_file(path: Path) -> str | None:
    import h5py

    if not _has_hdf5_signature(path):
        return "it is a file that is not HDF5"
    try:
        # Without a lock: only an attribute is read, and whoever has the file open keeps it.
        file = h5py.File(path, "r", locking=False)
    except OSError:
        # HDF5 opens a file only in the way in which this process has it open already.
        file = h5py.File(path, "r")
    with file:
        return None if "nwb_version" in file.attrs else "it is an HDF5 file without NWB's nwb_version"


def _foreign_in_folder(path: Path) -> str | None:
    if (path / ZARR_ROOT).is_file():
        attributes = _document(path / ZARR_ROOT).get("attributes")
    elif (path / ".zgroup").is_file():
        attributes = _document(path / ".zattrs") if (path / ".zattrs").is_file() else {}
    else:
        return "it is a folder that is no Zarr store"
    if not isinstance(attributes, dict) or "nwb_version" not in attributes:
        return "it is a Zarr store without NWB's nwb_version"
    stray = _find_stray(path)
    return None if stray is None else f"it holds {stray}, which is not the store's"


def _find_stray(group: Path, below: str = "") -> str | None:
    """Return the first thing below a group's folder that no Zarr store has there."""
    for entry in sorted(os.scandir(group), key=lambda entry: entry.name):
        name = f"{below}{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            if _is_array(Path(entry)):
                stray = _find_stray_in_array(Path(entry), name)
            elif any((Path(entry) / document).is_file() for document in ROOT_DOCUMENTS):
                stray = _find_stray(Path(entry), f"{name}/")
            else:
                stray = name
            if stray is not None:
                return stray
        elif not entry.is_file(follow_symlinks=False) or not (
            entry.name in ROOT_DOCUMENTS or UNFINISHED.fullmatch(entry.name) or LITTER.fullmatch(entry.name)
        ):
            return name
    return None


def _is_array(folder: Path) -> bool:
    if (folder / ZARR_ROOT).is_file():
        return _document(folder / ZARR_ROOT).get("node_type") == "array"
    return (folder / ".zarray").is_file()


def _find_stray_in_array(array: Path, name: str) -> str | None:
    for folder, folders, files in array.walk(on_error=_raise):
        inside = "" if folder == array else f"{folder.relative_to(array).as_posix()}/"
        for file in sorted(files):
            relative = inside + file
            known = relative in ARRAY_DOCUMENTS or any(
                kind.fullmatch(relative) for kind in (CHUNK, UNFINISHED, LITTER)
            )
            if not known or (folder / file).is_symlink() or not (folder / file).is_file():
                return f"{name}/{relative}"
        for below in sorted(folders):
            if not CHUNK.fullmatch(inside + below) or (folder / below).is_symlink():
                return f"{name}/{inside}{below}"
    return None


def _raise(error: OSError) -> None:
    raise error


def _document(file: Path) -> dict[str, Any]:
    content = json.loads(read_small(file))
    if not isinstance(content, dict):
        raise SourceDataError(f"{file} holds no mapping")
    return content
