"""What a finished task tells Airflow's assets: where its output is, and the facts about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, AssetAlias

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
