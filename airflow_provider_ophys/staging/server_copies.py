"""What the store copies itself instead of being sent it: parts of what is replaced, and what it has elsewhere."""

from __future__ import annotations

from typing import NamedTuple

from airflow_provider_ophys.staging.checksums import Digest
from airflow_provider_ophys.staging.files import Part
from airflow_provider_ophys.staging.store import OpenUpload, RemoteObject, Store, Stored

# Of another file altogether no part is the same, and copying them first would cost time.
MOST_VAIN_COPIES = 16


class Copies:
    """
    Parts of an object that is about to be replaced, copied on the server where they are the same.

    :param source: That object.
    """

    def __init__(self, store: Store, source: RemoteObject) -> None:
        self._store = store
        self._source = source
        self._same = 0
        self._in_vain = 0

    def copy(self, upload: OpenUpload, part: Part, crc: str) -> Stored | None:
        """Copy one part; None if it is another one, or the store cannot tell."""
        is_there = part.offset + part.size <= self._source.size
        if not is_there or (not self._same and self._in_vain >= MOST_VAIN_COPIES):
            return None
        copied = self._store.copy_part(upload, part, self._source)
        if copied is None or not copied.crc64nvme:
            self._in_vain += MOST_VAIN_COPIES
            return None
        if copied.crc64nvme != crc:
            self._in_vain += 1
            return None
        self._same += 1
        return copied


class Twin(NamedTuple):
    """
    An object with the same content as a file, so that all of it can be copied on the server.

    :param there: The object.
    :param digest: Of the file.
    """

    there: RemoteObject
    digest: Digest
