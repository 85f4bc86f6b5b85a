"""Which files may be served: what a task reported, of the kinds that reports have, below the allowed folders."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from airflow_provider_ophys.plugin.tasks import Json

type Kind = Literal["html", "png", "thumbnail"]

SUFFIXES: dict[Kind, str] = {"html": ".html", "png": ".png", "thumbnail": ".png"}
S3 = "s3://"
# A report is a page with a few pictures in it; whatever is larger is none.
LARGEST = 64 * 2**20


class ReportNotServedError(Exception):
    """A report is not shown; the message says why, for the person who looks at the page."""


def reported_path(result: Json, kind: Kind) -> str:
    """
    Look up where a task says that its report is.

    :param result: What the task returned.
    :returns: A local path or an S3 URI; empty when the task made no such report.
    """
    report = result.get("report")
    path = report.get(kind) if isinstance(report, dict) else None
    return path if isinstance(path, str) else ""


def read_reported(path: str, kind: Kind, roots: Sequence[Path]) -> bytes:
    """
    Read a file that a task reported.

    :param path: Where the task says that it is.
    :param kind: What it should be.
    :param roots: The allowed folders. The file must lie below one of them when all links are followed.
    :raises ReportNotServedError: When it is not there, or must not be served.
    """
    if path.startswith(S3):
        raise ReportNotServedError("It is in S3, which this page does not read.")
    if not roots:
        raise ReportNotServedError("No folder is allowed: an administrator can set [ophys] allowed_roots.")
    try:
        resolved = Path(path).resolve(strict=True)
        _check_place(resolved, kind, roots)
        return _read(resolved, kind, roots)
    except (OSError, ValueError, RuntimeError) as error:
        raise ReportNotServedError(
            "It is not on the machine of Airflow's API server, or may not be read there."
        ) from error


def _read(resolved: Path, kind: Kind, roots: Sequence[Path]) -> bytes:
    # Neither a link nor a pipe that has taken its place meanwhile.
    descriptor = os.open(resolved, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST:
            raise ReportNotServedError("What is there is no report.")
        # A folder on the way may have been replaced by a link since it was resolved; what is open cannot be.
        opened = Path(f"/proc/self/fd/{file.fileno()}")
        if opened.exists():
            _check_place(opened.resolve(), kind, roots)
        return file.read(LARGEST)


def _check_place(resolved: Path, kind: Kind, roots: Sequence[Path]) -> None:
    if not any(resolved.is_relative_to(root.resolve()) for root in roots):
        raise ReportNotServedError("It lies outside the folders in [ophys] allowed_roots.")
    if resolved.suffix != SUFFIXES[kind]:
        raise ReportNotServedError("What is there is no report.")
