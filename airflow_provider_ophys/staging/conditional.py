"""Whether a store keeps the conditions of a write: without them, writers overwrite each other unnoticed."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from uuid import uuid4

from botocore.exceptions import ClientError

from airflow_provider_ophys.exceptions import ConfigurationError
from airflow_provider_ophys.staging.responses import error_code, error_status

_REFUSED = {"PreconditionFailed", "ConditionalRequestConflict"}


def require_conditional_writes(client: Any, bucket: str, key: str, *, in_parts: bool) -> None:
    """
    Try it out with a small object beside what will be written, and remove that.

    :param client: A boto3 S3 client.
    :param bucket: Name of the bucket.
    :param key: Key of what will be written.
    :param in_parts: Whether that will be sent in parts, which has a condition of its own.
    :raises ConfigurationError: If the store ignores conditions or does not know them.
    """
    target = {"Bucket": bucket, "Key": f"{key}.probe-{uuid4().hex}"}
    try:
        client.put_object(**target, Body=b"", IfNoneMatch="*")
        try:
            kept = _is_refused(lambda: client.put_object(**target, Body=b"", IfNoneMatch="*"))
            kept = kept and (not in_parts or _is_refused_in_parts(client, target))
        finally:
            client.delete_object(**target)
    except ClientError as error:
        if error_status(error) != HTTPStatus.NOT_IMPLEMENTED:
            raise
        raise _unsafe(bucket) from error
    if not kept:
        raise _unsafe(bucket)


def _is_refused_in_parts(client: Any, target: dict[str, str]) -> bool:
    upload = {**target, "UploadId": client.create_multipart_upload(**target)["UploadId"]}
    part = client.upload_part(**upload, PartNumber=1, Body=b"x")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    refused = _is_refused(
        lambda: client.complete_multipart_upload(**upload, MultipartUpload=parts, IfNoneMatch="*")
    )
    if refused:
        client.abort_multipart_upload(**upload)
    return refused


def _is_refused(request: Callable[[], object]) -> bool:
    try:
        request()
    except ClientError as error:
        if error_code(error) not in _REFUSED:
            raise
        return True
    return False


def _unsafe(bucket: str) -> ConfigurationError:
    return ConfigurationError(
        f"The server of bucket {bucket!r} does not keep conditions of writes (If-None-Match), so writers could "
        "overwrite each other unnoticed. Nothing was uploaded. Use a store with conditional writes, or set "
        "unsafe_no_conditional=True if never more than one task writes to this destination."
    )
