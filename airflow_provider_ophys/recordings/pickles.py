"""
Whether a pickle holds only data.

A pickle is a program: reading one may run anything. suite2p keeps ``ops.npy`` and ``stat.npy`` as pickles inside
NumPy files, and roiextractors reads them as such (``allow_pickle=True``), so they are read here first, in a way
that knows numbers, text, containers and arrays, and nothing else.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from airflow_provider_ophys.exceptions import SourceDataError

# All that pickles of arrays, numbers, text, paths and dates refer to; none of these does more than build one.
DATA_ONLY = {
    "numpy": {"ndarray", "dtype"},
    "numpy.core.multiarray": {"_reconstruct", "scalar"},
    "numpy._core.multiarray": {"_reconstruct", "scalar"},
    "numpy.core.numeric": {"_frombuffer"},
    "numpy._core.numeric": {"_frombuffer"},
    "_codecs": {"encode"},
    "builtins": {"bytearray", "complex", "frozenset", "range", "set", "slice"},
    "__builtin__": {"bytearray", "complex", "frozenset", "set", "slice", "xrange"},
    "collections": {"OrderedDict"},
    "datetime": {"date", "datetime", "time", "timedelta", "timezone"},
    "pathlib": {"Path", "PosixPath", "PurePath", "PurePosixPath", "PureWindowsPath", "WindowsPath"},
    "pathlib._local": {"Path", "PosixPath", "PurePath", "PurePosixPath", "PureWindowsPath", "WindowsPath"},
}


class _DataUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name in DATA_ONLY.get(module, ()):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it refers to {module}.{name}, which is not data")


def check_pickle(file: Path) -> Any:
    """
    Read a NumPy file of Python objects, if it holds nothing but data.

    :param file: ``.npy``, with an object array of any shape.
    :returns: The array; one of another dtype as it is.
    :raises SourceDataError: If it cannot be read, or holds anything that would run code.
    """
    try:
        with file.open("rb") as stream:
            version = np.lib.format.read_magic(stream)
            read_header = (
                np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            )
            _, _, dtype = read_header(stream)
            if dtype.hasobject:
                return _DataUnpickler(stream, encoding="latin1").load()
        return np.load(file, allow_pickle=False)
    except Exception as error:
        raise SourceDataError(
            f"{file} cannot be read: {type(error).__name__}: {error}. It is damaged, incomplete, or holds what "
            "suite2p never writes; take it from suite2p again."
        ) from error
