"""The options of iterators, checked before anything is read."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import Any

from airflow_provider_ophys.exceptions import ConfigurationError

SIZES = ("buffer_gb", "chunk_mb")
SHAPES = ("buffer_shape", "chunk_shape")


def iterator_options_of(given: object) -> Mapping[str, Any]:
    """
    Return what a user gave as the options of iterators; none for ``None``.

    :raises ConfigurationError: If it is no mapping.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise ConfigurationError(
            f"iterator_options is {given!r:.200}; write a dict, such as {{'chunk_mb': 10.0}}."
        )
    return given


def check_iterator_options(options: Mapping[str, Any], *, num_axes: int) -> None:
    """
    Check sizes and shapes.

    :param options: Those of :class:`airflow_provider_ophys.writing.iterator.BulkDataChunkIterator`.
    :param num_axes: Of the data.
    :raises ConfigurationError: If one makes no sense; names it.
    """
    for name in SIZES:
        size = options.get(name)
        is_number = isinstance(size, (int, float)) and not isinstance(size, bool)
        if size is not None and not (is_number and 0 < size < math.inf):
            raise ConfigurationError(f"{name} is {size!r}; write a number above 0.")
    for name in SHAPES:
        shape = options.get(name)
        if shape is not None and not isinstance(shape, str) and not _is_shape(shape, num_axes):
            raise ConfigurationError(
                f"{name} is {shape!r}; write {num_axes} whole numbers above 0, one for each axis of the data."
            )
    chunk_mb, buffer_gb = options.get("chunk_mb"), options.get("buffer_gb")
    if chunk_mb is not None and buffer_gb is not None and chunk_mb * 1e6 > buffer_gb * 1e9:
        raise ConfigurationError(
            f"chunk_mb ({chunk_mb}) is more than buffer_gb ({buffer_gb}). A buffer holds whole chunks."
        )


def _is_shape(shape: Any, num_axes: int) -> bool:
    try:
        lengths = [operator.index(length) for length in shape]
    except TypeError:
        return False
    if bool in set(map(type, shape)):
        return False
    return len(lengths) == num_axes and all(length > 0 for length in lengths)
