"""All of a session into one file: where it goes, what it has already, and what is written."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from airflow_provider_ophys.conversion.environment import Environment
from airflow_provider_ophys.conversion.provenance import names_in, recorded_conversions
from airflow_provider_ophys.conversion.publishing import check_output_folder
from airflow_provider_ophys.conversion.recording_errors import naming_recordings
from airflow_provider_ophys.conversion.reuse import check_proven
from airflow_provider_ophys.conversion.run import Run, check_paths, recordings_of, reused_result
from airflow_provider_ophys.exceptions import OphysError, OutputFolderError
from airflow_provider_ophys.models.allowed_roots import check_allowed
from airflow_provider_ophys.models.conversion import SessionConversion
from airflow_provider_ophys.models.output_path import check_output_path
from airflow_provider_ophys.models.result import SessionResult
from airflow_provider_ophys.models.session import Session
from airflow_provider_ophys.models.session_name import nwbfile_path_for
from airflow_provider_ophys.recordings import Recording
from airflow_provider_ophys.recordings.state import SourceState, content_digest, fingerprint
from airflow_provider_ophys.writing.sharing import check_not_stopped

log = logging.getLogger(__name__)


def convert_session(conversion: SessionConversion, environment: Environment | None = None) -> SessionResult:
    """
    Convert all movies and segmentations of a session into one file, at once.

    ``if_exists="reuse"`` adds what is missing to a file that has a part of the session already, from the same
    recordings: the ROIs, say, that were segmented after the movie was converted.

    :param conversion: What to convert and how.
    :param environment: Where it runs.
    :raises OphysError: As :func:`airflow_provider_ophys.conversion.run.convert_imaging` does.
    """
    started = time.monotonic()
    environment = environment or Environment()
    if conversion.if_exists == "reuse" and conversion.names:
        check_paths(conversion, environment)
        records = _records_of(conversion, environment)
        missing = conversion.without(set[str]().union(*map(names_in, records)))
        if records and (missing.parts or len(records) > 1):
            for record in records:
                _check_part(conversion, record, environment)
            if not missing.parts:
                return _reused(conversion, records, started)
            log.info("%s has a part of the session; what it lacks is added.", conversion.nwbfile_path)
            conversion = missing.model_copy(update={"if_exists": "append"})
    return SessionResult(**Run(conversion, environment).convert(), session=conversion.session)


def _records_of(conversion: SessionConversion, environment: Environment) -> list[dict[str, Any]]:
    """Return what conversions of a session left in its file, of the recordings that it has now."""
    path = Path(conversion.nwbfile_path)
    try:
        check_output_folder(check_output_path(path))
        found = {record["digest"]: record for record in recorded_conversions(path)} if path.exists() else {}
        return [record for record in found.values() if _is_part_of(conversion, record, environment)]
    except OphysError:
        return []  # which is told before anything is written


def _is_part_of(conversion: SessionConversion, record: Mapping[str, Any], environment: Environment) -> bool:
    if record.get("session") != conversion.session_name:
        return False
    recordings = _recordings_of_part(conversion, record, environment)
    return bool(recordings) and fingerprint(recordings) == record["recording"]


def _recordings_of_part(
    conversion: SessionConversion, record: Mapping[str, Any], environment: Environment
) -> list[Recording]:
    part = conversion.without(set(conversion.names) - names_in(record))
    return recordings_of(part, allow_pickle=environment.defaults.allow_pickle)


def _check_part(conversion: SessionConversion, record: Mapping[str, Any], environment: Environment) -> None:
    """
    Check that a part of a session is still what its file has of it.

    :param record: Of the conversion that wrote the part.
    :raises OutputExistsError: As :func:`check_proven` does.
    """
    recordings = _recordings_of_part(conversion, record, environment)
    with naming_recordings(recordings):
        content = partial(content_digest, recordings, partial(check_not_stopped, environment.stop))
        check_proven(conversion, record, SourceState.of(recordings), content)


def _reused(conversion: SessionConversion, records: Sequence[Mapping[str, Any]], started: float) -> SessionResult:
    """Return what several conversions have written, together."""
    facts: dict[str, Any] = {}
    for record in records:
        for name, value in record["facts"].items():
            known = facts.get(name)
            if isinstance(value, list) and name != "sample_shape":
                facts[name] = [*(known or []), *(item for item in value if item not in (known or []))]
            else:
                facts[name] = known + value if known and name == "num_rois" else known or value
    is_valid = all(record["validation"] == "valid" for record in records)
    remarks = dict.fromkeys(remark for record in records for remark in record.get("remarks", []))
    whole = {"facts": facts, "validation": "valid" if is_valid else "not validated", "remarks": list(remarks)}
    return SessionResult(**reused_result(conversion, whole, started), session=conversion.session)


def has_all_of(path: Path, session: Session) -> bool:
    """Tell whether conversions of a session have written all of it into a file, by the names of its parts."""
    records = recorded_conversions(path) if path.exists() else []
    written = set[str]().union(*(names_in(record) for record in records if record.get("session") == session.name))
    return written >= set(session.names)


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
