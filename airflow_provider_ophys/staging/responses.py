"""What boto3's answers and errors say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from airflow_provider_ophys.exceptions import StagingError
from airflow_provider_ophys.staging.files import SourceFile


def etag_of(entry: Mapping[str, Any]) -> str:
    """Give the ETag of an answer or a listed object, without its quotes."""
    return str(entry.get("ETag", "")).strip('"')


def error_code(error: Any) -> str:
    """Give the code of a ``botocore.exceptions.ClientError``, such as ``NoSuchBucket``."""
    return str(error.response.get("Error", {}).get("Code", ""))


def error_status(error: Any) -> int:
    """Give the HTTP status of a ``botocore.exceptions.ClientError``."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def check_stored(file: SourceFile, answer: Mapping[str, Any], crc: str, expected_etag: Callable[[], str]) -> None:
    """
    Check that the server confirms our checksum or, when it knows none, that its ETag is the MD5.

    :raises StagingError: If it does neither.
    """
    if answer.get("ChecksumCRC64NVME") != crc and etag_of(answer) != expected_etag():
        raise StagingError(
            f"The server did not confirm that it stored what was sent of {file.path}: neither its checksum nor "
            "its ETag fits. Try again; if it stays so, do not trust this store with the data."
        )
