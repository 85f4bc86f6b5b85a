"""Looks at a watched folder again and again, and remembers what one look must know of the last."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_ophys.acquisition.ledger import (
    Acquisition,
    Entry,
    Folder,
    WaitingFolders,
    first_start_key,
    is_same_recording,
    short_digest,
    waiting_key,
)
from airflow_provider_ophys.acquisition.readiness import (
    Look,
    Reason,
    name_matches,
    readable_size,
    why_incomplete,
)
from airflow_provider_ophys.acquisition.scan import Scan
from airflow_provider_ophys.exceptions import AcquisitionAccessError, SourceNotFoundError

if TYPE_CHECKING:
    from airflow_provider_ophys.acquisition.options import AcquisitionOptions
    from airflow_provider_ophys.acquisition.scan import Glance, Pass

_LINES_PER_LOOK = 20
# One takes some 120 bytes in a state, and Airflow advises against values of more than 64 KiB.
_LOOKS_IN_STATE = 400
# What the web page shows of the folders that wait, at some 500 bytes each at most.
_WAITING_IN_LEDGER = 50
_LONGEST_TEXT = 200
# A triggerer gets some hundred answers a second. After a restart, a new folder should not have to wait until all
# those are looked up that were handed over long ago.
_ASKING_SECONDS = 5.0


@dataclass(slots=True)
class _Seen:
    """What is known of a folder that has to wait: the last look, since when, and what was said about it."""

    signature: str = ""
    since: float = 0.0
    noted: set[str] = field(default_factory=set)


class Ledger(Protocol):
    """Where it is kept which folders were handed over; Airflow's state store of an asset is one."""

    def get(self, key: str, /) -> Any:
        """Return what is kept under a key, or None."""

    def set(self, key: str, value: Any, /) -> None:
        """Keep plain JSON under a key."""


class AcquisitionWatch:
    """
    Looks at a watched folder again and again; every look reads from disk and blocks meanwhile.

    One round is :meth:`refresh` and then :meth:`ready`; afterwards, :meth:`news` has what is worth logging.

    :param options: What is watched and when it is complete.
    :param ledger: Is asked once about each folder, and again when one is about to be handed over.
    :param clock: Seconds, by which quiet is measured from one look to the next; the file server's times are
        only compared with each other.
    :param scan: Shared with other watches of the folder, and by the same clock. Default: one of its own.
    :param most: How many folders can be handed over at once, whatever ``max_folders`` says. Default: any number.
    """

    def __init__(
        self,
        options: AcquisitionOptions,
        ledger: Ledger,
        clock: Callable[[], float] = time.monotonic,
        scan: Scan | None = None,
        most: int | None = None,
    ) -> None:
        self.options = options
        self.root = options.root
        self.root_seen = False
        # When the first of the folders that only have to stay quiet will have been so for long enough.
        self.due = math.inf
        self._scan = scan or Scan(options.root, options.pattern, clock)
        self._pass: Pass | None = None
        self._ledger = ledger
        self._clock = clock
        self._most = most
        self.stopped = False
        self._past_first_start = options.existing == "process"
        self._folders: list[Folder] = []
        self._listed = False
        self._entries: dict[str, Entry] = {}
        self._asked: set[str] = set()
        self._seen: dict[str, _Seen] = {}
        self._kept: dict[str, list[Any]] = {}
        self._news: list[tuple[int, str]] = []
        self._root_noted = ""
        self._waiting: dict[str, Reason] = {}
        self._noted: dict[str, str] | None = None

    def stop(self) -> None:
        """Make a look that is under way in a thread end soon."""
        self.stopped = True

    def refresh(self, since: float | None = None) -> None:
        """
        List the acquisition folders, complete or not.

        :param since: Take over what others who share the scan have seen since then, by the clock. Default: look
            for oneself.
        :raises SourceNotFoundError: If the watched folder does not exist.
        :raises AcquisitionAccessError: If it may not be read.
        :raises OSError: If it cannot be read at the moment.
        """
        self._folders, self._listed, self.due = [], False, math.inf
        self._waiting = {}
        self._pass = self._look_round(since)
        names = self._pass.names
        for name, error in self._pass.trouble:
            self._note_error(name, error)
        self.root_seen = True
        if self._root_noted:
            self._root_noted = ""
            self._news.append((logging.INFO, f"The watched folder {self.root} can be read again."))
        self._forget_all_but(set(names))
        self._folders, self._listed = [Folder.below(self.root, name) for name in names], True

    def _look_round(self, since: float | None) -> Pass:
        try:
            return self._scan.look_round(since)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise SourceNotFoundError(
                f"The watched folder {self.root} does not exist, or is not a folder, on this machine. "
                f"Check the path, and whether its share is mounted here."
            ) from error
        except PermissionError as error:
            raise AcquisitionAccessError(f"The watched folder {_permission_text(error)}") from error

    def _forget_all_but(self, names: set[str]) -> None:
        self._asked &= names
        for name in self._seen.keys() - names:
            # A folder above the acquisition folders, of which there is trouble to remember, has no signature.
            if self._seen[name].signature:
                del self._seen[name]

    def _consult_ledger(self, seconds: float = math.inf) -> None:
        if not self._past_first_start and self._listed:
            self._set_existing_aside()
        self._ask_about_unknown(seconds)

    def _ask_about_unknown(self, seconds: float) -> None:
        """Ask about the folders that were not asked about, the newest first, for so long at most."""
        until = self._clock() + seconds
        unknown = [folder for folder in self._folders if folder.name not in self._asked]
        for number, folder in enumerate(sorted(unknown, key=_changed_ns, reverse=True)):
            if self._clock() > until:
                more = f"{len(unknown) - number} older folders are looked up in the ledger later."
                self._news.append((logging.INFO, more))
                break
            self._ask(folder)

    def _ask(self, folder: Folder) -> None:
        self._check_stopped()
        entry = self._ledger.get(folder.key)
        self._asked.add(folder.name)
        if isinstance(entry, Mapping):
            self._entries[folder.name] = entry
        else:
            self._entries.pop(folder.name, None)

    def _set_existing_aside(self) -> None:
        if self._ledger.get(first_start_key(self.root)) is None:
            self._ask_about_unknown(math.inf)
            todo = [folder for folder in self._folders if not self._is_handed_over(folder)]
            for folder in todo:
                glance = self._glance(folder)
                if glance is not None and (acquisition := Acquisition.of(folder, glance.look)) is not None:
                    self.record(acquisition, "nobody: it was there before the first start")
            self._ledger.set(first_start_key(self.root), True)
        self._past_first_start = True

    def handed_to(self, owner: Any) -> list[Acquisition]:
        """
        The folders that this owner got before and that still hold the same recording, oldest first.

        If they are more than can be handed over at once, as they may be where the limit was higher before, the
        others are new again: the owner cannot have got them.
        """
        self._consult_ledger()
        known = [
            (folder.key, self._entries[folder.name]) for folder in self._folders if self._is_handed_over(folder)
        ]
        mine = [Acquisition.from_entry(key, entry) for key, entry in known if entry.get("handed_to") == owner]
        mine.sort(key=_age)
        for acquisition in mine[self._most :] if self._most else ():
            self._check_stopped()
            self.take_back(acquisition)
        return mine[: self._most]

    def take_back(self, acquisition: Acquisition) -> None:
        """Make a folder new again that was handed over, also when the watch was stopped."""
        self._ledger.set(acquisition.folder.key, {})
        self._entries.pop(acquisition.folder.name, None)

    def ready(self) -> list[Acquisition]:
        """Look at all folders that were not handed over: the complete ones, oldest first, up to the limit."""
        return list(self.each_ready())

    def each_ready(self) -> Iterator[Acquisition]:
        """Yield those that are :meth:`ready`, each when the ledger has just said that nobody else has got it."""
        self._consult_ledger(_ASKING_SECONDS)
        known = [folder for folder in self._folders if folder.name in self._asked]
        found = [self._judge(folder) for folder in known if not self._is_handed_over(folder)]
        self._note_waiting()
        complete = [acquisition for acquisition in found if acquisition is not None]
        complete.sort(key=_age)
        ready = 0
        for number, acquisition in enumerate(complete):
            if ready in (self.options.max_folders, self._most):
                more = f"{len(complete) - number} more folders are complete; they come with the next."
                self._news.append((logging.INFO, more))
                break
            # Somebody else who shares the ledger may have got it since.
            self._ask(acquisition.folder)
            if not self._is_handed_over(acquisition.folder):
                ready += 1
                self._news.append((logging.INFO, f"{acquisition.folder.name}: {_facts(acquisition)}, complete"))
                yield acquisition

    def _note_waiting(self) -> None:
        """Leave in the ledger which folders wait and why, whenever that has changed."""
        kinds = {name: reason.kind for name, reason in self._waiting.items()}
        if kinds == self._noted:
            return
        key = waiting_key(self.root)
        # An earlier watch may have left some.
        if kinds or self._noted or self._ledger.get(key):
            self._ledger.set(key, self._waiting_folders())
        self._noted = kinds

    def _waiting_folders(self) -> WaitingFolders:
        shown = sorted(self._waiting.items())[:_WAITING_IN_LEDGER]
        return {
            "path": _printable(str(self.root)),
            "folders": [
                {"name": _printable(name)[-_LONGEST_TEXT:], "reason": _printable(reason.text)[:_LONGEST_TEXT]}
                for name, reason in shown
            ],
            "more": len(self._waiting) - len(shown),
        }

    def hand_over(self, acquisition: Acquisition, owner: Any) -> None:
        """Look past this folder from now on; :meth:`record` makes it known to others and to later processes."""
        self._entries[acquisition.folder.name] = acquisition.ledger_entry(owner)

    def record(self, acquisition: Acquisition, owner: Any) -> None:
        """Enter in the ledger that a folder was handed over."""
        self._check_stopped()
        self.hand_over(acquisition, owner)
        self._ledger.set(acquisition.folder.key, acquisition.ledger_entry(owner))

    def claim(self, acquisition: Acquisition, owner: Any) -> bool:
        """Record a folder that another watch has found, unless somebody else has got it meanwhile."""
        self._ask(acquisition.folder)
        entry = self._entries.get(acquisition.folder.name, {})
        if self._is_handed_over(acquisition.folder) and entry.get("handed_to") != owner:
            return False
        self.record(acquisition, owner)
        return True

    def _is_handed_over(self, folder: Folder) -> bool:
        entry = self._entries.get(folder.name)
        return entry is not None and is_same_recording(folder.path, entry)

    def _check_stopped(self) -> None:
        if self.stopped:
            raise RuntimeError(f"Watching {self.root} was stopped.")

    def _judge(self, folder: Folder) -> Acquisition | None:
        self._check_stopped()
        glance = self._glance(folder)
        seen = self._remember(folder.name)
        if glance is None:
            # What could not be seen cannot count as quiet.
            seen.since = self._clock()
            return None
        look = glance.look
        grew = bool(seen.signature) and seen.signature != look.signature
        if seen.signature != look.signature:
            seen.signature, seen.since = look.signature, glance.ended
        reason = why_incomplete(look, self.options, quiet_seconds=max(0.0, glance.began - seen.since), grew=grew)
        if name_matches(folder.name.rpartition("/")[2], self.options.incomplete):
            reason = Reason("name", "its name says that it is still being written")
        if reason is not None:
            if reason.kind == "settling":
                self.due = min(self.due, seen.since + self.options.settle_seconds)
            self._note_reason(folder.name, reason, look)
            return None
        return Acquisition.of(folder, look)

    def _glance(self, folder: Folder) -> Glance | None:
        """One look at a folder, or None if that is not possible now."""
        if not _is_unicode(folder.name):
            reason = Reason("name", "its name is not valid UTF-8, which Airflow cannot store; rename it")
            self._note_reason(folder.name, reason)
            return None
        try:
            return self._pass.look(folder.path, self.options) if self._pass else None
        except FileNotFoundError:
            # Gone since it was listed; if it comes back, it is listed again.
            return None
        except OSError as error:
            self._note_error(folder.name, error)
            return None

    def _remember(self, name: str) -> _Seen:
        if name not in self._seen:
            kept = self._kept.pop(short_digest(self.root, name), None)
            self._seen[name] = _Seen(kept[0], kept[1], set(kept[2:])) if kept else _Seen()
        return self._seen[name]

    def _note_reason(self, name: str, reason: Reason, look: Look | None = None) -> None:
        """Note why a folder has to wait, once for each kind of reason."""
        self._waiting[name] = reason
        noted = self._remember(name).noted
        if reason.kind in noted:
            return
        noted.add(reason.kind)
        if look is None:
            self._news.append((logging.WARNING, f"{_printable(name)}: {reason.text}"))
        else:
            self._news.append((logging.INFO, f"{_printable(name)}: {_facts(look)}, {_printable(reason.text)}"))

    def _note_error(self, name: str, error: OSError) -> None:
        if isinstance(error, PermissionError):
            reason = Reason("permission", _permission_text(error))
        else:
            reason = Reason("trouble", f"cannot be read now ({error.strerror}); trying again")
        self._note_reason(name, reason)

    def note_root_error(self, error: OSError) -> None:
        """Note, once until it can be read again, that the watched folder cannot be read."""
        ours = isinstance(error, SourceNotFoundError | AcquisitionAccessError)
        text = str(error) if ours else f"The watched folder {self.root} cannot be read now ({error})."
        if text != self._root_noted:
            self._root_noted = text
            self._news.append((logging.WARNING, f"{text} Trying again."))

    def news(self) -> list[tuple[int, str]]:
        """What there is to log since the last time, as (level, line); a long list is cut short."""
        news, self._news = self._news, []
        more = len(news) - _LINES_PER_LOOK
        return [*news[:_LINES_PER_LOOK], *([(logging.INFO, f"... and {more} more.")] if more > 0 else [])]

    def state(self) -> dict[str, Any]:
        """What another process needs to go on from here, as plain JSON of bounded size."""
        now = self._clock()
        # Those that have been quiet for longest are the closest to being complete.
        looks = sorted(self._seen.items(), key=lambda item: item[1].since)[:_LOOKS_IN_STATE]
        return {
            "root_seen": self.root_seen,
            "root_told": self._root_noted,
            "looks": {
                short_digest(self.root, name): [seen.signature, now - seen.since, *sorted(seen.noted)]
                for name, seen in looks
            },
        }

    def resume(self, state: Mapping[str, Any], seconds: float) -> None:
        """
        Go on from the :meth:`state` of another watch with the same options.

        :param seconds: How old the state is at least.
        """
        self.root_seen = bool(state["root_seen"])
        self._root_noted = str(state["root_told"])
        then = self._clock() - seconds
        self._kept = {
            digest: [signature, then - quiet, *noted]
            for digest, (signature, quiet, *noted) in state["looks"].items()
        }


def _facts(seen: Look | Acquisition) -> str:
    files = "1 file" if seen.num_files == 1 else f"{seen.num_files} files"
    return f"{files}, {readable_size(seen.size_bytes)}"


def _changed_ns(folder: Folder) -> int:
    try:
        return os.stat(folder.path).st_mtime_ns  # noqa: PTH116  thousands of these: no Path for each
    except OSError:
        return 0


def _age(acquisition: Acquisition) -> tuple[int, str]:
    return acquisition.newest_ns, acquisition.folder.name


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _printable(text: str) -> str:
    """Text with the bytes escaped that are not valid Unicode, which no log takes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _permission_text(error: PermissionError) -> str:
    return (
        f"{_printable(str(error.filename))} may not be read by the user that runs Airflow here "
        f"(uid {os.getuid()}); give this user permission to read and enter it."
    )
