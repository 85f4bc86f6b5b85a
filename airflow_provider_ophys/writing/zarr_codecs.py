"""Compression of Zarr (format 3) chunks, in our own threads, as zarr-python would do it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from airflow_provider_ophys.exceptions import BackendConfigurationError
from airflow_provider_ophys.models.backend import ZarrDatasetConfiguration
from airflow_provider_ophys.writing.blosc import (
    BLOCK_BYTES,
    FAST_LEVEL,
    SMALL_LEVEL,
    fast_encoder,
    small_encoder,
)

if TYPE_CHECKING:
    import zarr
    from numpy.typing import NDArray

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ZarrCodec:
    """
    How the inner chunks of one Zarr (format 3) array are encoded.

    :param filters: The codecs, from arrays to arrays, that say so in the array's metadata.
    :param compressors: The same for those from bytes to bytes.
    :param encode: Encodes one whole, C-contiguous, little-endian chunk.
    """

    filters: list[Any]
    compressors: list[Any]
    encode: Callable[[NDArray[Any]], bytes]


def zarr_codec(configuration: ZarrDatasetConfiguration, dtype: np.dtype[Any]) -> ZarrCodec:
    """
    Return the codec of an array.

    :param configuration: Complete: with a method, and ``filter_methods`` as they are wanted.
    :param dtype: Of the array; ``object`` for texts.
    :raises BackendConfigurationError: If a filter refuses its options.
    """
    methods = configuration.filter_methods or ()
    given = configuration.filter_options or ({},) * len(methods)
    filters = [_filter(method, options, dtype) for method, options in zip(methods, given, strict=True)]
    # Of Zarr's codecs, those of arrays come before those of bytes, of which shuffling is one.
    of_arrays = [step for method, step in zip(methods, filters, strict=True) if method != "shuffle"]
    of_bytes = [step for method, step in zip(methods, filters, strict=True) if method == "shuffle"]
    of_bytes += _compressor(configuration, dtype.itemsize)
    steps = [encode for _, encode in (*of_arrays, *of_bytes)]

    def encode(chunk: NDArray[Any]) -> bytes:
        encoded: Any = chunk
        for step in steps:
            encoded = step(encoded)
        return encoded if isinstance(encoded, bytes) else cast("bytes", encoded.tobytes())

    return ZarrCodec([codec for codec, _ in of_arrays], [codec for codec, _ in of_bytes], encode)


Step = tuple[Any, Callable[[Any], Any]]
"""A codec of zarr-python for an array's metadata, and what encodes as it does."""


def _compressor(configuration: ZarrDatasetConfiguration, itemsize: int) -> list[Step]:
    from numcodecs import GZip, Zstd
    from zarr.codecs import GzipCodec, ZstdCodec

    options: dict[str, Any] = dict(configuration.compression_options)
    match configuration.compression_method:
        case "fast":
            return [_preset(FAST_LEVEL, itemsize, fast_encoder(itemsize))]
        case "small":
            return [_preset(SMALL_LEVEL, itemsize, small_encoder(itemsize))]
        case "blosc":
            return [_blosc(options, itemsize)]
        case "zstd":
            level = options.get("level", 0)
            return [(ZstdCodec(level=level), Zstd(level).encode)]
        case "gzip":
            level = options.get("level", 5)
            return [(GzipCodec(level=level), GZip(level).encode)]
        case _:
            return []


def _preset(level: int, itemsize: int, encode: Callable[[Any], Any]) -> Step:
    from zarr.codecs import BloscCodec

    declared = BloscCodec(
        cname="zstd", clevel=level, shuffle="bitshuffle", typesize=itemsize, blocksize=BLOCK_BYTES
    )
    return declared, encode


def _blosc(options: Mapping[str, Any], itemsize: int) -> Step:
    from numcodecs import Blosc
    from zarr.codecs import BloscCodec

    cname, clevel = options.get("cname", "zstd"), options.get("clevel", 5)
    shuffle = options.get("shuffle", "bitshuffle")
    return (
        BloscCodec(cname=cname, clevel=clevel, shuffle=shuffle, typesize=itemsize),
        Blosc(cname, clevel, getattr(Blosc, shuffle.upper()), typesize=itemsize).encode,
    )


def _filter(method: str, options: Mapping[str, Any], dtype: np.dtype[Any]) -> Step:
    from numcodecs.registry import get_codec
    from zarr.codecs import numcodecs as zarr_numcodecs

    config: dict[str, Any] = dict(options)
    if method == "shuffle":
        config["elementsize"] = dtype.itemsize
    elif method != "bitround":
        config["dtype"] = dtype.newbyteorder("<").str
    kinds = {kind.lower(): kind for kind in ("Delta", "Shuffle", "BitRound", "Quantize", "FixedScaleOffset")}
    try:
        codec = get_codec({"id": method, **config})
        # Found out here and not in the middle of the movie: a type that the filter does not take.
        codec.encode(np.zeros(1, dtype))
    except (TypeError, ValueError) as error:
        raise BackendConfigurationError(
            f"filter {method!r} with the options {dict(options)!r} does not fit data of type {dtype}: {error}"
        ) from error
    declared = getattr(zarr_numcodecs, kinds[method])(**config)
    if method == "shuffle":
        return declared, lambda data: np.frombuffer(codec.encode(data), np.uint8)
    return declared, codec.encode


def zarr_codecs_of(
    array: zarr.Array[Any],
) -> tuple[str | None, dict[str, Any], tuple[str, ...], tuple[dict[str, Any], ...]]:
    """
    Return method, options, filters and their options of a stored array, as a configuration names them.

    :returns: The method is ``None`` for a codec that this package does not know.
    """
    method: str | None = "none"
    options: dict[str, Any] = {}
    filters: list[tuple[str, dict[str, Any]]] = []
    for codec in (*array.filters, *array.compressors):
        described = codec.to_dict()
        name = str(described["name"]).removeprefix("numcodecs.")
        config: Any = described.get("configuration", {})
        if name in ZarrDatasetConfiguration.FILTERS:
            known = ZarrDatasetConfiguration.FILTERS[name]
        elif name in ZarrDatasetConfiguration.CODECS:
            known = ZarrDatasetConfiguration.CODECS[name]
        else:
            log.warning("%s has the codec %s, which is left out.", array.name, name)
            method = None if codec in array.compressors else method
            continue
        kept = {option: value for option, value in config.items() if option in known}
        if name in ZarrDatasetConfiguration.FILTERS:
            filters.append((name, kept))
        else:
            # Level 0 is Zstandard's way to say its default.
            method, options = name, {} if kept.get("level") == 0 and name == "zstd" else kept
    return method, options, tuple(name for name, _ in filters), tuple(config for _, config in filters)
