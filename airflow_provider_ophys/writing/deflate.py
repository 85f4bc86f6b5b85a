"""
Zlib streams, made faster or smaller than zlib makes them; any zlib reads them.

What is compressed here are the planes of HDF5's shuffle filter: the first bytes of all elements, then the second
bytes, and so on. In a movie they are unlike each other: the low byte is photon noise, in which there is nothing to
find but which bytes are frequent, and the high byte is long runs of a few values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Planes = NDArray[np.uint8]

try:
    from zlib_ng import zlib_ng as zlib
except ImportError:  # zlib-ng has no wheel for this platform
    import zlib  # type: ignore[no-redef]

igzip_lib: Any
isal_zlib: Any
try:
    from isal import igzip_lib, isal_zlib
except ImportError:  # isal has no wheel for this platform
    igzip_lib = isal_zlib = None

ZLIB_HEADER = b"\x78\x01"
RAW_STREAM = -15

# A coder is chosen by what it makes of a few pieces of a plane.
SAMPLES, SAMPLE_BYTES = 4, 32 * 1024

# Searching thoroughly takes ten times as long, so it has to be worth it.
THOROUGH_GAIN = 0.97


def deflate_fast(planes: Planes) -> bytes:
    """
    Compress at several hundred megabytes per second.

    :param planes: C-contiguous.
    """
    if igzip_lib is None:
        return bytes(zlib.compress(planes.reshape(-1), 1))
    # With the most working memory it is a fifth faster than by default.
    return bytes(
        igzip_lib.compress(
            planes.reshape(-1), 1, flag=igzip_lib.COMP_ZLIB, mem_level=igzip_lib.MEM_LEVEL_EXTRA_LARGE
        )
    )


def deflate_small(planes: Planes) -> bytes:
    """
    Compress each plane with what suits it, never into more than :func:`deflate_fast` does.

    :param planes: C-contiguous, (planes, bytes of each).
    """
    parts = [ZLIB_HEADER]
    for plane in planes[:-1]:
        parts += _best_coder(plane)(plane, zlib.Z_SYNC_FLUSH)
    parts += _best_coder(planes[-1])(planes[-1], zlib.Z_FINISH)
    parts.append(zlib.adler32(planes.reshape(-1)).to_bytes(4, "big"))
    return min(b"".join(parts), deflate_fast(planes), key=len)


Coder = Callable[["Planes", int], Iterable[bytes]]


def _best_coder(plane: Planes) -> Coder:
    starts = np.linspace(0, max(0, plane.size - SAMPLE_BYTES), SAMPLES).astype(int)
    sample = np.concatenate([plane[start : start + SAMPLE_BYTES] for start in starts])

    def size(coder: Coder) -> int:
        return sum(map(len, coder(sample, zlib.Z_FINISH)))

    best = min(_QUICK_CODERS, key=size)
    return _thorough if size(_thorough) < THOROUGH_GAIN * size(best) else best


def _repeats(plane: Planes, flush: int) -> Iterable[bytes]:
    """Find repeats, quickly: for smooth data."""
    if isal_zlib is None:
        coder = zlib.compressobj(1, zlib.DEFLATED, RAW_STREAM)
    else:
        coder = isal_zlib.compressobj(1, zlib.DEFLATED, RAW_STREAM)
    return coder.compress(plane), coder.flush(flush)


def _runs(plane: Planes, flush: int) -> Iterable[bytes]:
    """Find runs of one byte alone: for the high bytes of a noisy movie."""
    coder = zlib.compressobj(1, zlib.DEFLATED, RAW_STREAM, 9, zlib.Z_RLE)
    return coder.compress(plane), coder.flush(flush)


def _frequencies(plane: Planes, flush: int) -> Iterable[bytes]:
    """Find nothing, and give frequent bytes short codes: for noise."""
    coder = zlib.compressobj(1, zlib.DEFLATED, RAW_STREAM, 9, zlib.Z_HUFFMAN_ONLY)
    return coder.compress(plane), coder.flush(flush)


def _thorough(plane: Planes, flush: int) -> Iterable[bytes]:
    coder = zlib.compressobj(6, zlib.DEFLATED, RAW_STREAM, 9)
    return coder.compress(plane), coder.flush(flush)


_QUICK_CODERS: tuple[Coder, ...] = (_repeats, _runs, _frequencies)
