"""Local files on their way to S3: read in parts, and watched so that a change is noticed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Self

from airflow_provider_ophys.exceptions import StagingError

MIB = 1024**2
# What is larger is uploaded in parts of this size. Larger parts gain no speed, and cost memory here and in the
# server: every thread holds one.
PART_SIZE = 8 * MIB
MAX_PARTS = 10_000


class Fingerprint(NamedTuple):
    """What changes when a file is written to or replaced."""

    device: int
    inode: int
    size: int
    modified_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        """Take it from what ``stat`` says."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


class Part(NamedTuple):
    """A stretch of a file that is sent at once; ``number`` counts from 1, the others are in bytes."""

    number: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class SourceFile:
    """
    A local file and the key of the object it becomes.

    :param changed_ns: When its inode was changed last, which nobody can set; a new name changes it too, so a file
        with another one may be the same.
    """

    path: Path
    key: str
    fingerprint: Fingerprint
    changed_ns: int = field(default=0, compare=False)

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self.fingerprint.size

    def parts(self) -> list[Part]:
        """
        Cut the file into parts of 8 MiB, or larger ones where that would make more than 10,000.

        An empty file is one empty part. The cut depends on the size alone, so that a later run finds the parts
        of an earlier one.
        """
        part_size = max(PART_SIZE, -(-self.size // MAX_PARTS // MIB) * MIB)
        offsets = range(0, self.size, part_size) or range(1)
        return [
            Part(number, offset, min(part_size, self.size - offset)) for number, offset in enumerate(offsets, 1)
        ]

    @contextmanager
    def opened(self) -> Iterator[int]:
        """
        Open the file to read it, and check afterwards that it stayed what it was when the plan was made.

        :raises StagingError: If it was changed, replaced or removed, or cannot be read.
        """
        descriptor = self._open()
        try:
            self._check(os.fstat(descriptor))
            yield descriptor
            self._check(os.fstat(descriptor))
            self._check_path()
        finally:
            os.close(descriptor)

    def content(self) -> bytes:
        """
        Read all of a small file, with the checks of :meth:`opened`.

        :raises StagingError: If it was changed, replaced or removed, or cannot be read.
        """
        # Not with opened(): threads that read small files mostly wait for each other's Python code.
        descriptor = self._open()
        try:
            self._check(os.fstat(descriptor))
            content = self.read(descriptor, Part(1, 0, self.size))
            self._check(os.fstat(descriptor))
            self._check_path()
        finally:
            os.close(descriptor)
        return content

    def read(self, descriptor: int, part: Part) -> bytes:
        """
        Read one part.

        :raises StagingError: If the file ends early or the disk gives an error.
        """
        try:
            content = os.pread(descriptor, part.size, part.offset)
            while 0 < len(content) < part.size:
                more = os.pread(descriptor, part.size - len(content), part.offset + len(content))
                if not more:
                    break
                content += more
        except OSError as error:
            raise StagingError(f"{self.path} cannot be read at byte {part.offset}: {error.strerror}.") from error
        if len(content) != part.size:
            raise self._changed()
        return content

    def _open(self) -> int:
        try:
            # Without O_NOFOLLOW, a link put here since the scan would publish what it points to; without
            # O_NONBLOCK, a FIFO put here would hold us for ever.
            return os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise StagingError(f"{self.path} cannot be read any more ({error.strerror}).") from error

    def _check(self, status: os.stat_result) -> None:
        if Fingerprint.of(status) != self.fingerprint:
            raise self._changed()

    def _check_path(self) -> None:
        try:
            status = os.lstat(self.path)
        except OSError as error:
            raise self._changed() from error
        self._check(status)

    def _changed(self) -> StagingError:
        return StagingError(
            f"{self.path} changed while it was being staged. Stage an output only when it is finished; "
            "try again when nothing writes to it."
        )
