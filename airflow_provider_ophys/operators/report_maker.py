"""Who made a report, noted beside it: without that the web UI shows it to nobody."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_ophys.models.result import REPORT_SUFFIXES
from airflow_provider_ophys.session_notes import THUMBNAIL_KEY, push

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context

    from airflow_provider_ophys.report.origin import Maker

log = logging.getLogger(__name__)


def maker_in(context: Context) -> Maker | None:
    """Name the task that runs; ``None`` where none does."""
    from airflow_provider_ophys.report.origin import Maker

    instance = context.get("ti")
    return None if instance is None else Maker(instance.dag_id, instance.task_id)


def push_picture(operator: BaseOperator, context: Context, thumbnail: str) -> None:
    """Push a small picture of a report to where the page "Ophys" finds it, on whatever machine the report is."""
    from airflow_provider_ophys.report.small_picture import small_picture

    if picture := small_picture(Path(thumbnail)):
        push(operator, context, THUMBNAIL_KEY, picture)


def record_maker(maker: Maker | None, report: Mapping[str, Any]) -> Path | None:
    """
    Record beside a report on a disk that a task made it, or found it made.

    :param maker: The task; without one nothing is recorded.
    :param report: Where its files are, by kind.
    :returns: The path of the record; ``None`` if there is none.
    """
    from airflow_provider_ophys.report.origin import record_origin

    if maker is None:
        return None
    try:
        return record_origin({kind: Path(report[kind]) for kind in REPORT_SUFFIXES}, maker)
    except OSError as error:
        log.warning(
            "Airflow's web UI will not show the report %s: who made it cannot be noted: %s", report["html"], error
        )
        return None
