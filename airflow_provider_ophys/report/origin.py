"""
Which tasks made a report, recorded beside it: what the web UI goes by when a task is asked for its report.

Results are in XCom, where people edit them, so a path in one proves nothing. A record says of which content it
speaks and who made that; only who may write into the folder of the report can write it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Self
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, ValidationError

from airflow_provider_ophys.models.result import REPORT_SUFFIXES

# What is added to the name of an NWB file for the record.
ORIGIN_SUFFIX = ".report.origin.json"
# A record is small; whatever is larger is none.
MOST_BYTES = 2**20
MOST_MAKERS = 100


class Maker(NamedTuple):
    """A task of a DAG, in any of its runs."""

    dag_id: str
    task_id: str


class ReportOrigin(BaseModel):
    """
    Who made a report.

    :param digests: SHA-256 of the files that it speaks of, by their kinds, which are those of ``REPORT_SUFFIXES``.
    :param makers: The tasks that made these very files, or found them made; the latest last.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    digests: dict[str, str]
    makers: list[Maker]

    @classmethod
    def read(cls, content: bytes) -> Self | None:
        """Read a record; ``None`` if it is none."""
        try:
            return cls.model_validate_json(content)
        except ValidationError:
            return None

    def proves(self, maker: Maker, kind: str, content: bytes) -> bool:
        """Tell whether a task made a file with this content."""
        return maker in self.makers and self.digests.get(kind) == _digest(content)


def origin_of(files: Mapping[str, Path], maker: Maker) -> ReportOrigin:
    """
    Say who made a report: this task, and those of the record beside it.

    Of other content those of the same DAG are kept: who may read one of its tasks may read all of them.

    :param files: Of the report, by kind.
    :param maker: The task that made it, found it made, or took it to another place.
    """
    digests = {kind: _digest(path.read_bytes()) for kind, path in files.items()}
    earlier = _read(record_path(files["html"]))
    known = earlier.makers if earlier else []
    if earlier and earlier.digests != digests:
        known = [one for one in known if one.dag_id == maker.dag_id]
    makers = [*(one for one in known if one != maker), maker]
    return ReportOrigin(digests=digests, makers=makers[-MOST_MAKERS:])


def record_origin(files: Mapping[str, Path], maker: Maker) -> Path:
    """
    Write beside a report who made it; see :func:`origin_of`.

    :returns: The path of the record.
    """
    return write_origin(origin_of(files, maker), record_path(files["html"]))


def write_origin(origin: ReportOrigin, path: Path) -> Path:
    """Write a record, whole or not at all."""
    part = path.with_name(f".{path.name}.{uuid4().hex[:8]}.part")
    try:
        part.write_text(origin.model_dump_json())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def record_path(html: Path) -> Path:
    """Say where the record of a report is, by the path of its page."""
    return html.with_name(record_name(html.name, "html"))


def record_name(name: str, kind: str) -> str:
    """
    Name the record that speaks of a file of a report.

    :raises ValueError: If no file of that kind is named so.
    """
    if not name.endswith(suffix := REPORT_SUFFIXES[kind]):
        raise ValueError(f"{name} is no name of a report's {kind}")
    return f"{name.removesuffix(suffix)}{ORIGIN_SUFFIX}"


def _read(path: Path) -> ReportOrigin | None:
    try:
        return ReportOrigin.read(path.read_bytes()) if path.stat().st_size <= MOST_BYTES else None
    except OSError:
        return None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
