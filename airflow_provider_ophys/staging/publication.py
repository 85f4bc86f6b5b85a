"""
The publishing of a plan: upload what its destination lacks, then verify all of it.

What a reader sees is whole or absent. A file appears when its last request completes it; a tree cannot be opened
before its root metadata, which is sent last, and counts as published when its manifest says so. All of it is done
under a lease, by one writer at a time. No object is replaced that is not the one that was
looked at before.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import NamedTuple

from airflow_provider_ophys.exceptions import StagingConflictError
from airflow_provider_ophys.staging.files import PART_SIZE
from airflow_provider_ophys.staging.known_digests import KnownDigests
from airflow_provider_ophys.staging.lease import Lease, require_conditional_writes
from airflow_provider_ophys.staging.local_deletion import delete_source
from airflow_provider_ophys.staging.manifest import SUFFIX, Manifest
from airflow_provider_ophys.staging.options import StagingOptions, StagingResult
from airflow_provider_ophys.staging.plan import StagingPlan
from airflow_provider_ophys.staging.store import Document, Store, write_document
from airflow_provider_ophys.staging.transfer import Comparison, Transfer, named
from airflow_provider_ophys.staging.transfer_threads import TransferThreads
from airflow_provider_ophys.staging.versions import Pointer, holds_versions, version_of

log = logging.getLogger(__name__)


def publish(
    store: Store, workers: TransferThreads, plan: StagingPlan, options: StagingOptions, *, owner: str | None
) -> StagingResult:
    """
    Upload what is missing, replace and delete what may be, and verify.

    :param store: Where the objects go.
    :param workers: Who reads and sends the files.
    :param plan: What they are.
    :param options: How.
    :param owner: Who does it, for the lease: the same for all tries of one task instance.
    :raises StagingConflictError: If other content is at the destination and must not be replaced.
    :raises OutputBusyError: If the lease is lost to another writer.
    :raises ConfigurationError: If rights or bucket are wrong, or the store keeps no conditions of writes.
    :raises StagingError: If the source changes meanwhile, the server or the verification fails, or the upload is
        stopped.
    """
    started = time.monotonic()
    if options.unsafe_no_conditional:
        log.warning("Conditions and the lease are left out: nothing else may write to %s now.", plan.s3_uri)
    known = KnownDigests.of(plan)
    transfer = Transfer(store, workers, plan, known=known)
    pointer = Pointer(store, plan) if options.layout == "versioned" else None
    if pointer:
        pointer.look()
        transfer.plan = version_of(plan, _digest_by_reading(transfer))
    lease = Lease(store, transfer.plan.key, owner=owner)
    publication = (TreePublication if plan.is_tree else FilePublication)(transfer, options, lease)
    done = publication.preview() if options.dry_run else publication.run()
    if pointer and not options.dry_run:
        pointer.switch(transfer.plan, publication.digest)
    if delete_local := options.delete_local == "after_verify" and not options.dry_run:
        transfer.verify()
        delete_source(transfer.plan)
        known.forget()
    elif not options.dry_run:
        known.keep(transfer.found_digests, transfer.plan.s3_uri)
    return StagingResult(
        source=str(plan.source),
        s3_uri=transfer.plan.s3_uri,
        manifest_uri=publication.manifest_uri,
        latest_uri=pointer.uri if pointer else None,
        digest=publication.digest,
        objects=len(plan.files),
        size_bytes=plan.size_bytes,
        uploaded=done.uploaded,
        skipped=len(plan.files) - done.uploaded,
        deleted=done.deleted,
        sent_bytes=done.sent_bytes,
        copied_bytes=done.copied_bytes,
        deleted_local=delete_local,
        dry_run=options.dry_run,
        elapsed_seconds=round(time.monotonic() - started, 3),
    )


class Done(NamedTuple):
    """How many objects were sent and deleted, and how many bytes were sent, and copied by the store itself."""

    uploaded: int = 0
    deleted: int = 0
    sent_bytes: int = 0
    copied_bytes: int = 0


class _Publication(ABC):
    """
    A plan on its way to its bucket.

    :param transfer: Its objects.
    :param options: How.
    :param lease: The right to write there.
    """

    manifest_uri: str | None = None

    def __init__(self, transfer: Transfer, options: StagingOptions, lease: Lease) -> None:
        self.transfer = transfer
        self.plan = transfer.plan
        self.options = options
        self.lease = lease

    @property
    @abstractmethod
    def digest(self) -> str:
        """What stands for the content."""

    @abstractmethod
    def preview(self) -> Done:
        """Tell what :meth:`run` would do, if the store copied nothing; raises what it would raise at once."""

    @abstractmethod
    def run(self) -> Done:
        """Publish."""

    def _foreseen(self, found: Comparison) -> Done:
        wanted = self.transfer.wanted(found)
        return Done(len(wanted), len(found.extra), sum(file.size for file in wanted))

    def _done(self, uploaded: int, deleted: int) -> Done:
        return Done(uploaded, deleted, self.transfer.sent_bytes, self.transfer.copied_bytes)

    @contextmanager
    def _writing(self) -> Iterator[Callable[[], None]]:
        """
        Write only while nobody else does, and where conditions of writes are kept.

        :return: What raises when no more must be written.
        """
        workers = self.transfer.workers
        if self.options.unsafe_no_conditional:
            yield workers.check_stopped
            return
        # Work under way ends soon after the lease is lost.
        with self.lease.held(workers.check_stopped), workers.watched(self.lease.check):
            in_parts = any(file.size > PART_SIZE for file in self.plan.files)
            require_conditional_writes(self.transfer.store, self.plan.key, in_parts=in_parts)
            yield workers.check_stopped

    def _refuse(self, found: Comparison) -> None:
        others = [*(file.key for file in found.different), *(there.key for there in found.extra)]
        others += [file.key for file in found.missing]
        raise StagingConflictError(
            f"Other content is already at {self.plan.s3_uri}: {named(others)}. Nothing was uploaded. Choose "
            "another destination, or set overwrite=True to replace it."
        )


class FilePublication(_Publication):
    """A file on its way; nobody sees it before its last request."""

    @property
    def digest(self) -> str:
        """What stands for the content, once it was compared or sent."""
        return _file_digest(self.transfer)

    def preview(self) -> Done:
        """Tell what would be done."""
        self.transfer.digests(self.plan.files)
        return self._foreseen(self._look())

    def run(self) -> Done:
        """Publish."""
        if self._look().is_complete:
            self.lease.clean_up()
            return Done()
        before = self.transfer.remote
        with self._writing() as check:
            found = self._look()
            if found.different and self.transfer.remote != before:
                raise _overtaken(self.plan)
            return self._done(self.transfer.replace(found, check), 0)

    def _look(self) -> Comparison:
        found = self.transfer.look()
        if found.different and not self.options.overwrite:
            self._refuse(found)
        return found


class TreePublication(_Publication):
    """A Zarr tree on its way; it is published when its manifest says so."""

    def __init__(self, transfer: Transfer, options: StagingOptions, lease: Lease) -> None:
        super().__init__(transfer, options, lease)
        self.store = transfer.store
        self.manifest_key = f"{self.plan.key}{SUFFIX}"
        self.manifest_uri = self.store.uri(self.manifest_key)

    @cached_property
    def manifest(self) -> Manifest:
        """What the tree consists of: all files that were not yet compared or sent are read for it."""
        return _manifest(self.transfer)

    @property
    def digest(self) -> str:
        """What stands for the content."""
        return self.manifest.digest

    def preview(self) -> Done:
        """Tell what would be done."""
        return self._foreseen(self._look(self._marker()))

    def run(self) -> Done:
        """Publish."""
        before = self._marker()
        if self._look(before).is_complete and self._says_published(before):
            self.lease.clean_up()
            return Done()
        with self._writing() as check:
            # Whoever had the lease before us may have published since we looked.
            marker = self._marker()
            if marker != before and not self._is_ours(marker):
                raise _overtaken(self.plan)
            found = self._look(marker)
            if not found.is_complete:
                marker = self._announce(marker)
            uploaded = self.transfer.replace(found, check)
            check()
            if not self._says_published(marker):
                self._write(self.manifest, marker)
        return self._done(uploaded, len(found.extra))

    def _look(self, marker: Document | None) -> Comparison:
        found = self.transfer.look()
        if holds_versions(self.plan, {there.key for there in found.extra}):
            raise StagingConflictError(
                f"{self.plan.s3_uri} holds versions of the versioned layout, which are never replaced. Choose "
                "another destination, or set layout='versioned'."
            )
        # Of our own tree, what was spoilt or is half done may always be replaced.
        is_other = bool(found.different or found.extra) if marker is None else not self._is_ours(marker)
        if is_other and not self.options.overwrite:
            self._refuse(found)
        return found

    def _marker(self) -> Document | None:
        there = self.store.get(self.manifest_key)
        # Its age is of no interest here, and would make two looks at the same marker differ.
        return Document(there.content, there.etag) if there else None

    def _is_ours(self, marker: Document | None) -> bool:
        return (
            marker is not None
            and Manifest.from_bytes(marker.content, str(self.manifest_uri)).digest == self.digest
        )

    def _says_published(self, marker: Document | None) -> bool:
        return marker is not None and marker.content == self.manifest.to_bytes()

    def _announce(self, marker: Document | None) -> Document | None:
        """Replace a marker that says of a whole tree what will soon not be true any more."""
        if marker is None:
            return None
        # Reads all files: nothing is replaced by what cannot be read whole.
        announced = self.manifest.in_progress()
        if marker.content == announced.to_bytes():
            return marker
        return self._write(announced, marker)

    def _write(self, manifest: Manifest, replaced: Document | None) -> Document:
        written = write_document(self.store, self.manifest_key, manifest.to_bytes(), replaced=replaced)
        if written is None:
            raise _overtaken(self.plan)
        return written


def _overtaken(plan: StagingPlan) -> StagingConflictError:
    return StagingConflictError(
        f"Another writer put other content at {plan.s3_uri} while it was being staged; that was left as it is. "
        "Have only one task stage to this destination, or choose another one."
    )


def _manifest(transfer: Transfer) -> Manifest:
    return Manifest.of(transfer.plan, transfer.digests(transfer.plan.files))


def _file_digest(transfer: Transfer) -> str:
    return f"crc64nvme:{transfer.crc64nvme(transfer.plan.files[0])}"


def _digest_by_reading(transfer: Transfer) -> str:
    if transfer.plan.is_tree:
        return _manifest(transfer).digest
    transfer.digests(transfer.plan.files)
    return _file_digest(transfer)
