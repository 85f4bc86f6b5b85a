"""A new NWBFile from metadata."""

from __future__ import annotations

import logging
from importlib.metadata import version
from uuid import uuid4

from pynwb import NWBFile
from pynwb.file import Subject

from airflow_provider_ophys.models.metadata import Metadata, require_session_start_time

log = logging.getLogger(__name__)


def make_nwbfile(metadata: Metadata) -> NWBFile:
    """
    Make an NWBFile without data, with the session's description and, where given, its subject.

    The software that made it is recorded in ``was_generated_by``. A ``session_start_time`` without a time zone
    is taken as local time of this machine, as pynwb does, and a warning says so.

    :param metadata: Validated; its section ``NWBFile`` is required.
    :raises MetadataError: If it has no ``NWBFile.session_start_time``.
    """
    described = require_session_start_time(metadata)
    if described.session_start_time.tzinfo is None:
        log.warning(
            "NWBFile.session_start_time %s has no time zone; this machine's own is assumed. "
            "Write one, for example +01:00, to be sure.",
            described.session_start_time.isoformat(),
        )
    fields = described.model_dump(exclude_none=True, exclude={"source_script_file_name", "source_script"})
    fields["identifier"] = described.identifier or str(uuid4())
    if described.source_script is not None:
        fields["source_script"] = described.source_script
        fields["source_script_file_name"] = described.source_script_file_name or "unknown"
    subject = metadata.Subject
    return NWBFile(
        **fields,
        subject=None if subject is None else Subject(**subject.model_dump(exclude_none=True)),
        was_generated_by=[
            [package, version(package)] for package in ("airflow-provider-ophys", "roiextractors", "pynwb")
        ],
    )
