"""What a finished task tells Airflow's assets about its output, and what a DAG is told by them about folders."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from hashlib import blake2b
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, AssetAlias
from airflow.sdk.exceptions import AirflowRuntimeError

from airflow_provider_ophys.compat import asset_store, stored_events
from airflow_provider_ophys.exceptions import ConfigurationError
from airflow_provider_ophys.settings import max_map_length

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context

log = logging.getLogger(__name__)


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
    state store which run has which, so that the run that is given them again leaves them alone.

    If there are more than a task can be mapped over, the run gets the oldest, and the task updates the asset,
    which starts the next run for the others at once. A retry or a clear gets the same folders again.

    :param asset: The watched asset, or the one in a sensor's ``outlets``; it must be in the task's ``inlets``.
    :param context: Of the running task.
    :returns: The folders' dicts, each folder once, in the order of their events, at most Airflow's
        ``[core] max_map_length``; none in a run that no event has started.
    :raises ConfigurationError: If the asset is not in the task's ``inlets``.
    """
    return _items_for_run(asset, context, _folders_in)


def finished_nwbfiles(asset: Asset, context: Context) -> list[str]:
    """
    Return the NWB files that a run is for, for a DAG that is scheduled on an asset which finished files update.

    The same as :func:`arrived_folders` for the events of tasks that have the asset in their ``outlets``: our write
    operators and :class:`~airflow_provider_ophys.operators.staging.StageToS3Operator`.

    :param asset: It must be in the task's ``inlets``.
    :param context: Of the running task.
    :returns: The local paths of the files, each once, in the order of their events, at most Airflow's
        ``[core] max_map_length``; none in a run that no event has started.
    :raises ConfigurationError: If the asset is not in the task's ``inlets``.
    """
    return _items_for_run(asset, context, _nwbfiles_in)


def _folders_in(extra: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The folders in an event's extra: a trigger's payload, or what :func:`announce_folders` puts there."""
    folders = extra.get("folders", [extra.get("payload", extra)])
    # Anybody may create an event by hand, about no folder at all.
    return ((folder["path"], folder) for folder in folders if "path" in folder)


def _nwbfiles_in(extra: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The file in an event's extra, which is what a task returned (:func:`announce_output`)."""
    path = extra.get("source") or extra.get("nwbfile_path")
    return iter([(path, path)] if isinstance(path, str) else [])


# In the extra of an event by which a run asks for another one: where that has to begin.
_REST_SINCE = "rest_since"
# Airflow takes a second for so many, and gives up a request after five.
_EVENTS_PER_PAGE = 500
_TIMES_PER_PATH = 10

type _ItemsIn[T] = Callable[[Mapping[str, Any]], Iterator[tuple[str, T]]]


def _items_for_run[T](asset: Asset, context: Context, items_in: _ItemsIn[T]) -> list[T]:
    """
    Return what a run has to do with the events of an asset; see :func:`arrived_folders`.

    :param items_in: The items in an event's extra, each after the path by which it is known.
    """
    own = list(context["triggering_asset_events"].get(asset, ()))
    if not own:
        return []
    try:
        stored, store = _Stored(asset, context["inlet_events"]), asset_store(context, asset)
    except KeyError as error:
        raise ConfigurationError(
            f"The events of the asset {asset.name!r} are only open to a task that has it in its inlets: write "
            f"@task(inlets=[...]) with that asset."
        ) from error
    most = max_map_length()
    run = _Run(store, context["dag_run"].dag_id, context["dag_run"].run_id)
    run.begin(min(_begin_of(event) for event in own))
    items: dict[str, tuple[datetime, T]] = {}
    for at, path, item in _items_in_events(_events_for(run, stored, own), items_in):
        if run.took == len(items):
            break
        if len(items) < most or path in items:
            if run.take(path, at):
                items[path] = (at, item)
        elif run.leave(path, at):
            break
    run.end(len(items))
    if run.rest is not None:
        _start_another_run(asset, context, run.rest)
    return [item for _, item in sorted(items.values(), key=itemgetter(0))]


def _items_in_events[T](events: Iterable[Any], items_in: _ItemsIn[T]) -> Iterator[tuple[datetime, str, T]]:
    """Yield the items of events, each after its event's time and its path."""
    for event in events:
        extra = event.extra or {}
        if _REST_SINCE not in extra:
            yield from ((event.timestamp, path, item) for path, item in items_in(extra))


def _events_for(run: _Run, stored: _Stored, own: Sequence[Any]) -> Iterator[Any]:
    """
    Yield the events that a run is for: what others have left to it, its own, and all later ones.

    Airflow 3.3 cannot list an event that it has given to a run which still waits for its start.
    """
    first, begin = min(event.timestamp for event in own), run.since
    if begin < first:
        try:
            yield from stored.events(begin, first)
        except AirflowRuntimeError:
            log.warning("Airflow cannot list the events since %s now; the next run tries again.", begin)
            run.rest = begin
    earlier = min(begin, first)
    try:
        for event in stored.events(first):
            # Airflow may have left behind an event by which another run has asked for this one.
            earlier = min(earlier, _begin_of(event))
            yield event
    except AirflowRuntimeError:
        # The run that waits has all that come after this one's own, those that Airflow has left behind included.
        yield from own
    if earlier < begin:
        yield from stored.events(earlier, min(begin, first))


class _Stored:
    """
    The events of an asset that Airflow has stored.

    :param asset: It must be among the inlets.
    :param inlet_events: What the task's context has of its inlets.
    :raises KeyError: If it is not.
    """

    def __init__(self, asset: Asset, inlet_events: Any) -> None:
        self._asset = asset
        # Makes a new query whenever it is asked.
        self._inlet_events = inlet_events
        self._inlet_events[asset]

    def events(self, since: datetime, until: datetime | None = None) -> Iterator[Any]:
        """Yield those of a time in their order, asking for one page after the other."""
        size, known = _EVENTS_PER_PAGE, set[int]()
        while True:
            page = stored_events(self._inlet_events, self._asset, since=since, until=until, limit=size)
            new = [event for event in page if event.id not in known]
            yield from new
            if len(page) < size:
                return
            if not new:
                size *= 2
            since = page[-1].timestamp
            known = {event.id for event in page if event.timestamp == since}


def _begin_of(event: Any) -> datetime:
    """From when on a run has to look at events that was started by this one."""
    at: datetime = event.timestamp
    asked = (event.extra or {}).get(_REST_SINCE)
    return min(at, datetime.fromisoformat(asked)) if asked else at


def _start_another_run(asset: Asset, context: Context, since: datetime) -> None:
    """Have the task update the asset when it succeeds, by an event about no item that says where to begin."""
    task = context["ti"].task
    if asset not in task.outlets:
        # Not among those that the DAG file names, because those are updated whenever the task succeeds.
        task.outlets = [*task.outlets, asset]
    context["outlet_events"][asset].extra = {_REST_SINCE: since.isoformat()}


class _Run:
    """
    What a run takes of an asset's events, as the asset's state store has it.

    An item is known by its path and the time of its event. Kept are for each path the times that were taken
    last, and by which runs; and for each run where it began and, at the end, how many items it took. What matters
    of a time is only whether it is the same, so a clock that is set back makes no item look old.

    :param store: State store of the asset.
    """

    def __init__(self, store: Any, dag_id: str, run_id: str) -> None:
        self._store = store
        self._dag_id = dag_id
        self._run_id = run_id
        self._key = f"asset-run:{_digest(dag_id, run_id)}"
        # How many it took in an earlier try that came to its end: this one takes the same.
        self.took: int | None = None
        # From when on there are items that other runs have to take.
        self.rest: datetime | None = None

    def begin(self, since: datetime) -> None:
        """Look at events since then, or since when an earlier try did."""
        record = self._store.get(self._key)
        if record is None:
            record = {"since": since.isoformat()}
            self._store.set(self._key, record)
        self.since = datetime.fromisoformat(record["since"])
        self.took = record.get("took")
        self.rest = datetime.fromisoformat(record["rest"]) if record.get("rest") else None

    def take(self, path: str, at: datetime) -> bool:
        """Take an item unless another run has it, or a later recording of its name was taken."""
        taken = self._taken(path)
        mark = [at.isoformat(), self._run_id]
        if taken[-1:] == [mark]:
            return True
        if self.took is not None or mark[0] in (time for time, _ in taken):
            return False
        self.since = min(self.since, at)
        self._note(path, [*taken, mark])
        return True

    def leave(self, path: str, at: datetime) -> bool:
        """Leave an item to other runs; return whether none that this run took can come after it."""
        taken = self._taken(path)
        mark = [at.isoformat(), self._run_id]
        if taken[-1:] == [mark]:
            # Taken when more could be mapped.
            self._note(path, taken[:-1])
        elif self.took is not None or mark[0] in (time for time, _ in taken):
            return False
        self.rest = min(at, self.rest or at)
        return taken[-1:] != [mark]

    def end(self, took: int) -> None:
        """Note what a retry or a clear has to take again."""
        rest = self.rest and self.rest.isoformat()
        self._store.set(self._key, {"since": self.since.isoformat(), "took": took, "rest": rest})

    def _taken(self, path: str) -> list[list[str]]:
        return list((self._store.get(self._path_key(path)) or {"taken": []})["taken"])

    def _note(self, path: str, taken: list[list[str]]) -> None:
        self._store.set(self._path_key(path), {"path": path, "taken": taken[-_TIMES_PER_PATH:]})

    def _path_key(self, path: str) -> str:
        return f"asset-item:{_digest(self._dag_id, path)}"


def _digest(*parts: str) -> str:
    return blake2b("\0".join(parts).encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()
