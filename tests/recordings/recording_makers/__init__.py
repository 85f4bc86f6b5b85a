"""
Small recordings in makers' layouts, with the truth about each: what the contract of a format is tested on.

Each module here has functions of the kind ``Maker``, decorated with :func:`makes`; all modules are loaded.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np

ROWS, COLUMNS = 12, 20


@dataclass
class Made:
    """
    A recording that was made, and what is known of it.

    :param folder: In which all of it lies, and nothing else.
    :param extractor: Name of the roiextractors class.
    :param arguments: Its arguments, as text where they are paths; what ``find`` finds, if ``is_found``.
    :param files: All files that the extractor reads.
    :param truth: Samples of the movie that ``contents`` tells of first: (samples, rows, columns[, planes]); or the
        first traces of a segmentation: (samples, ROIs).
    :param rate: The file's own rate (Hz).
    :param num_movies: Of ``contents``: movies, or segmentations.
    :param reader_shape: What roiextractors takes for the shape of the ROIs' images, if that is something else.
    :param start: Of the first sample, as the headers say.
    :param facts: What ``metadata`` has to say: ``"plane.imaging_rate"`` -> value; a text has to be in the value.
    :param found_arguments: What ``find`` finds, if that is something else.
    :param dispensable: Files without which the recording can be read, and is whole.
    :param is_found: Whether ``find`` finds it with these arguments; ``None`` if it does by another extractor.
    :param unknown: Of these arguments, those that only the user knows.
    :param uncut: Files of which it cannot be noticed that they were cut off: a text may end anywhere.
    """

    folder: Path
    extractor: str
    arguments: dict[str, Any]
    files: list[Path]
    truth: np.ndarray | None
    rate: float | None = None
    kind: Literal["imaging", "segmentation"] = "imaging"
    num_movies: int = 1
    reader_shape: tuple[int, ...] | None = None
    start: datetime | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    found_arguments: dict[str, Any] | None = None
    dispensable: list[Path] = field(default_factory=list)
    is_found: bool | None = True
    unknown: tuple[str, ...] = ()
    uncut: list[Path] = field(default_factory=list)


Maker = Callable[[Path], Made]
MAKERS: dict[str, Maker] = {}


def makes(name: str) -> Callable[[Maker], Maker]:
    """Register a function that makes a recording in a folder, which is not there yet."""

    def register(maker: Maker) -> Maker:
        MAKERS[name] = maker
        return maker

    return register


def random_frames(number: int, dtype: str = "uint16", seed: int = 0, shape: tuple[int, int] = (ROWS, COLUMNS)):
    """Random frames (number, rows, columns); not square, so mixed-up axes show."""
    most = 4000 if dtype != "uint8" else 256
    return np.random.default_rng(seed).integers(0, most, (number, *shape)).astype(dtype)


for module in pkgutil.iter_modules(__path__):
    import_module(f"{__name__}.{module.name}")
