"""The report of a task, on a disk that the API server sees or in S3, and the small picture with its notes."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from sqlalchemy.orm import Session

from airflow_provider_ophys.models.session_note import SessionNote
from airflow_provider_ophys.plugin.access import team_of
from airflow_provider_ophys.plugin.files import (
    S3,
    Kind,
    Policy,
    ReportNotServedError,
    read_reported,
    reported_path,
)
from airflow_provider_ophys.plugin.objects import read_object
from airflow_provider_ophys.plugin.task_notes import note_of
from airflow_provider_ophys.plugin.tasks import TaskKey, task_result, xcom_of
from airflow_provider_ophys.report.origin import Maker
from airflow_provider_ophys.session_notes import THUMBNAIL_KEY
from airflow_provider_ophys.settings import allowed_roots, report_roots

__all__ = ["Kind", "Reported", "find", "read", "small_picture"]

PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Reported:
    """
    Where a task says that its report is.

    :param paths: On a disk or in S3, by kind.
    :param note: What the task noted of its session.
    """

    paths: dict[Kind, str]
    note: SessionNote | None

    @property
    def html(self) -> str:
        """Where the page is."""
        return self.paths.get("html", "")


def find(session: Session, task: TaskKey) -> Reported | None:
    """Look up where a task says that its report is; None if it made none."""
    result = task_result(session, task)
    kinds: tuple[Kind, ...] = ("html", "png", "thumbnail")
    paths = {kind: path for kind in kinds if (path := reported_path(result, kind))}
    return Reported(paths, note_of(session, task)) if "html" in paths else None


def read(reported: Reported, kind: Kind, task: TaskKey) -> bytes:
    """
    Read a file of a report.

    :raises ReportNotServedError: When it must not be shown, or is not there.
    :raises OphysError: When the configuration or the connection is wrong, or S3 fails.
    """
    path = reported.paths.get(kind, "")
    policy = Policy(allowed_roots(), report_roots())
    maker, team = Maker(task.dag_id, task.task_id), team_of(task.dag_id)
    if not path.startswith(S3):
        return read_reported(path, kind, policy, maker, team)
    if reported.note is None or not reported.note.aws_conn_id:
        raise ReportNotServedError("It is in S3, and nothing says by which connection.")
    policy.check_object(path, maker, team)
    return read_object(path, kind, maker, reported.note.aws_conn_id)


def small_picture(session: Session, task: TaskKey) -> bytes | None:
    """Read the picture that a task left with its notes; None when it left none."""
    picture = xcom_of(session, task, THUMBNAIL_KEY)
    try:
        content = base64.b64decode(picture, validate=True) if isinstance(picture, str) else b""
    except binascii.Error:
        return None
    return content if content.startswith(PNG) else None
