"""The TIFF files that lie in a folder, by the series that their names make."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from airflow_provider_ophys.recordings.tiff_pages import is_tiff_name


def tiffs_by_series(folder: Path) -> list[list[Path]]:
    """
    Return the TIFF files that lie directly in a folder, by what their names have in common.

    Of names that differ in their last number only, one file tells what all are, so thousands of single pages need
    not be opened. Hidden files, links that lead out of the folder, and what is no regular file are left out.

    :param folder: It need not hold any.
    :returns: Lists of files in the order of their numbers, by name.
    """
    series: dict[tuple[str, str], list[Path]] = {}
    for entry in os.scandir(folder):
        if is_tiff_name(entry.name) and not entry.name.startswith(".") and _is_here(entry, folder):
            stem, dot, ending = entry.name.partition(".")
            series.setdefault((re.sub(r"\d+$", "", stem), dot + ending), []).append(Path(folder, entry.name))
    return [sorted(series[key], key=natural_order) for key in sorted(series)]


def natural_order(file: Path) -> tuple[tuple[str, int], ...]:
    """Sort key by which ``a2`` comes before ``a10``."""
    parts = re.split(r"(\d+)", file.name)
    return tuple((text, int(number or 0)) for text, number in zip(parts[::2], [*parts[1::2], ""], strict=True))


def _is_here(entry: os.DirEntry[str], folder: Path) -> bool:
    try:
        if not stat.S_ISREG(entry.stat().st_mode):
            return False
        return not entry.is_symlink() or Path(os.path.realpath(entry.path)).is_relative_to(folder.resolve())
    except OSError:
        return False
