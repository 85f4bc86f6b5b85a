"""
Converting an archive: its sessions are found, divided into batches, converted one after the other, and reported.

What has its NWB file is passed over, so whoever does it again goes on where it stopped. One broken session costs
only itself.
"""

from __future__ import annotations

import csv
import json
import logging
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from airflow_provider_ophys.acquisition.tree import list_names
from airflow_provider_ophys.conversion.environment import Environment
from airflow_provider_ophys.conversion.session import convert_session, has_all_of, make_nwbfile_path
from airflow_provider_ophys.exceptions import OphysError, SourceNotFoundError
from airflow_provider_ophys.models.session import Session
from airflow_provider_ophys.models.session_name import nwbfile_path_for
from airflow_provider_ophys.sessions.describe import MARKER, describe_session
from airflow_provider_ophys.sessions.session_yaml import NAME

log = logging.getLogger(__name__)

# A session at which the worker died this often (out of memory, say) is reported instead of tried again.
MOST_DEATHS = 2
# Of the report's table; facts of the page "Ophys" follow those that people read first.
COLUMNS = (
    "session",
    "state",
    "why",
    "seconds",
    "size_bytes",
    "nwbfile_path",
    "subject_id",
    "validation",
    "throughput_mb_per_s",
)


@dataclass(frozen=True)
class Archive:
    """
    Sessions below a folder, and where their NWB files go.

    :param root: Of the sessions; also the uppermost folder whose ``lab.yaml`` counts.
    :param output_folder: Of all NWB files.
    :param pattern: Glob of further sessions' folders below the root, one part for each level of folders, beside
        the folders with a ``session.yaml`` or a ``DONE`` in them, which are sessions wherever they lie.
    :param backend: ``"hdf5"`` or ``"zarr"``.
    :param known: More of what :func:`airflow_provider_ophys.sessions.describe_session` takes, such as
        ``subject_table``.
    :param environment: Where it runs.
    """

    root: Path
    output_folder: Path
    pattern: str = ""
    backend: str = "hdf5"
    known: Mapping[str, Any] = field(default_factory=dict)
    environment: Environment = field(default_factory=Environment)

    def sessions(self) -> tuple[list[str], dict[str, str]]:
        """
        Find the sessions.

        :returns: Their paths relative to the root, with ``/``, sorted; and why a folder could not be searched, by
            its path.
        :raises SourceNotFoundError: If there is no such root, or no session below it.
        """
        if not self.root.is_dir():
            raise SourceNotFoundError(f"There is no folder {self.root}. Correct the path of the archive.")
        closed: dict[str, str] = {}

        def note(name: str, error: OSError) -> None:
            closed[name] = f"It cannot be searched: {error.strerror}."

        marked = self._marked(note)
        above = {parent.as_posix() for name in marked for parent in Path(name).parents}
        matching = [
            name
            for name in (list_names(os.path.realpath(self.root), self.pattern, note) if self.pattern else ())
            if name not in above
            and not any(Path(name).is_relative_to(each) for each in marked)
            and not self.output_folder.is_relative_to(self.root / name)
        ]
        sessions = sorted([*marked, *(name for name in matching if name not in closed)])
        if not sessions and not closed:
            raise SourceNotFoundError(
                f"There is no session below {self.root}: no folder has a {NAME} or a {MARKER} in it, and none "
                f"matches the pattern {self.pattern!r}. Give the pattern of the sessions' folders, such as */*."
            )
        return sessions, closed

    def _marked(self, note: Callable[[str, OSError], None]) -> list[str]:
        """Return the folders that say that they are sessions; such a folder is not searched for others."""
        marked = []

        def fail(error: OSError) -> None:
            note(Path(error.filename).relative_to(self.root).as_posix(), error)

        for folder, subfolders, files in os.walk(self.root, onerror=fail):
            if NAME in files or MARKER in files:
                subfolders.clear()
                marked.append(Path(folder).relative_to(self.root).as_posix())
        return marked

    def plan(self, batch_size: int, most_batches: int) -> dict[str, Any]:
        """
        Decide about each session.

        :param batch_size: Most sessions in a batch, unless there are too many batches.
        :returns: ``root``; ``reused``, the sessions that have their NWB file; ``refused``, why a folder cannot
            have one, by its path; and ``batches`` of all others.
        :raises SourceNotFoundError: If there is no such root, or no session below it.
        """
        sessions, refused = self.sessions()
        users = Counter(map(self.nwbfile_path, sessions))
        reused, left = [], []
        for name in sessions:
            path = self.nwbfile_path(name)
            if users[path] > 1:
                refused[name] = f"Another session has the same NWB file, {path}. Rename one of them."
            elif self.is_converted(name):
                reused.append(name)
            else:
                left.append(name)
        log.info("%d sessions below %s: %d have their NWB file.", len(sessions), self.root, len(reused))
        batches = in_batches(left, batch_size, most_batches)
        return {"root": str(self.root), "reused": reused, "refused": refused, "batches": batches}

    def nwbfile_path(self, name: str) -> Path:
        """Return where the NWB file of a session goes."""
        return nwbfile_path_for(self.output_folder, name, self.backend)

    def is_converted(self, name: str) -> bool:
        """Tell whether all of a session was converted: a file may have the movie and not yet the ROIs."""
        if not self.nwbfile_path(name).exists():
            return False
        try:
            return has_all_of(self.nwbfile_path(name), self.describe(name))
        except OphysError:
            return False  # whoever converts it is told

    def describe(self, name: str) -> Session:
        """Describe a session."""
        defaults = self.environment.defaults
        return describe_session(
            self.root / name,
            name=name,
            root=self.root,
            allowed_roots=defaults.allowed_roots,
            allow_pickle=defaults.allow_pickle,
            **self.known,
        )

    def convert(self, name: str) -> dict[str, Any]:
        """
        Write a session into its NWB file, or what is missing of it.

        :returns: What the report says of it.
        :raises OphysError: If that fails; what was at the path before is still there.
        """
        started = time.monotonic()
        session = self.describe(name)
        path = make_nwbfile_path(self.output_folder, name, self.backend, self.environment.defaults.allowed_roots)
        written = convert_session(session.conversion(path, backend=self.backend), self.environment)
        return {
            "state": "reused" if written.reused else "converted",
            "nwbfile_path": written.nwbfile_path,
            "size_bytes": written.size_bytes,
            "seconds": round(time.monotonic() - started, 3),
            "subject_id": session.identity.subject_id,
            "validation": written.validation,
            "throughput_mb_per_s": written.throughput_mb_per_s,
        }


def in_batches(names: list[str], batch_size: int, most_batches: int) -> list[list[str]]:
    """Divide sessions among batches, evenly."""
    if not names:
        return []
    num_batches = min(math.ceil(len(names) / batch_size), most_batches)
    return [names[number::num_batches] for number in range(num_batches)]


def convert_batch(
    names: list[str], store: Any, convert: Callable[[str], dict[str, Any]]
) -> tuple[list[dict[str, Any]], OphysError | None]:
    """
    Convert sessions one after the other, whatever happens to each.

    :param names: The sessions.
    :param store: Remembers between the tries of a task at which session it died; has ``get``, ``set``, ``delete``.
    :param convert: Converts one, as :meth:`Archive.convert` does.
    :returns: What the report says of each, and the last error that another try may mend.
    """
    deaths = _deaths_of_earlier_tries(store)
    outcomes: list[dict[str, Any]] = []
    passing = None
    # A session that killed the worker comes last, so that the others are done whatever it does.
    for name in sorted(names, key=lambda name: deaths.get(name, 0)):
        if deaths.get(name, 0) >= MOST_DEATHS:
            why = f"The worker died {deaths[name]} times while it was converted; see the log of its task."
            outcomes.append({"session": name, "state": "failed", "why": why})
            continue
        store.set("converting", name)
        try:
            outcomes.append({"session": name, **convert(name)})
        except OphysError as error:
            log.warning("Failed to convert %s: %s", name, error)
            outcomes.append({"session": name, "state": "failed", "why": str(error)})
            passing = error if error.retryable else passing
        except Exception as error:
            # Whatever a library raises at one session, the others must be converted.
            log.exception("Failed to convert %s.", name)
            outcomes.append({"session": name, "state": "failed", "why": f"{type(error).__name__}: {error}"})
    store.delete("converting")
    if passing is None:
        store.delete("deaths")
    return outcomes, passing


def _deaths_of_earlier_tries(store: Any) -> dict[str, int]:
    deaths: dict[str, int] = store.get("deaths", {})
    if died_at := store.get("converting"):
        deaths[died_at] = deaths.get(died_at, 0) + 1
        store.set("deaths", deaths)
    return deaths


def summarize(planned: Mapping[str, Any], batches: Iterable[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """
    List what became of each session, in the order of their names.

    :param planned: What :meth:`Archive.plan` returned.
    :param batches: What :func:`convert_batch` returned of the batches that came to an end.
    """
    outcomes = {outcome["session"]: outcome for batch in batches for outcome in batch}
    outcomes |= {name: {"session": name, "state": "reused"} for name in planned["reused"]}
    failed = dict.fromkeys(chain(*planned["batches"]), "The task of its batch did not end; see that task's log.")
    for name, why in (failed | planned["refused"]).items():
        outcomes.setdefault(name, {"session": name, "state": "failed", "why": why})
    return [outcomes[name] for name in sorted(outcomes)]


def write_report(folder: Path, run_id: str, root: str, sessions: list[dict[str, Any]]) -> dict[str, Any]:
    """
    Write the report as JSON and as a table.

    :param folder: Made if it is not there.
    :param run_id: After which the files are named.
    :param sessions: What :func:`summarize` returned.
    :returns: The counts, the two paths, and the first failures.
    """
    counts = Counter(session["state"] for session in sessions)
    states = {state: counts[state] for state in ("converted", "reused", "failed")}
    folder.mkdir(parents=True, exist_ok=True)
    report = folder / f"{''.join(c if c.isalnum() or c in '-_.' else '_' for c in run_id)}.json"
    report.write_text(json.dumps({"run_id": run_id, "root": root, **states, "sessions": sessions}, indent=2))
    table = report.with_suffix(".csv")
    with table.open("w", newline="") as file:
        rows = csv.DictWriter(file, COLUMNS)
        rows.writeheader()
        rows.writerows(sessions)
    failures = [session for session in sessions if session["state"] == "failed"]
    return {**states, "report": str(report), "table": str(table), "first_failures": failures[:20]}
