"""What pydantic found wrong, told to users."""

from __future__ import annotations

import reprlib

from pydantic import ValidationError


def list_problems(error: ValidationError) -> str:
    """Return one line for each problem: where it is, what is wrong there, and what was given."""
    return "\n".join(
        f"  {'.'.join(map(str, problem['loc']))}: {problem['msg']} (given: {reprlib.repr(problem['input'])})"
        for problem in error.errors()
    )
