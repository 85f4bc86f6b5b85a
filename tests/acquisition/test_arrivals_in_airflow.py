"""Airflow's scheduler and tasks in one process: a run gets what can be mapped and starts the next for the rest."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest
from airflow.sdk import DAG, Asset, task

from airflow_provider_ophys.assets import arrived_folders, finished_nwbfiles

FOLDERS = [{"path": f"/data/m{number}", "name": f"m{number}"} for number in range(10)]
FILES = [{"source": f"/nwb/m{number}.nwb"} for number in range(10)]


def build(asset: Asset, find: Any) -> DAG:
    with DAG(asset.name, schedule=[asset], catchup=False, is_paused_upon_creation=False) as dag:

        @task(inlets=[asset])
        def arrivals(**context: Any) -> list[Any]:
            return find(asset, context)

        @task
        def note(item: Any) -> Any:
            return item

        note.expand(item=arrivals())
    return dag


class Scheduler:
    """Makes the runs of a DAG from the events of its asset, and runs their first task."""

    def __init__(self, dag: DAG, asset: Asset) -> None:
        from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
        from airflow.models.dagbundle import DagBundleModel
        from airflow.utils.session import create_session

        with create_session() as session:
            session.merge(DagBundleModel(name="tests"))
        bag = DagBag(dag_folder="/dev/null", collect_dags=False, bundle_name="tests")
        bag.bag_dag(dag)
        sync_bag_to_db(bag, bundle_name="tests", bundle_version=None)
        self.dag, self.asset = dag, asset

    def store_events(self, extras: list[dict[str, Any]]) -> None:
        from airflow.assets.manager import asset_manager
        from airflow.utils.session import create_session

        for extra in extras:
            with create_session() as session:
                asset_manager.register_asset_change(asset=self.asset, extra=extra, session=session)

    def runs(self) -> list[list[Any]]:
        """What each run got, run after run, until no event is left that starts one."""
        from airflow._shared.timezones.timezone import utcnow
        from airflow.jobs.job import Job
        from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
        from airflow.models.asset import AssetDagRunQueue
        from airflow.models.dag import DagModel
        from airflow.models.dagrun import DagRun
        from airflow.utils.session import create_session
        from sqlalchemy import select

        got: list[list[Any]] = []
        while len(got) < 10:
            with create_session() as session:
                queued = select(AssetDagRunQueue).where(AssetDagRunQueue.target_dag_id == self.dag.dag_id)
                if session.scalar(queued) is None:
                    return got
                runner = SchedulerJobRunner(job=Job())
                runner._create_dag_runs_asset_triggered(
                    dag_models=[session.get(DagModel, self.dag.dag_id)], session=session
                )
                run = session.scalars(
                    select(DagRun).where(DagRun.dag_id == self.dag.dag_id).order_by(DagRun.id.desc())
                ).first()
                run_id, run.state, run.start_date = run.run_id, "running", utcnow()
            got.append(self.run_first_task(run_id))
        return got

    def run_first_task(self, run_id: str) -> list[Any]:
        from airflow.models.taskinstance import TaskInstance
        from airflow.sdk.definitions.dag import _run_task
        from airflow.utils.session import create_session
        from sqlalchemy import select

        with create_session() as session:
            instance = session.scalar(
                select(TaskInstance).where(
                    TaskInstance.dag_id == self.dag.dag_id,
                    TaskInstance.run_id == run_id,
                    TaskInstance.task_id == "arrivals",
                )
            )
        instance.set_state(None)
        result = _run_task(ti=instance, task=self.dag.get_task("arrivals"))
        assert result.state == "success"
        return instance.xcom_pull(task_ids="arrivals")


@pytest.mark.parametrize(
    ("find", "extras"),
    [
        (arrived_folders, [{"from_trigger": True, "payload": folder} for folder in FOLDERS]),
        (arrived_folders, [{"folders": FOLDERS}]),
        (finished_nwbfiles, FILES),
    ],
    ids=["folders", "folders of one event", "files"],
)
def test_events_that_come_together_are_all_handled_in_runs_that_can_be_mapped(
    airflow_db, monkeypatch, request, find, extras
):
    monkeypatch.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", "4")
    asset = Asset(f"arrivals_{request.node.callspec.id.replace(' ', '_')}")
    scheduler = Scheduler(build(asset, find), asset)
    scheduler.store_events(extras)

    runs = scheduler.runs()

    assert [len(run) for run in runs] == [4, 4, 2]
    expected = FOLDERS if find is arrived_folders else [file["source"] for file in FILES]
    assert list(chain(*runs)) == expected
