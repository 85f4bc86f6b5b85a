"""Run a DAG for real, in this process: its tasks, XComs, mapping and asset events, but no scheduler."""

from __future__ import annotations

from typing import Any

from airflow._shared.timezones.timezone import utcnow
from airflow.assets.manager import asset_manager
from airflow.jobs.job import Job
from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
from airflow.models.asset import AssetDagRunQueue, AssetEvent
from airflow.models.dag import DagModel
from airflow.models.dagbundle import DagBundleModel
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.sdk.definitions.dag import _run_task as run_task
from airflow.utils.session import create_session
from airflow_versions import DagBag, create_asset_triggered_runs, sync_bag_to_db
from sqlalchemy import select


def store_dag(dag: Any) -> None:
    """Make a DAG and its assets known to the metadata database."""
    with create_session() as session:
        session.merge(DagBundleModel(name="tests"))
    bag = DagBag(dag_folder="/dev/null", collect_dags=False, bundle_name="tests")
    bag.bag_dag(dag)
    sync_bag_to_db(bag, bundle_name="tests", bundle_version=None)


def run_dag(dag: Any, conf: dict[str, Any] | None = None) -> dict[str, list[Any]]:
    """Run a DAG with ``dag.test()``; return its task instances by task id, mapped ones by their index."""
    store_dag(dag)
    run = dag.test(run_conf=conf)
    instances: dict[str, list[Any]] = {}
    for instance in sorted(run.get_task_instances(), key=lambda instance: instance.map_index):
        instances.setdefault(instance.task_id, []).append(instance)
    return instances


def result_of(instance: Any) -> Any:
    """What a task instance returned."""
    return instance.xcom_pull(task_ids=instance.task_id, map_indexes=instance.map_index)


def events_of(dag_id: str) -> list[Any]:
    """The extras of the asset events that a DAG's tasks emitted, oldest first."""
    with create_session() as session:
        events = session.scalars(
            select(AssetEvent).where(AssetEvent.source_dag_id == dag_id).order_by(AssetEvent.id)
        )
        return [(event.asset.uri, event.extra) for event in events]


class AssetScheduler:
    """Makes the runs of a DAG from its asset's events, as Airflow's scheduler does, and runs one task of each."""

    def __init__(self, dag: Any, asset: Any, task_id: str) -> None:
        store_dag(dag)
        with create_session() as session:
            session.get(DagModel, dag.dag_id).is_paused = False
        self.dag, self.asset, self.task_id = dag, asset, task_id

    def store_events(self, extras: list[dict[str, Any]]) -> None:
        """Store events, one after the other, as triggers and tasks do."""
        for extra in extras:
            with create_session() as session:
                asset_manager.register_asset_change(asset=self.asset, extra=extra, session=session)

    def runs(self) -> list[list[Any]]:
        """What each run got, run after run, until no event is left that starts one."""
        got: list[list[Any]] = []
        while len(got) < 10:
            with create_session() as session:
                queued = select(AssetDagRunQueue).where(AssetDagRunQueue.target_dag_id == self.dag.dag_id)
                if session.scalar(queued) is None:
                    return got
                runner = SchedulerJobRunner(job=Job())
                create_asset_triggered_runs(runner, session.get(DagModel, self.dag.dag_id), session)
            got += map(self._run_task, self._start_runs())
        return got

    def _start_runs(self) -> list[str]:
        """Start the runs that were made: one, and since Airflow 3.4 one for each event."""
        made = select(DagRun).where(DagRun.dag_id == self.dag.dag_id, DagRun.state == "queued").order_by(DagRun.id)
        with create_session() as session:
            runs = session.scalars(made).all()
            for run in runs:
                run.state, run.start_date = "running", utcnow()
            return [run.run_id for run in runs]

    def _run_task(self, run_id: str) -> list[Any]:
        with create_session() as session:
            instance = session.scalar(
                select(TaskInstance).where(
                    TaskInstance.dag_id == self.dag.dag_id,
                    TaskInstance.run_id == run_id,
                    TaskInstance.task_id == self.task_id,
                )
            )
        instance.set_state(None)
        result = run_task(ti=instance, task=self.dag.get_task(self.task_id))
        assert result.state == "success"
        return instance.xcom_pull(task_ids=self.task_id)
