"""Whether a recording is still what it was: its files' sizes and times, and what tells it from another."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import numpy as np

from airflow_provider_ophys.exceptions import OphysError, SourceChangedError, SourceDataError, unreadable
from airflow_provider_ophys.recordings.recording import Recording, require_regular

# Enough to tell two recordings from each other, little enough for a terabyte or 100,000 files on a share.
SAMPLE_BYTES = 64 * 1024
SAMPLES_PER_FILE = 16
SAMPLED_FILES = 64

# Of all content, read at once, and files at a time.
PIECE_BYTES, CONTENT_THREADS = 4 * 2**20, 4


def fingerprint(recordings: Sequence[Recording]) -> str:
    """
    Compute what tells recordings from others: a digest over their files' names, sizes and content.

    Where a recording lies does not count, so a moved or copied one keeps its fingerprint. The names and sizes of
    all files count; up to 64 evenly spread files are read, up to 16 evenly spread blocks of 64 KiB of each, the
    first and the last among them. Arguments that are no paths count by value, arrays by their content; an object
    that cannot be told from another by its content has a fingerprint that no other has, not even itself later.

    :returns: ``"sha256:..."``.
    :raises SourceNotFoundError: If a file or folder in the arguments does not exist.
    """
    digest = hashlib.sha256()
    for recording in recordings:
        paths = set(recording.paths)
        for name in sorted(recording.arguments):
            digest.update(f"{name}={_value(recording.arguments[name], name, paths)}\n".encode())
        files = recording.files
        sampled = set(_spread(len(files) - 1, SAMPLED_FILES))
        for index, file in enumerate(files):
            size = file.stat().st_size
            digest.update(f"{name_within(file, recording)} {size}\n".encode("utf-8", "surrogateescape"))
            if index in sampled:
                _update_with_samples(digest, file, size)
    return f"sha256:{digest.hexdigest()}"


def content_digest(recordings: Sequence[Recording], check: Callable[[], None]) -> str:
    """
    Compute a digest over all content of all files of recordings, wherever they lie and whatever their times are.

    :param check: Called after every piece that was read; whatever it raises ends the reading.
    :returns: ``"sha256:..."``.
    :raises OSError: If a file cannot be read.
    """

    def digest_of(file: Path) -> str:
        found, piece = hashlib.sha256(), memoryview(bytearray(PIECE_BYTES))
        with file.open("rb", buffering=0) as stream:
            while count := stream.readinto(piece):
                found.update(piece[:count])
                check()
            _require_all(file, stream.tell(), os.fstat(stream.fileno()).st_size)
        return found.hexdigest()

    named = [(name_within(file, recording), file) for recording in recordings for file in recording.files]
    with ThreadPoolExecutor(CONTENT_THREADS, thread_name_prefix="ophys-content") as pool:
        digests = pool.map(digest_of, (file for _, file in named))
        found = [(name, digest) for (name, _), digest in zip(named, digests, strict=True)]
    return f"sha256:{hashlib.sha256(repr(found).encode('utf-8', 'surrogateescape')).hexdigest()}"


@dataclass(frozen=True)
class SourceState:
    """
    Recordings as they were at one moment.

    :param recordings: Which.
    :param files: Size (bytes) and time of the last change (nanoseconds) of each of their files, by its path.
    """

    recordings: Sequence[Recording]
    files: Mapping[str, tuple[int, int]]

    @classmethod
    def of(cls, recordings: Sequence[Recording]) -> Self:
        """
        Look at recordings now.

        :raises OphysError: As :attr:`Recording.files` does, and if one of them is no regular file.
        """
        files = [file for recording in recordings for file in recording.files]
        stats = {str(file): require_regular(file) for file in files if file.exists()}
        return cls(recordings, {name: (stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()})

    @property
    def digest(self) -> str:
        """Names, sizes and times of all files in one text that does not depend on where the recordings lie."""
        named = sorted(
            (name_within(file, recording), *self.files[str(file)])
            for recording in self.recordings
            for file in recording.files
            if str(file) in self.files
        )
        return f"sha256:{hashlib.sha256(repr(named).encode()).hexdigest()}"

    @property
    def is_sampled_whole(self) -> bool:
        """Whether :func:`fingerprint` reads all content of all files, and so proves that nothing changed."""
        counts = [len(recording.files) for recording in self.recordings]
        largest = max((size for size, _ in self.files.values()), default=0)
        return max(counts, default=0) <= SAMPLED_FILES and largest <= SAMPLES_PER_FILE * SAMPLE_BYTES

    @property
    def num_bytes(self) -> int:
        """Size of all files."""
        return sum(size for size, _ in self.files.values())

    def check_unchanged(self) -> None:
        """
        Check that the recordings are still what they were.

        Sizes and times need not tell: some shares keep the time of a file that is written to in place. So the
        samples of those that were counted when they were opened are counted once more.

        :raises SourceChangedError: If a file has grown, changed, come or gone, or the samples are not as many;
            names the file, or the recording.
        :raises SourceAccessError: If the disk or share with the recordings fails.
        """
        # Files may have come: look anew.
        anew = [
            type(each)(each.extractor, each.arguments, allow_pickle=each.allow_pickle) for each in self.recordings
        ]
        try:
            before, now = self.files, self.of(anew).files
        except OphysError:
            raise
        except OSError as error:
            raise unreadable(f"Whether the recording is unchanged cannot be seen: {error}.", error) from error
        for name in sorted(before.keys() | now.keys()):
            if before.get(name) != now.get(name):
                sizes = [f"{state[name][0]:,} bytes" if name in state else "absent" for state in (before, now)]
                raise SourceChangedError(
                    f"The recording changed while it was converted: {name} ({sizes[0]}, then {sizes[1]}). Nothing "
                    "was published. Wait until the acquisition is complete, for example with "
                    "AcquisitionFolderSensor."
                )
        for each in self.recordings:
            each.check_access()
        for recording, again in zip(self.recordings, anew, strict=True):
            if recording.counted is not None:
                _check_count(recording, again)


def _check_count(recording: Recording, again: Recording) -> None:
    """
    Check that a recording still has the samples that its extractor announced.

    :param again: The same, of which nothing was looked at yet.
    :raises SourceChangedError: If it has not.
    :raises SourceAccessError: If its disk or share fails.
    """
    try:
        counted = again.num_samples()
    except SourceDataError as error:
        raise SourceChangedError(
            f"The recording changed while it was converted: {error} Nothing was published."
        ) from error
    except OphysError:
        raise
    except OSError as error:
        raise unreadable(
            f"The samples of the recording ({recording.describe()}) cannot be counted again: {error}. Nothing was "
            "published.",
            error,
        ) from error
    if counted != recording.counted:
        raise SourceChangedError(
            f"The recording changed while it was converted: {recording.describe()} had {recording.counted} "
            f"samples, and has {counted} now. Nothing was published. Wait until the acquisition is complete."
        )


def _value(value: Any, place: str, paths: set[str]) -> str:  # noqa: PLR0911 - one per kind of value
    """Spell an argument so that equal ones are equal wherever the recording lies."""
    if place in paths:
        return "path"
    if isinstance(value, Mapping):
        return str({str(key): _value(item, f"{place}.{key}", paths) for key, item in sorted(value.items())})
    if isinstance(value, (list, tuple)):
        return str([_value(item, f"{place}.{number}", paths) for number, item in enumerate(value)])
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.ascontiguousarray(value)
        if not array.dtype.hasobject:
            return f"{array.dtype} {array.shape} {hashlib.sha256(array.tobytes()).hexdigest()}"
    if isinstance(value, Path):
        return repr(str(value))
    if value is None or isinstance(value, (str, int, float, bool, complex, bytes, np.dtype)):
        return repr(value)
    return f"{type(value).__name__} {uuid4()}"


def name_within(file: Path, recording: Recording) -> str:
    """Name a file by its place below the folder that an argument names, or beside the file that one names."""
    for path in recording.paths.values():
        root = path if path.is_dir() else path.parent
        if file.is_relative_to(root):
            return file.relative_to(root).as_posix()
    return file.name


def _spread(last: int, count: int) -> list[int]:
    """Return up to ``count`` evenly spread numbers from 0 to ``last``."""
    return sorted({max(last, 0) * step // (count - 1) for step in range(count)})


def _update_with_samples(digest: hashlib._Hash, file: Path, size: int) -> None:
    with file.open("rb", buffering=0) as stream:
        for offset in _spread(size - SAMPLE_BYTES, SAMPLES_PER_FILE):
            stream.seek(offset)
            sample = stream.read(SAMPLE_BYTES)
            _require_all(file, len(sample), min(size, SAMPLE_BYTES))
            digest.update(sample)


def _require_all(file: Path, count: int, wanted: int) -> None:
    """Check that a share gave what it said that it has, of a file or a part of one (bytes)."""
    if count != wanted:
        raise OSError(errno.EIO, f"{count:,} bytes came in place of {wanted:,}", str(file))
