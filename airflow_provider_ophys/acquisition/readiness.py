"""When a folder is complete. Pure: judges what was seen, reads nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase, translate
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from airflow_provider_ophys.acquisition.options import AcquisitionOptions

_UNIT = 1000


class FileSeen(NamedTuple):
    """
    Something below an acquisition folder, by its relative path.

    ``kind`` is ``"unfinished"`` for a folder that exists only while something is written, and ``"outside"`` for
    a link out of the watched folder; neither is entered.
    """

    path: str
    size: int = 0
    mtime_ns: int = 0
    kind: Literal["file", "unfinished", "outside"] = "file"


@dataclass(frozen=True, slots=True)
class Look:
    """
    What one look at a folder saw.

    ``signature`` changes when a file is added, removed, grown or touched. ``anchor`` is the largest file, by
    which the recording is known later. ``missing`` are the globs, marker included, that no file matches.
    """

    num_files: int
    size_bytes: int
    signature: str
    newest_ns: int
    anchor: FileSeen | None
    missing: tuple[str, ...]
    unfinished: str | None
    outside: str | None


class Reason(NamedTuple):
    """Why a folder is not complete; ``kind`` stays while ``text`` goes on to name other files."""

    kind: str
    text: str


def name_matches(name: str, globs: tuple[str, ...]) -> bool:
    """Whether a name matches one of ``globs``; leftovers come from Windows too, so the case does not matter."""
    return _any_of(globs).match(name.lower()) is not None


@lru_cache(maxsize=64)
def _any_of(globs: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(translate(glob.lower()) for glob in globs) or r"(?!)")


def path_matches(path: str, glob: str) -> bool:
    """
    Whether a relative path matches ``glob``, part by part.

    ``**`` stands for any number of folders; as in a shell, a wildcard does not match a leading dot.
    """
    return _parts_match(path.split("/"), glob.split("/"))


def _parts_match(parts: list[str], globs: list[str]) -> bool:
    if not globs:
        return not parts
    if globs[0] == "**":
        return _parts_match(parts, globs[1:]) or (bool(parts) and _parts_match(parts[1:], globs))
    if not parts or (parts[0].startswith(".") and not globs[0].startswith(".")):
        return False
    return fnmatchcase(parts[0], globs[0]) and _parts_match(parts[1:], globs[1:])


class Summary:
    """
    Boils what is seen in a folder down to what the rule needs, whatever the order of the files.

    :param options: When a folder is complete.
    """

    def __init__(self, options: AcquisitionOptions) -> None:
        self.options = options
        self._missing = [*options.required_files, *([options.marker_file] if options.marker_file else [])]
        self._num_files = self._size_bytes = self._newest_ns = self._signature = 0
        self._anchor: FileSeen | None = None
        self._unfinished: str | None = None
        self._outside: str | None = None

    def add(self, file: FileSeen) -> None:
        """Take in one file."""
        name = file.path.rpartition("/")[2]
        if file.kind == "outside":
            self._outside = file.path
        elif file.kind == "unfinished" or name_matches(name, self.options.incomplete):
            self._unfinished = file.path
        else:
            # A marker may well be a hidden file, so what is ignored is matched too.
            self._missing = [glob for glob in self._missing if not path_matches(file.path, glob)]
            if not name_matches(name, self.options.ignore):
                self._count(file)

    def _count(self, file: FileSeen) -> None:
        self._num_files += 1
        self._size_bytes += file.size
        self._newest_ns = max(self._newest_ns, file.mtime_ns)
        self._signature = (self._signature + _digest(file)) % 2**64
        anchor = self._anchor
        if anchor is None or (-file.size, file.path) < (-anchor.size, anchor.path):
            self._anchor = file

    def look(self) -> Look:
        """What was seen, all in all."""
        return Look(
            num_files=self._num_files,
            size_bytes=self._size_bytes,
            signature=f"{self._signature:016x}",
            newest_ns=self._newest_ns,
            anchor=self._anchor,
            missing=tuple(self._missing),
            unfinished=self._unfinished,
            outside=self._outside,
        )


def _digest(file: FileSeen) -> int:
    facts = f"{file.path}\0{file.size}\0{file.mtime_ns}".encode("utf-8", "surrogateescape")
    return int.from_bytes(blake2b(facts, digest_size=8).digest())


def why_incomplete(look: Look, options: AcquisitionOptions, *, quiet_seconds: float, grew: bool) -> Reason | None:
    """
    Judge a folder by its latest look: ``None`` means that it is complete.

    :param look: What the latest look saw.
    :param options: When a folder is complete.
    :param quiet_seconds: For how long every look has seen the same as ``look``.
    :param grew: Whether the look before this one saw something else.
    """
    settling = options.marker_file is None and quiet_seconds < options.settle_seconds
    return next(_reasons(look, options, settling=settling, grew=grew), None)


def _reasons(look: Look, options: AcquisitionOptions, *, settling: bool, grew: bool) -> Iterator[Reason]:
    if look.unfinished is not None:
        yield Reason("unfinished", f"{look.unfinished} is still being written")
    if look.anchor is None:
        hint = f"; {look.outside} leads out of the watched folder and is not followed" if look.outside else ""
        yield Reason("empty", f"no recording in it yet{hint}")
    if settling and grew:
        yield Reason("growing", "still growing")
    if options.marker_file in look.missing:
        yield Reason("marker", f"waiting for its marker {options.marker_file!r}")
    if look.missing:
        yield Reason("required", f"waiting for {', '.join(map(repr, look.missing))}")
    if look.num_files < options.min_files:
        yield Reason("min_files", f"waiting for {options.min_files} files")
    if look.size_bytes < options.min_size:
        yield Reason("min_size", f"waiting for {readable_size(options.min_size)}")
    if settling:
        yield Reason("settling", f"waiting until it has been quiet for {options.settle_seconds:g} s")


def readable_size(size_bytes: float) -> str:
    """A size as people read it, such as ``1.2 GB``."""
    for unit, digits in (("bytes", 0), ("kB", 1), ("MB", 1), ("GB", 1)):
        if size_bytes < _UNIT:
            return f"{size_bytes:.{digits}f} {unit}"
        size_bytes /= _UNIT
    return f"{size_bytes:.1f} TB"
