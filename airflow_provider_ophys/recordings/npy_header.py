"""The header of a NumPy file, and whether all of the array behind it is there."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from airflow_provider_ophys.exceptions import is_passing, unreadable
from airflow_provider_ophys.recordings.recording import require_regular
from airflow_provider_ophys.recordings.wholeness import not_whole

LONGEST_REASON = 300


class NpyHeader(NamedTuple):
    """What a NumPy file says of its array."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def read_npy_header(file: Path) -> NpyHeader:
    """
    Read the header of a ``.npy`` file of numbers, and see whether the file is as long as it says.

    :raises SourceDataError: If it is no such file, was cut off, or holds Python objects.
    :raises SourceChangedError: If it may still be growing.
    :raises SourceAccessError: If its disk or share fails.
    """
    require_regular(file)
    try:
        with file.open("rb") as stream:
            version = np.lib.format.read_magic(stream)
            if version == (1, 0):
                shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
            else:
                shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
            begin = stream.tell()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"[:LONGEST_REASON]
        if is_passing(error):
            raise unreadable(f"{file} cannot be read: {reason}. Try again.", error) from error
        raise not_whole(file, f"it cannot be read as a NumPy array ({reason})") from error
    if min(shape, default=0) < 0:
        raise not_whole(file, f"it holds an array of {shape}")
    if dtype.hasobject:
        raise not_whole(file, "it holds Python objects where there should be numbers")
    expected = begin + prod(shape) * dtype.itemsize
    if file.stat().st_size < expected:
        raise not_whole(file, f"it has {file.stat().st_size:,} bytes, but an array of {shape} takes {expected:,}")
    return NpyHeader(tuple(map(int, shape)), dtype)
