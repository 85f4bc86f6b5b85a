"""Whether a store keeps the conditions of a write: without them, writers overwrite each other unnoticed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from airflow_provider_ophys.exceptions import ConfigurationError
from airflow_provider_ophys.staging.checksums import written_crc64nvme
from airflow_provider_ophys.staging.responses import error_code

_REFUSED = {"PreconditionFailed", "ConditionalRequestConflict"}


def require_conditional_writes(client: Any, bucket: str, key: str, *, in_parts: bool) -> None:
    """
    Try it out with a small object beside what will be written, and remove that; only under the lease.

    :param client: A boto3 S3 client.
    :param bucket: Name of the bucket.
    :param key: Key of what will be written.
    :param in_parts: Whether that will be sent in parts, which has a condition of its own.
    :raises ConfigurationError: If the store ignores conditions.
    """
    target = {"Bucket": bucket, "Key": f"{key}.probe"}

    def is_refused() -> bool:
        crc = written_crc64nvme(b"")
        return _is_refused(lambda: client.put_object(**target, Body=b"", ChecksumCRC64NVME=crc, IfNoneMatch="*"))

    if is_refused():
        # A writer that was killed left it.
        _abort_uploads(client, target)
    try:
        kept = is_refused() and (not in_parts or _is_refused_in_parts(client, target))
    finally:
        client.delete_object(**target)
    if not kept:
        raise ConfigurationError(
            f"The server of bucket {bucket!r} does not keep conditions of writes (If-None-Match), so "
            "writers could overwrite each other unnoticed. Nothing was uploaded. Use a store with conditional "
            "writes, or set "
            "unsafe_no_conditional=True if never more than one task writes to this destination."
        )


def _abort_uploads(client: Any, target: dict[str, str]) -> None:
    left = client.list_multipart_uploads(Bucket=target["Bucket"], Prefix=target["Key"])
    for upload in left.get("Uploads", ()):
        if upload["Key"] == target["Key"]:
            client.abort_multipart_upload(**target, UploadId=upload["UploadId"])


def _is_refused_in_parts(client: Any, target: dict[str, str]) -> bool:
    kind = {"ChecksumType": "FULL_OBJECT"}
    opened = client.create_multipart_upload(**target, ChecksumAlgorithm="CRC64NVME", **kind)
    upload = {**target, "UploadId": opened["UploadId"]}
    crc = {"ChecksumCRC64NVME": written_crc64nvme(b"x")}
    part = client.upload_part(**upload, PartNumber=1, Body=b"x", **crc)
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    refused = _is_refused(
        lambda: client.complete_multipart_upload(**upload, MultipartUpload=parts, IfNoneMatch="*", **kind, **crc)
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
