"""
One file as one object: read, sent with its checksum, and visible only when it is whole.

A big file is sent in parts, and taken up again after a kill. Where it replaces an object, the server is asked to
copy its parts first, and tells the checksum of what it copied; only parts of which that is another one are sent.
Where it is staged a second time, to another place, the server copies all of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Event
from typing import NamedTuple

from airflow_provider_ophys.exceptions import OphysError, StagingConflictError, StagingError
from airflow_provider_ophys.staging.checksums import (
    Digest,
    combined_crc64nvme,
    crc64nvme,
    digest,
    digest_of,
    md5,
    read_crc64nvme,
)
from airflow_provider_ophys.staging.files import PART_SIZE, Part, SourceFile
from airflow_provider_ophys.staging.server_copies import Copies, Twin
from airflow_provider_ophys.staging.store import (
    ABSENT,
    ConditionNotMetError,
    OpenUpload,
    RemoteObject,
    Store,
    Stored,
)
from airflow_provider_ophys.staging.transfer_threads import TransferThreads

log = logging.getLogger(__name__)


class Sent(NamedTuple):
    """
    What came of a file that was to be sent.

    :param stored: The checksum of the whole and the object's own ETag.
    :param content: What the store says of such an object where it uses no encryption keys of its own; None if that
        was not asked for.
    :param was_sent: False if somebody else had just put the same content there.
    :param sent_bytes: What went to the store; parts that an earlier try left there did not.
    :param copied_bytes: What the store copied from the object that this replaces.
    """

    stored: Digest
    content: Digest | None
    was_sent: bool = True
    sent_bytes: int = 0
    copied_bytes: int = 0


class SentPart(NamedTuple):
    """A part that the store holds, if it was sent, copied or there; its MD5 is empty if that was not needed."""

    crc: int
    size: int
    md5: bytes
    etag: str
    sent_bytes: int = 0
    copied_bytes: int = 0


class _Upload(NamedTuple):
    """
    An upload under way.

    :param there: The ETags of parts that an earlier try left in it.
    :param copies: What is copied from the object that is replaced, if there is one.
    """

    opened: OpenUpload
    there: dict[Part, str]
    copies: Copies | None
    with_md5: bool


class Sender:
    """
    Sends files to a store.

    :param store: Where they go.
    :param workers: Who reads and sends them.
    """

    def __init__(self, store: Store, workers: TransferThreads) -> None:
        self.store = store
        self.workers = workers

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
        there = self.store.details(file.key)
        if there is None or there.size != file.size:
            return None
        if there.etag == expected.etag or there.crc64nvme == expected.crc64nvme:
            return Digest(expected.crc64nvme, there.etag)
        return None

    def send(
        self, file: SourceFile, *, replaced: RemoteObject | None, with_md5: bool, twin: Twin | None = None
    ) -> Sent:
        """
        Upload one file, unless somebody else just put the same content there.

        :param file: What to upload.
        :param replaced: The object that it replaces; None where there must be none.
        :param with_md5: Whether the content's MD5 is needed, which takes longer to compute than all else.
        :param twin: What it may be copied from.
        :raises StagingConflictError: If somebody else put other content there.
        :raises StagingError: If the file changes meanwhile or the server stores something else.
        """
        self.workers.check_stopped()
        condition = replaced.etag if replaced else ABSENT
        try:
            if file.size <= PART_SIZE:
                return self._send_whole(file, condition)
            if twin and (copied := self._copy(file, condition, twin)):
                return copied
            return self._send_in_parts(file, condition, replaced, with_md5=with_md5)
        except ConditionNotMetError as error:
            return self._accept_if_same(file, error)

    def _send_whole(self, file: SourceFile, condition: str) -> Sent:
        content = file.content()
        own = digest_of(content)
        stored = self.store.put(file.key, content, own.crc64nvme, condition)
        _check_stored(file, stored, own.crc64nvme, lambda: own.etag)
        self.workers.progress.advance(file.size)
        return Sent(Digest(own.crc64nvme, stored.etag), own, sent_bytes=file.size)

    def _send_in_parts(
        self, file: SourceFile, condition: str, replaced: RemoteObject | None, *, with_md5: bool
    ) -> Sent:
        """Upload a file in parts; no unfinished upload stays behind unless this process is killed."""
        opened, there = self._left_upload(file) or (self.store.begin_upload(file.key), {})
        upload = _Upload(opened, there, Copies(self.store, replaced) if replaced else None, with_md5)

        def send(descriptor: int, part: Part) -> SentPart:
            sent_part = self._send_part(file, upload, part, file.read(descriptor, part))
            self.workers.progress.advance(part.size)
            return sent_part

        try:
            sent = self.workers.each_part(file, send)
            self.workers.check_stopped()
            crc = combined_crc64nvme([(part.crc, part.size) for part in sent])
            stored = self.store.complete(opened, [part.etag for part in sent], file.size, crc, condition)
        except BaseException:  # also what Airflow raises when a task's time is over
            self._abort(opened)
            raise
        _check_stored(file, stored, crc, lambda: _etag_of_parts(sent))
        return Sent(
            Digest(crc, stored.etag),
            digest([(part.crc, part.size, part.md5) for part in sent]) if with_md5 else None,
            sent_bytes=sum(part.sent_bytes for part in sent),
            copied_bytes=sum(part.copied_bytes for part in sent),
        )

    def _copy(self, file: SourceFile, condition: str, twin: Twin) -> Sent | None:
        """Have the server copy all of an object; None if it cannot, or has other content by now."""
        crc, source = twin.digest.crc64nvme, twin.there
        opened, _ = self._left_upload(file) or (self.store.begin_upload(file.key), {})
        cannot = Event()

        def copy(_: int, part: Part) -> Stored:
            copied = None
            if not cannot.is_set():
                with suppress(ConditionNotMetError):  # it was replaced
                    copied = self.store.copy_part(opened, part, source)
            if copied is None or not copied.crc64nvme:
                cannot.set()
            return copied or Stored("", "")

        try:
            copied = self.workers.each_part(file, copy)
            self.workers.check_stopped()
            if not _are_parts_of(file, copied, crc):
                self._abort(opened)
                return None
            stored = self.store.complete(opened, [part.etag for part in copied], file.size, crc, condition)
        except BaseException:  # also what Airflow raises when a task's time is over
            self._abort(opened)
            raise
        _check_stored(file, stored, crc, lambda: _etag_of_parts(copied))
        self.workers.progress.advance(file.size)
        return Sent(Digest(crc, stored.etag), None, copied_bytes=file.size)

    def _send_part(self, file: SourceFile, upload: _Upload, part: Part, content: bytes) -> SentPart:
        checksum, there = crc64nvme(content), upload.there.get(part)
        content_md5 = md5(content) if upload.with_md5 or there else b""
        if there and there == content_md5.hex():
            return SentPart(checksum, part.size, content_md5, there)
        crc = combined_crc64nvme([(checksum, part.size)])
        if upload.copies and (copied := upload.copies.copy(upload.opened, part, crc)):
            return SentPart(checksum, part.size, content_md5, copied.etag, copied_bytes=part.size)
        stored = self.store.put_part(upload.opened, part.number, content, crc)
        _check_stored(file, stored, crc, lambda: md5(content).hex())
        return SentPart(checksum, part.size, content_md5, stored.etag, sent_bytes=part.size)

    def _left_upload(self, file: SourceFile) -> tuple[OpenUpload, dict[Part, str]] | None:
        """Find the newest upload of this key that a killed run left open, and the ETags of its parts."""
        left = self.store.open_uploads(file.key)
        if not left:
            return None
        *older, upload = left
        for forgotten in older:
            # The lease is ours, so nobody is at work on them; and what is stored in them costs money.
            self._abort(forgotten)
        stored = {(part.number, part.size): part.etag for part in self.store.stored_parts(upload)}
        there = {
            part: stored[part.number, part.size] for part in file.parts() if (part.number, part.size) in stored
        }
        log.info("An interrupted upload of %s is taken up: %d parts are there.", file.path, len(there))
        return upload, there

    def _abort(self, upload: OpenUpload) -> None:
        try:
            self.store.abort(upload)
        except OphysError as error:
            log.warning(
                "The unfinished upload of %s could not be removed (%s); the next run takes it up.",
                *(self.store.uri(upload.key), error),
            )

    def _accept_if_same(self, file: SourceFile, error: ConditionNotMetError) -> Sent:
        own = self.digest(file)
        confirmed = self.confirm(file, own)
        if confirmed:
            return Sent(confirmed, own, was_sent=False)
        uri = self.store.uri(file.key)
        if error.code == "PreconditionFailed" and self.store.find(file.key):
            raise StagingConflictError(
                f"Another writer put other content at {uri} while it was being staged; that was left as it is. "
                "Have only one task stage to this destination, or choose another one."
            ) from error
        raise StagingError(
            f"Another writer interfered with the upload to {uri} ({error.code}). Try again when it is done."
        ) from error


def _check_stored(file: SourceFile, stored: Stored, crc: str, expected_etag: Callable[[], str]) -> None:
    """
    Check that the store confirms our checksum or, when it knows none, that its ETag is the MD5.

    :raises StagingError: If it does neither.
    """
    if stored.crc64nvme != crc and stored.etag != expected_etag():
        raise StagingError(
            f"The server did not confirm that it stored what was sent of {file.path}: neither its checksum nor "
            "its ETag fits. Try again; if it stays so, do not trust this store with the data."
        )


def _are_parts_of(file: SourceFile, copied: Sequence[Stored], crc: str) -> bool:
    """Tell whether the checksums of copied parts, all of which must be known, make that of the file."""
    try:
        parts = zip(copied, file.parts(), strict=True)
        return crc == combined_crc64nvme([(read_crc64nvme(stored.crc64nvme), part.size) for stored, part in parts])
    except ValueError:
        return False


def _etag_of_parts(parts: Sequence[SentPart | Stored]) -> str:
    try:
        return f"{md5(b''.join(bytes.fromhex(part.etag) for part in parts)).hex()}-{len(parts)}"
    except ValueError:
        return "unknown, the parts have no MD5"
