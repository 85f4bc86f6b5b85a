"""Which task instances are ours, and what Airflow's metadata database knows of them."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow.models.dagrun import DagRun
from airflow.models.renderedtifields import RenderedTaskInstanceFields
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from sqlalchemy import ColumnElement, exists, select, tuple_
from sqlalchemy.orm import Session

# Airflow notes of a task the name of its operator's class.
SENSOR = "AcquisitionFolderSensor"
STAGING = "StageToS3Operator"
WRITING = (
    "WriteImagingOperator",
    "WriteSegmentationOperator",
    "WriteReportOperator",
    # Of a movie that many tasks write, the first and the last; those between may be a hundred.
    "PlanImagingOperator",
    "PublishImagingOperator",
)
OPERATORS = (SENSOR, STAGING, *WRITING)
RETURN_VALUE = "return_value"
# Where StageToS3Operator leaves the address of what it staged.
ADDRESS = "staged_address"

type Json = Mapping[str, Any]


@dataclass(frozen=True, order=True)
class TaskKey:
    """
    Which task instance.

    :param map_index: -1 unless the task is mapped.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int

    @property
    def run(self) -> tuple[str, str]:
        """The run that it belongs to."""
        return self.dag_id, self.run_id


@dataclass(frozen=True)
class Task:
    """
    One task instance of ours.

    :param run_after: When its run was due.
    :param seconds: How long its last try took, or has taken so far.
    :param result: What it returned; empty when it has not, or no dict.
    :param address: Where a browser finds what it staged; empty when it staged nothing.
    :param fields: Its template fields as they were rendered; empty when it did not start, or long ago.
    """

    key: TaskKey
    operator: str
    state: str | None
    run_after: datetime
    started: datetime | None
    ended: datetime | None
    seconds: float | None
    result: Json
    address: str
    fields: Json


def is_ours(state: str | None = None) -> ColumnElement[bool]:
    """Whether a run has a task instance of ours, and one in this state if one is given: for a select of runs."""
    ours = (
        exists()
        .where(TaskInstance.dag_id == DagRun.dag_id, TaskInstance.run_id == DagRun.run_id)
        .where(TaskInstance.operator.in_(OPERATORS))
    )
    return ours if state is None else ours.where(TaskInstance.state == state)


def task_result(session: Session, key: TaskKey) -> Json | None:
    """Look up what a task instance returned; None when it returned no dict, or is not there at all."""
    value = session.scalar(
        select(XComModel.value).where(
            XComModel.dag_id == key.dag_id,
            XComModel.run_id == key.run_id,
            XComModel.task_id == key.task_id,
            XComModel.map_index == key.map_index,
            XComModel.key == RETURN_VALUE,
        )
    )
    return _as_dict(value) or None


def tasks_of_runs(session: Session, runs: Collection[tuple[str, str]], *, limit: int) -> list[Task]:
    """
    List the task instances of ours in some runs, the newest run first.

    :param runs: The runs, as (DAG id, run id).
    :param limit: Most task instances to list.
    """
    statement = (
        select(TaskInstance, DagRun.run_after)
        .join(DagRun, (DagRun.dag_id == TaskInstance.dag_id) & (DagRun.run_id == TaskInstance.run_id))
        .where(tuple_(TaskInstance.dag_id, TaskInstance.run_id).in_(list(runs)))
        .where(TaskInstance.operator.in_(OPERATORS))
        .order_by(DagRun.run_after.desc(), TaskInstance.run_id, TaskInstance.start_date, TaskInstance.map_index)
        .limit(limit)
    )
    found = [(key_of(instance), instance, run_after) for instance, run_after in session.execute(statement)]
    keys = {key for key, _, _ in found}
    values = _xcoms(session, keys)
    fields = rendered_fields(session, keys)
    return [
        Task(
            key=key,
            operator=instance.operator or "",
            state=instance.state,
            run_after=run_after,
            started=instance.start_date,
            ended=instance.end_date,
            seconds=instance.duration,
            result=_as_dict(values.get((key, RETURN_VALUE))),
            address=_as_address(values.get((key, ADDRESS))),
            fields=fields.get(key, {}),
        )
        for key, instance, run_after in found
    ]


def _xcoms(session: Session, keys: Collection[TaskKey]) -> dict[tuple[TaskKey, str], object]:
    model = XComModel
    rows = session.execute(
        select(model.dag_id, model.run_id, model.task_id, model.map_index, model.key, model.value)
        .where(tuple_(model.dag_id, model.run_id).in_(list({key.run for key in keys})))
        .where(model.task_id.in_({key.task_id for key in keys}), model.key.in_((RETURN_VALUE, ADDRESS)))
    )
    return {(TaskKey(*row[:4]), row[4]): row[5] for row in rows}


def rendered_fields(session: Session, keys: Collection[TaskKey]) -> dict[TaskKey, Json]:
    """Look up the template fields of task instances as they were rendered when they last started."""
    model = RenderedTaskInstanceFields
    rows = session.execute(
        select(model.dag_id, model.run_id, model.task_id, model.map_index, model.rendered_fields)
        .where(tuple_(model.dag_id, model.run_id).in_(list({key.run for key in keys})))
        .where(model.task_id.in_({key.task_id for key in keys}))
    )
    return {TaskKey(*row[:4]): _as_dict(row[4]) for row in rows}


def key_of(instance: TaskInstance) -> TaskKey:
    """Name a task instance."""
    return TaskKey(instance.dag_id, instance.run_id, instance.task_id, instance.map_index)


def _as_dict(value: object) -> Json:
    """Read an XCom that should be a dict; anything else is as good as none."""
    value = _plain(value)
    return value if isinstance(value, dict) else {}


def _as_address(value: object) -> str:
    """Read an XCom that should be the address of a page; one that is a script, say, is as good as none."""
    value = _plain(value)
    return value if isinstance(value, str) and value.startswith(("https://", "http://")) else ""


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
