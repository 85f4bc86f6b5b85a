"""
The one door for pickles: they are read as data, or not at all.

A pickle is a program: reading one may run anything. suite2p keeps ``ops.npy`` and ``stat.npy`` as pickles inside
NumPy files, and SIMA everything. What is read here is what an extractor is given, so that nothing is read a second
time by something that trusts it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from airflow_provider_ophys.exceptions import SourceDataError, is_passing, unreadable
from airflow_provider_ophys.recordings.pickle_reader import NotDataError, read_pickle
from airflow_provider_ophys.recordings.recording import require_regular
from airflow_provider_ophys.recordings.wholeness import not_whole

LONGEST_REASON = 300


def check_pickle(file: Path, *, allow_pickle: bool = False) -> Any:
    """
    Read a NumPy file of Python objects, if it holds nothing but data.

    :param file: ``.npy``, with an object array of any shape.
    :param allow_pickle: Read whatever it holds, and run what that runs: the platform's ``[ophys] allow_pickle``.
    :returns: The array; one of another dtype as it is. Paths in it are pure paths of the system that wrote them.
    :raises SourceDataError: If it cannot be read, or holds anything that is not data.
    :raises SourceChangedError: If it may still be growing.
    :raises SourceAccessError: If its disk or share fails.
    """
    require_regular(file)
    try:
        try:
            return _read_array(file)
        except NotDataError:
            if not allow_pickle:
                raise
        return np.load(file, allow_pickle=True)
    except NotDataError as error:
        raise SourceDataError(
            f"{file} is not read: {error}. Take it from the software that makes such files again. If all who can "
            "write there are trusted, [ophys] allow_pickle = True lets it run what it wants."
        ) from error
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"[:LONGEST_REASON]
        if is_passing(error):
            raise unreadable(f"{file} cannot be read: {reason}. Try again.", error) from error
        remedy = "It is damaged or was cut off; take it from the software that makes such files again."
        raise not_whole(file, f"it cannot be read ({reason})", remedy=remedy) from error


def _read_array(file: Path) -> Any:
    with file.open("rb") as stream:
        version = np.lib.format.read_magic(stream)
        read_header = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        _, _, dtype = read_header(stream)
        if dtype.hasobject:
            return read_pickle(stream, file.stat().st_size)
    return np.load(file, allow_pickle=False)
