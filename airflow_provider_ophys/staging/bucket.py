"""The requests that staging makes of a bucket; each that sends bytes carries their checksum."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, NamedTuple

# Only publication imports this module, and operators import it inside execute().
from botocore.exceptions import ClientError

from airflow_provider_ophys.exceptions import StagingConflictError, StagingError
from airflow_provider_ophys.staging.checksums import Digest, crc64nvme, digest, digest_of, md5
from airflow_provider_ophys.staging.comparison import RemoteObject
from airflow_provider_ophys.staging.files import PART_SIZE, Part, SourceFile
from airflow_provider_ophys.staging.listing import short_listings
from airflow_provider_ophys.staging.multipart import send_in_parts
from airflow_provider_ophys.staging.parallel import Workers
from airflow_provider_ophys.staging.repetition import RepeatedPuts
from airflow_provider_ophys.staging.responses import check_stored, error_code, error_status, etag_of

DELETE_BATCH = 1000
# Somebody else was faster, or an answer was lost and the request sent again: look at what is there now.
_OVERTAKEN = {"PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "NoSuchUpload"}


class Sent(NamedTuple):
    """
    What came of a file that was to be sent.

    :param stored: The checksum of the whole and the object's own ETag.
    :param content: What S3 says of such an object where it uses no encryption keys of its own; None if that was
        not asked for.
    :param was_sent: False if somebody else had just put the same content there.
    """

    stored: Digest
    content: Digest | None
    was_sent: bool = True


class Bucket:
    """
    One bucket, seen through a boto3 client.

    :param client: A boto3 S3 client whose connection pool holds as many connections as there are workers.
    :param name: Name of the bucket.
    :param workers: Who reads and sends the files.
    :param conditional: Whether the store keeps the conditions of a write.
    """

    def __init__(self, client: Any, name: str, workers: Workers, *, conditional: bool = True) -> None:
        self.client = client
        self.name = name
        self.workers = workers
        self.conditional = conditional
        self._puts = RepeatedPuts(client)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Spare boto3 what costs most of its time, in listings and in uploads of many small files."""
        with short_listings(self.client), self._puts.remembered():
            yield

    def list_object(self, key: str) -> dict[str, RemoteObject]:
        """List the object of one key, if it is there, by its key."""
        # Listings are sorted, but some servers put what is below "key/" first: the delimiter leaves that out.
        page = self.client.list_objects_v2(Bucket=self.name, Prefix=key, Delimiter="/", MaxKeys=10)
        return {found.key: found for found in _objects([page]) if found.key == key}

    def list_tree(self, key: str) -> dict[str, RemoteObject]:
        """List all objects below ``key`` and a slash, by their keys."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=f"{key}/")
        return {found.key: found for found in _objects(pages)}

    def digest(self, file: SourceFile) -> Digest:
        """Read a file and compute what S3 would say of it."""
        if file.size <= PART_SIZE:
            return digest_of(file.content())

        def read(descriptor: int, part: Part) -> tuple[int, int, bytes]:
            content = file.read(descriptor, part)
            return crc64nvme(content), part.size, md5(content)

        return digest(self.workers.each_part(file, read))

    def confirm(self, file: SourceFile, expected: Digest) -> Digest | None:
        """
        Ask for the checksum of one object: slower than a listing, and certain whatever its ETag means.

        :return: The checksum and the object's own ETag if it has the file's content, else None.
        """
        try:
            answer = self.client.head_object(Bucket=self.name, Key=file.key, ChecksumMode="ENABLED")
        except ClientError as error:
            if error_status(error) == HTTPStatus.NOT_FOUND:
                return None
            raise
        etag = etag_of(answer)
        if answer["ContentLength"] != file.size:
            return None
        if etag == expected.etag or answer.get("ChecksumCRC64NVME") == expected.crc64nvme:
            return Digest(expected.crc64nvme, etag)
        return None

    def send(self, file: SourceFile, *, replaced: RemoteObject | None, with_md5: bool) -> Sent:
        """
        Upload one file, unless somebody else just put the same content there.

        :param file: What to upload.
        :param replaced: The object that it replaces; None where there must be none.
        :param with_md5: Whether the content's MD5 is needed, which takes longer to compute than all else.
        :raises StagingConflictError: If somebody else put other content there.
        :raises StagingError: If the file changes meanwhile or the server stores something else.
        """
        self.workers.check_stopped()
        condition = {"IfMatch": f'"{replaced.etag}"'} if replaced else {"IfNoneMatch": "*"}
        if not self.conditional:
            condition = {}
        try:
            if file.size <= PART_SIZE:
                return self._put(file, condition)
            parts = send_in_parts(self.client, self.name, file, condition, self.workers, with_md5=with_md5)
            return Sent(*parts)
        except ClientError as error:
            if error_code(error) not in _OVERTAKEN:
                raise
            return self._accept_if_same(file, error)

    def delete(self, keys: Sequence[str]) -> None:
        """
        Delete objects.

        :raises StagingError: If one of them cannot be deleted.
        """
        for start in range(0, len(keys), DELETE_BATCH):
            batch = [{"Key": key} for key in keys[start : start + DELETE_BATCH]]
            answer = self.client.delete_objects(Bucket=self.name, Delete={"Objects": batch, "Quiet": True})
            if failed := answer.get("Errors"):
                raise StagingError(
                    f"{len(failed)} objects of earlier content could not be deleted, the first is "
                    f"s3://{self.name}/{failed[0].get('Key')} ({failed[0].get('Code')}). Allow s3:DeleteObject "
                    "there, or try again."
                )

    def _put(self, file: SourceFile, condition: Mapping[str, str]) -> Sent:
        content = file.content()
        own = digest_of(content)
        answer = self._puts.put(self.name, file.key, content, own.crc64nvme, condition)
        check_stored(file, answer, own.crc64nvme, lambda: own.etag)
        self.workers.progress.advance(file.size)
        return Sent(Digest(own.crc64nvme, etag_of(answer)), own)

    def _accept_if_same(self, file: SourceFile, error: ClientError) -> Sent:
        own = self.digest(file)
        confirmed = self.confirm(file, own)
        if confirmed:
            return Sent(confirmed, own, was_sent=False)
        uri = f"s3://{self.name}/{file.key}"
        if error_code(error) == "PreconditionFailed" and self.list_object(file.key):
            raise StagingConflictError(
                f"Another writer put other content at {uri} while it was being staged; that was left as it is. "
                "Have only one task stage to this destination, or choose another one."
            ) from error
        raise StagingError(
            f"Another writer interfered with the upload to {uri} ({error_code(error)}). Try again when it is done."
        ) from error


def _objects(pages: Any) -> Iterator[RemoteObject]:
    for page in pages:
        for entry in page.get("Contents", ()):
            yield RemoteObject(entry["Key"], entry["Size"], etag_of(entry))
