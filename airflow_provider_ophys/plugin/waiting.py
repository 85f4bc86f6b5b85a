"""Which of our tasks wait, and for what."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.pool import Pool
from airflow.models.taskinstance import TaskInstance
from airflow.models.taskreschedule import TaskReschedule
from airflow.utils.state import DagRunState, TaskInstanceState
from sqlalchemy import func, or_, select, tuple_
from sqlalchemy.orm import Session

from airflow_provider_ophys.plugin.tasks import OPERATORS, SENSOR, TaskKey, key_of, rendered_fields

_ACTIVE = (DagRunState.QUEUED, DagRunState.RUNNING)
_WAITING = (
    TaskInstanceState.SCHEDULED,
    TaskInstanceState.QUEUED,
    TaskInstanceState.DEFERRED,
    TaskInstanceState.UP_FOR_RETRY,
    TaskInstanceState.UP_FOR_RESCHEDULE,
)


@dataclass(frozen=True)
class Waiting:
    """
    A task that waits.

    :param state: Its state; that of its run when that waits too.
    :param since: Since when it waits; None when that is not known.
    :param reason: For what, in words.
    :param until: When Airflow looks at it again; None when that is not known.
    """

    key: TaskKey
    state: str
    since: datetime | None
    reason: str
    until: datetime | None = None


def active_dags(session: Session) -> list[str]:
    """List the DAGs that have a run now, which Airflow has an index of."""
    return list(session.scalars(select(DagRun.dag_id).where(DagRun.state.in_(_ACTIVE)).distinct()))


def waiting_tasks(
    session: Session, dag_ids: Collection[str], ours: Collection[tuple[str, str]], *, limit: int
) -> list[Waiting]:
    """
    List what waits now, the newest run first.

    :param dag_ids: The DAGs to look at.
    :param ours: Tasks (ids of DAG and task) that are known to be ours, whatever their operators are called.
    :param limit: Most tasks to list.
    """
    is_ours = or_(
        TaskInstance.operator.in_(OPERATORS), tuple_(TaskInstance.dag_id, TaskInstance.task_id).in_(list(ours))
    )
    statement = (
        select(TaskInstance, DagRun, DagModel)
        .join(DagRun, (DagRun.dag_id == TaskInstance.dag_id) & (DagRun.run_id == TaskInstance.run_id))
        .join(DagModel, DagModel.dag_id == TaskInstance.dag_id)
        .where(DagRun.state.in_(_ACTIVE), DagRun.dag_id.in_(dag_ids), is_ours)
        .where(
            or_(
                TaskInstance.state.in_(_WAITING),
                # A sensor that pokes runs while it waits.
                (TaskInstance.state == TaskInstanceState.RUNNING) & (TaskInstance.operator == SENSOR),
                TaskInstance.state.is_(None) & (DagRun.state == DagRunState.QUEUED),
            )
        )
        .order_by(DagRun.run_after.desc(), TaskInstance.task_id, TaskInstance.map_index)
        .limit(limit)
    )
    rows = session.execute(statement).all()
    fields = rendered_fields(session, {key_of(instance) for instance, _, _ in rows if instance.operator == SENSOR})
    return [
        _waiting(session, instance, run, dag, str(fields.get(key_of(instance), {}).get("path", "")))
        for instance, run, dag in rows
    ]


def _waiting(session: Session, instance: TaskInstance, run: DagRun, dag: DagModel, watched: str) -> Waiting:
    key, state = key_of(instance), instance.state
    if dag.is_paused:
        return Waiting(key, "paused", run.queued_at, "Its DAG is paused.")
    if run.state == DagRunState.QUEUED:
        most = f"{dag.max_active_runs} run(s) of its DAG may be active at a time"
        return Waiting(key, "queued", run.queued_at, f"Its run waits for others: {most}.")
    if instance.operator == SENSOR and state != TaskInstanceState.UP_FOR_RETRY and instance.start_date:
        until = _next_look(session, instance) if state == TaskInstanceState.UP_FOR_RESCHEDULE else None
        return Waiting(key, str(state), instance.start_date, f"No new complete folder in {watched} yet.", until)
    return _held_up(session, instance)


def _held_up(session: Session, instance: TaskInstance) -> Waiting:
    key, state = key_of(instance), str(instance.state)
    if state == TaskInstanceState.UP_FOR_RETRY:
        tries = f"Try {instance.try_number} of {instance.max_tries + 1} failed"
        reason = f"{tries}: {instance.retry_reason}" if instance.retry_reason else f"{tries}; it is tried again."
        return Waiting(key, state, instance.end_date, reason)
    if state == TaskInstanceState.DEFERRED:
        return Waiting(key, state, instance.start_date, "It waits in the triggerer.", instance.trigger_timeout)
    if state == TaskInstanceState.UP_FOR_RESCHEDULE:
        return Waiting(key, state, instance.start_date, "It looks again later.", _next_look(session, instance))
    since = instance.queued_dttm if state == TaskInstanceState.QUEUED else instance.scheduled_dttm
    return Waiting(key, state, since, _full_pool(session, instance) or "It waits for a free worker.")


def _full_pool(session: Session, instance: TaskInstance) -> str:
    pool = Pool.get_pool(instance.pool, session=session)
    if pool is None:
        return f"The pool {instance.pool} does not exist."
    open_slots = pool.open_slots(session=session)
    if open_slots >= instance.pool_slots or instance.state == TaskInstanceState.QUEUED:
        return ""
    return f"The pool {pool.pool} is full: it has {pool.slots} slot(s), and {instance.pool_slots} are needed."


def _next_look(session: Session, instance: TaskInstance) -> datetime | None:
    return session.scalar(
        select(func.max(TaskReschedule.reschedule_date)).where(TaskReschedule.ti_id == instance.id)
    )
