"""What is in a store, read where it is: an object as a file, and the objects of a Zarr tree as zarr reads them."""

from __future__ import annotations

import asyncio
import io
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Any, NoReturn

from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.abc.store import Store as ZarrStore

from airflow_provider_ophys.exceptions import SourceNotFoundError
from airflow_provider_ophys.staging.files import MIB
from airflow_provider_ophys.staging.store import Store

if TYPE_CHECKING:
    from zarr.core.buffer import Buffer, BufferPrototype

# HDF5 reads its structure in pieces of some bytes, often near each other.
BLOCK = MIB
KEPT_BLOCKS = 32
ROOT = "zarr.json"


def open_remote(store: Store, key: str) -> RemoteFile | RemoteTree:
    """
    Open an object, or a Zarr (format 3) tree of them, for reading; nothing is copied.

    :raises SourceNotFoundError: If there is neither.
    """
    found = store.details(key)
    if found is not None:
        return RemoteFile(store, key, found.size, found.etag)
    if store.details(f"{key}/{ROOT}") is None:
        raise SourceNotFoundError(
            f"There is neither a file nor a Zarr (format 3) tree at {store.uri(key)}. Check the address."
        )
    return RemoteTree(store, key)


class RemoteFile(io.RawIOBase):
    """
    An object as a binary file to read from.

    :param store: Where it is.
    :param size: In bytes.
    :param etag: Of what is read: if the object is replaced meanwhile, reading fails.
    """

    def __init__(self, store: Store, key: str, size: int, etag: str) -> None:
        self.size_bytes = size
        self._store = store
        self._key = key
        self._etag = etag
        self._position = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where the next read starts."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Choose where the next read starts."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size_bytes}[whence]
        self._position = max(0, origin + offset)
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer; large reads are one request, small ones come from blocks that are kept."""
        target = memoryview(buffer).cast("B")
        length = max(0, min(len(target), self.size_bytes - self._position))
        start, stop = self._position, self._position + length
        first, last = start // BLOCK, max(start, stop - 1) // BLOCK
        if length >= BLOCK:
            target[:length] = self._fetch(start, stop)
        elif length:
            content = b"".join(self._block(number) for number in range(first, last + 1))
            target[:length] = content[start - first * BLOCK : stop - first * BLOCK]
        self._position = stop
        return length

    def _block(self, number: int) -> bytes:
        if number not in self._blocks:
            self._blocks[number] = self._fetch(number * BLOCK, min((number + 1) * BLOCK, self.size_bytes))
            if len(self._blocks) > KEPT_BLOCKS:
                self._blocks.popitem(last=False)
        self._blocks.move_to_end(number)
        return self._blocks[number]

    def _fetch(self, start: int, stop: int) -> bytes:
        read = self._store.get(self._key, part=slice(start, stop), etag=self._etag)
        if read is None:
            raise SourceNotFoundError(f"{self._store.uri(self._key)} was deleted while it was read.")
        return read.content


class RemoteTree(ZarrStore):
    """
    The objects of a Zarr tree as a store of zarr's to read from.

    :param store: Where they are.
    :param key: What the keys of all its objects start with, without the slash.
    """

    supports_writes = False
    supports_deletes = False
    supports_listing = True

    def __init__(self, store: Store, key: str) -> None:
        super().__init__(read_only=True)
        self._store = store
        self._key = key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemoteTree) and str(other) == str(self)

    def __hash__(self) -> int:
        return hash(str(self))

    def __str__(self) -> str:
        return self._store.uri(self._key)

    @property
    def size_bytes(self) -> int:
        """Size of all objects together, as the server lists them."""
        return sum(there.size for there in self._store.list_all(f"{self._key}/"))

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Read an object, or a part of it; ``None`` if there is none."""
        content = await asyncio.to_thread(self._read, key, byte_range)
        return None if content is None else prototype.buffer.from_bytes(content)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Read parts of objects, at the same time."""
        return await asyncio.gather(*(self.get(key, prototype, part) for key, part in key_ranges))

    async def exists(self, key: str) -> bool:
        """Tell whether there is an object."""
        return await asyncio.to_thread(self._store.details, f"{self._key}/{key}") is not None

    async def list(self) -> AsyncIterator[str]:
        """List all keys."""
        async for key in self.list_prefix(""):
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """List all keys that start so."""
        for there in await asyncio.to_thread(lambda: [*self._store.list_all(f"{self._key}/{prefix}")]):
            yield there.key.removeprefix(f"{self._key}/")

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """List what is directly in a folder."""
        folder = f"{self._key}/{prefix.rstrip('/')}/" if prefix else f"{self._key}/"
        for name in await asyncio.to_thread(lambda: [*self._store.list_folder(folder)]):
            yield name

    async def set(self, key: str, value: Buffer) -> NoReturn:  # noqa: ARG002 - zarr calls it so
        """Refuse: it is read only."""
        raise PermissionError(f"{self} is opened for reading; {key} cannot be written.")

    async def delete(self, key: str) -> NoReturn:
        """Refuse: it is read only."""
        raise PermissionError(f"{self} is opened for reading; {key} cannot be deleted.")

    def _read(self, key: str, byte_range: ByteRequest | None) -> bytes | None:
        part = None if byte_range is None else _slice(byte_range)
        read = self._store.get(f"{self._key}/{key}", part=part)
        return None if read is None else read.content


def _slice(part: ByteRequest) -> slice:
    match part:
        case RangeByteRequest(start, end):
            return slice(start, end)
        case OffsetByteRequest(offset):
            return slice(offset, None)
        case SuffixByteRequest(suffix):
            return slice(-suffix, None)
