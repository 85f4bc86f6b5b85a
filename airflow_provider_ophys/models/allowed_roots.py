"""Which folders the paths in arguments may lead to: not all that a worker sees is for all."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from airflow_provider_ophys.exceptions import PathNotAllowedError, unreadable
from airflow_provider_ophys.models.folder_contents import walk


def parse_allowed_roots(text: str) -> tuple[Path, ...]:
    """
    Read a list of folders, separated by commas or new lines; none means that all are allowed.

    :raises ValueError: If one is not absolute.
    """
    roots = tuple(Path(part.strip()) for part in text.replace("\n", ",").split(",") if part.strip())
    relative = [str(root) for root in roots if not root.is_absolute()]
    if relative:
        raise ValueError(f"allowed_roots has {', '.join(map(repr, relative))}; write absolute folders")
    return roots


def check_allowed(what: str, path: str | Path, roots: Sequence[Path]) -> None:
    """
    Check that a path leads into one of the folders, links followed.

    :param what: The path's name in the message, for example ``"nwbfile_path"``.
    :param path: Need not exist.
    :param roots: Absolute folders; none means that all are allowed.
    :raises PathNotAllowedError: If it does not.
    """
    if not roots:
        return
    try:
        real = Path(path).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle, a NUL in the name
        raise PathNotAllowedError(f"{what} {str(path)!r} is no path: {error}. Correct it.") from error
    if not any(real.is_relative_to(root.resolve()) for root in roots):
        leads = "is" if real == Path(path) else f"leads to {real},"
        raise PathNotAllowedError(
            f"{what} {str(path)!r} {leads} outside the folders that [ophys] allowed_roots allows "
            f"({', '.join(map(str, roots))}). Use a path within them, or have them extended."
        )


def check_allowed_recording(extractor_kwargs: Mapping[str, Any], roots: Sequence[Path]) -> None:
    """
    Check every path in an extractor's arguments, and every link below the folders among them.

    :raises PathNotAllowedError: If one leads elsewhere.
    """
    if not roots:
        return
    for name, path in named_paths("extractor_kwargs", extractor_kwargs):
        check_allowed(name, path, roots)
        try:
            links = _links_below(path)
        except OSError as error:
            raise unreadable(f"{path} cannot be searched for links: {error}.", error) from error
        for link in links:
            check_allowed(name, link, roots)


def _links_below(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    entries = (Path(folder, name) for folder, folders, names in walk(path) for name in (*folders, *names))
    return [entry for entry in entries if stat.S_ISLNK(entry.lstat().st_mode)]


def check_allowed_metadata(metadata: object, roots: Sequence[Path]) -> None:
    """
    Check the files that :func:`metadata_files` yields; those that a metadata file names once that is read.

    :raises PathNotAllowedError: If one leads elsewhere.
    """
    for path in metadata_files(metadata):
        check_allowed("metadata", path, roots)


def metadata_files(metadata: object) -> Iterator[Path]:
    """Yield the files that metadata name: their own, alone or in a list, and those of timestamps in a dict."""
    if isinstance(metadata, Mapping):
        yield from (Path(text) for name, text in _texts("metadata", metadata) if name.endswith(".timestamps"))
        return
    for part in metadata if isinstance(metadata, (list, tuple)) else [metadata]:
        if isinstance(part, (list, tuple, Mapping)):
            yield from metadata_files(part)
        elif isinstance(part, (str, Path)):
            yield Path(part)


def named_paths(name: str, value: object) -> Iterator[tuple[str, Path]]:
    """
    Yield every path in an extractor's arguments, and where it is: ``"extractor_kwargs.file_path"``.

    Any text may be one, for extractors name their parameters as they like; so each counts that has a slash, or by
    whose name there is something.

    :param name: Of the value.
    :param value: The arguments, or one of them.
    """
    for where, text in _texts(name, value):
        if "/" in text or _exists(Path(text)):
            yield where, Path(text)


def _texts(name: str, value: object) -> Iterator[tuple[str, str]]:
    """Yield every text within a value, and where it is."""
    if isinstance(value, (str, Path)):
        yield name, str(value)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(f"{name}.{key}", item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(name, item)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long for a name, or with a NUL in it
        return False
