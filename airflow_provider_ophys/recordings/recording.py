"""A recording: what every format tells of one, and what is known of one whose format has no module of its own."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from airflow_provider_ophys.exceptions import SourceDataError, SourceNotFoundError, is_passing, unreadable
from airflow_provider_ophys.models.folder_contents import walk
from airflow_provider_ophys.models.recording import Contents, FoundRecording, HeaderMetadata

MOST_PROBED_FILES = 64


class Recording:
    """
    What one extractor reads with one set of arguments.

    This class is the general one; the module of a format overrides what it knows better. An object looks at a
    recording as it is when it is asked for the first time, and reads no header twice.

    :param extractor: Name of the extractor, as the user wrote it.
    :param arguments: Its keyword arguments, never changed.
    :param allow_pickle: Whether pickles in it may run what they want: the platform's ``[ophys] allow_pickle``.
    """

    # Samples that it had when an extractor was opened and announced as many; ``None`` of what nobody counted.
    counted: int | None = None

    def __init__(self, extractor: str, arguments: Mapping[str, Any], *, allow_pickle: bool = False) -> None:
        self.extractor = extractor
        self.arguments = arguments
        self.allow_pickle = allow_pickle

    @classmethod
    def find(cls, folder: Path) -> list[FoundRecording]:  # noqa: ARG003 - for the formats that can
        """
        Find the recordings of this format whose first file or folder lies directly in a folder.

        :param folder: It need not hold any.
        """
        return []

    @cached_property
    def files(self) -> list[Path]:
        """
        Every file that is read, in a stable order, with those that the extractor finds by itself.

        The general format knows the files that the arguments name, and those in the folders that they name but for
        hidden ones and NWB files, which may be results.

        :raises SourceNotFoundError: If an argument names what does not exist.
        :raises SourceDataError: If one is no regular file, or leads out of the recording's own folder.
        """
        return list(dict.fromkeys(file for path in self.paths.values() for file in files_below(path)))

    def check(self) -> None:
        """
        Check that the recording is whole: what the extractor would not notice.

        :raises SourceDataError: Names the file, and counts.
        :raises SourceChangedError: If it may still be growing.
        """
        _ = self.files

    def reading(self) -> tuple[str, Mapping[str, Any]]:
        """Name the extractor, and the arguments, that read this recording right; mostly those that were given."""
        return self.extractor, self.arguments

    def num_samples(self) -> int | None:
        """
        Count the samples that the extractor has to announce; ``None`` if the format does not know.

        A reader that meets a failing share, or a file that was cut off, may announce fewer without a word.
        """
        contents = self.contents()
        numbers = {movie.num_samples for movie in contents.movies} if contents else set()
        return numbers.pop() if len(numbers) == 1 else None

    def contents(self) -> Contents | None:
        """
        Tell what is in the recording, without reading pixels; ``None`` if the format does not know.

        :raises SourceDataError: If its headers make no sense.
        """
        return None

    def metadata(self) -> HeaderMetadata:
        """
        Tell what the headers say of the session, the devices, the plane and the series that the arguments choose.

        :raises SourceDataError: If its headers cannot be read.
        """
        return HeaderMetadata()

    @cached_property
    def paths(self) -> dict[str, Path]:
        """
        Files and folders that the arguments name, by place in the arguments: ``"file_path"``, ``"file_paths.0"``.

        A text is a path if its argument is named so (``file_path``, ``folder_path``, ``file_paths`` ...), or if it
        looks like one and there is something by its name, for extractors name their arguments as they like:
        ``timeseries``, ``image_masks``.

        :raises SourceNotFoundError: If an argument that is named a path leads nowhere.
        :raises SourceAccessError: If that cannot be seen at this moment.
        """
        found = {}
        for place, value in _texts("", self.arguments):
            if not value:
                continue
            path, is_named_so = Path(value), "path" in place
            looks_like_one = is_named_so or "/" in value or path.suffix
            if looks_like_one and _exists(path):
                found[place] = path
            elif is_named_so:
                raise SourceNotFoundError(
                    f"{place.partition('.')[0]} does not exist: {path}. Check the path, and that this worker "
                    "mounts it."
                )
        return found

    def check_access(self) -> None:
        """
        Check that the recording's files can be read at all, by the first and the last byte of up to 64 of them.

        Readers that fail do not always say that it is the share that fails, and HDF5 takes what a share does not
        give for zeros.

        :raises SourceAccessError: If they cannot.
        """
        step = max(1, len(self.files) // MOST_PROBED_FILES)
        for file in self.files[::step]:
            try:
                _read_both_ends(file)
            except OSError as error:
                if is_passing(error):
                    raise unreadable(f"{file} cannot be read: {error}.", error) from error

    def describe(self) -> str:
        """Name the recording in a message: its extractor's arguments."""
        return ", ".join(f"{key}={value!r}" for key, value in self.arguments.items())


def _read_both_ends(file: Path) -> None:
    """
    Read the first and the last byte of a file; nothing of what is no regular one.

    :raises OSError: If one cannot be read, or is not there though the file's size says so.
    """
    # A pipe without a writer would wait for ever.
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb", buffering=0) as stream:
        found = os.fstat(descriptor)
        num_bytes = found.st_size
        for offset in (0, max(num_bytes - 1, 0)) if stat.S_ISREG(found.st_mode) else ():
            stream.seek(offset)
            if not stream.read(1) and num_bytes:
                raise OSError(errno.EIO, f"nothing comes at byte {offset:,} of {num_bytes:,}")


def files_below(path: Path) -> list[Path]:
    """
    Return a file, or the files in a folder at any depth, sorted by name, but for those that may be results.

    :raises SourceDataError: If one is no regular file, or a link in the folder leads out of it.
    """
    if not path.is_dir():
        require_regular(path)
        return [path]
    root = path.resolve()
    found = []
    for folder, folders, names in walk(path, follow_links=True):
        folders[:] = sorted(name for name in folders if not may_be_a_result(name))
        for name in folders:
            require_within(Path(folder, name), root)
            if Path(folder, name).is_symlink() and Path(folder).resolve().is_relative_to(
                os.path.realpath(Path(folder, name))
            ):
                raise SourceDataError(
                    f"{Path(folder, name)} is a link to a folder that it is in. Remove the link."
                )
        for name in sorted(names):
            file = Path(folder, name)
            if not may_be_a_result(name):
                require_within(file, root)
                require_regular(file)
                found.append(file)
    return found


def require_within(file: Path, root: Path) -> None:
    """
    Check that a file, which an extractor would find by itself, lies where its recording lies.

    :param file: Links are followed.
    :param root: The recording's own folder, resolved.
    :raises SourceDataError: If it leads elsewhere.
    """
    # Of a link to itself this is the link, where Path.resolve raises.
    real = Path(os.path.realpath(file))
    if not real.is_relative_to(root):
        raise SourceDataError(
            f"{file} leads to {real}, out of the recording's folder {root}. Copy the file into the folder, or "
            "remove the reference."
        )


def require_regular(file: Path) -> os.stat_result:
    """
    Check that a file may be opened: that it exists, and is no pipe, socket or device.

    :returns: What the system says of it.
    :raises SourceNotFoundError: If there is nothing.
    :raises SourceDataError: If it is no regular file.
    :raises SourceAccessError: If its disk or share fails.
    """
    try:
        found = file.stat()
    except FileNotFoundError as error:
        raise SourceNotFoundError(
            f"{file} does not exist. Check that the recording was copied completely."
        ) from error
    except OSError as error:
        raise unreadable(f"{file} cannot be looked at: {error}.", error) from error
    if not stat.S_ISREG(found.st_mode):
        raise SourceDataError(
            f"{file} is no regular file but a {_kind(found.st_mode)}. Remove it, or give another path."
        )
    return found


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "folder"
    if stat.S_ISFIFO(mode):
        return "named pipe"
    return "socket" if stat.S_ISSOCK(mode) else "device"


def may_be_a_result(name: str) -> bool:
    """Tell whether a file in a recording's folder may be what a conversion wrote there, by its name."""
    return name.startswith(".") or name.endswith((".nwb", ".zarr")) or ".nwb.report." in name


def _texts(place: str, value: object) -> Iterator[tuple[str, str]]:
    """Yield every text within a value, and where it is."""
    if isinstance(value, (str, Path)):
        yield place, str(value)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(f"{place}.{key}" if place else str(key), item)
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            yield from _texts(f"{place}.{number}", item)


def _exists(path: Path) -> bool:
    try:
        path.stat()
    except (OSError, ValueError) as error:  # also too long for a name, or with a NUL in it
        if is_passing(error):
            raise unreadable(f"{path} cannot be looked at: {error}.", error) from error
        return False
    return True
