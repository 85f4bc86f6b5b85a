"""Which types of numbers NWB has for data, and what holds those that it has not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from airflow_provider_ophys.exceptions import SourceDataError
from airflow_provider_ophys.models.remarks import remark

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

# Each holds every value of the other.
WIDER: dict[str, np.dtype[Any]] = {"float16": np.dtype(np.float32), "bool": np.dtype(np.uint8)}

KNOWN = frozenset({"float32", "float64"} | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)})


def stored_dtype(dtype: DTypeLike, what: str) -> np.dtype[Any]:
    """
    Return the type as which numbers are stored: their own, in the machine's byte order, or a wider one.

    ImageJ's TIFFs are big-endian; Zarr and most readers want the machine's own order.

    :param dtype: Of the source.
    :param what: Has it, for the message, for example ``"The raw traces"``.
    :raises SourceDataError: If NWB has no such type; names it.
    """
    source: np.dtype[Any] = np.dtype(dtype)
    if source.name in KNOWN:
        return source.newbyteorder("=")
    wider = WIDER.get(source.name)
    if wider is None:
        raise SourceDataError(
            f"{what} are {source.name}, which NWB does not have. Convert them to integers, float32 or float64 "
            "first; of complex numbers, for example, take the magnitude."
        )
    remark(
        f"{what} are {source.name}, which NWB does not have, and were written as {wider.name}: no value differs."
    )
    return wider


def as_stored(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return values in the type of :func:`stored_dtype`, if they need another; byte order is left as it is."""
    return values.astype(dtype) if values.dtype.name in WIDER else values
