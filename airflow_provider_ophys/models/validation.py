"""What pydantic does not find wrong by itself, and what it found wrong, told to users."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

# Python's and NumPy's.
TRUTHS = ("bool", "bool_")


def number_check() -> Any:
    """Return a validator of all fields of a model: no true or false for a number, as which pydantic takes them."""
    return field_validator("*", mode="before")(classmethod(_want_number))


def _want_number(model: type[BaseModel], value: object, info: ValidationInfo) -> object:
    if _is_number(model, str(info.field_name)) and _holds_a_truth(value):
        raise PydanticCustomError("number", "A number is wanted here, not true or false")
    return value


@cache
def _is_number(model: type[BaseModel], field: str) -> bool:
    kinds = list(_kinds(model.model_fields[field].annotation))
    return (int in kinds or float in kinds) and bool not in kinds


def _kinds(annotation: Any) -> Iterator[Any]:
    """Yield the types that a field or its items may have."""
    inner = get_args(annotation)
    for kind in inner[:1] if get_origin(annotation) is Annotated else inner:
        yield from _kinds(kind)
    if not inner:
        yield annotation


def _holds_a_truth(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        # Of millions of times, the kinds are few.
        return not {kind.__name__ for kind in set(map(type, value))}.isdisjoint(TRUTHS)
    return type(value).__name__ in TRUTHS


def list_problems(error: ValidationError) -> str:
    """Return one line for each problem: where it is, what is wrong there, and what was given."""
    return "\n".join(
        f"  {'.'.join(map(str, problem['loc']))}: {problem['msg']} (given: {reprlib.repr(problem['input'])})"
        for problem in error.errors()
    )
