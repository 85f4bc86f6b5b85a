"""S3, or a store that speaks its protocol, through boto3; each request that sends bytes has their checksum."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Self

from botocore.exceptions import ClientError

from airflow_provider_ophys.exceptions import StagingError
from airflow_provider_ophys.staging.files import Part
from airflow_provider_ophys.staging.s3_errors import error_code, error_status, explained
from airflow_provider_ophys.staging.s3_shortcuts import RepeatedPuts, short_listings
from airflow_provider_ophys.staging.store import (
    ABSENT,
    ConditionNotMetError,
    Details,
    Document,
    OpenUpload,
    RemoteObject,
    Stored,
    StoredPart,
)

DELETE_BATCH = 1000
_CANNOT_LIST_UPLOADS = {"AccessDenied", "NotImplemented", "MethodNotAllowed"}
# What may go with every request, so that nothing is read from a stranger's bucket either.
_OWNER = "ExpectedBucketOwner"
_SOURCE_OWNER = "ExpectedSourceBucketOwner"
# It does not know such requests, or the object is gone or may not be read; the part can be sent all the same.
_CANNOT_COPY = {
    *("AccessDenied", "MethodNotAllowed", "InvalidArgument", "InvalidRequest"),
    *("NoSuchKey", "InvalidObjectState"),
}


class S3Store:
    """
    One bucket; a :class:`~airflow_provider_ophys.staging.store.Store`, to be used in a ``with`` block.

    :param client: A boto3 S3 client whose connection pool holds as many connections as there are threads.
    :param bucket: Name of the bucket.
    :param connection: What the credentials come from, as the beginning of a sentence.
    :param extra_args: What every request that makes an object carries, manifest and lease included, as boto3 names
        it; the expected owner of the bucket goes with all requests.
    :param conditional: Whether the store keeps the conditions of a write; they are left out otherwise.
    """

    def __init__(
        self,
        client: Any,
        bucket: str,
        *,
        connection: str = "boto3's default configuration",
        extra_args: Mapping[str, str] | None = None,
        conditional: bool = True,
    ) -> None:
        self.client = client
        self.bucket = bucket
        self._connection = connection
        self._conditional = conditional
        self._created = dict(extra_args or {})
        self._always = {name: value for name, value in self._created.items() if name == _OWNER}
        self._puts = RepeatedPuts(client, {"Bucket": bucket, **self._created})
        self._in_use = ExitStack()

    def __enter__(self) -> Self:
        """Spare boto3 what costs most of its time, in listings and in uploads of many small files."""
        self._in_use.enter_context(short_listings(self.client))
        self._in_use.enter_context(self._puts.remembered())
        return self

    def __exit__(self, *_: object) -> None:
        self._in_use.close()

    def uri(self, key: str) -> str:
        """Name an object for people."""
        return f"s3://{self.bucket}/{key}"

    # Reading

    def get(self, key: str, *, part: slice | None = None, etag: str | None = None) -> Document | None:
        """Read an object, or a part of it, if it is there."""
        options = {"Range": _range(part)} if part is not None else {}
        options |= {"IfMatch": f'"{etag}"'} if etag is not None else {}
        with self._explained():
            answer = self._unless_absent(self.client.get_object, key, **options)
            if answer is None:
                return None
            date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
            age = (parsedate_to_datetime(date) - answer["LastModified"]).total_seconds() if date else 0.0
            return Document(answer["Body"].read(), _etag(answer), age)

    def details(self, key: str) -> Details | None:
        """Ask for the size and checksum of one object, if it is there."""
        with self._explained():
            answer = self._unless_absent(self.client.head_object, key, ChecksumMode="ENABLED")
        return answer and Details(int(answer["ContentLength"]), *_stored(answer))

    def find(self, key: str) -> RemoteObject | None:
        """List the object of one key, if it is there."""
        with self._explained():
            # Listings are sorted, but some servers put what is below "key/" first: the delimiter leaves that out.
            page = self.client.list_objects_v2(
                Bucket=self.bucket, Prefix=key, Delimiter="/", MaxKeys=10, **self._always
            )
        return next((found for found in _objects(page) if found.key == key), None)

    def list_all(self, prefix: str) -> Iterator[RemoteObject]:
        """List all objects whose keys start so."""
        for page in self._pages("list_objects_v2", Prefix=prefix):
            yield from _objects(page)

    def list_folder(self, folder: str) -> Iterator[str]:
        """List the names of what is directly in a folder."""
        for page in self._pages("list_objects_v2", Prefix=folder, Delimiter="/"):
            found = [entry["Key"] for entry in page.get("Contents", ())]
            found += [entry["Prefix"] for entry in page.get("CommonPrefixes", ())]
            yield from (key.removeprefix(folder).rstrip("/") for key in found)

    # Small objects

    def put(
        self, key: str, content: bytes, crc64nvme: str, condition: str | None, *, content_type: str | None = None
    ) -> Stored:
        """Store a small object; many without a content type cost less."""
        conditions = self._condition(condition)
        with self._explained():
            if content_type is None:
                return _stored(self._puts.put(key, content, crc64nvme, conditions))
            answer = self.client.put_object(
                Bucket=self.bucket,
                Key=key,
                Body=content,
                ContentType=content_type,
                # Given only the algorithm, boto3 sends the checksum after the content over https, which not all
                # stores understand.
                ChecksumCRC64NVME=crc64nvme,
                **self._created,
                **conditions,
            )
        return _stored(answer)

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects, whatever they are by now."""
        for start in range(0, len(keys), DELETE_BATCH):
            batch = {"Objects": [{"Key": key} for key in keys[start : start + DELETE_BATCH]], "Quiet": True}
            with self._explained():
                answer = self.client.delete_objects(Bucket=self.bucket, Delete=batch, **self._always)
            if failed := answer.get("Errors"):
                raise StagingError(
                    f"{len(failed)} objects could not be deleted, the first is {self.uri(failed[0].get('Key'))} "
                    f"({failed[0].get('Code')}). Allow s3:DeleteObject there, or try again."
                )

    def delete_one(self, key: str, etag: str | None = None) -> None:
        """Delete an object; with an ETag only if it still has that, where the server knows that condition."""
        target = {"Bucket": self.bucket, "Key": key, **self._always}
        with self._explained():
            try:
                self.client.delete_object(**target, **self._condition(etag))
            except ClientError as error:
                if etag is None or error_status(error) != HTTPStatus.NOT_IMPLEMENTED:
                    raise
                self.client.delete_object(**target)

    # Objects in parts

    def begin_upload(self, key: str) -> OpenUpload:
        """Begin to upload an object in parts, with a checksum of the whole."""
        with self._explained():
            answer = self.client.create_multipart_upload(
                Bucket=self.bucket,
                Key=key,
                ChecksumAlgorithm="CRC64NVME",
                ChecksumType="FULL_OBJECT",
                **self._created,
            )
        return OpenUpload(key, answer["UploadId"])

    def open_uploads(self, key: str) -> list[OpenUpload]:
        """List the uploads of a key that are not complete and can be completed as ours, oldest first."""
        pages = self._pages("list_multipart_uploads", tolerated=_CANNOT_LIST_UPLOADS, Prefix=key)
        left = [upload for page in pages for upload in page.get("Uploads", ()) if upload["Key"] == key]
        left = [upload for upload in left if _has_our_checksum(upload)]
        return [OpenUpload(key, upload["UploadId"]) for upload in sorted(left, key=lambda one: one["Initiated"])]

    def stored_parts(self, upload: OpenUpload) -> Iterator[StoredPart]:
        """List what is stored of an upload."""
        for page in self._pages("list_parts", Key=upload.key, UploadId=upload.upload_id):
            for entry in page.get("Parts", ()):
                yield StoredPart(entry["PartNumber"], entry["Size"], _etag(entry))

    def put_part(self, upload: OpenUpload, number: int, content: bytes, crc64nvme: str) -> Stored:
        """Store a part."""
        with self._explained():
            answer = self.client.upload_part(
                **self._upload(upload), PartNumber=number, Body=content, ChecksumCRC64NVME=crc64nvme
            )
        return _stored(answer)

    def copy_part(self, upload: OpenUpload, part: Part, source: RemoteObject) -> Stored | None:
        """Store the same stretch of another object of the bucket as a part; None where the server cannot."""
        owner = {_SOURCE_OWNER: self._always[_OWNER]} if _OWNER in self._always else {}
        with self._explained():
            try:
                answer = self.client.upload_part_copy(
                    **self._upload(upload),
                    **owner,
                    PartNumber=part.number,
                    CopySource={"Bucket": self.bucket, "Key": source.key},
                    CopySourceRange=f"bytes={part.offset}-{part.offset + part.size - 1}",
                    CopySourceIfMatch=f'"{source.etag}"',
                )
            except ClientError as error:
                if error_code(error) in _CANNOT_COPY or error_status(error) == HTTPStatus.NOT_IMPLEMENTED:
                    return None
                raise
        return _stored(answer["CopyPartResult"])

    def complete(
        self, upload: OpenUpload, etags: Sequence[str], size: int, crc64nvme: str, condition: str | None
    ) -> Stored:
        """Make the parts of an upload an object."""
        with self._explained():
            answer = self.client.complete_multipart_upload(
                **self._upload(upload),
                MultipartUpload={
                    "Parts": [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
                },
                ChecksumType="FULL_OBJECT",
                ChecksumCRC64NVME=crc64nvme,
                MpuObjectSize=size,
                **self._condition(condition),
            )
        return _stored(answer)

    def abort(self, upload: OpenUpload) -> None:
        """Forget an upload and its parts, if it is still there."""
        try:
            with self._explained():
                self.client.abort_multipart_upload(**self._upload(upload))
        except ConditionNotMetError:
            return

    def _explained(self) -> AbstractContextManager[None]:
        return explained(self._connection, self.bucket)

    def _upload(self, upload: OpenUpload) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": upload.key, "UploadId": upload.upload_id, **self._always}

    def _condition(self, condition: str | None) -> dict[str, str]:
        if condition is None or not self._conditional:
            return {}
        return {"IfNoneMatch": "*"} if condition == ABSENT else {"IfMatch": f'"{condition}"'}

    def _unless_absent(self, request: Any, key: str, **options: str) -> Any:
        try:
            return request(Bucket=self.bucket, Key=key, **options, **self._always)
        except ClientError as error:
            if error_status(error) == HTTPStatus.NOT_FOUND and error_code(error) != "NoSuchBucket":
                return None
            raise

    def _pages(
        self, operation: str, *, tolerated: Collection[str] = (), **options: str
    ) -> Iterator[dict[str, Any]]:
        with self._explained():
            try:
                yield from self.client.get_paginator(operation).paginate(
                    Bucket=self.bucket, **options, **self._always
                )
            except ClientError as error:
                if error_code(error) not in tolerated:
                    raise


def _objects(page: Mapping[str, Any]) -> list[RemoteObject]:
    return [RemoteObject(entry["Key"], entry["Size"], _etag(entry)) for entry in page.get("Contents", ())]


def _stored(answer: Mapping[str, Any]) -> Stored:
    return Stored(_etag(answer), answer.get("ChecksumCRC64NVME", ""))


def _etag(answer: Mapping[str, Any]) -> str:
    return str(answer.get("ETag", "")).strip('"')


def _has_our_checksum(upload: Mapping[str, Any]) -> bool:
    # An upload with another kind of checksum could not be completed as ours; some servers do not tell.
    kind = upload.get("ChecksumAlgorithm", "CRC64NVME"), upload.get("ChecksumType", "FULL_OBJECT")
    return kind == ("CRC64NVME", "FULL_OBJECT")


def _range(part: slice) -> str:
    start, stop = part.start, part.stop
    if start is not None and start < 0:
        return f"bytes={start}"
    return f"bytes={start or 0}-{'' if stop is None else stop - 1}"
