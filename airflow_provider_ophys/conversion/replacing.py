"""What an output may replace: an NWB file or an NWB Zarr store, and nothing that a conversion reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from airflow_provider_ophys.exceptions import OphysError, OutputExistsError, is_passing, unreadable
from airflow_provider_ophys.models.allowed_roots import metadata_files, named_paths
from airflow_provider_ophys.nwb.existing import find_foreign


@dataclass(frozen=True)
class Kept:
    """
    What no output may replace, whatever it is.

    :param read: Files and folders that are read for the output.
    :param roots: Folders that the platform allows outputs in; what is in them is not meant.
    """

    read: tuple[Path, ...] = ()
    roots: tuple[Path, ...] = ()


def kept_for(recordings: object, metadata: object, roots: Sequence[Path] = ()) -> Kept:
    """
    Return what a conversion must not replace.

    :param recordings: Arguments of the extractors: every path in them counts.
    :param metadata: As the user gave it: every file in it counts.
    :param roots: ``[ophys] allowed_roots``.
    """
    named = (path for _, path in named_paths("extractor_kwargs", recordings))
    return Kept((*named, *metadata_files(metadata)), tuple(roots))


def check_replaceable(path: Path, kept: Kept) -> None:
    """
    Check that what is at a path may be replaced or added to; links are followed.

    :raises OutputExistsError: If it is no NWB file or store, or holds anything that is not the store's, or if it
        is, holds or lies in what is kept.
    :raises SourceAccessError: If what is kept cannot be seen at this moment.
    """
    for read in kept.read:
        try:
            _check_apart(path, read)
        except OphysError:
            raise
        except OSError as error:
            if path.resolve().is_relative_to(str(error.filename)):
                raise
            raise unreadable(f"{read} cannot be looked at: {error}.", error) from error
    for root in kept.roots:
        if _lies_in(root, path):
            raise OutputExistsError(
                f"{path} is or holds {root}, a folder of [ophys] allowed_roots, so it is not replaced. Write to a "
                "path within it."
            )
    foreign = find_foreign(path)
    if foreign is not None:
        raise OutputExistsError(
            f"{path} exists already and is not replaced or added to: {foreign}. Only an NWB file or an NWB Zarr "
            "store is. Correct nwbfile_path, or move away what is there."
        )


def _check_apart(path: Path, read: Path) -> None:
    if _lies_in(path, read):
        how = "is" if _lies_in(read, path) else "lies in"
    elif _lies_in(read, path):
        how = "holds"
    else:
        return
    raise OutputExistsError(
        f"{path} {how} {read}, which this conversion reads, so it is not replaced or added to. Write elsewhere."
    )


def _lies_in(inner: Path, outer: Path) -> bool:
    """Tell whether a path is another or leads into it: by what they are, so that no link or mount hides it."""
    wanted = _identity(outer)
    if wanted is None:
        return False
    real = inner.resolve()
    return any(_identity(one) == wanted for one in (real, *real.parents))


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        if is_passing(error):
            raise
        return None
    return found.st_dev, found.st_ino
