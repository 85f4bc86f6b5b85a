"""
Compression of HDF5 chunks with HDF5's standard filters, in our own threads.

HDF5 compresses one chunk after the other under a global lock; chunks that we encode ourselves are only stored by
it. What is stored is what the filters shuffle and deflate would make, so every HDF5 reader can read it.
"""

from __future__ import annotations

import logging
import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from airflow_provider_ophys.exceptions import BackendConfigurationError
from airflow_provider_ophys.models.backend import HDF5PLUGIN_OPTIONS, HDF5DatasetConfiguration
from airflow_provider_ophys.writing.deflate import deflate_fast, deflate_small

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]

log = logging.getLogger(__name__)

Deflate = Callable[["Bytes"], bytes]

# Decoders ignore the level in the file; 4 is what HDF5 itself writes by default.
LABEL_LEVEL = 4

SHUFFLED_METHODS = ("fast", "small", "gzip", "lzf")
"""Those that are better with bytes of equal significance side by side; hdf5plugin's see to it themselves."""

NAMED_FILTERS = {h5py.h5z.FILTER_SHUFFLE: "shuffle", h5py.h5z.FILTER_FLETCHER32: "fletcher32"}


@dataclass(frozen=True)
class HDF5Codec:
    """
    How the chunks of one dataset are compressed.

    :param shuffle: Whether bytes of equal significance are gathered before they are compressed.
    :param deflate: Compresses planes, of which there is one without ``shuffle``, and otherwise one per byte of an
        element; ``None`` stores chunks as they are.
    """

    shuffle: bool
    deflate: Deflate | None


def hdf5_codec(configuration: HDF5DatasetConfiguration) -> HDF5Codec | None:
    """
    Return the codec of a dataset, or ``None`` for one with a filter that HDF5 itself must apply.

    :param configuration: Complete: with a method, and ``filter_methods`` as they are wanted.
    """
    filters = set(configuration.filter_methods or ())
    if filters - {"shuffle"}:
        return None
    shuffle = "shuffle" in filters
    match configuration.compression_method:
        case "none":
            return HDF5Codec(shuffle, None) if not shuffle else None
        case "fast":
            return HDF5Codec(shuffle, deflate_fast)
        case "small":
            return HDF5Codec(shuffle, deflate_small)
        case "gzip":
            level = int(configuration.compression_options.get("level", LABEL_LEVEL))
            return HDF5Codec(shuffle, lambda planes: zlib.compress(planes.reshape(-1), level))
        case _:
            return None


def hdf5_filters(configuration: HDF5DatasetConfiguration) -> dict[str, Any]:
    """
    Return the keyword arguments of ``h5py.Group.create_dataset`` that declare a dataset's filters.

    :param configuration: Complete.
    :raises BackendConfigurationError: If a filter is of hdf5plugin, and that is not installed or refuses the
        options.
    """
    method = str(configuration.compression_method)
    filters: dict[str, Any] = dict.fromkeys(configuration.filter_methods or (), True)
    if method in HDF5PLUGIN_OPTIONS:
        return filters | _plugin_filter(method, configuration.compression_options)
    if method == "lzf":
        return filters | {"compression": "lzf"}
    if method == "none":
        return filters
    return filters | {
        "compression": "gzip",
        "compression_opts": configuration.compression_options.get("level", LABEL_LEVEL),
    }


def _plugin_filter(method: str, options: Mapping[str, Any]) -> dict[str, Any]:
    try:
        import hdf5plugin
    except ImportError as error:
        raise BackendConfigurationError(
            f"compression_method {method!r} is a filter of hdf5plugin, which is not installed on this worker. "
            "Run: pip install 'airflow-provider-ophys[hdf5plugin]'"
        ) from error
    (kind,) = [kind for kind in hdf5plugin.get_filters() if kind.__name__.lower() == method]
    try:
        return dict(kind(**options))
    except (TypeError, ValueError, AssertionError) as error:
        raise BackendConfigurationError(
            f"compression_options {dict(options)!r} do not fit hdf5plugin's {kind.__name__}: {error}"
        ) from error


def check_hdf5_filters(shape: tuple[int, ...], dtype: np.dtype[Any], settings: Mapping[str, Any]) -> None:
    """
    Try filters on a chunk in memory: some take only certain types or shapes, and HDF5 says so when it is late.

    :param shape: Of a chunk.
    :param settings: Keyword arguments of ``create_dataset``.
    :raises ValueError: If HDF5 refuses them.
    """
    # Without a cache HDF5 filters at once: a chunk that it cannot filter must not be left to closing the file.
    with h5py.File("trial", "w", driver="core", backing_store=False, rdcc_nbytes=0) as file:
        try:
            dataset = file.create_dataset("data", shape, dtype, chunks=shape, **settings)
            dataset[...] = np.arange(math.prod(shape)).reshape(shape).astype(dtype)
        except (OSError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(
                f"HDF5 cannot store a chunk {shape} of {dtype} with {dict(settings)}: {error}"
            ) from error


def hdf5_filters_of(dataset: h5py.Dataset) -> tuple[str | None, dict[str, Any], tuple[str, ...]]:
    """
    Return method, options and filters of a stored dataset, as a configuration names them.

    :returns: The method is ``None`` for a filter that this package does not know.
    """
    plist = dataset.id.get_create_plist()
    method: str | None = "none"
    options: dict[str, Any] = {}
    filters = []
    for index in range(plist.get_nfilters()):
        code, _, values, name = plist.get_filter(index)
        if code in NAMED_FILTERS:
            filters.append(NAMED_FILTERS[code])
        elif code == h5py.h5z.FILTER_DEFLATE:
            method, options = "gzip", {"level": int(values[0])}
        elif code == h5py.h5z.FILTER_LZF:
            method = "lzf"
        else:
            method, options = _plugin_filter_of(code, values)
            if method is None:
                log.warning("%s has the filter %s (%d), which is left out.", dataset.name, name.decode(), code)
    return method, options, tuple(filters)


def _plugin_filter_of(code: int, values: tuple[int, ...]) -> tuple[str | None, dict[str, Any]]:
    try:
        import hdf5plugin

        found = hdf5plugin.from_filter_options(code, values)
    except (ImportError, ValueError, NotImplementedError):
        return None, {}
    return type(found).__name__.lower(), found.get_config()
