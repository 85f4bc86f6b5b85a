"""
One writer at a time: the lease that a writer holds while it needs more than one request to publish.

The lease is an object, ``<name>.lock`` beside what is published. Its age is told by the server's own clock, so it
does not matter what time it is on the workers. Whoever finds one waits until it is released or has not been
renewed for a minute, and takes it over then; only the same task instance, tried again, need not wait. It rests on
the conditions of writes, so whether the store keeps them is tried out under it.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from uuid import uuid4

from airflow_provider_ophys.exceptions import (
    ConfigurationError,
    OphysError,
    OutputBusyError,
    StagingConflictError,
)
from airflow_provider_ophys.staging.checksums import written_crc64nvme
from airflow_provider_ophys.staging.store import (
    ABSENT,
    ConditionNotMetError,
    Document,
    Store,
    write_document,
)

log = logging.getLogger(__name__)

SUFFIX = ".lock"
LEASE_SECONDS = 60.0
POLL_SECONDS = 1.0
LOG_SECONDS = 10.0


class Lease:
    """
    The right to write at one destination.

    :param store: Where the lease is kept.
    :param key: Key of what is written.
    :param owner: Who takes it, the same for all tries of one task instance; None is nobody else.
    :param seconds: How long after its last renewal others may take it; a minute by default.
    """

    def __init__(self, store: Store, key: str, *, owner: str | None = None, seconds: float | None = None) -> None:
        self.store = store
        self.key = f"{key}{SUFFIX}"
        self.owner = owner
        self.seconds = LEASE_SECONDS if seconds is None else seconds
        self._run_id = uuid4().hex
        self._renewals = 0
        self._held: Document | None = None
        self._renewed = 0.0
        self._lost = False

    @contextmanager
    def held(self, check_stopped: Callable[[], None]) -> Iterator[None]:
        """
        Take the lease, waiting for whoever has it, keep it, and release it at the end.

        :param check_stopped: Called while waiting; raises to give up.
        """
        self._take(check_stopped)
        done = Event()
        keeper = Thread(target=self._keep, args=(done,), name="ophys-s3-lease", daemon=True)
        keeper.start()
        try:
            yield
        finally:
            done.set()
            keeper.join()
            self._release()

    def clean_up(self) -> None:
        """Remove a lease that a killed writer left where all is done, if we may."""
        there = self.store.get(self.key)
        if there and self._may_take(there):
            try:
                self.store.delete_one(self.key, there.etag)
            except OphysError as error:
                log.info("%s stays: it could not be removed (%s)", self.store.uri(self.key), error)

    def check(self) -> None:
        """
        Go on only while nobody else can have taken the lease.

        :raises OutputBusyError: If somebody may have.
        """
        if self._lost or time.monotonic() - self._renewed > self.seconds:
            raise OutputBusyError(
                f"The lease {self.store.uri(self.key)} could not be renewed in time, and another writer may "
                "have taken it; this one stopped. Try again: what is already there is not sent twice."
            )

    def _take(self, check_stopped: Callable[[], None]) -> None:
        told = 0.0
        while True:
            check_stopped()
            there = self.store.get(self.key)
            if (there is None or self._may_take(there)) and self._write(there):
                return
            if time.monotonic() - told > LOG_SECONDS:
                told = time.monotonic()
                log.info("Another writer holds %s; waiting for it to finish.", self.store.uri(self.key))
            time.sleep(POLL_SECONDS)

    def _may_take(self, there: Document) -> bool:
        try:
            owner = json.loads(there.content)["owner"]
        except (ValueError, KeyError, TypeError) as error:
            raise StagingConflictError(
                f"{self.store.uri(self.key)} is where the lease of writers belongs, and something else. Move "
                "that object away, or choose another destination."
            ) from error
        return there.age_seconds > self.seconds or (owner is not None and owner == self.owner)

    def _write(self, replaced: Document | None) -> bool:
        """Take or renew the lease; each time its content, and so its ETag, is another."""
        begun = time.monotonic()
        self._renewals += 1
        content = json.dumps({"run_id": self._run_id, "owner": self.owner, "renewals": self._renewals})
        written = write_document(self.store, self.key, content.encode(), replaced=replaced)
        if written:
            self._held, self._renewed = written, begun
        return written is not None

    def _keep(self, done: Event) -> None:
        while not done.wait(self.seconds / 3):
            try:
                if not self._write(self._held):
                    self._lost = True
                    return
            except OphysError as error:
                log.warning("%s was not renewed: %s", self.store.uri(self.key), error)

    def _release(self) -> None:
        """Remove the lease if it is still ours: whoever took it over must keep it."""
        if self._held is None or self._lost:
            return
        try:
            there = self.store.get(self.key)
            if there and self._run_id.encode() in there.content:
                self.store.delete_one(self.key, there.etag)
        except ConditionNotMetError:
            pass
        except OphysError as error:
            log.warning(
                "%s could not be released, and others wait until it is %d s old: %s",
                *(self.store.uri(self.key), self.seconds, error),
            )


def require_conditional_writes(store: Store, key: str, *, in_parts: bool) -> None:
    """
    Try out a small object beside what will be written, and remove that; only under the lease.

    Without conditions, writers overwrite each other unnoticed.

    :param key: Key of what will be written.
    :param in_parts: Whether that will be sent in parts, which has a condition of its own.
    :raises ConfigurationError: If the store ignores conditions.
    """
    probe = f"{key}.probe"

    def is_refused() -> bool:
        return _is_refused(
            lambda: store.put(probe, b"", written_crc64nvme(b""), ABSENT, content_type="text/plain")
        )

    if is_refused():
        # A writer that was killed left it.
        for upload in store.open_uploads(probe):
            store.abort(upload)
    try:
        kept = is_refused() and (not in_parts or _is_refused_in_parts(store, probe))
    finally:
        store.delete_one(probe)
    if not kept:
        raise ConfigurationError(
            f"The server of {store.uri('')} does not keep conditions of writes (If-None-Match), so "
            "writers could overwrite each other unnoticed. Nothing was uploaded. Use a store with conditional "
            "writes, or set "
            "unsafe_no_conditional=True if never more than one task writes to this destination."
        )


def _is_refused_in_parts(store: Store, probe: str) -> bool:
    upload, crc = store.begin_upload(probe), written_crc64nvme(b"x")
    part = store.put_part(upload, 1, b"x", crc)
    refused = _is_refused(lambda: store.complete(upload, [part.etag], 1, crc, ABSENT))
    if refused:
        store.abort(upload)
    return refused


def _is_refused(write: Callable[[], object]) -> bool:
    try:
        write()
    except ConditionNotMetError:
        return True
    return False
