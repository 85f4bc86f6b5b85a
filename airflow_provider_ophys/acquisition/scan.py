"""
One scan of a watched folder for all in this process who watch it.

Watchers of the same folder and pattern, whatever their other options, share a :class:`Scan`. They wake up at the
same ticks, whoever comes first lists the folders and walks each tree, and the others take over what was seen.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_ophys.acquisition.tree import list_names, look_into

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_ophys.acquisition.options import AcquisitionOptions
    from airflow_provider_ophys.acquisition.readiness import Look

_scans: dict[tuple[Path, str], Scan] = {}
_scans_lock = threading.Lock()


@contextmanager
def shared_scan(options: AcquisitionOptions) -> Iterator[Scan]:
    """The scan of this folder and pattern that everybody in this process shares who is in here too."""
    key = (options.root, options.pattern)
    with _scans_lock:
        scan = _scans.setdefault(key, Scan(*key))
        scan.watchers.append(options)
    try:
        yield scan
    finally:
        with _scans_lock:
            scan.watchers.remove(options)
            if not scan.watchers:
                del _scans[key]


class Scan:
    """
    Passes over one watched folder, one after the other.

    :param root: The watched folder.
    :param pattern: Glob for the acquisition folders in it.
    :param clock: Seconds; the same for all who share the scan.
    """

    def __init__(self, root: Path, pattern: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.root = root
        self.pattern = pattern
        self.clock = clock
        # A set of options is in here once for each who watches with it.
        self.watchers: list[AcquisitionOptions] = []
        self._began = clock()
        self._lock = threading.Lock()
        self._latest: Pass | None = None

    def tick(self, interval: float, *, following: bool = False) -> float:
        """The beginning of the current interval, or of the following one: the same for all who share the scan."""
        count = (self.clock() - self._began) // interval
        return self._began + (count + following) * interval

    def look_round(self, since: float | None = None) -> Pass:
        """
        List the folders, unless somebody has begun to since a given time.

        :param since: By the scan's clock; None for a pass that nobody else has begun.
        :raises OSError: If the watched folder cannot be read.
        """
        with self._lock:
            if since is None or self._latest is None or self._latest.began < since:
                self._latest = Pass(self)
            return self._latest


class Glance(NamedTuple):
    """What a look saw, and when it began and ended by the scan's clock."""

    began: float
    ended: float
    look: Look


class Pass:
    """
    One pass over a watched folder: its folders as they were listed, and what was seen in them since.

    ``names`` are the folders, ``trouble`` says which folders above them could not be read.
    """

    def __init__(self, scan: Scan) -> None:
        self.began = scan.clock()
        self._scan = scan
        self._real_root = os.path.realpath(scan.root)
        self._lock = threading.Lock()
        self._looks: dict[tuple[str, AcquisitionOptions], Glance] = {}
        self.trouble: list[tuple[str, OSError]] = []
        self.names = list_names(
            self._real_root, scan.pattern, lambda name, error: self.trouble.append((name, error))
        )

    def look(self, folder: str, options: AcquisitionOptions) -> Glance:
        """
        Look at an acquisition folder, for everybody who shares the scan, unless that was done in this pass.

        :param folder: Its path.
        :param options: Those of whoever asks.
        :raises OSError: If the folder has vanished, or something in it cannot be read.
        """
        with self._lock:
            if (folder, options) not in self._looks:
                several = list({options, *self._scan.watchers})
                began = self._scan.clock()
                looks = look_into(folder, self._real_root, several)
                ended = self._scan.clock()
                for each, look in zip(several, looks, strict=True):
                    self._looks[folder, each] = Glance(began, ended, look)
            return self._looks[folder, options]
