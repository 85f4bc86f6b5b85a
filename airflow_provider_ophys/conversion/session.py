"""Where the NWB file of a session goes, and what is missing from it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from airflow_provider_ophys.conversion.provenance import recorded_conversions
from airflow_provider_ophys.exceptions import OutputFolderError
from airflow_provider_ophys.models.allowed_roots import check_allowed
from airflow_provider_ophys.models.output_path import check_output_path
from airflow_provider_ophys.models.session import Session
from airflow_provider_ophys.models.session_name import nwbfile_path_for, share_a_file


def missing_from(session: Session, nwbfile_path: Path) -> Session:
    """
    Return of a session what this package has not written into a file yet, by the names of series and tables.

    :param nwbfile_path: There need be none.
    """
    written: set[str] = set()
    for record in recorded_conversions(nwbfile_path) if nwbfile_path.exists() else ():
        if share_a_file(session.name, record.get("session", "")):
            continue
        written |= {series["name"] for series in record["facts"].get("photon_series", ())}
        written |= set(record["facts"].get("plane_segmentations", ()))
    return session.model_copy(
        update={
            "imaging": [movie for movie in session.imaging if movie.name not in written],
            "segmentation": [one for one in session.segmentation if one.name not in written],
        }
    )


def make_nwbfile_path(
    output_folder: str | os.PathLike[str], name: str, backend: str | None, allowed_roots: Sequence[Path]
) -> Path:
    """
    Return where the NWB file of a session goes, in a folder that is made if it is not there.

    :param output_folder: Of all sessions, absolute.
    :param name: Of the session.
    :param backend: As :func:`airflow_provider_ophys.models.session_name.nwbfile_path_for` takes it.
    :param allowed_roots: Folders that it has to lead into; none means that all are allowed.
    :raises PathNotAllowedError: If it leads elsewhere.
    :raises OutputFolderError: If it cannot be made.
    """
    folder = check_output_path(output_folder, option="output_folder")
    check_allowed("output_folder", folder, allowed_roots)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputFolderError(
            f"The output folder {folder} cannot be made: {error.strerror}. Check the path, and who owns the "
            "folder above it."
        ) from error
    return nwbfile_path_for(folder, name, backend)
