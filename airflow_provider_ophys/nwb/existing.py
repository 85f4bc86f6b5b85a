"""An NWB file that is on disk: HDF5 or Zarr, told by its content."""

from __future__ import annotations

from pathlib import Path

from airflow_provider_ophys.exceptions import SourceDataError, SourceNotFoundError
from airflow_provider_ophys.models.backend import Backend

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
ZARR_ROOT = "zarr.json"

# Of the group of a series or a table: the record of the conversion that wrote it. NWB readers pass over it.
RECORD_ATTRIBUTE = "airflow_provider_ophys"


def backend_of(path: Path) -> Backend:
    """
    Tell whether an output on disk is HDF5 or Zarr (format 3), from what it is and not from its name.

    :raises SourceNotFoundError: If there is nothing at the path.
    :raises SourceDataError: If it is neither.
    """
    if path.is_dir():
        if (path / ZARR_ROOT).is_file():
            return "zarr"
    elif path.is_file():
        with path.open("rb") as stream:
            if stream.read(len(HDF5_SIGNATURE)) == HDF5_SIGNATURE:
                return "hdf5"
    else:
        raise SourceNotFoundError(f"There is no NWB file at {path}. Check the path.")
    raise SourceDataError(
        f"{path} is neither an HDF5 file nor a Zarr (format 3) store. Move it, or write elsewhere."
    )
