"""
Convert an archive: everything below a root that has no NWB file yet.

The sessions below the Airflow Variable ``ophys_backfill_root`` are the folders with a ``DONE`` or a
``session.yaml`` in them, wherever they lie, and those that match the parameter ``pattern``, such as ``*/*`` for a
folder per animal with one per day in it. Their NWB files go below ``ophys_output_root``; the other Variables are
those of ``ophys_on_arrival``. Start this DAG by hand, as often as you like: what has its NWB file is passed over,
so the next run goes on where one stopped, and tries again what failed.

Sessions are converted in batches, one task each, so that a thousand small ones do not pay a thousand times for the
start of a task; at most ``ophys_backfill_concurrency`` (default 4) batches run at a time. One broken session costs
only itself. The report is written as JSON and as a table (CSV) into ``backfill_reports`` below the output root;
the last task fails if a session did, after the report is written.
"""

from __future__ import annotations

import json
import logging
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import Param, Variable, dag, task

from airflow_provider_ophys.compat import AirflowFailException, task_store
from airflow_provider_ophys.retries import TASK_RETRIES, decides_on_retries
from airflow_provider_ophys.session_notes import tell_batch
from airflow_provider_ophys.settings import max_map_length, platform_defaults

if TYPE_CHECKING:
    from airflow_provider_ophys.conversion.archive import Archive

log = logging.getLogger(__name__)


def archive(pattern: str) -> Archive:
    """Say what is converted, and where it goes."""
    from airflow_provider_ophys.conversion.archive import Archive
    from airflow_provider_ophys.conversion.environment import Environment

    return Archive(
        root=Path(Variable.get("ophys_backfill_root", default="/data/acquisitions")),
        output_folder=Path(Variable.get("ophys_output_root", default="/data/nwb")),
        pattern=pattern,
        backend=Variable.get("ophys_backend", default="hdf5"),
        known={
            "subject_table": Variable.get("ophys_subject_table", default="") or None,
            "folder_name": Variable.get("ophys_folder_name", default="") or None,
        },
        environment=Environment(defaults=platform_defaults()),
    )


@dag(
    schedule=None,
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=1)},
    params={
        "batch_size": Param(20, type="integer", minimum=1, description="Sessions per task"),
        "pattern": Param("", type="string", description="Glob of sessions without DONE and session.yaml, as */*"),
    },
    tags=["ophys"],
    doc_md=__doc__,
)
def ophys_backfill() -> None:
    """Convert what has no NWB file yet, and report."""

    @task(**TASK_RETRIES)
    @decides_on_retries
    def plan(params: Any = None) -> dict[str, Any]:
        """Walk the archive; say what has its NWB file, what cannot get one, and divide the rest into batches."""
        return archive(params["pattern"]).plan(params["batch_size"], max_map_length())

    @task
    def batches(planned: dict[str, Any]) -> list[list[str]]:
        """Name the batches."""
        return planned["batches"]

    @task(
        map_index_template="{{ names[0] }} and {{ names | length - 1 }} more",
        **TASK_RETRIES,
        max_active_tis_per_dagrun=int(Variable.get("ophys_backfill_concurrency", default="4")),
    )
    @decides_on_retries
    def convert(names: list[str], params: Any = None, **context: Any) -> list[dict[str, Any]]:
        """Convert the sessions of a batch; tries again while an error may pass."""
        from airflow_provider_ophys.conversion.archive import convert_batch

        context["names"] = names
        sessions = archive(params["pattern"])
        outcomes, passing = convert_batch(names, task_store(context), sessions.convert)
        tell_batch(context, sessions.root, outcomes)
        if passing is not None and context["ti"].try_number <= context["ti"].max_tries:
            raise passing
        return outcomes

    @task(trigger_rule="all_done")
    def report(planned: dict[str, Any], converted: Any, **context: Any) -> dict[str, Any]:
        """Tell what became of each session; fail if one failed."""
        from airflow_provider_ophys.conversion.archive import summarize, write_report

        if planned is None:
            raise AirflowFailException("The archive was not walked; see the task plan.")
        sessions = summarize(planned, converted or [])
        folder = Path(Variable.get("ophys_output_root", default="/data/nwb")) / "backfill_reports"
        result = write_report(folder, context["run_id"], planned["root"], sessions)
        log.info("%s", json.dumps(result, indent=2))
        if result["failed"]:
            context["ti"].xcom_push("return_value", result)
            raise AirflowFailException(
                f"{result['failed']} of {len(sessions)} sessions failed; {result['table']} says which and why. "
                "Mend them and start this DAG again: it converts only what has no NWB file yet."
            )
        return result

    planned = plan()
    report(planned, convert.expand(names=batches(planned)))


ophys_backfill()
