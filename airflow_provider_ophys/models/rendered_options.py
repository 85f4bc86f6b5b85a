"""Options whose value a template may have rendered: text where a number is meant, or nothing at all."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator

_UNITS = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}


def parse_bytes(value: object) -> int:
    """
    Read a number of bytes: ``536870912``, ``"536870912"``, ``"512MiB"`` or ``"0.5 GB"``.

    :raises ValueError: If it is neither, or not positive.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", str(value))
    if isinstance(value, bool) or match is None or match[2].lower() not in _UNITS:
        raise ValueError(f"{value!r} is not a number of bytes; write for example 536870912 or '512MiB'")
    number = int(float(match[1]) * _UNITS[match[2].lower()])
    if number <= 0:
        raise ValueError(f"{value!r} is not positive")
    return number


def none_if_blank(value: object) -> object:
    """Return a value; ``None`` for a template that rendered to nothing: the option is then not given."""
    return None if isinstance(value, str) and value.strip() in ("", "None") else value


OptionalBytes = Annotated[int | None, BeforeValidator(lambda v: None if v is None else parse_bytes(v))]
