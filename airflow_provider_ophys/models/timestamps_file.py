"""Timestamps that a user has in a file of their own, for a series of the metadata."""

from __future__ import annotations

from pathlib import Path

# Ten hours at a thousand samples a second are a tenth of it.
MOST_BYTES = 2**32


def read_timestamps(value: object) -> object:
    """
    Read the file that is named in place of timestamps.

    :param value: The path of a file: ``.npy`` with one axis, or a text with one number on each line, whose first
        line may be a heading. Anything else is returned as it is.
    :returns: The numbers, seconds.
    :raises ValueError: If the file cannot be read, or holds something else.
    """
    if not isinstance(value, (str, Path)):
        return value
    path = Path(value)
    try:
        _check_file(path)
        return _from_npy(path) if path.suffix == ".npy" else _from_text(path)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"The timestamps of {str(path)!r} cannot be read: {error}. Give a .npy file with one axis, or a text "
            "file with one number of seconds on each line"
        ) from error


def _check_file(path: Path) -> None:
    if not path.exists():
        raise ValueError("it is not there")
    if not path.is_file() or path.stat().st_size > MOST_BYTES:
        raise ValueError("it is no file, or one of more than 4 GiB")


def _from_npy(path: Path) -> list[float]:
    import numpy as np

    stamps = np.load(path, allow_pickle=False)
    if stamps.ndim != 1 or stamps.dtype.kind not in "iuf":
        raise ValueError(f"it holds {stamps.dtype} of the shape {stamps.shape}")
    numbers: list[float] = stamps.astype(float).tolist()
    return numbers


def _from_text(path: Path) -> list[float]:
    lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    try:
        return [float(line) for line in lines]
    except ValueError:
        return [float(line) for line in lines[1:]]
