"""
Compression of HDF5 chunks with HDF5's standard filters, in our own threads.

HDF5 compresses one chunk after the other under a global lock; chunks that we encode ourselves are only stored by
it. What is stored is what the filters shuffle and deflate would make, so every HDF5 reader can read it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from airflow_provider_ophys.writing.blosc import (
    BLOCK_BYTES,
    FAST_LEVEL,
    SMALL_LEVEL,
    fast_encoder,
    small_encoder,
)
from airflow_provider_ophys.writing.deflate import deflate_fast, deflate_small

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]

Deflate = Callable[["Bytes"], bytes]

# Decoders ignore the level in the file; 4 is what HDF5 itself writes by default.
LABEL_LEVEL = 4


@dataclass(frozen=True)
class HDF5Codec:
    """
    How the chunks of one dataset are compressed.

    :param filters: Keyword arguments of ``h5py.Group.create_dataset`` that declare the same filters in the file.
    :param shuffle: Whether bytes of equal significance are gathered before they are compressed.
    :param deflate: Compresses planes, of which there is one without ``shuffle``, and otherwise one per byte of an
        element; ``None`` stores chunks as they are.
    """

    filters: dict[str, Any]
    shuffle: bool
    deflate: Deflate | None


def hdf5_codec(method: str, level: int | None, itemsize: int) -> HDF5Codec | None:
    """
    Return the codec of a compression method, or ``None`` for one that HDF5 itself must apply.

    :param method: ``"fast"``, ``"small"``, ``"none"``, ``"gzip"`` or ``"lzf"``.
    :param level: Deflate level, for ``"gzip"`` only; default 4.
    :param itemsize: Bytes per element; shuffling single bytes would do nothing.
    """
    if method == "none":
        return HDF5Codec(filters={}, shuffle=False, deflate=None)
    shuffle = itemsize > 1
    if method == "gzip":
        level = LABEL_LEVEL if level is None else level
        return HDF5Codec(
            _deflate_filters(level, shuffle=shuffle),
            shuffle,
            lambda planes: zlib.compress(planes.reshape(-1), level),
        )
    presets: dict[str, Deflate] = {"fast": deflate_fast, "small": deflate_small}
    if method in presets:
        return HDF5Codec(_deflate_filters(LABEL_LEVEL, shuffle=shuffle), shuffle, presets[method])
    return None


def _deflate_filters(level: int, *, shuffle: bool) -> dict[str, Any]:
    return {"compression": "gzip", "compression_opts": level, "shuffle": shuffle}


@dataclass(frozen=True)
class ZarrCodec:
    """
    How the inner chunks of one Zarr (format 3) array are compressed.

    :param declared: The codecs that say so in the array's metadata.
    :param encode: Compresses one whole, C-contiguous, little-endian chunk.
    """

    declared: list[Any]
    encode: Callable[[NDArray[Any]], bytes]


def zarr_codec(method: str, level: int | None, itemsize: int) -> ZarrCodec:
    """
    Return the codec of a compression method.

    :param method: ``"fast"``, ``"small"``, ``"none"``, ``"zstd"``, ``"gzip"`` or ``"blosc"``.
    :param level: For the last three; their own default if not given.
    :param itemsize: Bytes per element.
    """
    from numcodecs import GZip, Zstd
    from zarr.codecs import GzipCodec, ZstdCodec

    match method:
        case "fast":
            return _preset(FAST_LEVEL, itemsize, fast_encoder(itemsize))
        case "small":
            return _preset(SMALL_LEVEL, itemsize, small_encoder(itemsize))
        case "blosc":
            return _blosc(5 if level is None else level, itemsize)
        case "zstd":
            level = 0 if level is None else level
            return ZarrCodec([ZstdCodec(level=level)], Zstd(level).encode)
        case "gzip":
            level = 5 if level is None else level
            return ZarrCodec([GzipCodec(level=level)], GZip(level).encode)
        case _:
            return ZarrCodec([], lambda chunk: chunk.tobytes())


def _preset(level: int, itemsize: int, encode: Callable[[NDArray[Any]], bytes]) -> ZarrCodec:
    from zarr.codecs import BloscCodec

    return ZarrCodec(
        [BloscCodec(cname="zstd", clevel=level, shuffle="bitshuffle", typesize=itemsize, blocksize=BLOCK_BYTES)],
        encode,
    )


def _blosc(level: int, itemsize: int) -> ZarrCodec:
    """Zstandard after gathering bits of equal significance: on photon noise smaller and faster than without."""
    from numcodecs import Blosc
    from zarr.codecs import BloscCodec

    return ZarrCodec(
        [BloscCodec(cname="zstd", clevel=level, shuffle="bitshuffle", typesize=itemsize)],
        Blosc("zstd", level, Blosc.BITSHUFFLE, typesize=itemsize).encode,
    )
