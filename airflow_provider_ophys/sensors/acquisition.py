"""The sensor that waits for complete new acquisition folders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from airflow.sdk import Asset, BaseSensorOperator, PokeReturnValue

from airflow_provider_ophys.acquisition import (
    Acquisition,
    AcquisitionOptions,
    AcquisitionWatch,
    Clocks,
    Ledger,
    takes_acquisition_options,
)
from airflow_provider_ophys.assets import announce_folders
from airflow_provider_ophys.compat import (
    AirflowSensorTimeout,
    AirflowSkipException,
    asset_store,
    conf,
    task_store,
)
from airflow_provider_ophys.exceptions import (
    AcquisitionAccessError,
    ConfigurationError,
    SourceNotFoundError,
)
from airflow_provider_ophys.models.session_note import SessionNote
from airflow_provider_ophys.retries import fail_without_retry
from airflow_provider_ophys.session_notes import leave_notes
from airflow_provider_ophys.settings import max_map_length
from airflow_provider_ophys.triggers.acquisition import AcquisitionReadyTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

_STATE = "acquisition-watch"


class AcquisitionFolderSensor(BaseSensorOperator):
    """
    Wait for new acquisition folders that are complete, and return them as a list of dicts.

    Each dict has ``path``, ``name`` (relative to the watched folder), ``num_files`` and ``size_bytes``, ready
    for ``.expand()``; the oldest folder comes first. The sensor succeeds as soon as there is at least one.

    **Each folder goes to one DAG run.** The ledger of folders that were handed over is in Airflow's state store
    of an asset: the first :class:`~airflow.sdk.Asset` in ``inlets``, else in ``outlets``, else one of the
    sensor's own, ``ophys-acquisitions.<dag_id>.<task_id>``, that it adds to its ``inlets``. Sensors and watchers
    that share the asset share the folders; those that do not each get all of them. A retry or a clear of the
    sensor gets the same folders again, and a folder that was deleted and recorded again, which shows in its
    largest file, is new. Two runs that wait at the same time for the same folder may both get it: set
    ``max_active_runs=1`` where that matters. A mapped sensor needs ``partial(inlets=[Asset(...)])``, because
    Airflow only knows the assets that the DAG file names.

    **Each folder is an asset event.** An :class:`~airflow.sdk.AssetAlias` in ``outlets`` gets one event per
    folder, whose extra is the folder's dict. An :class:`~airflow.sdk.Asset` there has one event per run of the
    sensor, because Airflow gives it no more, with all the dicts under ``folders``. A retry or a clear repeats the
    events.

    Poke, reschedule and deferrable mode give the same folders. A folder is looked at every ``poke_interval``,
    so keep that well below ``settle_seconds``.

    Its options are those of :class:`~airflow_provider_ophys.acquisition.AcquisitionOptions`, which describes them.
    All of them are template fields. What is no template is checked when the DAG is parsed.

    :param deferrable: Whether to wait in the triggerer. Default: Airflow's ``[operators] default_deferrable``.
    :raises ConfigurationError: If an option makes no sense, when the DAG is parsed.
    :raises AirflowFailException: At once and without retries, if a template renders to what makes no sense, or if
        the watched folder does not exist when the sensor starts.
    :raises AcquisitionAccessError: If the watched folder may not be read.
    """

    template_fields: Sequence[str] = tuple(AcquisitionOptions.model_fields)
    ui_color = "#d9ead3"
    clocks: ClassVar[Clocks] = Clocks.here()

    path: Any

    @takes_acquisition_options
    def __init__(
        self,
        *,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        fields = AcquisitionOptions.model_fields
        options = {name: kwargs.pop(name, field.default) for name, field in fields.items()}
        super().__init__(**kwargs)
        AcquisitionOptions.check_given(options)
        for name, value in options.items():
            setattr(self, name, value)
        self.deferrable = deferrable
        self._watch: AcquisitionWatch | None = None
        self._ended = False
        if not self._assets():
            owner = f"{self.dag_id}.{self.task_id}" if self.has_dag() else self.task_id  # type: ignore[no-untyped-call]
            self.inlets.append(Asset(f"ophys-acquisitions.{owner}"))

    def _assets(self) -> list[Asset]:
        return [asset for asset in [*self.inlets, *self.outlets] if isinstance(asset, Asset)]

    def _ledger_asset(self) -> Asset:
        return self._assets()[0]

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once; in deferrable mode, a look in vain goes on in the triggerer."""
        with self._taking() as taken, fail_without_retry():
            folders = self._look(context, taken)
            if folders:
                self._announce(context, folders)
        if folders:
            if self.reschedule:
                task_store(context).delete(_STATE)
        elif self.deferrable:
            self._wait_in_triggerer(self.clocks.time_of_day() + self.timeout)
        return PokeReturnValue(is_done=bool(folders), xcom_value=folders or None)

    def execute_complete(
        self, context: Context, event: Mapping[str, Any], deadline: float | None = None
    ) -> list[dict[str, Any]]:
        """
        Take over what the triggerer found.

        :raises AcquisitionAccessError: If the watched folder may no longer be read.
        :raises AirflowSensorTimeout: If others got the folders and there is no time left to wait for more.
        """
        if "error" in event:
            error = AcquisitionAccessError(event["error"])
            if self.never_fail:
                raise AirflowSkipException("Skipping due to never_fail is set to True.") from error
            raise error
        with self._taking() as taken, fail_without_retry():
            folders = self._claim(context, event["folders"], taken)
            if folders:
                self._announce(context, folders)
        if not folders:
            now = self.clocks.time_of_day()
            self._wait_in_triggerer(now + self.timeout if deadline is None else deadline)
        return folders

    def on_kill(self) -> None:
        """Take no more folders: Airflow lets a task that it ends go on for five seconds."""
        self._ended = True
        if self._watch is not None:
            self._watch.stop()

    @contextmanager
    def _taking(self) -> Iterator[list[Acquisition]]:
        """Make what this try takes new again if Airflow ends it meanwhile: its run may never get to it."""
        taken: list[Acquisition] = []
        try:
            yield taken
        finally:
            if self._watch is not None and self._watch.stopped:
                for acquisition in taken:
                    self._watch.take_back(acquisition)

    def _announce(self, context: Context, folders: Sequence[Mapping[str, Any]]) -> None:
        announce_folders(self, context, folders)
        notes = [SessionNote(step="arrive", folder=folder["path"], name=folder["name"]) for folder in folders]
        leave_notes(self, context, notes)

    def _wait_in_triggerer(self, deadline: float) -> NoReturn:
        # A clock that was set back makes nobody wait for longer than was asked for.
        left = min(deadline - self.clocks.time_of_day(), self.timeout)
        if left < 0:
            raise AirflowSensorTimeout(f"No new complete folder in {self.path} within {self.timeout:g} s.")
        self.defer(
            trigger=AcquisitionReadyTrigger(
                ledger_asset=self._ledger_asset().name,
                patient=self.silent_fail,
                poke_interval=self.poke_interval,
                **self._options().as_kwargs(),
            ),
            method_name="execute_complete",
            kwargs={"deadline": deadline},
            timeout=timedelta(seconds=left),
        )

    def _look(self, context: Context, taken: list[Acquisition]) -> list[dict[str, Any]]:
        """One look: what this run got before, else what it gets now, which is added to ``taken``, or nothing."""
        watch = self._resume(context)
        owner = _owner(context)
        try:
            self._refresh(watch)
            if again := watch.handed_to(owner):
                self.log.info("Returning the %d folder(s) that this task got before.", len(again))
                return [acquisition.as_dict() for acquisition in again]
            for acquisition in watch.each_ready():
                watch.record(acquisition, owner)
                taken.append(acquisition)
        finally:
            for level, line in watch.news():
                self.log.log(level, line)
        if self.reschedule and not taken:
            moment: Any = self.clocks.moment()
            state = {"try": context["ti"].try_number, "watch": watch.state(), "moment": moment}
            task_store(context).set(_STATE, state)
        return [acquisition.as_dict() for acquisition in taken]

    def _refresh(self, watch: AcquisitionWatch) -> None:
        """A watched folder that is missing at the start is a mistake; one that goes away later may come back."""
        try:
            watch.refresh()
        except SourceNotFoundError as error:
            if not watch.root_seen:
                raise
            watch.note_root_error(error)
        except AcquisitionAccessError:
            raise
        except OSError as error:
            watch.note_root_error(error)

    def _resume(self, context: Context) -> AcquisitionWatch:
        """The watch of the last poke, which was in another process in reschedule mode."""
        if self._watch is not None and not self.reschedule and self._watch.options == self._options():
            return self._watch
        watch = self._new_watch(context)
        if self.reschedule:
            state: Any = task_store(context).get(_STATE)
            if state is not None and state["try"] == context["ti"].try_number and "moment" in state:
                watch.resume(state["watch"], self.clocks.seconds_since(state["moment"], self.poke_interval))
        return watch

    def _new_watch(self, context: Context) -> AcquisitionWatch:
        ledger = self._ledger(context)
        watch = AcquisitionWatch(self._options(), ledger, self.clocks.monotonic, most=max_map_length())
        self._watch = watch
        if self._ended:
            watch.stop()
        return watch

    def _ledger(self, context: Context) -> Ledger:
        asset = self._ledger_asset()
        try:
            store: Ledger = asset_store(context, asset)
        except KeyError as error:
            raise ConfigurationError(
                f"Airflow does not know the asset {asset.name!r}, in whose state store this sensor keeps which "
                f"folders were handed over. Name an asset in the DAG file: inlets=[Asset('acquisitions')], or "
                f".partial(inlets=[Asset('acquisitions')]) for a mapped sensor."
            ) from error
        return store

    def _options(self) -> AcquisitionOptions:
        return AcquisitionOptions.create(**{name: getattr(self, name) for name in self.template_fields})

    def _claim(
        self, context: Context, found: Sequence[tuple[str, Mapping[str, Any]]], taken: list[Acquisition]
    ) -> list[dict[str, Any]]:
        """Take what the triggerer found, unless others have got it; it is added to ``taken``."""
        watch = self._new_watch(context)
        owner, most = _owner(context), max_map_length()
        for key, entry in found:
            acquisition = Acquisition.from_entry(key, entry)
            if len(taken) < most and watch.claim(acquisition, owner):
                taken.append(acquisition)
        return [acquisition.as_dict() for acquisition in taken]


def _owner(context: Context) -> dict[str, Any]:
    """The task that folders are handed to: the same for every try of it."""
    ti = context["ti"]
    map_index = -1 if ti.map_index is None else ti.map_index
    return {"dag_id": ti.dag_id, "run_id": ti.run_id, "task_id": ti.task_id, "map_index": map_index}
