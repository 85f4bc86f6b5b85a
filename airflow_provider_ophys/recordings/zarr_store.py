"""
A Zarr store on disk, looked at before Zarr does: its files, its arrays, and what would run to decode them.

Both formats of Zarr name in their metadata what decodes a chunk. One of the names unpickles, and whoever registers
another may do anything; so only those are let through that turn bytes into numbers and texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import product
from math import ceil, prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from airflow_provider_ophys.exceptions import SourceDataError
from airflow_provider_ophys.models.folder_contents import walk
from airflow_provider_ophys.recordings.json_headers import read_json_object
from airflow_provider_ophys.recordings.recording import require_regular, require_within
from airflow_provider_ophys.recordings.wholeness import not_whole

SAFE_CODECS = frozenset(
    {"blosc", "zlib", "gzip", "gz", "bz2", "lzma", "lz4", "zstd", "shuffle", "delta", "fixedscaleoffset"}
    | {"quantize", "packbits", "astype", "bitround", "crc32", "crc32c", "adler32", "fletcher32", "jenkins_lookup3"}
    | {"pcodec", "zfpy", "vlen-utf8", "vlen-bytes", "json2", "bytes", "endian", "transpose", "sharding_indexed"}
)
METADATA = (".zarray", ".zgroup", ".zattrs", ".zmetadata", "zarr.json")
# Where codecs are named: in Zarr 2 by id, in Zarr 3 by name.
CODECS = ("compressor", "filters", "codecs", "index_codecs", "storage_transformers", "object_codec")
MOST_FILES, MOST_CHUNKS = 1_000_000, 1_000_000
# Zeros may take no room at all; but what is announced far beyond what is there was never written.
MOST_COMPRESSED, SURELY_FINE_BYTES = 5000, 1 << 28
KINDS = {"bool": "?", "complex64": "c8", "complex128": "c16"}
NUMBER_NAME = re.compile(r"(u?int|float)(8|16|32|64)")
BLOSC_HEADER_BYTES, BLOSC_SIZE = 16, slice(12, 16)


class ZarrArray(NamedTuple):
    """
    What the metadata of an array says.

    :param dtype: NumPy's kind of type, ``None`` for what is neither number nor text of a fixed length.
    """

    folder: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any] | None
    metadata: Mapping[str, Any]


def store_files(store: Path, root: Path) -> list[Path]:
    """
    Return all files of a store, hidden ones too, in a stable order.

    :param root: The recording's own folder, resolved.
    :raises SourceDataError: If one leads out of it, is no regular file, or if there are too many.
    """
    require_within(store, root)
    found: list[Path] = []
    for folder, folders, names in walk(store, follow_links=True):
        folders.sort()
        for name in folders:
            inner = Path(folder, name)
            require_within(inner, root)
            if inner.is_symlink():
                raise SourceDataError(
                    f"{inner} is a link to a folder, within a Zarr store. Copy the folder there."
                )
        for name in sorted(names):
            require_within(Path(folder, name), root)
            require_regular(Path(folder, name))
            found.append(Path(folder, name))
        if len(found) > MOST_FILES:
            raise SourceDataError(f"{store} has more than {MOST_FILES:,} files. Store it in larger chunks.")
    return found


def check_codecs(files: list[Path]) -> None:
    """
    Check that nothing but known codecs decodes what is in a store.

    :param files: Of the store.
    :raises SourceDataError: Names the metadata, and the codec.
    """
    for file in files:
        if file.name in METADATA:
            for codec in _codecs(read_json_object(file), named=False):
                if codec.removeprefix("numcodecs.") not in SAFE_CODECS:
                    raise SourceDataError(
                        f"{file} is not read: it asks for the codec {codec[:80]!r}, which is none of those that "
                        "make only numbers and texts. Write the array again with another."
                    )


def _codecs(value: Any, *, named: bool) -> Iterator[str]:
    """Yield the names of codecs in metadata, at any depth."""
    if isinstance(value, list):
        for item in value:
            if named and isinstance(item, str):
                yield item
            yield from _codecs(item, named=named)
    elif isinstance(value, Mapping):
        if named:
            name = value.get("id", value.get("name"))
            if name is not None:
                yield str(name)
        for key, item in value.items():
            is_place = key in CODECS
            if is_place and isinstance(item, str):
                yield item
            yield from _codecs(item, named=is_place or (named and key in ("configuration", "codec")))


def array_of(folder: Path) -> ZarrArray | None:
    """
    Read what the metadata of an array says; ``None`` if there is no array.

    :raises SourceDataError: If it makes no sense.
    """
    for name, type_name in ((".zarray", "dtype"), ("zarr.json", "data_type")):
        if not (folder / name).exists():
            continue
        metadata = read_json_object(folder / name)
        if metadata.get("node_type", "array") != "array":
            return None
        shape = metadata.get("shape")
        if not isinstance(shape, list) or not all(
            type(length) is int and 0 <= length < 1 << 48 for length in shape
        ):
            raise SourceDataError(f"{folder / name} says that the array has the shape {str(shape)[:200]}.")
        return ZarrArray(folder, tuple(shape), _dtype(metadata.get(type_name)), metadata)
    return None


def _dtype(name: Any) -> np.dtype[Any] | None:
    if not isinstance(name, str) or "O" in name:
        return None
    try:
        return np.dtype(name if NUMBER_NAME.fullmatch(name) else KINDS.get(name, name))
    except (TypeError, ValueError, SyntaxError):
        return None


def check_chunks(array: ZarrArray) -> int:
    """
    Check that the chunks of an array are there, and as long as they say.

    :returns: How many are not there, but stand for zeros.
    :raises SourceDataError: If one is missing that stands for nothing, or was cut off.
    """
    folder, (chunk_shape, separator, prefix) = array.folder, _grid(array)
    grid = [ceil(length / chunk) for length, chunk in zip(array.shape, chunk_shape, strict=True)]
    if prod(grid) > MOST_CHUNKS:
        raise SourceDataError(f"{folder} has {prod(grid):,} chunks. Store it in larger ones.")
    missing, stored = [], 0
    for place in product(*map(range, grid)):
        numbers = [prefix, *map(str, place)] if prefix else [*map(str, place)] or ["0"]
        file = folder / separator.join(numbers)
        if file.exists():
            _check_length(array, file, chunk_shape)
            stored += file.stat().st_size
        else:
            missing.append(file)
    # Zarr reads zeros where it is not told what a chunk that is not there stands for.
    if missing and array.metadata.get("fill_value") not in (0, False, None):
        name = missing[0].relative_to(folder)
        raise not_whole(folder, f"{len(missing)} of {prod(grid)} chunks are not there, such as {name}")
    announced = max(prod(array.shape), prod(chunk_shape)) * (array.dtype.itemsize if array.dtype else 1)
    if announced > SURELY_FINE_BYTES + MOST_COMPRESSED * stored:
        raise not_whole(folder, f"it should have {announced:,} bytes, but {stored:,} are there")
    return len(missing)


def _grid(array: ZarrArray) -> tuple[tuple[int, ...], str, str]:
    """Return the shape of a chunk, what separates its numbers in its name, and what the name begins with."""
    metadata = array.metadata
    if "zarr_format" in metadata and metadata["zarr_format"] == 3:  # noqa: PLR2004
        chunks = _inner(metadata, "chunk_grid", "chunk_shape")
        encoding = metadata.get("chunk_key_encoding")
        is_old = isinstance(encoding, Mapping) and encoding.get("name") == "v2"
        separator = _inner(metadata, "chunk_key_encoding", "separator") or ("." if is_old else "/")
        prefix = "" if is_old else "c"
    else:
        chunks, separator, prefix = metadata.get("chunks"), metadata.get("dimension_separator", "."), ""
    is_grid = isinstance(chunks, list) and len(chunks) == len(array.shape) and separator in (".", "/")
    if not is_grid or any(type(length) is not int or length < 1 for length in chunks):
        raise SourceDataError(f"The metadata in {array.folder} names no chunks: {str(chunks)[:200]}.")
    return tuple(chunks), separator, prefix


def _inner(metadata: Mapping[str, Any], *names: str) -> Any:
    value = metadata.get(names[0])
    configuration = value.get("configuration") if isinstance(value, Mapping) else None
    return configuration.get(names[1]) if isinstance(configuration, Mapping) else None


def _check_length(array: ZarrArray, file: Path, chunk_shape: tuple[int, ...]) -> None:
    size, codec = require_regular(file).st_size, _outer_codec(array.metadata)
    expected = size or 1
    if codec is None and array.dtype is not None:
        expected = prod(chunk_shape) * array.dtype.itemsize
    elif codec == "blosc":
        with file.open("rb") as stream:
            header = stream.read(BLOSC_HEADER_BYTES)
        expected = int.from_bytes(header[BLOSC_SIZE], "little") or BLOSC_HEADER_BYTES
    if size != expected:
        raise not_whole(file, f"it has {size:,} bytes, not {expected:,}")


def _outer_codec(metadata: Mapping[str, Any]) -> str | None:
    """Return the name of the codec that wrote the chunk's bytes last; ``None`` if they are the array's own."""
    if metadata.get("zarr_format") == 3:  # noqa: PLR2004
        names = [name for name in _codecs(metadata.get("codecs"), named=True) if name not in ("bytes", "endian")]
        return names[-1] if names else None
    names = [*_codecs(metadata.get("filters"), named=True), *_codecs(metadata.get("compressor"), named=True)]
    return names[-1] if names else None
