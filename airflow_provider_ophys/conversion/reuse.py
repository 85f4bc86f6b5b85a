"""Whether what is at an output's path is what a conversion would write, and so need not be written again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from airflow_provider_ophys.conversion.provenance import check_no_other_session, find_conversion
from airflow_provider_ophys.conversion.replacing import Kept, check_replaceable
from airflow_provider_ophys.exceptions import OutputExistsError
from airflow_provider_ophys.models.conversion import Conversion
from airflow_provider_ophys.recordings.state import SourceState

_WAYS_OUT = "Replace it with if_exists='overwrite', add to it with if_exists='append', or write elsewhere."


def existing_record(conversion: Conversion, path: Path, digest: str, kept: Kept) -> dict[str, Any] | None:
    """
    Return the record of this very conversion in an output that exists, if the user wants it reused.

    :raises OutputExistsError: If the output may not be touched and is not this conversion's; says whether it could
        be replaced.
    """
    if conversion.session_name:
        check_no_other_session(path, conversion.session_name)
    if conversion.if_exists in ("overwrite", "fail"):
        check_replaceable(path, kept)
    if conversion.if_exists == "overwrite":
        return None
    if conversion.if_exists == "fail":
        raise OutputExistsError(f"{path} exists already, and if_exists='fail' says to leave it. {_WAYS_OUT}")
    record = find_conversion(path, digest)
    if record is None:
        check_replaceable(path, kept)
    if record is None and conversion.if_exists == "reuse":
        raise OutputExistsError(
            f"{path} exists already and was not written by this conversion: the recording, an option or the "
            f"metadata differ, or something else wrote it. {_WAYS_OUT}"
        )
    return record


def check_proven(
    conversion: Conversion, existing: Mapping[str, Any], source: SourceState, content: Callable[[], str]
) -> None:
    """
    Check that the recording is what an output was made from: by its files' times, or by all of their content.

    :param existing: Record of the conversion in the output.
    :param source: The recording now.
    :param content: Reads all of the recording for a digest of it.
    :raises OutputExistsError: If that is not proven; says why.
    """
    why = why_unproven(conversion, existing, source, content)
    if why is not None:
        raise OutputExistsError(f"{conversion.nwbfile_path} was written by this conversion, {why}. {_WAYS_OUT}")


def why_unproven(
    conversion: Conversion, existing: Mapping[str, Any], source: SourceState, content: Callable[[], str]
) -> str | None:
    """Return what :func:`check_proven` says; ``None`` if it is proven."""
    is_unchanged = existing.get("state", source.digest) == source.digest or source.is_sampled_whole
    if is_unchanged and conversion.reuse == "state":
        return None
    known = existing.get("content")
    if known is not None:
        if known == content():
            return None
        return "but the recording has other content by now, though not where samples of it are compared"
    if conversion.reuse == "content":
        return "with reuse='state': all content of the recording that it was made from is not known"
    return (
        "but files of the recording were written to or copied since, and of files as large as these only "
        "samples are compared. If it is unchanged, give its files their times back (cp -a and rsync -a keep "
        "them); outputs written with reuse='content' need no times"
    )
