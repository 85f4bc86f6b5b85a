"""What a finished task tells Airflow's assets about its output, and what a DAG is told by them about folders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, AssetAlias

from airflow_provider_ophys.exceptions import ConfigurationError

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context


def announce_output(operator: BaseOperator, context: Context, uri: str, facts: Mapping[str, Any]) -> None:
    """
    Put the facts about an output on the events of the task's outlets.

    An ``Asset`` stands for all outputs of the task, so its event carries the facts; an ``AssetAlias`` gets the
    output itself as an asset of its own, which suits one file per session.

    :param operator: The task; its ``outlets`` are used as they are, none is added.
    :param context: Of the running task.
    :param uri: Of the output, for example ``file:///data/nwb/mouse1.nwb``.
    :param facts: Plain JSON: what the task returns.
    """
    for outlet in operator.outlets:
        if isinstance(outlet, AssetAlias):
            context["outlet_events"][outlet].add(Asset(uri), extra=dict(facts))
        elif isinstance(outlet, Asset):
            context["outlet_events"][outlet].extra = dict(facts)


def announce_folders(operator: BaseOperator, context: Context, folders: Sequence[Mapping[str, Any]]) -> None:
    """
    Put the acquisition folders that a task hands over on the events of the task's outlets.

    An ``AssetAlias`` gets one event per folder, on an asset of the folder's own, with the folder's facts. An
    ``Asset`` has one event per task run in Airflow, whose extra is one for all, so it lists the facts of all
    folders under ``folders``.

    :param operator: The task; its ``outlets`` are used as they are, none is added.
    :param context: Of the running task.
    :param folders: Plain JSON: what the task returns, with the absolute ``path`` of each.
    """
    for outlet in operator.outlets:
        if isinstance(outlet, AssetAlias):
            for folder in folders:
                context["outlet_events"][outlet].add(Asset(Path(folder["path"]).as_uri()), extra=dict(folder))
        elif isinstance(outlet, Asset):
            context["outlet_events"][outlet].extra = {"folders": [dict(folder) for folder in folders]}


def arrived_folders(asset: Asset, context: Context) -> list[dict[str, Any]]:
    """
    Return the acquisition folders that a run is for, for a DAG that is scheduled on an asset with their events.

    Airflow 3.3 starts one run for events that come close together, but hands it only those up to the first that
    queued it; the others wait for the next event, which may be tomorrow's
    (https://github.com/apache/airflow/issues/56050). They are stored before the run is made, so that it can
    look for them: this returns the folders of its own events and of all later ones, and notes in the asset's
    state store which run has which, so that the run that is given them again leaves them alone. A retry or a
    clear gets the same folders again.

    :param asset: The watched asset, or the one in a sensor's ``outlets``; it must be in the task's ``inlets``.
    :param context: Of the running task.
    :returns: The folders' dicts, in the order of their events; none in a run that no event has started.
    :raises ConfigurationError: If the asset is not in the task's ``inlets``.
    """
    own = list(context["triggering_asset_events"].get(asset, ()))
    if not own:
        return []
    try:
        later = context["inlet_events"][asset].after(min(event.timestamp for event in own).isoformat())
        store = context["asset_state_store"][asset]
    except KeyError as error:
        raise ConfigurationError(
            f"The events of the asset {asset.name!r} are only open to a task that has it in its inlets: write "
            f"@task(inlets=[...]) with that asset."
        ) from error
    found = {
        (event.timestamp, folder["path"]): folder
        for event in [*own, *later]
        for folder in _folders_in(event.extra)
    }
    run = (context["dag_run"].dag_id, context["dag_run"].run_id)
    return [found[at, path] for at, path in sorted(found) if _claim(store, run, path, at.isoformat())]


def _folders_in(extra: Mapping[str, Any] | None) -> Iterator[dict[str, Any]]:
    """The folders in an event's extra: a trigger's payload, or what :func:`announce_folders` puts there."""
    extra = extra or {}
    folders = extra.get("folders", [extra.get("payload", extra)])
    # Anybody may create an event by hand, about no folder at all.
    return (folder for folder in folders if "path" in folder)


def _claim(store: Any, run: tuple[str, str], path: str, at: str) -> bool:
    """Note that a run has the folder of an event, unless another has it, or a later recording of that name."""
    dag_id, run_id = run
    key = f"acquisition-run:{blake2b(f'{dag_id}\0{path}'.encode(), digest_size=12).hexdigest()}"
    noted = store.get(key) or {"at": ""}
    if noted["at"] < at:
        store.set(key, {"at": at, "run_id": run_id, "path": path})
        return True
    return bool(noted["at"] == at and noted["run_id"] == run_id)
