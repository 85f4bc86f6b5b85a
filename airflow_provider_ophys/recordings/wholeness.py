"""What is said of a recording that is not whole: that it was cut off, or may still be growing."""

from __future__ import annotations

import time
from pathlib import Path

from airflow_provider_ophys.exceptions import SourceChangedError, SourceDataError

# A file that was written to this recently may still be growing.
STILL_GROWING_SECONDS = 120.0


def not_whole(file: Path, what: str, *, remedy: str = "It was cut off; copy it again.") -> SourceDataError:
    """
    Return the error for a recording that is not whole, or that is still growing if it was just written to.

    :param file: Where it shows: a file, or a folder that lacks one; it exists.
    :param what: What is wrong with it, with counts.
    :param remedy: What to do if it grows no more.
    """
    age = time.time() - file.stat().st_mtime
    if age > STILL_GROWING_SECONDS:
        return SourceDataError(f"{file} is not whole: {what}. {remedy}")
    return SourceChangedError(
        f"{file} is not whole: {what}. It was written to within {STILL_GROWING_SECONDS:.0f} s, so it may still be "
        "growing. Wait until it is complete."
    )
