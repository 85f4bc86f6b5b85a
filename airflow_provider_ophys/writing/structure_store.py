"""
A Zarr store on disk, for writing the structure of a file: some hundred small documents and chunks.

zarr-python's own store on disk hands each of them to another thread, which takes longer than to write it, and
replaces a file each time that an attribute is set. Here they are written at once, and documents, which are changed
most, when all is known of them.
"""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Self

from zarr.core.buffer import default_buffer_prototype
from zarr.storage import LocalStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

DOCUMENT = "zarr.json"

# Larger chunks are left to zarr-python's threads.
SMALL_BYTES = 2**20


class StructureStore(LocalStore):
    """
    Keeps documents (``zarr.json``) in memory until :meth:`flush`; their folders and all else are on the disk.

    :param root: Folder of the store.
    :param read_only: Whether it may only be read.
    :param documents: Of another store of the same folder, to share them with it.
    """

    def __init__(
        self, root: Path | str, *, read_only: bool = False, documents: dict[str, Buffer] | None = None
    ) -> None:
        super().__init__(root, read_only=read_only)
        self._documents = {} if documents is None else documents

    def scatter_metadata(self) -> None:
        """
        Have every group of a store that is there read its own metadata, before something is added.

        zarr takes gathered metadata for all that there is, keeps them with each group that it then touches, and
        finds nothing that was added below such a group, not even when it gathers them anew.
        """
        for file in self.root.rglob(DOCUMENT):
            metadata = json.loads(file.read_text(encoding="utf-8"))
            if metadata.pop("consolidated_metadata", None) is not None:
                file.write_text(json.dumps(metadata, indent=2), encoding="utf-8")

    def flush(self) -> None:
        """Write all documents."""
        for key, document in self._documents.items():
            (self.root / key).write_bytes(document.to_bytes())
        self._documents.clear()

    def below(self, prefix: str) -> dict[str, bytes]:
        """Return all values whose keys begin with a prefix and a slash, by their keys."""
        self.flush()
        files = (file for file in (self.root / prefix).rglob("*") if file.is_file())
        return {file.relative_to(self.root).as_posix(): file.read_bytes() for file in files}

    def add(self, values: Mapping[str, bytes]) -> None:
        """Write values as they are."""
        for key, value in values.items():
            self.set_sync(key, default_buffer_prototype().buffer.from_bytes(value))

    def with_read_only(self, read_only: bool = False) -> Self:  # noqa: FBT001 -- zarr's signature
        """Return the same store, read-only or not."""
        return type(self)(self.root, read_only=read_only, documents=self._documents)

    def get_sync(
        self, key: str, *, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Read a value; documents only whole."""
        if key in self._documents and byte_range is None:
            return self._documents[key]
        return super().get_sync(key, prototype=prototype, byte_range=byte_range)

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Read a value."""
        return self.get_sync(key, prototype=prototype, byte_range=byte_range)

    def set_sync(self, key: str, value: Buffer) -> None:
        """Write a value."""
        self._check_writable()
        # Whoever lists the store sees its groups and arrays by their folders.
        self._make_folder(key)
        if _is_document(key):
            self._documents[key] = value
        else:
            super().set_sync(key, value)

    def _make_folder(self, key: str) -> None:
        """
        Make the folder of a value below that of the store.

        :raises FileNotFoundError: If the store's is not there: zarr's own thread goes on for a moment when a task
            is ended, and must not bring back what that has removed.
        """
        if not self.root.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.root))
        _, *folders = reversed(Path(key).parents)
        for folder in folders:
            (self.root / folder).mkdir(exist_ok=True)

    async def set(self, key: str, value: Buffer) -> None:
        """Write a value."""
        if _is_document(key) or len(value) <= SMALL_BYTES:
            self.set_sync(key, value)
        else:
            self._make_folder(key)
            await super().set(key, value)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Write a value that is not there yet."""
        if not await self.exists(key):
            await self.set(key, value)

    async def exists(self, key: str) -> bool:
        """Tell whether a value is there."""
        return key in self._documents or (self.root / key).is_file()

    async def delete(self, key: str) -> None:
        """Delete a value."""
        self.flush()
        await super().delete(key)

    def delete_sync(self, key: str) -> None:
        """Delete a value."""
        self.flush()
        super().delete_sync(key)

    async def delete_dir(self, prefix: str) -> None:
        """Delete all below a prefix."""
        if not prefix:
            # zarr would delete the folder of the store too.
            await self.clear()
            return
        self.flush()
        await super().delete_dir(prefix)

    async def clear(self) -> None:
        """Delete all."""
        self._documents.clear()
        await super().clear()

    async def list(self) -> AsyncIterator[str]:
        """List all keys."""
        self.flush()
        async for key in super().list():
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """List the keys below a prefix."""
        self.flush()
        async for key in super().list_prefix(prefix):
            yield key


def _is_document(key: str) -> bool:
    return key.rpartition("/")[2] == DOCUMENT
