"""Which objects a finished file or Zarr tree becomes; what must not be uploaded is refused here."""

from __future__ import annotations

import os
import re
import reprlib
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from airflow_provider_ophys.exceptions import ConfigurationError, SourceDataError, SourceNotFoundError
from airflow_provider_ophys.staging.files import Fingerprint, SourceFile

MAX_KEY_BYTES = 1024
# Without these no reader opens the tree (the Zarr v3 name, then those of v2): they are uploaded last.
ROOT_METADATA = ("zarr.json", ".zgroup", ".zarray", ".zattrs", ".zmetadata")
# What operating systems, network shares and version control leave in folders.
_LITTER = re.compile(
    r"""
      \..*                                                 # .DS_Store, ._*, .nfs*, .Trash-*, .git, .svn ...
    | icon\r | __macosx                                    # macOS
    | thumbs\.db | ehthumbs(_vista)?\.db | desktop\.ini    # Windows
    | \$recycle\.bin | system\ volume\ information
    | @eadir | \#recycle | \#snapshot | lost\+found         # network storage, file systems
    """,
    re.VERBOSE | re.IGNORECASE,
)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
_FORBIDDEN_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f\\]")


@dataclass(frozen=True, slots=True)
class Destination:
    """
    A place in a bucket: ``prefix`` is empty or ends with a slash.

    ``name`` is what the source is called there; ``None`` for its own name.
    """

    bucket: str
    prefix: str
    name: str | None = None

    def key_of(self, source: Path) -> str:
        """Return the key that a source gets."""
        return self.prefix + (self.name or source.name)

    @classmethod
    def parse(cls, uri: str) -> Self:
        """
        Read ``s3://bucket/prefix/``; the last slash may be left out.

        :raises ConfigurationError: If it is no such URI, or holds an empty, ``.`` or ``..`` segment, a backslash
            or a control character.
        """
        scheme, separator, rest = uri.partition("://")
        bucket, _, prefix = rest.partition("/")
        prefix = prefix.removesuffix("/")
        if scheme != "s3" or not separator or not _BUCKET.fullmatch(bucket):
            raise ConfigurationError(
                f"The destination {uri!r} is not an S3 location. Write it as s3://bucket/prefix/."
            )
        problem = _key_problem(prefix) if prefix else None
        if problem:
            raise ConfigurationError(f"The destination {uri!r} cannot be used: {problem}. Correct its prefix.")
        return cls(bucket, f"{prefix}/" if prefix else "")


@dataclass(frozen=True, slots=True)
class StagingPlan:
    """
    What a source becomes in a bucket.

    :param source: The file or Zarr tree.
    :param bucket: Name of the bucket.
    :param key: Key of the object; for a tree, the part that the keys of its objects have in common, without the
        slash at its end.
    :param files: Every file and its key, sorted by key.
    :param is_tree: Whether the source is a Zarr tree.
    :param began_ns: When its files began to be looked at.
    """

    source: Path
    bucket: str
    key: str
    files: tuple[SourceFile, ...]
    is_tree: bool
    began_ns: int = field(default=0, compare=False)

    @property
    def name(self) -> str:
        """What the source is called there."""
        return self.key.rpartition("/")[2]

    @property
    def s3_uri(self) -> str:
        """Where readers find it."""
        return f"s3://{self.bucket}/{self.key}"

    @property
    def keys(self) -> frozenset[str]:
        """Keys of all objects."""
        return frozenset(file.key for file in self.files)

    @property
    def size_bytes(self) -> int:
        """Size of all files together."""
        return sum(file.size for file in self.files)

    @property
    def root_keys(self) -> frozenset[str]:
        """Keys without which no reader opens the tree; empty for a file."""
        return frozenset(f"{self.key}/{name}" for name in ROOT_METADATA) if self.is_tree else frozenset()

    def moved(self, key: str) -> Self:
        """
        Give the same files other keys.

        :param key: Instead of this plan's key.
        :raises SourceDataError: If a key gets longer than S3 takes.
        """
        files = [replace(file, key=key + file.key.removeprefix(self.key)) for file in self.files]
        for file in files:
            if problem := _key_problem(file.key):
                raise SourceDataError(
                    f"{_printable(file.path)} cannot become an object: {problem}. Choose a shorter destination."
                )
        return replace(self, key=key, files=tuple(files))


def local_source(source: str | os.PathLike[str] | Mapping[str, Any]) -> Path:
    """
    Find the path in what a user or an upstream task gives as the source.

    :param source: A path, or the result of a write operator, which names it in ``nwbfile_path``.
    :raises ConfigurationError: If it is neither.
    """
    path = source.get("nwbfile_path") if isinstance(source, Mapping) else source
    if isinstance(path, str | os.PathLike) and os.fspath(path):
        return Path(path)
    raise ConfigurationError(
        f"The source is {reprlib.repr(source)}, neither a path nor a result with 'nwbfile_path'. Give one path "
        "or the output of one write task; for several, use StageToS3Operator.partial(...).expand(source=...)."
    )


def plan_staging(source: Path, destination: Destination) -> StagingPlan:
    """
    Look at a finished file or Zarr tree and decide which objects it becomes.

    What the operating system, a network share or version control left in a tree is no part of it.

    :param source: A regular file, or a folder that is the root of a Zarr tree.
    :param destination: Where it goes; its own name is added to the prefix.
    :raises SourceNotFoundError: If there is nothing at ``source``.
    :raises SourceDataError: If it is a symbolic link, a device or the like, a folder that is no Zarr tree, or
        holds anything that cannot or must not become an object.
    """
    began_ns = time.time_ns()
    try:
        status = source.lstat()
    except FileNotFoundError:
        raise SourceNotFoundError(
            f"There is nothing to stage at {source}. Correct the source, or run the task that writes it first."
        ) from None
    except OSError as error:
        raise SourceDataError(f"{source} cannot be read ({error.strerror}). Check its permissions.") from error
    key = destination.key_of(source)
    if not source.name:
        raise SourceDataError(f"{source} has no name that an object could take. Give the path of one NWB file.")
    if not stat.S_ISDIR(status.st_mode):
        files = [_source_file(source, key, status)]
    elif not any((source / name).is_file() for name in ROOT_METADATA):
        raise SourceDataError(
            f"The folder {source} is not a Zarr tree: it has no {ROOT_METADATA[0]}. Give the path of an NWB file "
            "or of a Zarr tree."
        )
    else:
        files = sorted(_walk(source, key), key=lambda file: file.key)
    return StagingPlan(source, destination.bucket, key, tuple(files), stat.S_ISDIR(status.st_mode), began_ns)


def is_current(plan: StagingPlan) -> bool:
    """Tell whether the source still is what it was when the plan was made: the same files, none written to."""
    destination = Destination(plan.bucket, plan.key.removesuffix(plan.name), plan.name)
    try:
        return plan_staging(plan.source, destination) == plan
    except (SourceNotFoundError, SourceDataError):
        return False


def is_litter(path: Path) -> bool:
    """Tell whether something in a tree is no part of it, but what operating systems and the like left there."""
    if path.name in ROOT_METADATA or not _LITTER.fullmatch(path.name):
        return False
    with suppress(OSError):
        # NWB objects may have such names too; but each has metadata of its own.
        return path.is_symlink() or not any((path / name).is_file() for name in ROOT_METADATA)
    return True


def _walk(folder: Path, key: str) -> Iterator[SourceFile]:
    try:
        with os.scandir(folder) as entries:
            found = [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
    except OSError as error:
        raise SourceDataError(f"{folder} cannot be read ({error.strerror}). Check its permissions.") from error
    for name, status in found:
        if is_litter(folder / name):
            continue
        if stat.S_ISDIR(status.st_mode):
            yield from _walk(folder / name, f"{key}/{name}")
        else:
            yield _source_file(folder / name, f"{key}/{name}", status)


def _source_file(path: Path, key: str, status: os.stat_result) -> SourceFile:
    if stat.S_ISLNK(status.st_mode):
        raise SourceDataError(
            f"{_printable(path)} is a symbolic link, which is never followed: it could publish any file of this "
            "machine. Give the real path, or replace the link by what it points to."
        )
    if not stat.S_ISREG(status.st_mode):
        raise SourceDataError(
            f"{_printable(path)} is neither a file nor a folder (a device, pipe or socket). Remove it."
        )
    problem = _key_problem(key)
    if problem:
        raise SourceDataError(f"{_printable(path)} cannot become an object: {problem}. Rename it.")
    return SourceFile(path, key, Fingerprint.of(status), status.st_ctime_ns)


def _key_problem(key: str) -> str | None:
    """Tell why a key must not be used, or None."""
    try:
        encoded = key.encode()
    except UnicodeEncodeError:
        return "its name is not valid UTF-8"
    if _FORBIDDEN_CHARACTERS.search(key):
        return "its name holds a backslash or a control character"
    if not {"", ".", ".."}.isdisjoint(key.split("/")):
        return "one of its segments is empty, '.' or '..'"
    if len(encoded) > MAX_KEY_BYTES:
        return f"its key has {len(encoded)} bytes, S3 takes {MAX_KEY_BYTES}"
    return None


def _printable(path: Path) -> str:
    return repr(str(path)) if not str(path).isprintable() else str(path)
