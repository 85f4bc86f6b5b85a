"""
The texts of an HDF5 file, looked at before a library reads them.

Texts of any length lie in heaps. HDF5 2.0 goes round for ever in a heap whose free space has no length, as it has
where zeros stand for what was not copied, and neither a time limit nor a signal ends that. So all texts are read
through a file object that looks at each heap first (HDF5 File Format Specification 3.0, III.E).
"""

from __future__ import annotations

import io
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

# The beginning of a heap: signature, version and reserved bytes; the length of all of it follows.
HEAP = b"GCOL\x01\0\0\0"
# Of an object in it: index, the count of references to it, and reserved bytes; its length follows.
OBJECT_BYTES, ALIGNMENT = 8, 8
TEXTS_AT_ONCE = 100_000


class HeapReader(io.FileIO):
    """
    A file for h5py that gives it no heap in which it would go round for ever.

    :param path: The file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "r")
        # HDF5's "size of lengths", which is another in hardly any file.
        self.length_bytes = 8
        self.endless: int | None = None

    def readinto(self, buffer: Any) -> int:
        """
        Read as any file.

        :raises OSError: If there is a heap without an end in what is read; ``endless`` is where it lies.
        """
        place, count = self.tell(), super().readinto(buffer) or 0
        # HDF5 reads a heap alone or with what lies around it.
        content = os.pread(self.fileno(), count + len(HEAP) - 1, place)
        at = content.find(HEAP)
        while at >= 0:
            if not self._ends(place + at):
                self.endless = place + at
                raise OSError(f"the heap at byte {self.endless:,} has no end")
            at = content.find(HEAP, at + 1)
        return count

    def _ends(self, place: int) -> bool:
        """Tell whether a walk through a heap from object to object comes to its end."""
        length = self._length(os.pread(self.fileno(), self.length_bytes, place + len(HEAP)))
        num_bytes = min(length, os.fstat(self.fileno()).st_size - place)
        heap = os.pread(self.fileno(), num_bytes, place)
        at, head = len(HEAP) + self.length_bytes, OBJECT_BYTES + self.length_bytes
        while at + head <= len(heap):
            index, length = self._length(heap[at : at + 2]), self._length(heap[at + OBJECT_BYTES : at + head])
            # The free space is the object 0, and its length counts all of it.
            if not index and not length:
                return False
            at += head + -(-length // ALIGNMENT) * ALIGNMENT if index else length
        return True

    @staticmethod
    def _length(content: bytes) -> int:
        return int.from_bytes(content, "little")


def read_texts(stream: HeapReader) -> None:
    """
    Read every text in an HDF5 file, but for those that lie in other files.

    :param stream: Tells afterwards whether there is an endless heap.
    :raises OSError: If it cannot be opened.
    """
    import h5py

    with h5py.File(stream, "r") as opened:
        _, stream.length_bytes = opened.id.get_create_plist().get_sizes()
        names: list[bytes] = [b"."]
        h5py.h5o.visit(opened.id, names.append)
        for name in names:
            # What else is damaged, or of a kind that h5py does not know, is for those who need it to tell.
            with suppress(Exception):
                _read(opened[name])
            if stream.endless is not None:
                return


def _read(item: Any) -> None:
    import h5py

    for number in range(h5py.h5a.get_num_attrs(item.id)):
        with suppress(Exception):
            attribute = h5py.h5a.open(item.id, index=number)
            if attribute.dtype.hasobject:
                _ = item.attrs[attribute.name]
    if isinstance(item, h5py.Dataset) and item.dtype.hasobject and not (item.external or item.is_virtual):
        if not item.shape:
            _ = item[()]
            return
        for start in range(0, item.shape[0], TEXTS_AT_ONCE):
            _ = item[start : start + TEXTS_AT_ONCE]
