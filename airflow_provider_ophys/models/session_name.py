"""What a session is called, and the NWB file that is named after it."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

SUFFIXES = {"hdf5": ".nwb", "zarr": ".nwb.zarr"}


class SessionName(BaseModel):
    """
    What tells one session from others.

    :param folder: Absolute path.
    :param name: Its path below the watched folder, with ``/``; or the folder's name.
    :param subject_id: Of its metadata; ``None`` if nothing says it, as for the next one.
    :param session_id: Of its metadata.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: str
    name: str
    subject_id: str | None = None
    session_id: str | None = None


def nwbfile_path_for(output_folder: Path, name: str, backend: str | None = None) -> Path:
    """
    Return where the NWB file of a session goes.

    Sessions such as ``a/b`` and ``a_b`` get the same path; who writes the second is told
    (:func:`share_a_file`).

    :param output_folder: Of all sessions.
    :param name: Of the session.
    :param backend: ``"hdf5"`` or ``"zarr"``. Default: HDF5.
    """
    return output_folder / (name.replace("/", "_") + SUFFIXES.get(backend or "", SUFFIXES["hdf5"]))


def share_a_file(one: str, other: str) -> bool:
    """Tell whether two sessions, by their names, are two and would get the same file."""
    return one != other and one.replace("/", "_") == other.replace("/", "_")
