"""
When a folder is new: what the ledger keeps of a folder that was handed over, and how it is recognised.

The ledger has one small key per folder, :attr:`Folder.key`, and keeps :meth:`Acquisition.ledger_entry` there.
A later look compares the entry's anchor, the largest file of the recording, with what is on disk: a folder that
was deleted and recorded again has another anchor, whereas notes or results that are added to a recording leave
its anchor as it was. Looking past a folder that was handed over therefore costs one ``stat``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict
from urllib.parse import quote_from_bytes, unquote_to_bytes

from airflow_provider_ophys.acquisition.readiness import FileSeen

if TYPE_CHECKING:
    from airflow_provider_ophys.acquisition.readiness import Look

type Entry = Mapping[str, Any]

WAITING_PREFIX = "acquisition-waiting:"

# Airflow's key has room for 512 characters; the end of a long name says more than its beginning.
_READABLE_PART = 200


class Folder(NamedTuple):
    """An acquisition folder: where it is, its name relative to the root (POSIX), and its key in the ledger."""

    path: str
    name: str
    key: str

    @classmethod
    def below(cls, root: Path, name: str) -> Folder:
        """The folder of this name in a watched folder."""
        # Plain ASCII whatever the folder is called, because a metadata database may take nothing else as a key.
        readable = quote_from_bytes(os.fsencode(name))[-_READABLE_PART:]
        return cls(str(root / name), name, f"acquisition:{short_digest(root, name)}:{readable}")


def short_digest(root: Path, name: str) -> str:
    """A folder in 24 characters."""
    return blake2b(os.fsencode(f"{root}\0{name}"), digest_size=12).hexdigest()


def waiting_key(root: Path) -> str:
    """The ledger's key under which the last look's :class:`WaitingFolders` are, for the web page to show."""
    return f"{WAITING_PREFIX}{short_digest(root, '')}"


def first_start_key(root: Path) -> str:
    """The ledger's key that says that the folders which were there before the first start are set aside."""
    return f"acquisition-start:{short_digest(root, '')}"


class WaitingFolder(TypedDict):
    """A folder that was seen but is not complete, and why, as plain JSON."""

    name: str
    reason: str


class WaitingFolders(TypedDict):
    """Those in the watched folder ``path``, as plain JSON; ``more`` is how many there are beyond those listed."""

    path: str
    folders: list[WaitingFolder]
    more: int


@dataclass(frozen=True, slots=True)
class Acquisition:
    """A folder as it is handed over."""

    folder: Folder
    num_files: int
    size_bytes: int
    newest_ns: int
    anchor: FileSeen

    @classmethod
    def of(cls, folder: Folder, look: Look) -> Acquisition | None:
        """What a look saw as an acquisition, or None if it saw no file."""
        if look.anchor is None:
            return None
        return cls(folder, look.num_files, look.size_bytes, look.newest_ns, look.anchor)

    def as_dict(self) -> dict[str, Any]:
        """What a DAG gets, in XCom or with an asset event."""
        return {
            "path": self.folder.path,
            "name": self.folder.name,
            "num_files": self.num_files,
            "size_bytes": self.size_bytes,
        }

    def ledger_entry(self, handed_to: object) -> dict[str, Any]:
        """
        What the ledger keeps: enough to hand the same folder over again, and to know it from a new one.

        :param handed_to: Who got it, as plain JSON.
        """
        # Quoted, because a file's name need not be valid Unicode and JSON must.
        file = quote_from_bytes(os.fsencode(self.anchor.path))
        anchor = {"file": file, "size": self.anchor.size, "mtime_ns": self.anchor.mtime_ns}
        return {**self.as_dict(), "newest_ns": self.newest_ns, "anchor": anchor, "handed_to": handed_to}

    @classmethod
    def from_entry(cls, key: str, entry: Entry) -> Acquisition:
        """The acquisition that a ledger's entry was made from."""
        file = os.fsdecode(unquote_to_bytes(entry["anchor"]["file"]))
        return cls(
            folder=Folder(entry["path"], entry["name"], key),
            num_files=entry["num_files"],
            size_bytes=entry["size_bytes"],
            newest_ns=entry["newest_ns"],
            anchor=FileSeen(file, entry["anchor"]["size"], entry["anchor"]["mtime_ns"]),
        )


def is_same_recording(path: str, entry: Entry) -> bool:
    """Whether the folder at ``path`` still holds the recording that ``entry`` is about."""
    try:
        anchor = entry["anchor"]
        seen = Path(path, os.fsdecode(unquote_to_bytes(anchor["file"]))).stat()
        return bool(seen.st_size == anchor["size"] and seen.st_mtime_ns == anchor["mtime_ns"])
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        # A share that hiccups says nothing about the recording; the next look will know.
        return True
    except (AttributeError, KeyError, TypeError, ValueError):
        # Not an entry of ours: handing the folder over again is harmless, losing it is not.
        return False
