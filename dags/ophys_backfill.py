"""
Convert an archive: everything below a root that has no NWB file yet.

Each folder with a ``session.yaml``, at any depth below the Airflow Variable ``ophys_backfill_root``, is a session,
as ``ophys_on_arrival`` takes them; its NWB file goes below ``ophys_output_root``. Start this DAG by hand, as often
as you like: what has its NWB file is passed over, so the next run goes on where one stopped, and tries again what
failed.

Sessions are converted in batches, one task each, so that a thousand small ones do not pay a thousand times for the
start of a task; at most ``ophys_backfill_concurrency`` (default 4) batches run at a time. One broken session costs
only itself. The report is written as JSON and as a table (CSV) into ``backfill_reports`` below the output root;
the last task fails if a session did, after the report is written.
"""

from __future__ import annotations

import csv
import json
import logging
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import Any

from airflow.sdk import Param, Variable, dag, task
from airflow.sdk.exceptions import AirflowFailException

from airflow_provider_ophys.exceptions import ConfigurationError, OphysError, SourceNotFoundError
from airflow_provider_ophys.retries import RETRY_POLICY
from airflow_provider_ophys.settings import max_map_length
from ophys_conversion import RETRIES, nwbfile_path_of, output_root, read_session

log = logging.getLogger(__name__)

# A session at which the worker died this often (out of memory, say) is reported instead of tried again.
MOST_DEATHS = 2


def sessions_below(root: Path) -> tuple[list[str], dict[str, str]]:
    """
    Find the sessions of an archive.

    :param root: Of the archive. Links to folders are not followed.
    :returns: The sessions' paths relative to the root, with ``/``, sorted; and why a folder could not be searched,
        by its path. A session is not searched for others.
    :raises SourceNotFoundError: If there is no such root.
    """
    if not root.is_dir():
        raise SourceNotFoundError(
            f"There is no folder {root}. Set the Airflow Variable ophys_backfill_root to the archive's."
        )
    sessions, closed = [], {}

    def note(error: OSError) -> None:
        closed[Path(error.filename).relative_to(root).as_posix()] = f"It cannot be searched: {error.strerror}."

    for folder, subfolders, files in os.walk(root, onerror=note):
        if "session.yaml" in files:
            subfolders.clear()
            sessions.append(Path(folder).relative_to(root).as_posix())
    return sorted(sessions), closed


def has_its_nwbfile(session: Path, nwbfile_path: Path) -> bool:
    """Tell whether all that a session holds was converted: a file may have the movie and not yet the ROIs."""
    from airflow_provider_ophys.conversion.provenance import recorded_kinds

    if not nwbfile_path.exists():
        return False
    try:
        return set(read_session(session)) <= recorded_kinds(nwbfile_path)
    except ConfigurationError:
        return False


def plan_backfill(root: Path, batch_size: int) -> dict[str, Any]:
    """
    Decide about each session of an archive.

    :param root: Of the archive.
    :param batch_size: Most sessions per task, unless Airflow cannot map over so many tasks.
    :returns: ``root``; ``reused``, the sessions that have their NWB file; ``refused``, why a folder cannot have
        one, by its path; and ``batches`` of all others.
    :raises SourceNotFoundError: If there is no such root.
    """
    sessions, refused = sessions_below(root)
    nwbfile_paths = {session: nwbfile_path_of(session) for session in sessions}
    output_root().mkdir(parents=True, exist_ok=True)
    users = Counter(nwbfile_paths.values())
    reused, left = [], []
    for session, nwbfile_path in nwbfile_paths.items():
        if users[nwbfile_path] > 1:
            refused[session] = f"Another session has the same NWB file, {nwbfile_path}. Rename one of them."
        elif has_its_nwbfile(root / session, nwbfile_path):
            reused.append(session)
        else:
            left.append(session)
    log.info("%d sessions below %s: %d have their NWB file.", len(sessions), root, len(reused))
    return {"root": str(root), "reused": reused, "refused": refused, "batches": in_batches(left, batch_size)}


def in_batches(names: list[str], batch_size: int) -> list[list[str]]:
    """Divide the sessions among tasks, evenly, and with no more tasks than Airflow maps over."""
    if not names:
        return []
    num_batches = min(math.ceil(len(names) / batch_size), max_map_length())
    return [names[number::num_batches] for number in range(num_batches)]


def convert_session(root: Path, name: str) -> dict[str, Any]:
    """
    Write the movie of a session, and its ROIs if it has any, into its NWB file.

    :returns: What the report says of it.
    :raises OphysError: If that fails; what was at the path before is still there.
    """
    from airflow_provider_ophys.conversion.environment import Environment
    from airflow_provider_ophys.conversion.run import convert_imaging, convert_segmentation
    from airflow_provider_ophys.models.conversion import ImagingConversion, SegmentationConversion
    from airflow_provider_ophys.settings import platform_defaults

    started = time.monotonic()
    session = read_session(root / name)
    where = {"nwbfile_path": str(nwbfile_path_of(name)), "metadata": str(root / name / "metadata.yaml")}
    environment = Environment(defaults=platform_defaults())
    written: Any = convert_imaging(ImagingConversion.from_options({**session["imaging"], **where}), environment)
    if "segmentation" in session:
        written = convert_segmentation(
            SegmentationConversion.from_options({**session["segmentation"], **where, "if_exists": "append"}),
            environment,
        )
    return {
        "state": "converted",
        "nwbfile_path": written.nwbfile_path,
        "size_bytes": written.size_bytes,
        "seconds": round(time.monotonic() - started, 3),
    }


def convert_batch(
    root: Path, names: list[str], store: Any, convert: Callable[[Path, str], dict[str, Any]] = convert_session
) -> tuple[list[dict[str, Any]], OphysError | None]:
    """
    Convert sessions one after the other, whatever happens to each.

    :param root: Of the archive.
    :param names: The sessions.
    :param store: Remembers between the tries of a task at which session it died, with ``get`` and ``set``.
    :param convert: Converts one.
    :returns: What the report says of each, and the last error that another try may mend.
    """
    deaths = _deaths_of_earlier_tries(store)
    outcomes: list[dict[str, Any]] = []
    passing = None
    # A session that killed the worker comes last, so that the others are done whatever it does.
    for name in sorted(names, key=lambda name: deaths.get(name, 0)):
        if deaths.get(name, 0) >= MOST_DEATHS:
            why = f"The worker died {deaths[name]} times while it was converted; see the log of its task."
            outcomes.append({"session": name, "state": "failed", "why": why})
            continue
        store.set("converting", name)
        try:
            outcomes.append({"session": name, **convert(root, name)})
        except OphysError as error:
            log.warning("Failed to convert %s: %s", name, error)
            outcomes.append({"session": name, "state": "failed", "why": str(error)})
            passing = error if error.retryable else passing
        except Exception as error:
            # Whatever a library raises at one session, the others must be converted.
            log.exception("Failed to convert %s.", name)
            outcomes.append({"session": name, "state": "failed", "why": f"{type(error).__name__}: {error}"})
    store.set("converting", "")
    return outcomes, passing


def _deaths_of_earlier_tries(store: Any) -> dict[str, int]:
    deaths: dict[str, int] = store.get("deaths", {})
    if died_at := store.get("converting", ""):
        deaths[died_at] = deaths.get(died_at, 0) + 1
        store.set("deaths", deaths)
    return deaths


def summarize(planned: dict[str, Any], batches: Iterable[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """
    List what became of each session, in the order of their names.

    :param planned: What the task ``plan`` returned.
    :param batches: What the batches returned that came to an end.
    """
    outcomes = {outcome["session"]: outcome for batch in batches for outcome in batch}
    outcomes |= {name: {"session": name, "state": "reused"} for name in planned["reused"]}
    failed = dict.fromkeys(chain(*planned["batches"]), "The task of its batch did not end; see that task's log.")
    for name, why in (failed | planned["refused"]).items():
        outcomes.setdefault(name, {"session": name, "state": "failed", "why": why})
    return [outcomes[name] for name in sorted(outcomes)]


def write_report(folder: Path, run_id: str, root: str, sessions: list[dict[str, Any]]) -> dict[str, Any]:
    """
    Write the report as JSON and as a table.

    :returns: The counts, the two paths, and the first failures.
    """
    counts = Counter(session["state"] for session in sessions)
    states = {state: counts[state] for state in ("converted", "reused", "failed")}
    folder.mkdir(parents=True, exist_ok=True)
    report = folder / f"{''.join(c if c.isalnum() or c in '-_.' else '_' for c in run_id)}.json"
    report.write_text(json.dumps({"run_id": run_id, "root": root, **states, "sessions": sessions}, indent=2))
    table = report.with_suffix(".csv")
    with table.open("w", newline="") as file:
        rows = csv.DictWriter(file, ["session", "state", "why", "seconds", "size_bytes", "nwbfile_path"])
        rows.writeheader()
        rows.writerows(sessions)
    failures = [session for session in sessions if session["state"] == "failed"]
    return {**states, "report": str(report), "table": str(table), "first_failures": failures[:20]}


@dag(
    schedule=None,
    catchup=False,
    max_active_runs=1,
    default_args=RETRIES,
    params={"batch_size": Param(20, type="integer", minimum=1, description="Sessions per task")},
    tags=["ophys"],
    doc_md=__doc__,
)
def ophys_backfill() -> None:
    """Convert what has no NWB file yet, and report."""

    @task(retry_policy=RETRY_POLICY)
    def plan(params: Any = None) -> dict[str, Any]:
        """Walk the archive; say what has its NWB file, what cannot get one, and divide the rest into batches."""
        root = Path(Variable.get("ophys_backfill_root", default="/data/acquisitions"))
        return plan_backfill(root, params["batch_size"])

    @task
    def batches(planned: dict[str, Any]) -> list[dict[str, Any]]:
        """Name the batches."""
        return [{"root": planned["root"], "names": names} for names in planned["batches"]]

    @task(
        map_index_template="{{ names[0] }} and {{ names | length - 1 }} more",
        retry_policy=RETRY_POLICY,
        max_active_tis_per_dagrun=int(Variable.get("ophys_backfill_concurrency", default="4")),
    )
    def convert(root: str, names: list[str], **context: Any) -> list[dict[str, Any]]:
        """Convert the sessions of a batch; tries again while an error may pass."""
        context["names"] = names
        outcomes, passing = convert_batch(Path(root), names, context["task_state_store"])
        if passing is not None and context["ti"].try_number <= context["ti"].max_tries:
            raise passing
        return outcomes

    @task(trigger_rule="all_done")
    def report(planned: dict[str, Any], converted: Any, **context: Any) -> dict[str, Any]:
        """Tell what became of each session; fail if one failed."""
        if planned is None:
            raise AirflowFailException("The archive was not walked; see the task plan.")
        sessions = summarize(planned, converted or [])
        folder = output_root() / "backfill_reports"
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
    report(planned, convert.expand_kwargs(batches(planned)))


ophys_backfill()
