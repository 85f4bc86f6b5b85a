"""What differs between the versions of Airflow in what tests use of it, and in what they have to expect."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager, nullcontext
from importlib import metadata
from typing import Any

import pytest
from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
from airflow.models.asset import AssetDagRunQueue
from airflow.models.dag import DagModel
from airflow.sdk import Asset, BaseOperator
from airflow.sdk.execution_time import supervisor
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from airflow_provider_ophys.compat import HAS_RETRY_POLICIES, HAS_STATE_STORES, AirflowFailException
from airflow_provider_ophys.exceptions import OphysError

VERSION = tuple(int(part) for part in metadata.version("apache-airflow-core").split(".")[:2])

needs_state_stores = pytest.mark.skipif(not HAS_STATE_STORES, reason="Airflow has no state stores before 3.3")

if VERSION >= (3, 2):
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
    from airflow.sdk._shared.module_loading import import_string
    from airflow.sdk.exceptions import AirflowTaskTimeout, TaskDeferred
    from airflow.sdk.lineage import HookLineageCollector
    from airflow.serialization.decoders import smart_decode_trigger_kwargs
    from airflow.serialization.encoders import encode_trigger
    from airflow.serialization.serialized_objects import DagSerialization
else:
    from airflow.exceptions import AirflowTaskTimeout, TaskDeferred
    from airflow.lineage.hook import HookLineageCollector
    from airflow.models.dagbag import DagBag as BagOfNoBundle
    from airflow.models.dagbag import sync_bag_to_db
    from airflow.serialization.serialized_objects import SerializedDAG as DagSerialization
    from airflow.serialization.serialized_objects import _encode_trigger as encode_trigger
    from airflow.serialization.serialized_objects import smart_decode_trigger_kwargs
    from airflow.utils.module_loading import import_string

    # The contexts that tests make are dicts by asset, which has no hash there.
    Asset.__hash__ = lambda self: hash((self.name, self.uri))

    def DagBag(*arguments: Any, bundle_name: str, **options: Any) -> BagOfNoBundle:  # noqa: N802
        """A bag of DAGs, which is told here into which bundle they go."""
        return BagOfNoBundle(*arguments, **options)


if VERSION < (3, 3):
    # dag.test() would build the API anew for every task, which takes seconds.
    supervisor.in_process_api_server = functools.cache(supervisor.in_process_api_server)

__all__ = [
    "VERSION",
    "AirflowTaskTimeout",
    "DagBag",
    "DagSerialization",
    "HookLineageCollector",
    "TaskDeferred",
    "create_asset_triggered_runs",
    "encode_trigger",
    "execute_as_task",
    "import_string",
    "needs_state_stores",
    "smart_decode_trigger_kwargs",
    "sync_bag_to_db",
    "task_fails",
]


def create_asset_triggered_runs(runner: SchedulerJobRunner, dag: DagModel, session: Session) -> None:
    """Have the scheduler make the runs that queued events start."""
    if VERSION >= (3, 2):
        runner._create_dag_runs_asset_triggered(dag_models=[dag], session=session)
    else:
        last = select(func.max(AssetDagRunQueue.created_at)).where(AssetDagRunQueue.target_dag_id == dag.dag_id)
        dates = {dag.dag_id: session.scalar(last)}
        runner._create_dag_runs_asset_triggered(dag_models=[dag], triggered_date_by_dag=dates, session=session)


def execute_as_task(operator: BaseOperator, context: Any) -> Any:
    """Execute within the operator's time limit, as Airflow does."""
    if VERSION >= (3, 3):
        from airflow.sdk.execution_time.task_runner import _run_execute_callable

        return _run_execute_callable(context=context, execute=operator.execute, task=operator)
    from airflow.sdk.execution_time.timeout import timeout

    limit = operator.execution_timeout
    try:
        with timeout(limit.total_seconds()) if limit else nullcontext():
            return operator.execute(context)
    except AirflowTaskTimeout:
        operator.on_kill()
        raise


def task_fails(kind: type[BaseException], match: str | None = None) -> AbstractContextManager[Any]:
    """Expect that a task of ours fails with an error of that kind, as Airflow gets to see it."""
    if not HAS_RETRY_POLICIES and issubclass(kind, OphysError) and not kind.retryable:
        kind = AirflowFailException
    return pytest.raises(kind, match=match)
