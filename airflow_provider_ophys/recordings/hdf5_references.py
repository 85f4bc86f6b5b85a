"""
Where else the content of an HDF5 file lies.

An HDF5 file may say that a group, a dataset or parts of one are in other files: by an external link, by external
storage, or by a virtual dataset. HDF5 follows that to whatever the process may read, so whoever can put a
recording into a folder could have any file of the machine published. Here the names are read, and nothing that
they name is opened before it is known to lie beside the file, in the recording's own folder.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

from airflow_provider_ophys.exceptions import OphysError, SourceAccessError, SourceDataError, is_passing
from airflow_provider_ophys.recordings.hdf5_stream import Hdf5Stream
from airflow_provider_ophys.recordings.hdf5_texts import read_texts
from airflow_provider_ophys.recordings.recording import require_regular
from airflow_provider_ophys.recordings.stuck_processes import end_if_stuck
from airflow_provider_ophys.recordings.wholeness import not_whole

# Enough for any NWB file; so many are looked at in three seconds.
MOST_OBJECTS = 50_000
MOST_FILES = 1_000
SAME_FILE = "."
# In names of a virtual dataset's files, HDF5 puts the number of the block here.
BLOCK_NUMBER = "%b"


@contextmanager
def open_hdf5(file: Path, *, refers: bool = False) -> Iterator[Any]:
    """
    Open an HDF5 file for reading; only what lies in it, or in other files that are known, may be looked at.

    :param file: The file.
    :param refers: Whether what is looked at may lie in other files; then HDF5 reads it by itself, and the process
        ends if it gets stuck in that.
    :returns: ``h5py.File``.
    :raises SourceNotFoundError: If it does not exist.
    :raises SourceDataError: If it, or what is looked at, cannot be read.
    :raises SourceChangedError: If it may still be growing.
    """
    import h5py

    require_regular(file)
    if refers:
        end_if_stuck()
    try:
        with h5py.File(file if refers else Hdf5Stream(file), "r") as opened:
            yield opened
    except OphysError:
        raise
    except Exception as error:
        if is_passing(error):
            raise SourceAccessError(f"{file} cannot be read at this moment: {error}.") from error
        said = f"{type(error).__name__}: {error}"[:500]
        raise not_whole(
            file, f"HDF5 cannot read it ({said})", remedy="It is damaged or no HDF5 file; copy it again."
        ) from error


def member(group: Any, name: str) -> Any:
    """
    Return what is in a group, or among attributes, by its name or path; ``None`` if there is no such thing.

    h5py's own ``get`` and ``items`` take for absent whatever cannot be read, also at this moment only.

    :param group: ``h5py.Group``, or the ``attrs`` of something.
    :raises KeyError: If it is there and cannot be read at this moment.
    """
    if name not in group:
        return None
    try:
        return group[name]
    except KeyError as error:
        if is_passing(error):
            raise
        return None  # A link to nothing.


def members(group: Any) -> Iterator[tuple[str, Any]]:
    """Yield what is in a group: names, and what is there, if anything; see :func:`member`."""
    for name in getattr(group, "keys", list)():
        yield name, member(group, name)


def referenced_files(file: Path) -> list[Path]:
    """
    Return the other files in which content of an HDF5 file lies, and of those in turn.

    :param file: The file.
    :returns: In a stable order, without the file itself; mostly none.
    :raises SourceDataError: If one is not in the same folder as the file, is missing or no regular file; if a
        virtual dataset is made of what is not plainly there; or if there is too much to look at.
    """
    found = [file.absolute()]
    known: dict[Path, _References] = {}
    for each in found:
        known[each] = _look(each)
        _require_readable_texts(each)
        found += [other for other in dict.fromkeys(known[each].files) if other not in found]
        if len(found) > MOST_FILES:
            raise SourceDataError(
                f"{file} refers to more than {MOST_FILES} other files. Copy what is needed into one file "
                "(h5repack)."
            )
    for each, references in known.items():
        for other in references.virtual_files:
            # HDF5 ends the process if virtual datasets are made of each other in a circle.
            if known[other].files or known[other].raw_files or known[other].has_virtual:
                raise SourceDataError(
                    f"{each} has a virtual dataset with data in {other}, which itself refers to other data. Copy "
                    "the data into one file (h5repack)."
                )
    raw = [other for references in known.values() for other in references.raw_files]
    return list(dict.fromkeys([*found[1:], *raw]))


@dataclass
class _References:
    """
    What a file refers to.

    :param files: HDF5 files.
    :param raw_files: Files of external storage, which are no HDF5 files.
    :param virtual_files: Of the HDF5 files, those of virtual datasets.
    :param has_virtual: Whether it has virtual datasets.
    """

    files: list[Path] = field(default_factory=list)
    raw_files: list[Path] = field(default_factory=list)
    virtual_files: list[Path] = field(default_factory=list)
    has_virtual: bool = False


def _look(file: Path) -> _References:
    found = _References()
    with open_hdf5(file) as opened:
        plain, virtual = set(), []
        for place, kind, name, source in _walk(file, opened):
            found.has_virtual |= kind is Kind.VIRTUAL
            if kind is Kind.PLAIN:
                plain.add(place)
            elif kind is Kind.VIRTUAL and name == SAME_FILE:
                virtual.append((place, source))
            else:
                other = _resolved(file, f"{place} is {kind.value}", name, kind)
                (found.raw_files if kind is Kind.STORAGE else found.files).append(other)
                if kind is Kind.VIRTUAL:
                    found.virtual_files.append(other)
    for place, source in virtual:
        if source.strip("/") not in plain:
            raise SourceDataError(
                f"{file}: /{place} is a virtual dataset of {source[:300]!r}, which is no plain dataset of this "
                "file. Copy the data into one dataset (h5repack)."
            )
    return found


def _require_readable_texts(file: Path) -> None:
    """
    Check that no library goes round for ever, or fills the memory, when it reads the texts of a file.

    :raises SourceDataError: If one would.
    :raises SourceChangedError: If the file may still be growing.
    :raises SourceAccessError: If its disk or share fails.
    """
    endless = too_long = None
    try:
        with Hdf5Stream(file) as stream:
            try:
                read_texts(stream)
            finally:
                endless, too_long = stream.endless, stream.too_long
    except Exception as error:
        if endless is not None:
            place = f"its heap of texts at byte {endless:,}"
            raise not_whole(file, f"{place} has lost its content", remedy="Copy it again.") from error
        if is_passing(error):
            raise SourceAccessError(f"{file} cannot be read at this moment: {error}.") from error
        # What else may be damaged is for those who need it to tell.
    if too_long is not None:
        raise not_whole(file, too_long, remedy="It is damaged; copy it again.")


def _resolved(file: Path, where: str, name: str, kind: Kind) -> Path:
    """
    Return the file that a name within an HDF5 file means.

    HDF5 looks for a linked or virtual file beside the file, or the link by which that is opened, and then in the
    process' working folder; for external storage only there. So a name that is not found where it belongs must not
    be left to HDF5.
    """
    said = f"{file}: /{where} in {name[:300]!r}"
    if BLOCK_NUMBER in name or "\0" in name or not name:
        raise SourceDataError(f"{said}, which does not name one file. Copy the data into the file (h5repack).")
    folder, real_folder = file.parent.resolve(), file.resolve().parent
    try:
        other = ((Path.cwd() if kind is Kind.STORAGE else folder) / name).resolve()
        is_beside = other.parent == folder == real_folder and stat.S_ISREG(other.stat().st_mode)
    except (OSError, RuntimeError, ValueError):
        is_beside = False
    if not is_beside:
        raise SourceDataError(
            f"{said}, which is outside of the recording's folder {real_folder}, or is no regular file "
            "there. Copy the data into the file (h5repack, or NWB's export), or remove it."
        )
    return other


class Kind(Enum):
    """Where the values of a dataset, or what a link means, are."""

    PLAIN = "plain data"
    LINK = "an external link to data"
    STORAGE = "a dataset with external storage"
    VIRTUAL = "a virtual dataset with data"


def _walk(file: Path, opened: Any) -> Iterator[tuple[str, Kind, str, str]]:
    """
    Yield every link to another file, and every dataset: its place, its kind, the file's name, the dataset's there.

    HDF5's own visits follow hard links only, into each group once; to open a dataset, none of another kind is.
    """
    import h5py

    for name, kind in _visited(file, opened.id.links.visit):
        if kind == h5py.h5l.TYPE_EXTERNAL:
            yield _text(name), Kind.LINK, _text(opened.id.links.get_val(name)[0]), ""
        elif kind not in (h5py.h5l.TYPE_HARD, h5py.h5l.TYPE_SOFT):
            raise SourceDataError(f"{file}: /{_text(name)} is a link of an unknown kind. Remove it.")
    for name, kind in _visited(file, partial(h5py.h5o.visit, opened.id)):
        if kind == h5py.h5o.TYPE_DATASET:
            yield from ((_text(name), *storage) for storage in _storage(file, h5py.h5d.open(opened.id, name)))


def _visited(file: Path, visit: Callable[..., object]) -> list[tuple[bytes, int]]:
    """Return the names that one of HDF5's visits comes by, and of what type each is."""
    found: list[tuple[bytes, int]] = []

    def note(name: bytes, info: Any) -> bool | None:
        found.append((name, int(info.type)))
        return True if len(found) > MOST_OBJECTS else None  # True ends it; h5py does not pass on an error.

    visit(note, info=True)
    if len(found) > MOST_OBJECTS:
        raise _too_much(file)
    return found


def _storage(file: Path, dataset: Any) -> Iterator[tuple[Kind, str, str]]:
    """Yield where the values of a dataset are: the kind, the file's name, and the name of a dataset in it."""
    import h5py

    properties = dataset.get_create_plist()
    is_virtual = properties.get_layout() == h5py.h5d.VIRTUAL
    num_external, num_virtual = (
        properties.get_external_count(),
        properties.get_virtual_count() if is_virtual else 0,
    )
    if max(num_external, num_virtual) > MOST_OBJECTS:
        raise _too_much(file)
    for number in range(num_external):
        yield Kind.STORAGE, _text(properties.get_external(number)[0]), ""
    for number in range(num_virtual):
        source = properties.get_virtual_dsetname(number)
        yield Kind.VIRTUAL, _text(properties.get_virtual_filename(number)), _text(source)
    if not num_external and not is_virtual:
        yield Kind.PLAIN, "", ""


def _too_much(file: Path) -> SourceDataError:
    return SourceDataError(
        f"{file} has more than {MOST_OBJECTS:,} parts, too many to look at. Copy what is needed into a file of "
        "its own."
    )


def _text(name: str | bytes) -> str:
    return name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name
