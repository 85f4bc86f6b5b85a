"""Sessions as a table for spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from datetime import tzinfo

from airflow_provider_ophys.plugin.sessions import SessionRow

COLUMNS = (
    "session",
    "subject",
    "state",
    "error",
    "nwbfile_path",
    "folder",
    "s3",
    "size_bytes",
    "mb_per_s",
    "seconds",
    "checks",
    "dags",
    "time",
)


def as_csv(rows: Iterable[SessionRow], zone: tzinfo) -> str:
    """
    Write the table.

    :param zone: Of the times.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for row in rows:
        cells = (
            *(row.name, row.subject, row.state, row.error, row.path, row.folder),
            *(" ".join(place.uri for place in row.places), row.size_bytes, row.speed, row.seconds),
            *("; ".join(check.text for check in row.checks), " ".join(sorted(row.dag_ids))),
            row.at.astimezone(zone).isoformat(timespec="seconds"),
        )
        writer.writerow(map(_inert, cells))
    return text.getvalue()


def _inert(cell: object) -> object:
    """Keep a spreadsheet from taking a text for a formula: a folder may be called anything."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell
