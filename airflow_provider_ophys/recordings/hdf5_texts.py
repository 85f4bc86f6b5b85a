"""
All texts of an HDF5 file, looked at before a library reads them: all are there, and together no longer than it.

A file of a few kilobytes may say that one text stands in a million places, or that there are texts where nothing
was ever written; a library makes as many of it as the file says.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from airflow_provider_ophys.exceptions import is_passing
from airflow_provider_ophys.recordings.hdf5_stream import LONGEST_TEXT_BYTES, Hdf5Stream

MOST_TEXTS, TEXTS_AT_ONCE = 1_000_000, 100_000
# So much may be in memory at once.
MOST_BYTES = 32 * 1024**2
SHORT_BYTES = MOST_BYTES // TEXTS_AT_ONCE
# Of the length of a text, where its dataset stands.
LENGTH_BYTES = 4


class TooLongError(ValueError):
    """Texts of a file are longer than they may be."""


def read_texts(stream: Hdf5Stream) -> None:
    """
    Read every text in an HDF5 file, but for those that lie in other files.

    :param stream: Tells afterwards whether there is an endless heap, or what is too long, and where.
    :raises OSError: If it cannot be read at this moment.
    """
    import h5py

    with h5py.File(stream, "r") as opened:
        _, stream.length_bytes = opened.id.get_create_plist().get_sizes()
        names: list[bytes] = [b"."]
        h5py.h5o.visit(opened.id, names.append)
        for name in names:
            try:
                with _passing_over_damage():
                    item = opened[name]
                    _read_attributes(stream, item)
                    if isinstance(item, h5py.Dataset) and not (item.external or item.is_virtual):
                        _read(stream, item)
            except TooLongError as error:
                stream.too_long = stream.too_long or f"{error} (/{name.decode(errors='replace').strip('./')})"
                return


def _read_attributes(stream: Hdf5Stream, item: Any) -> None:
    import h5py

    for number in range(h5py.h5a.get_num_attrs(item.id)):
        with _passing_over_damage():
            attribute = h5py.h5a.open(item.id, index=number)
            _check(attribute.dtype, attribute.shape)
            if attribute.dtype.hasobject:
                _read_attribute(stream, item, attribute)


def _read_attribute(stream: Hdf5Stream, item: Any, attribute: Any) -> None:
    """Read all texts of an attribute, of which nothing less can be read."""
    import h5py

    longest = MOST_BYTES // max(1, attribute.get_space().get_simple_extent_npoints())
    if stream.longest_seen <= longest:
        with _no_longer_than(stream, longest):
            _ = item.attrs[attribute.name]
        return
    # Longer ones were in other places of the file: see what is in the heaps of this one.
    with Hdf5Stream(stream.path) as anew, h5py.File(anew, "r") as opened:
        anew.length_bytes = stream.length_bytes
        with _no_longer_than(anew, longest):
            _ = opened[item.name].attrs[attribute.name]


def _read(stream: Hdf5Stream, dataset: Any) -> None:
    _check(dataset.dtype, dataset.shape)
    if not dataset.dtype.hasobject or not dataset.size or not dataset.id.get_storage_size():
        return
    _check_lengths(stream, dataset)
    if not dataset.shape:
        _ = dataset[()]
        return
    start, left = 0, stream.num_bytes
    while start < dataset.shape[0]:
        texts_in_each = max(1, dataset.size // dataset.shape[0])
        count = max(1, min(TEXTS_AT_ONCE, MOST_BYTES // max(stream.longest_seen, SHORT_BYTES)) // texts_in_each)
        try:
            with _no_longer_than(stream, MOST_BYTES // (count * texts_in_each)):
                length = _length_of(dataset[start : start + count])
        except TooLongError:
            # One that is longer than those before it has come.
            if count > 1:
                continue
            places = np.ndindex(dataset.shape[1:])
            length = sum(_length_of(np.asarray(dataset[(start, *place)])) for place in places)
        left -= length
        if left < 0:
            raise TooLongError("its texts are longer than the file")
        start += count


def _length_of(texts: Any) -> int:
    return sum(len(text) for text in texts.flat if isinstance(text, bytes))


def _check(dtype: Any, shape: Any) -> None:
    """Check what a dataset or an attribute of texts says of itself."""
    if dtype.kind in "SV" and dtype.itemsize > LONGEST_TEXT_BYTES:
        raise TooLongError(f"a text has {dtype.itemsize:,} bytes, where {LONGEST_TEXT_BYTES:,} are the most")
    if (dtype.hasobject or dtype.kind == "S") and math.prod(shape or ()) > MOST_TEXTS:
        raise TooLongError(f"it has more than {MOST_TEXTS:,} texts")


def _check_lengths(stream: Hdf5Stream, dataset: Any) -> None:
    """Check the lengths of texts that are stored in one piece: of each its length and where it lies."""
    import h5py

    is_text, stored = h5py.check_string_dtype(dataset.dtype), stream.stored(dataset)
    if stored is None or is_text is None or is_text.length is not None:
        return
    step = max(dataset.id.get_storage_size() // dataset.size, LENGTH_BYTES)
    starts = range(0, len(stored), step)
    if sum(int.from_bytes(stored[at : at + LENGTH_BYTES], "little") for at in starts) > stream.num_bytes:
        raise TooLongError("its texts are longer than the file")


@contextmanager
def _no_longer_than(stream: Hdf5Stream, num_bytes: int) -> Iterator[None]:
    """
    Read texts that must not be longer, as each may stand in many places.

    :raises TooLongError: If one is.
    """
    if stream.longest_seen > num_bytes:
        raise TooLongError(f"texts of up to {stream.longest_seen:,} bytes are in too many places")
    stream.longest_wanted = num_bytes
    try:
        yield
    except OSError as error:
        if stream.longest_seen <= num_bytes or error.errno not in (errno.EFBIG, None):
            raise
        raise TooLongError(f"texts of up to {stream.longest_seen:,} bytes are in too many places") from error
    finally:
        stream.longest_wanted = LONGEST_TEXT_BYTES


@contextmanager
def _passing_over_damage() -> Iterator[None]:
    """What else is damaged, or of a kind that h5py does not know, is for those who need it to tell."""
    try:
        yield
    except TooLongError:
        raise
    except Exception as error:
        if is_passing(error):
            raise
