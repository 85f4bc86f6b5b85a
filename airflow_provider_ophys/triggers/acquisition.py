"""
Triggers that wait for acquisition folders in the triggerer.

:class:`AcquisitionFolderTrigger` belongs in an ``AssetWatcher`` and goes on forever.
:class:`AcquisitionReadyTrigger` is what a deferred ``AcquisitionFolderSensor`` waits on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar

from airflow.triggers.base import BaseEventTrigger, BaseTrigger, TriggerEvent
from pydantic import Field, FiniteFloat, TypeAdapter, ValidationError

from airflow_provider_ophys.acquisition import (
    Acquisition,
    AcquisitionOptions,
    AcquisitionWatch,
    Ledger,
    Scan,
    is_rendered_later,
    shared_scan,
    takes_acquisition_options,
)
from airflow_provider_ophys.compat import call_in_thread, named_asset_store, watch_store
from airflow_provider_ophys.exceptions import AcquisitionAccessError, ConfigurationError
from airflow_provider_ophys.settings import max_map_length

_MODULE = "airflow_provider_ophys.triggers.acquisition"
_HANDED_TO = "an asset event"


class _SeveralLedgers:
    """
    The ledgers in the state stores of several assets, kept alike.

    Airflow shares one trigger between all assets whose watchers have the same arguments, and sends each event
    to all of them. What one ledger knows counts for all, so that a further asset does not start the backlog anew.
    """

    def __init__(self, ledgers: Sequence[Ledger]) -> None:
        self._ledgers = ledgers

    def get(self, key: str, /) -> Any:
        return next((value for ledger in self._ledgers if (value := ledger.get(key)) is not None), None)

    def set(self, key: str, value: Any, /) -> None:
        for ledger in self._ledgers:
            ledger.set(key, value)


def _interval(seconds: float | str) -> float:
    try:
        return TypeAdapter(Annotated[FiniteFloat, Field(gt=0)]).validate_python(seconds)
    except ValidationError:
        raise ConfigurationError(f"poke_interval must be more than 0 seconds, not {seconds!r}.") from None


def _ledger_of(injected: Any) -> Ledger:
    """The ledger in what Airflow injects as a trigger's state store."""
    # Airflow has no public way to list its assets, and without their names it only serves a single one.
    by_name: dict[str, Ledger] | None = getattr(injected, "_by_name", None)
    return _SeveralLedgers(list(by_name.values())) if by_name else injected


def _look(
    watch: AcquisitionWatch, since: float, write_log: Callable[[int, str], object], *, patient: bool
) -> list[Acquisition]:
    """
    Look once. Blocking, hence for a thread, where the state store's blocking methods are safe too.

    :param since: What another watcher of the folder has seen since then will do.
    :param patient: Whether to go on waiting for a watched folder that may not be read.
    :raises AcquisitionAccessError: If it may not be read, unless patient.
    """
    try:
        watch.refresh(since)
    except OSError as error:
        if isinstance(error, AcquisitionAccessError) and not patient:
            raise
        watch.note_root_error(error)
    ready = watch.ready()
    for level, line in watch.news():
        write_log(level, line)
    return ready


def _next_look(scan: Scan, watch: AcquisitionWatch, interval: float) -> float:
    """When to look again: at the next tick, which others share, or sooner if a folder has settled before."""
    return min(scan.tick(interval, following=True), watch.due)


@dataclass(slots=True)
class _Sent:
    acquisition: Acquisition
    answered_at: float | None = None


class _Outbox:
    """
    Events that went out but are not in the ledger yet.

    The triggerer collects events in memory and sends them to its supervisor about once a second; the supervisor
    takes one message after the other and stores an event before it takes the next. A folder must not get into
    the ledger before its event is stored, or a crash in between would lose it. So once the supervisor has
    answered something that was asked after the event, and the triggerer has then had the time for a few more
    rounds, the entry goes in. A crash before that repeats the event, which is harmless.
    """

    PATIENCE_SECONDS: ClassVar[float] = 3.0

    def __init__(self, watch: AcquisitionWatch, ledger: Ledger) -> None:
        self._watch = watch
        self._ledger = ledger
        self._sent: list[_Sent] = []

    def __len__(self) -> int:
        return len(self._sent)

    def add(self, acquisition: Acquisition) -> None:
        """Remember a folder whose event has just gone out."""
        self._sent.append(_Sent(acquisition))

    def settle(self) -> None:
        """Write those entries whose events are safe by now. Blocking, hence for a thread."""
        waiting = [sent for sent in self._sent if sent.answered_at is None]
        if waiting:
            self._ledger.get(waiting[0].acquisition.folder.key)
            for sent in waiting:
                sent.answered_at = time.monotonic()
        for sent in list(self._sent):
            if sent.answered_at and time.monotonic() - sent.answered_at >= self.PATIENCE_SECONDS:
                # A sensor may have got the folder as well meanwhile, and its retry has to find that it did.
                self._watch.claim(sent.acquisition, _HANDED_TO)
                self._sent.remove(sent)


class AcquisitionFolderTrigger(BaseEventTrigger):
    """
    Fire an event for each new acquisition folder in a watched folder, as soon as it is complete.

    For an ``AssetWatcher``. The payload of an event, ``event.extra["payload"]`` in the DAG, is a dict with
    ``path``, ``name`` (relative to the watched folder), ``num_files`` and ``size_bytes``. Airflow may hand
    several events to one run, so map over them.

    The ledger of folders that were handed over is in the state store of the watched asset, and so survives
    restarts of the triggerer. Delivery is at least once: a crash right after an event may repeat it, and none
    is lost. A watched folder that is missing or cannot be read is waited for. A folder that was deleted and
    recorded again, which shows in its largest file, is new.

    All watchers of the same ``path`` and ``pattern`` in a triggerer, whatever their other options, share one scan:
    those that look at the same time walk each tree once.

    Its options are those of :class:`~airflow_provider_ophys.acquisition.AcquisitionOptions`, which describes them.

    :param poke_interval: Seconds between two looks.
    :raises ConfigurationError: If an option makes no sense, when the DAG is parsed.
    """

    # Airflow stores the events of a look one by one, and gives no sign of life meanwhile; another triggerer takes
    # over, or an orchestrator kills this one, if that takes half a minute.
    MOST_EVENTS: ClassVar[int] = 200

    @takes_acquisition_options
    def __init__(self, *, poke_interval: float | str = 10.0, **options: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        templates = [name for name, value in options.items() if is_rendered_later(value)]
        if templates:
            raise ConfigurationError(
                f"Airflow renders no templates in a trigger: {', '.join(templates)}. "
                f"Ask for the value where the DAG is defined, by Variable.get(...)."
            )
        self._trouble = ""
        self.options = AcquisitionOptions.create(**options)
        self.poke_interval = _interval(poke_interval)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments, by which Airflow also tells one watcher from another."""
        kwargs = {**self.options.as_kwargs(), "poke_interval": self.poke_interval}
        return f"{_MODULE}.AcquisitionFolderTrigger", kwargs

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire an event per folder, forever."""
        ledger = self._ledger()
        with shared_scan(self.options) as scan:
            most = min(self.MOST_EVENTS, max_map_length())
            watch = AcquisitionWatch(self.options, ledger, scan=scan, most=most)
            outbox = _Outbox(watch, ledger)
            # The first question that a triggerer asks takes seconds, in which Airflow builds what answers it.
            # Better now than when a folder waits.
            await self._attempt(partial(ledger.get, "acquisition-first-question"))
            since = scan.tick(self.poke_interval)
            try:
                while True:
                    look = partial(_look, watch, since, self.log.log, patient=True)
                    for acquisition in await self._attempt(look) or ():
                        watch.hand_over(acquisition, _HANDED_TO)
                        yield TriggerEvent(acquisition.as_dict())  # type: ignore[no-untyped-call]
                        # Airflow has taken the event when it comes back for the next.
                        outbox.add(acquisition)
                    since = await self._pause(_next_look(scan, watch, self.poke_interval), outbox)
            finally:
                watch.stop()

    async def _attempt[T](self, work: Callable[[], T]) -> T | None:
        """Work in a thread; on failure log once and give None: a watcher that raises is not started again."""
        try:
            result = await call_in_thread(work)
        except Exception as error:
            if self._trouble != (trouble := f"{type(error).__name__}: {error}"):
                self._trouble = trouble
                self.log.exception("Watching %s failed; trying again", self.options.root)
            return None
        self._trouble = ""
        return result

    async def _pause(self, until: float, outbox: _Outbox) -> float:
        """Wait, and bring the ledger up to date meanwhile; return until when."""
        while (rest := until - time.monotonic()) > 0:
            await asyncio.sleep(min(rest, outbox.PATIENCE_SECONDS) if len(outbox) else rest)
            if len(outbox):
                await self._attempt(outbox.settle)
        return until

    def _ledger(self) -> Ledger:
        store = watch_store(self, str(self.options.root), self.options.pattern)
        if store is not None:
            return _ledger_of(store)
        self.log.warning(
            "%s is watched without an asset, so what was handed over is forgotten at the next restart. "
            "Put the trigger into the watchers of an Asset.",
            self.options.root,
        )
        return _SeveralLedgers([])


class AcquisitionReadyTrigger(BaseTrigger):
    """
    Wait until there are complete new acquisition folders, and fire one event with all of them.

    For the deferred ``AcquisitionFolderSensor``, which writes the ledger itself when it is resumed.

    :param ledger_asset: Name of the asset whose state store has the ledger.
    :param patient: Whether to go on waiting when the watched folder may not be read.
    :param poke_interval: Seconds between two looks.
    :param options: Those of :class:`AcquisitionFolderTrigger`.
    """

    def __init__(
        self, *, ledger_asset: str, patient: bool = False, poke_interval: float = 60.0, **options: Any
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.options = AcquisitionOptions.create(**options)
        self.ledger_asset = ledger_asset
        self.patient = patient
        # A sensor's interval may be 0, which would keep the triggerer from doing anything else.
        self.poke_interval = max(poke_interval, 0.1)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments."""
        kwargs = {
            "ledger_asset": self.ledger_asset,
            "patient": self.patient,
            "poke_interval": self.poke_interval,
        }
        return f"{_MODULE}.AcquisitionReadyTrigger", {**self.options.as_kwargs(), **kwargs}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire the one event: the folders as pairs of key and ledger entry, or an error."""
        with shared_scan(self.options) as scan:
            ledger = named_asset_store(self.ledger_asset)
            watch = AcquisitionWatch(self.options, ledger, scan=scan, most=max_map_length())
            try:
                yield TriggerEvent(await self._wait(watch, scan))  # type: ignore[no-untyped-call]
            finally:
                watch.stop()

    async def _wait(self, watch: AcquisitionWatch, scan: Scan) -> dict[str, Any]:
        """The payload of the event, once there is something to report."""
        since = scan.tick(self.poke_interval)
        try:
            while not (
                ready := await call_in_thread(partial(_look, watch, since, self.log.log, patient=self.patient))
            ):
                since = _next_look(scan, watch, self.poke_interval)
                await asyncio.sleep(max(0.0, since - time.monotonic()))
        except AcquisitionAccessError as error:
            return {"error": str(error)}
        return {"folders": [[found.folder.key, found.ledger_entry(None)] for found in ready]}
