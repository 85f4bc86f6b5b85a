"""Timestamps that a user has in a file of their own, for a series of the metadata."""

from __future__ import annotations

from pathlib import Path

from airflow_provider_ophys.exceptions import is_passing, unreadable

# Of three days at 30 samples a second.
MOST_STAMPS = 8_000_000
MOST_BYTES, LONGEST_LINE = 32 * MOST_STAMPS, 1000


def read_timestamps(value: object) -> object:
    """
    Read the file that is named in place of timestamps.

    :param value: The path of a file: ``.npy`` with one axis, or a text with one number on each line, whose first
        line may be a heading. Anything else is returned as it is.
    :returns: The numbers, seconds.
    :raises ValueError: If the file cannot be read, or holds something else.
    :raises SourceAccessError: If its disk or share fails.
    """
    if not isinstance(value, (str, Path)):
        return value
    path = Path(value)
    try:
        _check_file(path)
        return _from_npy(path) if path.suffix == ".npy" else _from_text(path)
    except (OSError, ValueError) as error:
        if is_passing(error):
            raise unreadable(f"The timestamps of {str(path)!r} cannot be read: {error}.", error) from error
        raise ValueError(
            f"The timestamps of {str(path)!r} cannot be read: {error}. Give a .npy file with one axis, or a text "
            "file with one number of seconds on each line"
        ) from error


def _check_file(path: Path) -> None:
    if not path.exists():
        raise ValueError("it is not there")
    if not path.is_file() or path.stat().st_size > MOST_BYTES:
        raise ValueError(f"it is no file, or one of more than {MOST_BYTES:,} bytes")


def _from_npy(path: Path) -> list[float]:
    import numpy as np

    stamps = np.load(path, allow_pickle=False)
    if stamps.ndim != 1 or stamps.dtype.kind not in "iuf":
        raise ValueError(f"it holds {stamps.dtype} of the shape {stamps.shape}")
    _check_number(len(stamps))
    numbers: list[float] = stamps.astype(float).tolist()
    return numbers


def _from_text(path: Path) -> list[float]:
    stamps: list[float] = []
    is_first = True
    with path.open(encoding="utf-8-sig") as stream:
        while line := stream.readline(LONGEST_LINE):
            try:
                if line.strip():
                    stamps.append(float(line))
            except ValueError:
                if not is_first:
                    raise
            is_first = is_first and not line.strip()
            _check_number(len(stamps))
    return stamps


def _check_number(count: int) -> None:
    if count > MOST_STAMPS:
        raise ValueError(f"it holds more than {MOST_STAMPS:,} numbers")
