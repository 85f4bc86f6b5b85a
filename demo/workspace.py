"""The folder in which a demonstration keeps all it needs and makes, and that only one may use at a time."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from demo.processes import PROCESSES_FILE, end_leftovers

LOCK = "lock"


class WorkspaceInUseError(RuntimeError):
    """Another demonstration is running in this folder."""


@dataclass(frozen=True)
class Workspace:
    """
    What is where.

    :param folder: Holds everything else.
    """

    folder: Path

    @property
    def recordings(self) -> Path:
        """Acquisitions that are simulated, before they are dropped."""
        return self.folder / "recordings"

    @property
    def incoming(self) -> Path:
        """The folder that Airflow watches."""
        return self.folder / "incoming"

    @property
    def nwb(self) -> Path:
        """The files that Airflow writes."""
        return self.folder / "nwb"

    @property
    def airflow(self) -> Path:
        """Airflow's home, with its database and logs."""
        return self.folder / "airflow"

    @property
    def s3(self) -> Path:
        """What the S3 server stores."""
        return self.folder / "s3"


@contextmanager
def emptied_workspace(folder: Path) -> Iterator[Workspace]:
    """
    Empty a workspace, end what a killed demonstration left running in it, and keep others out of it.

    :raises WorkspaceInUseError: When another process uses it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # The system gives the lock back when we end, however we end.
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise WorkspaceInUseError(
                f"Another demonstration is running in {folder}: wait for it, or stop it with Ctrl-C."
            ) from None
        workspace = Workspace(folder)
        end_leftovers(workspace.airflow / PROCESSES_FILE)
        _empty(workspace)
        for wanted in (workspace.recordings, workspace.incoming, workspace.nwb):
            wanted.mkdir()
        yield workspace


def _empty(workspace: Workspace) -> None:
    for entry in workspace.folder.iterdir():
        if entry == workspace.s3:
            # The server itself ends its predecessor, which is noted beside its data.
            shutil.rmtree(entry / "data", ignore_errors=True)
        elif entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name != LOCK:
            entry.unlink()
