"""
Which files may be served: reports below the allowed folders that a task, as the record beside them says, made.

People may edit XComs, and so what a task says that its report is.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from airflow_provider_ophys.plugin.tasks import Json
from airflow_provider_ophys.report.origin import MOST_BYTES, Maker, ReportOrigin, record_name

type Kind = Literal["html", "png", "thumbnail"]

S3 = "s3://"
# A report is a page with a few pictures in it; whatever is larger is none.
LARGEST = 64 * 2**20


class ReportNotServedError(Exception):
    """A report is not shown; the message says why, for the person who looks at the page."""


@dataclass(frozen=True)
class Policy:
    """
    What reports may be shown to whom.

    :param roots: The allowed folders; none means that no report on a disk is shown.
    :param bound: Places whose reports are for some DAGs only, and for which: see
        :func:`airflow_provider_ophys.settings.report_roots`.
    """

    roots: Sequence[Path]
    bound: Mapping[str, Sequence[str]]

    def check_folder(self, path: Path, maker: Maker, team: str | None) -> None:
        """Check that a file, whose links are followed, lies where reports of a DAG may lie."""
        if not self.roots:
            raise ReportNotServedError("No folder is allowed: an administrator can set [ophys] allowed_roots.")
        if not any(path.is_relative_to(root.resolve()) for root in self.roots):
            raise ReportNotServedError("It lies outside the folders in [ophys] allowed_roots.")
        folders = [place for place in self.bound if not place.startswith(S3)]
        self._check([place for place in folders if path.is_relative_to(Path(place).resolve())], maker, team)

    def check_object(self, uri: str, maker: Maker, team: str | None) -> None:
        """Check that an object in S3 lies where reports of a DAG may lie."""
        prefixes = [place for place in self.bound if place.startswith(S3)]
        self._check([place for place in prefixes if uri.startswith(f"{place.rstrip('/')}/")], maker, team)

    def _check(self, places: Sequence[str], maker: Maker, team: str | None) -> None:
        for place in places:
            if not any(_is_for(who, maker, team) for who in self.bound[place]):
                raise ReportNotServedError("It lies in a place whose reports are for other DAGs.")


def _is_for(who: str, maker: Maker, team: str | None) -> bool:
    if who.startswith("team:"):
        return team is not None and who.removeprefix("team:") == team
    return fnmatchcase(maker.dag_id, who)


def reported_path(result: Json, kind: Kind) -> str:
    """
    Look up where a task says that its report is.

    :param result: What the task returned.
    :returns: A local path or an S3 URI; empty when the task made no such report.
    """
    report = result.get("report")
    path = report.get(kind) if isinstance(report, dict) else None
    return path if isinstance(path, str) else ""


def read_reported(path: str, kind: Kind, policy: Policy, maker: Maker, team: str | None) -> bytes:
    """
    Read a file on a disk that a task reported.

    :param path: Where the task says that it is.
    :param kind: What it should be.
    :param maker: The task.
    :param team: Of its DAG.
    :raises ReportNotServedError: When it is not there or must not be served, or nothing proves who made it.
    """
    try:
        resolved = Path(path).resolve(strict=True)
        policy.check_folder(resolved, maker, team)
        record = resolved.with_name(_record_name(resolved.name, kind))
        content = _read(resolved, LARGEST)
        proof = _read(record, MOST_BYTES) if record.exists() else b""
    except (OSError, ValueError, RuntimeError) as error:
        raise ReportNotServedError(
            "It is not on the machine of Airflow's API server, or may not be read there."
        ) from error
    check_proof(proof, kind, content, maker)
    return content


def check_proof(record: bytes, kind: Kind, content: bytes, maker: Maker) -> None:
    """
    Check that the record of a report says that a task made it.

    :raises ReportNotServedError: When it does not.
    """
    origin = ReportOrigin.read(record)
    if origin is None or not origin.proves(maker, kind, content):
        raise ReportNotServedError(
            "Nothing beside it proves that this task made it as it is. If it did, run it again."
        )


def _record_name(name: str, kind: Kind) -> str:
    try:
        return record_name(name, kind)
    except ValueError:
        raise ReportNotServedError("What is there is no report.") from None


def _read(resolved: Path, most: int) -> bytes:
    # Neither a link nor a pipe that has taken its place meanwhile.
    descriptor = os.open(resolved, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > most:
            raise ReportNotServedError("What is there is no report.")
        # A folder on the way may have been replaced by a link since it was resolved; what is open cannot be.
        opened = Path(f"/proc/self/fd/{file.fileno()}")
        if opened.exists() and opened.resolve() != resolved:
            raise ReportNotServedError("What is there is no report.")
        return file.read(most)
