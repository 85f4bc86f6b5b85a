"""
What staging needs of a store of objects, whichever it is.

Only what implements this protocol makes requests; :mod:`~airflow_provider_ophys.staging.s3_store` does for S3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from airflow_provider_ophys.exceptions import StagingError
from airflow_provider_ophys.staging.checksums import written_crc64nvme
from airflow_provider_ophys.staging.files import Part

# The condition of a write that there is no such object; any other is the ETag of what is replaced.
ABSENT = "*"


class ConditionNotMetError(StagingError):
    """
    A write was refused, because what it was to replace, to create or to complete is not as it should be.

    Somebody else was faster, or an answer was lost and the request sent again: look at what is there now.

    :ivar code: What the store calls it.
    """

    code: str = ""


class RemoteObject(NamedTuple):
    """An object as a listing shows it; ``etag`` has no quotes."""

    key: str
    size: int
    etag: str


class Stored(NamedTuple):
    """What the store says of what it stored: its ETag, and its CRC64NVME in base64, empty if it tells none."""

    etag: str
    crc64nvme: str


class Details(NamedTuple):
    """What the store says of one object when asked: its size in bytes, and as for :class:`Stored`."""

    size: int
    etag: str
    crc64nvme: str


class Document(NamedTuple):
    """
    The content of an object, or a part of it.

    :param etag: Changes with the content; without quotes.
    :param age_seconds: How long ago it was written, both times by the server's clock; to the second. 0 of a server
        that tells no time: what others hold is then never old enough to be taken from them.
    """

    content: bytes
    etag: str
    age_seconds: float = 0.0


class OpenUpload(NamedTuple):
    """An upload in parts that is not complete yet."""

    key: str
    upload_id: str


class StoredPart(NamedTuple):
    """A part of such an upload that the store holds; ``number`` counts from 1."""

    number: int
    size: int
    etag: str


class Store(Protocol):
    """
    One bucket of a store.

    All methods raise :class:`~airflow_provider_ophys.exceptions.OphysError` where the store refuses or fails, and
    those that write under a condition :class:`ConditionNotMetError`. A condition is ``ABSENT``, an ETag or none.
    """

    def uri(self, key: str) -> str:
        """Name an object for people."""

    def get(self, key: str, *, part: slice | None = None, etag: str | None = None) -> Document | None:
        """
        Read an object, if it is there.

        :param part: Which of its bytes; as a slice of them, without a step.
        :param etag: Only of the object that has this ETag.
        """

    def details(self, key: str) -> Details | None:
        """Ask for one object, if it is there: slower than a listing, but with its checksum."""

    def find(self, key: str) -> RemoteObject | None:
        """List the object of one key, if it is there."""

    def list_all(self, prefix: str) -> Iterator[RemoteObject]:
        """List all objects whose keys start so, sorted."""

    def list_folder(self, folder: str) -> Iterator[str]:
        """List the names of what is directly in a folder: objects, and folders; ``folder`` ends with a slash."""

    def put(
        self, key: str, content: bytes, crc64nvme: str, condition: str | None, *, content_type: str | None = None
    ) -> Stored:
        """Store a small object, if the checksum fits what arrives."""

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects, whatever they are by now."""

    def delete_one(self, key: str, etag: str | None = None) -> None:
        """
        Delete an object.

        :param etag: Only if it still has this ETag, where the store knows that condition.
        """

    def begin_upload(self, key: str) -> OpenUpload:
        """Begin to upload an object in parts."""

    def open_uploads(self, key: str) -> list[OpenUpload]:
        """List the uploads of a key that are not complete, oldest first; none if that is not allowed."""

    def stored_parts(self, upload: OpenUpload) -> Iterator[StoredPart]:
        """List what is stored of an upload."""

    def put_part(self, upload: OpenUpload, number: int, content: bytes, crc64nvme: str) -> Stored:
        """Store a part, if the checksum fits what arrives."""

    def copy_part(self, upload: OpenUpload, part: Part, source: RemoteObject) -> Stored | None:
        """
        Store the same stretch of another object as a part, without sending it.

        :raises ConditionNotMetError: If that object is not what it was any more.
        :return: None where the store cannot.
        """

    def complete(
        self, upload: OpenUpload, etags: Sequence[str], size: int, crc64nvme: str, condition: str | None
    ) -> Stored:
        """
        Make the parts of an upload an object, if the checksum fits all of it.

        :param etags: Of the parts, in order.
        :param size: Of the whole, in bytes.
        """

    def abort(self, upload: OpenUpload) -> None:
        """Forget an upload and its parts, if it is still there."""


def write_document(store: Store, key: str, content: bytes, *, replaced: Document | None) -> Document | None:
    """
    Write a small object of JSON, such as the manifest, if it is still what it was.

    :param replaced: What was there; None where there was nothing.
    :return: What is there now; None if somebody else was faster.
    """
    try:
        condition = replaced.etag if replaced else ABSENT
        stored = store.put(key, content, written_crc64nvme(content), condition, content_type="application/json")
    except ConditionNotMetError:
        # The answer to our own first try may have been lost on the way.
        there = store.get(key)
        return there if there and there.content == content else None
    return Document(content, stored.etag)
