"""The memory order of a stored chunk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Image stacks are transposed frame by frame, which keeps a frame in the CPU's cache; a flat array is not.
IMAGE_STACK_AXES = 3


def copy_rows(part: NDArray[Any], chunk: NDArray[Any]) -> NDArray[Any]:
    """
    Bring a part into the memory order of a stored chunk; what it does not fill becomes zero.

    :param part: Any strides and byte order; no axis longer than the chunk's.
    :param chunk: C-contiguous; overwritten and returned.
    """
    if part.shape != chunk.shape:
        chunk[...] = 0
    filled = chunk[tuple(slice(0, length) for length in part.shape)]
    if part.ndim >= IMAGE_STACK_AXES:
        for target, frame in zip(filled, part, strict=True):
            np.copyto(target, frame)
    else:
        np.copyto(filled, part)
    return chunk
