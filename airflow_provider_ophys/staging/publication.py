"""
The publishing of a plan: upload what its destination lacks, then verify all of it.

What a reader sees is whole or absent. A file appears when its last request completes it; a tree cannot be opened
before its root metadata, which is sent last, and counts as published when its manifest says so. What takes more
than one request is done under a lease, by one writer at a time. No object is replaced that is not the one that was
looked at before.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from airflow_provider_ophys.exceptions import StagingConflictError
from airflow_provider_ophys.staging.bucket import Bucket
from airflow_provider_ophys.staging.comparison import Comparison
from airflow_provider_ophys.staging.documents import Document, Documents
from airflow_provider_ophys.staging.files import PART_SIZE
from airflow_provider_ophys.staging.lease import Lease
from airflow_provider_ophys.staging.manifest import SUFFIX, Manifest
from airflow_provider_ophys.staging.options import StagingOptions
from airflow_provider_ophys.staging.plan import StagingPlan
from airflow_provider_ophys.staging.result import StagingResult
from airflow_provider_ophys.staging.transfer import Transfer, named


def publish(bucket: Bucket, plan: StagingPlan, options: StagingOptions, *, owner: str | None) -> StagingResult:
    """
    Upload what is missing, replace and delete what may be, and verify.

    :param bucket: Where the objects go.
    :param plan: What they are.
    :param options: How.
    :param owner: Who does it, for the lease: the same for all tries of one task instance.
    :raises StagingConflictError: If other content is at the destination and must not be replaced.
    :raises OutputBusyError: If the lease is lost to another writer.
    :raises StagingError: If the source changes meanwhile, the verification fails, or the upload is stopped.
    :raises botocore.exceptions.ClientError: If the server refuses a request.
    """
    started = time.monotonic()
    lease = Lease(Documents(bucket.client, bucket.name), plan.key, owner=owner)
    kind = TreePublication if plan.is_tree else FilePublication
    publication: TreePublication | FilePublication = kind(bucket, plan, options, lease)
    uploaded, deleted = publication.run()
    return StagingResult(
        source=str(plan.source),
        s3_uri=plan.s3_uri,
        manifest_uri=publication.manifest_uri,
        digest=publication.digest,
        objects=len(plan.files),
        size_bytes=plan.size_bytes,
        uploaded=uploaded,
        skipped=len(plan.files) - uploaded,
        deleted=deleted,
        elapsed_seconds=round(time.monotonic() - started, 3),
    )


class _Publication:
    """
    A plan on its way to its bucket.

    :param bucket: Where the objects go.
    :param plan: What they are.
    :param options: How.
    :param lease: The right to write there.
    """

    def __init__(self, bucket: Bucket, plan: StagingPlan, options: StagingOptions, lease: Lease) -> None:
        self.bucket = bucket
        self.plan = plan
        self.options = options
        self.lease = lease
        self.transfer = Transfer(bucket, plan)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lease; work under way ends soon after it is lost."""
        workers = self.bucket.workers
        with self.lease.held(workers.check_stopped), workers.watched(self.lease.check):
            yield

    def _refuse(self, found: Comparison) -> None:
        others = [*(file.key for file in found.different), *(there.key for there in found.extra)]
        others += [file.key for file in found.missing]
        raise StagingConflictError(
            f"Other content is already at {self.plan.s3_uri}: {named(others)}. Nothing was uploaded. Choose "
            "another destination, or set overwrite=True to replace it."
        )


class FilePublication(_Publication):
    """A file on its way; nobody sees it before its last request."""

    manifest_uri = None

    @property
    def digest(self) -> str:
        """What stands for the content, once it was compared or sent."""
        return f"crc64nvme:{self.transfer.crc64nvme(self.plan.files[0])}"

    def run(self) -> tuple[int, int]:
        """Publish; return how many objects were sent and deleted."""
        found = self._look()
        if found.is_complete:
            return 0, 0
        if self.plan.size_bytes <= PART_SIZE:
            return self.transfer.replace(found, lambda: None), 0
        before = self.transfer.remote
        with self._alone():
            found = self._look()
            if found.different and self.transfer.remote != before:
                raise _overtaken(self.plan)
            return self.transfer.replace(found, self.lease.check), 0

    def _look(self) -> Comparison:
        found = self.transfer.look()
        if found.different and not self.options.overwrite:
            self._refuse(found)
        return found


class TreePublication(_Publication):
    """A Zarr tree on its way; it is published when its manifest says so."""

    def __init__(self, bucket: Bucket, plan: StagingPlan, options: StagingOptions, lease: Lease) -> None:
        super().__init__(bucket, plan, options, lease)
        self.documents = lease.documents
        self.manifest_key = f"{plan.key}{SUFFIX}"
        self.manifest_uri = self.documents.uri(self.manifest_key)
        self.manifest = Manifest.of(plan, self.transfer.digests(plan.files))

    @property
    def digest(self) -> str:
        """What stands for the content."""
        return self.manifest.digest

    def run(self) -> tuple[int, int]:
        """Publish; return how many objects were sent and deleted."""
        before = self._marker()
        if self._look(before).is_complete and self._says_published(before):
            return 0, 0
        with self._alone():
            # Whoever had the lease before us may have published since we looked.
            marker = self._marker()
            if marker != before and not self._is_ours(marker):
                raise _overtaken(self.plan)
            found = self._look(marker)
            if not found.is_complete:
                marker = self._announce(marker)
            uploaded = self.transfer.replace(found, self.lease.check)
            self.lease.check()
            if not self._says_published(marker):
                self._write(self.manifest, marker)
        return uploaded, len(found.extra)

    def _look(self, marker: Document | None) -> Comparison:
        found = self.transfer.look()
        # Of our own tree, what was spoilt or is half done may always be replaced.
        is_other = bool(found.different or found.extra) if marker is None else not self._is_ours(marker)
        if is_other and not self.options.overwrite:
            self._refuse(found)
        return found

    def _marker(self) -> Document | None:
        there = self.documents.read(self.manifest_key)
        # Its age is of no interest here, and would make two looks at the same marker differ.
        return Document(there.content, there.etag) if there else None

    def _is_ours(self, marker: Document | None) -> bool:
        return marker is not None and Manifest.from_bytes(marker.content, self.manifest_uri).digest == self.digest

    def _says_published(self, marker: Document | None) -> bool:
        return marker is not None and marker.content == self.manifest.to_bytes()

    def _announce(self, marker: Document | None) -> Document | None:
        """Replace a marker that says of a whole tree what will soon not be true any more."""
        announced = self.manifest.in_progress()
        if marker is None or marker.content == announced.to_bytes():
            return marker
        return self._write(announced, marker)

    def _write(self, manifest: Manifest, replaced: Document | None) -> Document:
        written = self.documents.write(self.manifest_key, manifest.to_bytes(), replaced=replaced)
        if written is None:
            raise _overtaken(self.plan)
        return written


def _overtaken(plan: StagingPlan) -> StagingConflictError:
    return StagingConflictError(
        f"Another writer put other content at {plan.s3_uri} while it was being staged; that was left as it is. "
        "Have only one task stage to this destination, or choose another one."
    )
