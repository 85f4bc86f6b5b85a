"""Run a DAG for real, in this process: its tasks, XComs, mapping and asset events, but no scheduler."""

from __future__ import annotations

from typing import Any

from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
from airflow.models.asset import AssetEvent
from airflow.models.dagbundle import DagBundleModel
from airflow.utils.session import create_session
from sqlalchemy import select


def run_dag(dag: Any, conf: dict[str, Any] | None = None) -> dict[str, list[Any]]:
    """Run a DAG with ``dag.test()``; return its task instances by task id, mapped ones by their index."""
    with create_session() as session:
        session.merge(DagBundleModel(name="tests"))
    bag = DagBag(dag_folder="/dev/null", collect_dags=False, bundle_name="tests")
    bag.bag_dag(dag)
    sync_bag_to_db(bag, bundle_name="tests", bundle_version=None)
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
