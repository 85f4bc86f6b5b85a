"""Small objects beside the data, such as the manifest: replaced only as what they were last seen to be."""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

from botocore.exceptions import ClientError

from airflow_provider_ophys.staging.checksums import written_crc64nvme
from airflow_provider_ophys.staging.responses import error_code, error_status, etag_of

# Somebody else was faster.
_OVERTAKEN = {"PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey"}


@dataclass(frozen=True, slots=True)
class Document:
    """
    A small object.

    :param etag: Changes with its content; without quotes.
    :param age_seconds: How long ago it was written, both times by the server's clock; to the second.
    """

    content: bytes
    etag: str
    age_seconds: float = 0.0


class Documents:
    """
    The small objects of a bucket.

    :param client: A boto3 S3 client.
    :param bucket: Name of the bucket.
    :param conditional: Whether the store keeps the conditions of a write.
    """

    def __init__(self, client: Any, bucket: str, *, conditional: bool = True) -> None:
        self.client = client
        self.bucket = bucket
        self.conditional = conditional

    def uri(self, key: str) -> str:
        """Name a document for people."""
        return f"s3://{self.bucket}/{key}"

    def read(self, key: str) -> Document | None:
        """Read one, if it is there."""
        try:
            answer = self.client.get_object(Bucket=self.bucket, Key=key)
        except ClientError as error:
            if error_status(error) == HTTPStatus.NOT_FOUND and error_code(error) != "NoSuchBucket":
                return None
            raise
        # Of a server that tells no time, nothing is ever old: what others hold is not taken from them.
        date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        age = (parsedate_to_datetime(date) - answer["LastModified"]).total_seconds() if date else 0.0
        return Document(answer["Body"].read(), etag_of(answer), age)

    def write(self, key: str, content: bytes, *, replaced: Document | None) -> Document | None:
        """
        Write one, if it is still what it was.

        :param replaced: What was there; None where there was nothing.
        :return: What is there now; None if somebody else was faster.
        """
        condition = {"IfMatch": f'"{replaced.etag}"'} if replaced else {"IfNoneMatch": "*"}
        if not self.conditional:
            condition = {}
        try:
            answer = self.client.put_object(
                Bucket=self.bucket,
                Key=key,
                Body=content,
                ContentType="application/json",
                # Given only the algorithm, boto3 sends the checksum after the content over https, which not all
                # stores understand.
                ChecksumCRC64NVME=written_crc64nvme(content),
                **condition,
            )
        except ClientError as error:
            if error_code(error) not in _OVERTAKEN:
                raise
            # The answer to our own first try may have been lost on the way.
            there = self.read(key)
            return there if there and there.content == content else None
        return Document(content, etag_of(answer))

    def remove(self, key: str, document: Document) -> None:
        """Delete one, if it is still what it was."""
        target = {"Bucket": self.bucket, "Key": key}
        try:
            self.client.delete_object(**target, IfMatch=f'"{document.etag}"')
        except ClientError as error:
            if error_status(error) == HTTPStatus.NOT_IMPLEMENTED:
                self.client.delete_object(**target)
            elif error_code(error) not in _OVERTAKEN:
                raise
