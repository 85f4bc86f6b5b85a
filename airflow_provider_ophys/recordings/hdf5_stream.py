"""
An HDF5 file, read through a file object of ours, which tells of whatever cannot be read.

By itself HDF5 makes zeros of what a share does not give, and says of a failure only that something cannot be
opened, which ``get`` and ``items`` of h5py, and libraries that use them, take for absent. What this object raises,
h5py raises.

Texts of any length lie in heaps, each as long as the longest text in it. HDF5 2.0 goes round for ever in a heap
whose free space has no length, as it has where zeros stand for what was not copied, and neither a time limit nor a
signal ends that. So each heap is looked at before HDF5 gets it (HDF5 File Format Specification 3.0, III.E).
"""

from __future__ import annotations

import atexit
import errno
import io
import os
from functools import cache
from pathlib import Path
from typing import Any

# The beginning of a heap: signature, version and reserved bytes; the length of all of it follows.
HEAP = b"GCOL\x01\0\0\0"
# Of an object in it: index, the count of references to it, and reserved bytes; its length follows.
OBJECT_BYTES, ALIGNMENT = 8, 8
# The longest text in an NWB file, a namespace, has some 0.3 MB. A heap is as long as its longest text, or 64 KiB.
LONGEST_TEXT_BYTES = 16 * 1024**2
LONGEST_HEAP_BYTES = LONGEST_TEXT_BYTES + 64 * 1024


class Hdf5Stream(io.RawIOBase):
    """
    A file for h5py, of which all is read or an error says why not.

    :param path: The file; other files that it refers to cannot be read through it.
    :raises OSError: If it cannot be opened.
    """

    def __init__(self, path: Path | str) -> None:
        super().__init__()
        self.path, self._place = os.fspath(path), 0
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.num_bytes = os.fstat(self._descriptor).st_size
        # Of the texts in heaps: the longest that may come, that came, and what is wrong with one that may not.
        self.longest_wanted, self.longest_seen = LONGEST_TEXT_BYTES, 0
        self.too_long: str | None = None
        # HDF5's "size of lengths", which is another in hardly any file.
        self.length_bytes = 8
        self.endless: int | None = None
        # The last heap, of which HDF5 reads the end by itself: where it begins, and all of it.
        self._heap = (0, b"")
        _close_at_exit()

    def readable(self) -> bool:
        """Tell that it is read."""
        return True

    def seekable(self) -> bool:
        """Tell that any place can be read."""
        return True

    def tell(self) -> int:
        """Return where it is read next."""
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Choose where it is read next; a place of this object's own, as processes share that of a descriptor."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self.num_bytes}[whence]
        self._place = start + offset
        return self._place

    def readinto(self, buffer: Any) -> int:
        """
        Fill a buffer.

        :raises OSError: If that fails; if the file is shorter than when it was opened; or if there is a heap
            without an end, in which HDF5 would go round for ever: ``endless`` is where it lies.
        """
        place, wanted, count = self._place, memoryview(buffer), 0
        while count < len(wanted) and (more := os.preadv(self._descriptor, [wanted[count:]], place + count)):
            count += more
        if count < len(wanted) and place + count < self.num_bytes:
            said = f"nothing comes at byte {place + count:,} of {self.num_bytes:,}"
            raise OSError(errno.EIO, said, self.path)
        if bytes(wanted[: len(HEAP)]) == HEAP:
            self._check_heap(place, bytes(wanted[:count]))
        start, heap = self._heap
        if start < place < start + len(heap):
            # What was looked at is what HDF5 gets, whatever a share gives at another time.
            known = heap[place - start : place - start + count]
            wanted[: len(known)] = known
        self._place += count
        return count

    def stored(self, dataset: Any) -> bytes | None:
        """Return what is stored of a dataset in one piece, as it lies in the file; ``None`` if it does not."""
        place, num_bytes = dataset.id.get_offset(), dataset.id.get_storage_size()
        return None if place is None else os.pread(self._descriptor, min(num_bytes, self.num_bytes), place)

    def close(self) -> None:
        """Close it."""
        if not self.closed:
            os.close(self._descriptor)
        super().close()

    def _check_heap(self, place: int, begun: bytes) -> None:
        """Walk through a heap from object to object to its end."""
        length = self._length(begun[len(HEAP) : len(HEAP) + self.length_bytes])
        heap = begun[:length]
        if len(heap) < length <= LONGEST_HEAP_BYTES:
            heap += os.pread(self._descriptor, length - len(heap), place + len(heap))
        if length > LONGEST_HEAP_BYTES:
            self.too_long = f"a text has some {length:,} bytes, where {LONGEST_TEXT_BYTES:,} are the most"
            raise OSError(errno.EFBIG, self.too_long, self.path)
        self._heap = place, heap
        at, head = len(HEAP) + self.length_bytes, OBJECT_BYTES + self.length_bytes
        while at + head <= len(heap):
            index, length = self._length(heap[at : at + 2]), self._length(heap[at + OBJECT_BYTES : at + head])
            # The free space is the object 0, and its length counts all of it.
            if not index and not length:
                self.endless = place
                # A file that is damaged was refused before; so it is the share that gave this.
                raise OSError(errno.EIO, f"the heap at byte {place:,} has no end", self.path)
            if index:
                self.longest_seen = max(self.longest_seen, min(length, LONGEST_TEXT_BYTES))
            at += head + -(-length // ALIGNMENT) * ALIGNMENT if index else length
        if self.longest_seen > self.longest_wanted:
            raise OSError(errno.EFBIG, f"a text has {self.longest_seen:,} bytes", self.path)

    @staticmethod
    def _length(content: bytes) -> int:
        return int.from_bytes(content, "little")


@cache
def _close_at_exit() -> None:
    atexit.register(_close_streams)


def _close_streams() -> None:
    """Close what HDF5 reads by objects of Python while there are such; after that, it would end the process."""
    import h5py

    for file_id in h5py.h5f.get_obj_ids(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE):
        file = h5py.File(file_id)
        if file.driver == "fileobj":
            file.close()
