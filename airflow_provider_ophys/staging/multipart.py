"""A big file as one object: sent in parts, taken up again after a kill, and visible only when it is whole."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

# Only publication imports this module, and operators import it inside execute().
from botocore.exceptions import BotoCoreError, ClientError

from airflow_provider_ophys.staging.checksums import Digest, combined_crc64nvme, crc64nvme, digest, md5
from airflow_provider_ophys.staging.files import Part, SourceFile
from airflow_provider_ophys.staging.parallel import Workers
from airflow_provider_ophys.staging.responses import check_stored, error_code, etag_of

log = logging.getLogger(__name__)

_CANNOT_LIST_UPLOADS = {"AccessDenied", "NotImplemented", "MethodNotAllowed"}


class SentPart(NamedTuple):
    """A part that the server holds; its MD5 is empty if that was not needed."""

    crc: int
    size: int
    md5: bytes
    etag: str


class OpenUpload(NamedTuple):
    """
    A multipart upload that is not complete yet.

    :param target: The arguments ``Bucket``, ``Key`` and ``UploadId`` of all its requests.
    :param stored: The ETags of parts that an earlier run left in it.
    """

    target: dict[str, str]
    stored: dict[Part, str]


def send_in_parts(
    client: Any, bucket: str, file: SourceFile, condition: Mapping[str, str], workers: Workers, *, with_md5: bool
) -> tuple[Digest, Digest | None]:
    """
    Upload a file in parts; no unfinished upload stays behind unless this process is killed.

    :param client: A boto3 S3 client.
    :param bucket: Name of the bucket.
    :param file: What to upload.
    :param condition: ``IfNoneMatch`` or ``IfMatch``, on which the object appears.
    :param workers: Who reads and sends the parts.
    :param with_md5: Whether the content's MD5 is needed.
    :return: The checksum of the whole and the object's ETag; the same with the ETag that the content's MD5 makes,
        or None.
    :raises StagingError: If the file changes meanwhile or the server stores something else.
    """
    upload = _left_upload(client, bucket, file) or _new_upload(client, bucket, file)

    def send(descriptor: int, part: Part) -> SentPart:
        sent_part = _send_part(client, file, upload, file.read(descriptor, part), part, with_md5=with_md5)
        workers.progress.advance(part.size)
        return sent_part

    try:
        sent = workers.each_part(file, send)
        workers.check_stopped()
        crc = combined_crc64nvme([(part.crc, part.size) for part in sent])
        answer = client.complete_multipart_upload(
            **upload.target,
            MultipartUpload={
                "Parts": [{"PartNumber": number, "ETag": part.etag} for number, part in enumerate(sent, 1)]
            },
            ChecksumType="FULL_OBJECT",
            ChecksumCRC64NVME=crc,
            MpuObjectSize=file.size,
            **condition,
        )
    except BaseException:  # also what Airflow raises when a task's time is over
        _abort(client, upload)
        raise
    check_stored(file, answer, crc, lambda: _etag_of_parts(sent))
    own = digest([(part.crc, part.size, part.md5) for part in sent]) if with_md5 else None
    return Digest(crc, etag_of(answer)), own


def _send_part(
    client: Any, file: SourceFile, upload: OpenUpload, content: bytes, part: Part, *, with_md5: bool
) -> SentPart:
    checksum = crc64nvme(content)
    content_md5 = md5(content) if with_md5 or part in upload.stored else b""
    if content_md5 and upload.stored.get(part) == content_md5.hex():
        return SentPart(checksum, part.size, content_md5, upload.stored[part])
    crc = combined_crc64nvme([(checksum, part.size)])
    answer = client.upload_part(**upload.target, PartNumber=part.number, Body=content, ChecksumCRC64NVME=crc)
    check_stored(file, answer, crc, lambda: md5(content).hex())
    return SentPart(checksum, part.size, content_md5, etag_of(answer))


def _new_upload(client: Any, bucket: str, file: SourceFile) -> OpenUpload:
    opened = client.create_multipart_upload(
        Bucket=bucket, Key=file.key, ChecksumAlgorithm="CRC64NVME", ChecksumType="FULL_OBJECT"
    )
    return OpenUpload({"Bucket": bucket, "Key": file.key, "UploadId": opened["UploadId"]}, {})


def _left_upload(client: Any, bucket: str, file: SourceFile) -> OpenUpload | None:
    """Find the newest upload of this key that a killed run left open, and its parts."""
    try:
        pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=file.key)
        left = [upload for page in pages for upload in page.get("Uploads", ()) if _is_like_ours(upload, file)]
    except ClientError as error:
        if error_code(error) in _CANNOT_LIST_UPLOADS:
            return None
        raise
    if not left:
        return None
    left.sort(key=lambda upload: upload["Initiated"])
    *older, target = [{"Bucket": bucket, "Key": file.key, "UploadId": upload["UploadId"]} for upload in left]
    for forgotten in older:
        # The lease is ours, so nobody is at work on them; and what is stored in them costs money.
        _abort(client, OpenUpload(forgotten, {}))
    there = {
        (entry["PartNumber"], entry["Size"]): etag_of(entry)
        for page in client.get_paginator("list_parts").paginate(**target)
        for entry in page.get("Parts", ())
    }
    stored = {part: there[part.number, part.size] for part in file.parts() if (part.number, part.size) in there}
    log.info("An interrupted upload of %s is taken up: %d parts are there.", file.path, len(stored))
    return OpenUpload(target, stored)


def _is_like_ours(upload: Mapping[str, Any], file: SourceFile) -> bool:
    # An upload with another kind of checksum could not be completed as ours; some servers do not tell.
    kind = upload.get("ChecksumAlgorithm", "CRC64NVME"), upload.get("ChecksumType", "FULL_OBJECT")
    return bool(upload["Key"] == file.key) and kind == ("CRC64NVME", "FULL_OBJECT")


def _abort(client: Any, upload: OpenUpload) -> None:
    try:
        client.abort_multipart_upload(**upload.target)
    except (BotoCoreError, ClientError) as error:
        if not (isinstance(error, ClientError) and error_code(error) == "NoSuchUpload"):
            log.warning(
                "The unfinished upload of s3://%s/%s could not be removed (%s); the next run takes it up.",
                *(upload.target["Bucket"], upload.target["Key"], type(error).__name__),
            )


def _etag_of_parts(parts: Sequence[SentPart]) -> str:
    try:
        return f"{md5(b''.join(bytes.fromhex(part.etag) for part in parts)).hex()}-{len(parts)}"
    except ValueError:
        return "unknown, the parts have no MD5"
