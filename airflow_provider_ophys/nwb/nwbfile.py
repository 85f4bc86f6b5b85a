"""A new NWBFile from metadata."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from importlib.metadata import version
from typing import Any
from uuid import uuid4

from pynwb import NWBFile, ProcessingModule
from pynwb.file import Subject

from airflow_provider_ophys.models.metadata import require_session_start_time
from airflow_provider_ophys.models.metadata_sections import Metadata
from airflow_provider_ophys.models.recording import Kind
from airflow_provider_ophys.models.remarks import remark
from airflow_provider_ophys.opened_recordings import files_behind


def read_from(kind: Kind, extractor: object) -> str:
    """
    Say what an object of a file was read with and from: NWB has ``comments`` for that.

    :param kind: What the extractor reads.
    :param extractor: It may have read many files; the first ones are named.
    """
    files = files_behind(kind, extractor)
    return (
        f"Read {f'from {files} ' if files else ''}with {type(extractor).__name__} of roiextractors "
        f"{version('roiextractors')} by airflow-provider-ophys {version('airflow-provider-ophys')}."
    )


def make_nwbfile(metadata: Metadata) -> NWBFile:
    """
    Make an NWBFile without data, with the session's description and, where given, its subject.

    The software that made it is recorded in ``was_generated_by``. Times without a time zone are taken as local
    time of this machine, as pynwb does, with a remark.

    :param metadata: Validated; its section ``NWBFile`` is required.
    :raises MetadataError: If it has no ``NWBFile.session_start_time``.
    """
    described = require_session_start_time(metadata)
    for name, time in _naive_times(metadata):
        remark(
            f"{name} {time.isoformat()} has no time zone and was taken as {_zoned(time).isoformat()}, local time "
            "of the machine that wrote the file. Write one, for example +01:00, to be sure."
        )
    fields = described.model_dump(
        exclude_none=True, exclude={"source_script_file_name", "source_script", "was_generated_by"}
    )
    fields["identifier"] = described.identifier or str(uuid4())
    if described.source_script is not None:
        fields["source_script"] = described.source_script
        fields["source_script_file_name"] = described.source_script_file_name or "unknown"
    software = [[package, version(package)] for package in ("airflow-provider-ophys", "roiextractors", "pynwb")]
    nwbfile = NWBFile(
        **_with_zones(fields), was_generated_by=[*map(list, described.was_generated_by or ()), *software]
    )
    add_subject(nwbfile, metadata)
    return nwbfile


def add_subject(nwbfile: NWBFile, metadata: Metadata) -> None:
    """Add the subject of the metadata, if there is one, to an NWBFile that has none."""
    if metadata.Subject is not None and nwbfile.subject is None:
        nwbfile.subject = Subject(**_with_zones(metadata.Subject.model_dump(exclude_none=True)))


def ophys_module(nwbfile: NWBFile) -> ProcessingModule:
    """Return the processing module ``ophys``; make it if it is not there."""
    if "ophys" in nwbfile.processing:
        return nwbfile.processing["ophys"]
    return nwbfile.create_processing_module(name="ophys", description="Processed optical physiology data.")


def _naive_times(metadata: Metadata) -> Iterator[tuple[str, datetime]]:
    """Yield the times of a new file that have no time zone, and what they are called."""
    for section, described in (("NWBFile", metadata.NWBFile), ("Subject", metadata.Subject)):
        for name, value in described or ():
            if isinstance(value, datetime) and value.tzinfo is None:
                yield f"{section}.{name}", value


def _with_zones(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _zoned(value) if isinstance(value, datetime) else value for name, value in fields.items()}


def _zoned(time: datetime) -> datetime:
    return time.astimezone() if time.tzinfo is None else time
