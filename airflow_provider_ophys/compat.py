"""
What differs between the versions of Airflow that this package works with: 3.1 and later.

Nothing else looks at the version. Names that have moved are here under one name. Airflow 3.3 brought retry
policies, without which :mod:`airflow_provider_ophys.retries` fails tasks by ``AirflowFailException``, and state
stores, without which Airflow's Variables keep what belongs there (:class:`VariableStore`).
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from hashlib import blake2b
from importlib import import_module
from typing import TYPE_CHECKING, Any

import airflow
from airflow.sdk.exceptions import AirflowRuntimeError

if TYPE_CHECKING:
    from airflow.sdk import Asset, Context, conf
    from airflow.sdk.exceptions import (
        AirflowFailException,
        AirflowNotFoundException,
        AirflowSensorTimeout,
        AirflowSkipException,
        AirflowTaskTimeout,
    )
    from airflow.sdk.lineage import get_hook_lineage_collector
    from airflow.sdk.plugins_manager import AirflowPlugin
    from airflow.triggers.base import BaseEventTrigger

__all__ = [
    "HAS_RETRY_POLICIES",
    "HAS_STATE_STORES",
    "AirflowFailException",
    "AirflowNotFoundException",
    "AirflowPlugin",
    "AirflowSensorTimeout",
    "AirflowSkipException",
    "AirflowTaskTimeout",
    "VariableStore",
    "asset_store",
    "call_in_thread",
    "conf",
    "get_hook_lineage_collector",
    "named_asset_store",
    "stored_events",
    "supervising_process",
    "task_store",
    "teams_of_dags",
    "watch_store",
]

_VERSION = tuple(int(part) for part in airflow.__version__.split(".")[:2])

HAS_RETRY_POLICIES = _VERSION >= (3, 3)
HAS_STATE_STORES = _VERSION >= (3, 3)
_ASKS_FROM_ANY_THREAD = _VERSION >= (3, 2)

# Where a name is since Airflow 3.2, and where it was before. Imported on first use: not all are for DAG files.
_EXCEPTIONS = ("airflow.sdk.exceptions", "airflow.exceptions")
_MOVED = {
    "AirflowFailException": _EXCEPTIONS,
    "AirflowNotFoundException": _EXCEPTIONS,
    "AirflowPlugin": ("airflow.sdk.plugins_manager", "airflow.plugins_manager"),
    "AirflowSensorTimeout": _EXCEPTIONS,
    "AirflowSkipException": _EXCEPTIONS,
    "AirflowTaskTimeout": _EXCEPTIONS,
    "conf": ("airflow.sdk.configuration", "airflow.configuration"),
    "get_hook_lineage_collector": ("airflow.sdk.lineage", "airflow.lineage.hook"),
}


def __getattr__(name: str) -> Any:
    if name not in _MOVED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    now, before = _MOVED[name]
    return getattr(import_module(now if _VERSION >= (3, 2) else before), name)


class VariableStore:
    """
    What a state store does, in Airflow's Variables.

    A Variable per key, named ``ophys:<digest of whose it is>:<key>``. They stay until somebody deletes them.

    :param owner: Whose store it is.
    """

    def __init__(self, *owner: str) -> None:
        self._owner = " ".join(owner)
        digest = blake2b("\0".join(owner).encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()
        self._prefix = f"ophys:{digest}"

    def get(self, key: str, /, default: Any = None) -> Any:
        """
        Return what is kept under a key.

        :param key: The key.
        :param default: What is returned if there is nothing.
        :raises AirflowRuntimeError: If Airflow cannot be asked; ``Variable.get`` would say that there is nothing.
        """
        from airflow.sdk.exceptions import ErrorType
        from airflow.sdk.execution_time.comms import ErrorResponse, GetVariable

        answer = self._ask(GetVariable(key=self._name(key)))
        if not isinstance(answer, ErrorResponse):
            return json.loads(answer.value)
        if answer.error is ErrorType.VARIABLE_NOT_FOUND:
            return default
        raise AirflowRuntimeError(answer)

    def set(self, key: str, value: Any, /) -> None:
        """Keep plain JSON under a key."""
        from airflow.sdk.execution_time.comms import PutVariable

        text, description = json.dumps(value), f"{key} of {self._owner}"
        self._ask(PutVariable(key=self._name(key), value=text, description=description))

    def delete(self, key: str, /) -> None:
        """Keep nothing under a key any more."""
        from airflow.sdk.execution_time.comms import DeleteVariable

        self._ask(DeleteVariable(key=self._name(key)))

    def _name(self, key: str) -> str:
        # A Variable's name has 250 characters. The ledger's keys end in a part that is there to be read only.
        return f"{self._prefix}:{':'.join(key.split(':')[:2])}"

    @staticmethod
    def _ask(question: Any) -> Any:
        from airflow.sdk.execution_time import task_runner

        return task_runner.SUPERVISOR_COMMS.send(question)


def asset_store(context: Context, asset: Asset) -> Any:
    """
    Return what a running task can keep with an asset, for all tasks and triggers that name the asset.

    :raises KeyError: If the asset is neither in the inlets nor in the outlets that the DAG file names.
    """
    if HAS_STATE_STORES or "asset_state_store" in context:
        return context["asset_state_store"][asset]
    task = context["ti"].task
    if asset not in [*task.inlets, *task.outlets]:
        raise KeyError(asset)
    return named_asset_store(asset.name)


def named_asset_store(name: str) -> Any:
    """Return the same store in a trigger of a task, which has no context, by the name of the asset."""
    if HAS_STATE_STORES:
        from airflow.sdk.execution_time.context import AssetStateStoreAccessor

        return AssetStateStoreAccessor(name=name)
    return VariableStore("asset", name)


def watch_store(trigger: BaseEventTrigger, *watched: str) -> Any:
    """
    Return what a trigger can keep that an ``AssetWatcher`` has: with its assets, or None if it has none.

    Before Airflow 3.3 a trigger does not know its assets, so that it keeps it with what it watches.

    :param watched: What is watched; the store is the same for all triggers that watch the same.
    """
    injected = getattr(trigger, "asset_state_store", None)
    return injected if injected is not None or HAS_STATE_STORES else VariableStore("watch", *watched)


def task_store(context: Context) -> Any:
    """Return what a running task can keep for its next try, or for its next look in reschedule mode."""
    if "task_state_store" in context:
        return context["task_state_store"]
    ti = context["ti"]
    return VariableStore("task", ti.dag_id, ti.run_id, ti.task_id, str(ti.map_index))


def supervising_process() -> int | None:
    """Return the process that supervises this one's task; None where no process does, as in ``dag.test()``."""
    from airflow.sdk.execution_time import comms, task_runner

    supervised = isinstance(getattr(task_runner, "SUPERVISOR_COMMS", None), comms.CommsDecoder)
    return os.getppid() if supervised else None


def stored_events(
    inlet_events: Any, asset: Asset, *, since: datetime, until: datetime | None, limit: int
) -> list[Any]:
    """
    Return the events of an asset that Airflow has stored, the oldest first.

    Before Airflow 3.2 a task can only ask for all of them at once, whose number has no limit then.

    :param inlet_events: What the task's context has of its inlets.
    :param since: From this moment on, inclusive.
    :param until: Up to this moment, inclusive.
    :param limit: How many at most.
    :raises KeyError: If the asset is not in the task's inlets.
    :raises AirflowRuntimeError: If Airflow cannot list them.
    """
    events = inlet_events[asset]
    if hasattr(events, "limit"):
        query = events.after(since.isoformat()).limit(limit)
        return list(query if until is None else query.before(until.isoformat()))
    wanted = [
        event for event in events if since <= event.timestamp and (until is None or event.timestamp <= until)
    ]
    return sorted(wanted, key=lambda event: (event.timestamp, event.id))[:limit]


def teams_of_dags(dag_ids: Sequence[str]) -> Mapping[str, str | None]:
    """Return the teams of DAGs by their ids; there are none before Airflow 3.2."""
    from airflow.models.dag import DagModel

    return DagModel.get_dag_id_to_team_name_mapping(list(dag_ids)) if _VERSION >= (3, 2) else {}


async def call_in_thread[T](work: Callable[[], T]) -> T:
    """Call in a thread what blocks and may ask for what Airflow keeps, in a trigger."""
    if _ASKS_FROM_ANY_THREAD:
        return await asyncio.to_thread(work)
    from asgiref.sync import sync_to_async

    # Airflow 3.1 asks in the event loop, which it finds in a thread that was made by asgiref.
    return await sync_to_async(work, thread_sensitive=False)()
