"""
An HDF5 file, read through a file object of ours, which tells of whatever cannot be read.

By itself HDF5 makes zeros of what a share does not give, and says of a failure only that something cannot be
opened, which ``get`` and ``items`` of h5py, and libraries that use them, take for absent. What this object raises,
h5py raises.

Texts of any length lie in heaps. HDF5 2.0 goes round for ever in a heap whose free space has no length, as it has
where zeros stand for what was not copied, and neither a time limit nor a signal ends that. So each heap is looked
at before HDF5 gets it (HDF5 File Format Specification 3.0, III.E).
"""

from __future__ import annotations

import atexit
import errno
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from airflow_provider_ophys.exceptions import is_passing

# The beginning of a heap: signature, version and reserved bytes; the length of all of it follows.
HEAP = b"GCOL\x01\0\0\0"
# Of an object in it: index, the count of references to it, and reserved bytes; its length follows.
OBJECT_BYTES, ALIGNMENT = 8, 8
TEXTS_AT_ONCE = 100_000
# Of the length of a text, where its dataset stands.
LENGTH_BYTES = 4


class Hdf5Stream(io.RawIOBase):
    """
    A file for h5py, of which all is read or an error says why not.

    :param path: The file; other files that it refers to cannot be read through it.
    :raises OSError: If it cannot be opened.
    """

    def __init__(self, path: Path | str) -> None:
        super().__init__()
        self._path, self._place = os.fspath(path), 0
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._num_bytes = os.fstat(self._descriptor).st_size
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
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._num_bytes}[whence]
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
        if count < len(wanted) and place + count < self._num_bytes:
            said = f"nothing comes at byte {place + count:,} of {self._num_bytes:,}"
            raise OSError(errno.EIO, said, self._path)
        if bytes(wanted[: len(HEAP)]) == HEAP:
            self._check_heap(place, bytes(wanted[:count]))
        start, heap = self._heap
        if start < place < start + len(heap):
            # What was looked at is what HDF5 gets, whatever a share gives at another time.
            known = heap[place - start : place - start + count]
            wanted[: len(known)] = known
        self._place += count
        return count

    def has_too_long_a_text(self, dataset: Any) -> bool:
        """Tell whether a dataset of texts has one that long; stored are of each its length and where it lies."""
        import h5py

        place, count = dataset.id.get_offset(), int(dataset.size or 0)
        is_text = h5py.check_string_dtype(dataset.dtype)
        if place is None or not count or is_text is None or is_text.length is not None:
            return False
        num_bytes = dataset.id.get_storage_size()
        stored = os.pread(self._descriptor, min(num_bytes, self._num_bytes), place)
        step = max(num_bytes // count, LENGTH_BYTES)
        lengths = (self._length(stored[at : at + LENGTH_BYTES]) for at in range(0, len(stored), step))
        return max(lengths, default=0) > self._num_bytes

    def close(self) -> None:
        """Close it."""
        if not self.closed:
            os.close(self._descriptor)
        super().close()

    def _check_heap(self, place: int, begun: bytes) -> None:
        """Walk through a heap from object to object to its end."""
        length = self._length(begun[len(HEAP) : len(HEAP) + self.length_bytes])
        heap = begun[:length]
        if length > len(heap):
            heap += os.pread(self._descriptor, length - len(heap), place + len(heap))
        self._heap = place, heap
        at, head = len(HEAP) + self.length_bytes, OBJECT_BYTES + self.length_bytes
        while at + head <= len(heap):
            index, length = self._length(heap[at : at + 2]), self._length(heap[at + OBJECT_BYTES : at + head])
            # The free space is the object 0, and its length counts all of it.
            if not index and not length:
                self.endless = place
                # A file that is damaged was refused before; so it is the share that gave this.
                raise OSError(errno.EIO, f"the heap at byte {place:,} has no end", self._path)
            at += head + -(-length // ALIGNMENT) * ALIGNMENT if index else length

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


def read_texts(stream: Hdf5Stream) -> None:
    """
    Read every text in an HDF5 file, but for those that lie in other files.

    :param stream: Tells afterwards whether there is an endless heap, or a text that is longer than the file: HDF5
        would take so much memory.
    :raises OSError: If it cannot be read at this moment.
    """
    import h5py

    with h5py.File(stream, "r") as opened:
        _, stream.length_bytes = opened.id.get_create_plist().get_sizes()
        names: list[bytes] = [b"."]
        h5py.h5o.visit(opened.id, names.append)
        for name in names:
            with _passing_over_damage():
                item = opened[name]
                if isinstance(item, h5py.Dataset) and stream.has_too_long_a_text(item):
                    stream.too_long = item.name
                    return
                _read(item)


def _read(item: Any) -> None:
    import h5py

    for number in range(h5py.h5a.get_num_attrs(item.id)):
        with _passing_over_damage():
            attribute = h5py.h5a.open(item.id, index=number)
            if attribute.dtype.hasobject:
                _ = item.attrs[attribute.name]
    if isinstance(item, h5py.Dataset) and item.dtype.hasobject and not (item.external or item.is_virtual):
        if not item.shape:
            _ = item[()]
            return
        for start in range(0, item.shape[0], TEXTS_AT_ONCE):
            _ = item[start : start + TEXTS_AT_ONCE]


@contextmanager
def _passing_over_damage() -> Iterator[None]:
    """What else is damaged, or of a kind that h5py does not know, is for those who need it to tell."""
    try:
        yield
    except Exception as error:
        if is_passing(error):
            raise
