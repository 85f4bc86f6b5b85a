"""Task instances, and what Airflow's metadata database knows of them."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from airflow.models.renderedtifields import RenderedTaskInstanceFields
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from airflow_provider_ophys.models.session_note import SessionNote

# Airflow keeps the name of a task's operator. Those of subclasses are known from the notes of their tasks.
SENSOR = "AcquisitionFolderSensor"
OPERATORS = (
    SENSOR,
    "DescribeSessionOperator",
    "WriteSessionOperator",
    "WriteImagingOperator",
    "WriteSegmentationOperator",
    "PlanImagingOperator",
    "FillShardsOperator",
    "PublishImagingOperator",
    "WriteReportOperator",
    "StageToS3Operator",
)
RETURN_VALUE = "return_value"
# In place of a DAG's id, which has no colon: of what an asset's event says, and no task.
ASSET = ":asset"

type Json = Mapping[str, Any]


class TaskKey(NamedTuple):
    """
    Which task instance.

    :param map_index: -1 unless the task is mapped.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int

    @property
    def is_task(self) -> bool:
        """Whether there is a task, and no event of an asset (whose id stands for a run's)."""
        return self.dag_id != ASSET

    @property
    def run(self) -> tuple[str, str]:
        """The run that it belongs to."""
        return self.dag_id, self.run_id


@dataclass(frozen=True, slots=True)
class TaskNote:
    """
    What a task noted of a session, and what became of the task.

    :param at: When it noted it.
    :param state: Of the task; None before it is scheduled.
    :param tries: How often it was tried, and how often it may be.
    """

    key: TaskKey
    note: SessionNote
    at: datetime
    state: str | None = "success"
    started: datetime | None = None
    ended: datetime | None = None
    tries: tuple[int, int] = (1, 1)

    @property
    def since(self) -> datetime:
        """When the task started."""
        return self.started or self.at


def xcom_of(session: Session, task: TaskKey, key: str) -> object:
    """Look up what a task instance left under a key, as plain JSON; None when there is nothing."""
    value = session.scalar(
        select(XComModel.value).where(
            XComModel.dag_id == task.dag_id,
            XComModel.run_id == task.run_id,
            XComModel.task_id == task.task_id,
            XComModel.map_index == task.map_index,
            XComModel.key == key,
        )
    )
    return _plain(value)


def task_result(session: Session, task: TaskKey) -> Json:
    """Look up what a task instance returned; empty when it returned no dict, or is not there at all."""
    value = xcom_of(session, task, RETURN_VALUE)
    return value if isinstance(value, dict) else {}


def rendered_fields(session: Session, keys: Collection[TaskKey]) -> dict[TaskKey, Json]:
    """Look up the template fields of task instances as they were rendered when they last started."""
    model = RenderedTaskInstanceFields
    rows = session.execute(
        select(model.dag_id, model.run_id, model.task_id, model.map_index, model.rendered_fields)
        .where(tuple_(model.dag_id, model.run_id).in_(list({key.run for key in keys})))
        .where(model.task_id.in_({key.task_id for key in keys}))
    )
    found = ((TaskKey(*row[:4]), _plain(row[4])) for row in rows)
    return {key: fields for key, fields in found if isinstance(fields, dict)}


def key_of(instance: TaskInstance) -> TaskKey:
    """Name a task instance."""
    return TaskKey(instance.dag_id, instance.run_id, instance.task_id, instance.map_index)


def _plain(value: object) -> object:
    """
    Read a column that holds JSON, which some writers have encoded themselves; never more than plain JSON.

    Airflow's own decoder would import the classes that a value names, and a DAG's author decides what it is.
    """
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value
