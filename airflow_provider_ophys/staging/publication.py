"""
The publishing of a plan: upload what its destination lacks, then verify all of it.

What a reader sees is whole or absent. A file appears when its last request completes it; a tree cannot be opened
before its root metadata, which is sent last. No object is replaced that is not the one that was looked at before.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from airflow_provider_ophys.exceptions import StagingConflictError, StagingError
from airflow_provider_ophys.staging.bucket import Bucket
from airflow_provider_ophys.staging.checksums import Digest
from airflow_provider_ophys.staging.comparison import Comparison, RemoteObject, compare, digests_needed
from airflow_provider_ophys.staging.files import SourceFile
from airflow_provider_ophys.staging.plan import StagingPlan, is_current

log = logging.getLogger(__name__)

NAMED_IN_MESSAGES = 5


@dataclass(frozen=True, slots=True)
class StagingResult:
    """
    What staging reports.

    ``source`` is the local path; ``objects`` and ``size_bytes`` count all that it became; ``uploaded`` of these
    objects were sent now and ``skipped`` were there already; ``deleted`` objects of earlier content were removed.
    """

    source: str
    s3_uri: str
    objects: int
    size_bytes: int
    uploaded: int
    skipped: int
    deleted: int
    elapsed_seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the result as what XCom and asset events carry."""
        return asdict(self)


class Publication:
    """
    One plan on its way to its bucket.

    :param bucket: Where the objects go.
    :param plan: What they are.
    :param overwrite: Whether other content at the destination may be replaced.
    """

    def __init__(self, bucket: Bucket, plan: StagingPlan, *, overwrite: bool) -> None:
        self.bucket = bucket
        self.plan = plan
        self.overwrite = overwrite
        # By key, the checksum of our content and the ETag of the object that was seen to hold it.
        self._confirmed: dict[str, Digest] = {}

    def run(self) -> StagingResult:
        """
        Upload what is missing, replace and delete what may be, and verify.

        :raises StagingConflictError: If other content is at the destination and must not be replaced.
        :raises StagingError: If the source changes meanwhile, the verification fails, or the upload is stopped.
        :raises botocore.exceptions.ClientError: If the server refuses a request.
        """
        started = time.monotonic()
        remote = self._list()
        found = self._compare(remote)
        wanted = [*found.missing, *found.different]
        if found.different or found.extra:
            self._refuse_other_content(found)
            # No reader may open a tree in which old and new objects are mixed.
            withdrawn = self._withdraw_root_metadata(remote)
            wanted += [file for file in found.same if file.key in withdrawn]
        uploaded = self._replace(wanted, found.extra, remote)
        if wanted or found.extra:
            self._verify()
        return self._result(uploaded, deleted=len(found.extra), seconds=time.monotonic() - started)

    def _list(self) -> dict[str, RemoteObject]:
        return (self.bucket.list_tree if self.plan.is_tree else self.bucket.list_object)(self.plan.key)

    def _compare(self, remote: Mapping[str, RemoteObject]) -> Comparison:
        each_file = self.bucket.workers.each_file
        needed = digests_needed(self.plan, remote)
        digests = {
            file.key: digest for file, digest in zip(needed, each_file(self.bucket.digest, needed), strict=True)
        }
        found = compare(self.plan, remote, digests)
        answers = each_file(lambda file: self.bucket.confirm(file, digests[file.key]), found.unclear)
        asked = dict(zip(found.unclear, answers, strict=True))
        for file in found.same:
            self._confirmed[file.key] = Digest(digests[file.key].crc64nvme, remote[file.key].etag)
        self._confirmed |= {file.key: confirmed for file, confirmed in asked.items() if confirmed}
        return found.settled(
            same=[file for file, confirmed in asked.items() if confirmed],
            different=[file for file, confirmed in asked.items() if not confirmed],
        )

    def _refuse_other_content(self, found: Comparison) -> None:
        if not self.overwrite:
            others = [*(file.key for file in found.different), *(there.key for there in found.extra)]
            raise StagingConflictError(
                f"Other content is already at {self.plan.s3_uri}: {_named(others)}. Nothing was uploaded. Choose "
                "another destination, or set overwrite=True to replace it."
            )

    def _withdraw_root_metadata(self, remote: dict[str, RemoteObject]) -> list[str]:
        withdrawn = sorted(self.plan.root_keys & remote.keys())
        self.bucket.delete(withdrawn)
        for key in withdrawn:
            del remote[key]
        return withdrawn

    def _replace(
        self, wanted: Sequence[SourceFile], extra: Sequence[RemoteObject], remote: Mapping[str, RemoteObject]
    ) -> int:
        """Send the files and delete what is left of other content; return how many objects were sent."""

        def send(file: SourceFile) -> bool:
            self._confirmed[file.key], was_sent = self.bucket.send(file, replaced=remote.get(file.key))
            return was_sent

        log.info("Staging %s: %d of %d objects to send.", self.plan.s3_uri, len(wanted), len(self.plan.files))
        root_keys = self.plan.root_keys
        uploaded = sum(self.bucket.workers.each_file(send, [file for file in wanted if file.key not in root_keys]))
        self.bucket.delete([there.key for there in extra if there.key in remote])
        root = [file for file in wanted if file.key in root_keys]
        if root and not is_current(self.plan):
            raise StagingError(
                f"{self.plan.source} changed while it was being staged, so its root metadata was not uploaded and "
                "no reader can open it. Stage an output when it is finished; try again when nothing writes to it."
            )
        return uploaded + sum(send(file) for file in root)

    def _verify(self) -> None:
        """Compare every object with the server's own listing, and find what does not belong there."""
        remote = self._list()
        wrong = [file.key for file in self.plan.files if not self._is_verified(file, remote.get(file.key))]
        wrong += sorted(remote.keys() - self.plan.keys)
        if wrong:
            raise StagingError(
                f"What is at {self.plan.s3_uri} after the upload is not what was sent; missing, altered or "
                f"unknown: {_named(wrong)}. Another writer may be at work there; try again when it is done."
            )
        log.info("Staged %s: %d objects verified.", self.plan.s3_uri, len(self.plan.files))

    def _is_verified(self, file: SourceFile, there: RemoteObject | None) -> bool:
        if there is None or there.size != file.size:
            return False
        confirmed = self._confirmed[file.key]
        return there.etag == confirmed.etag or self.bucket.confirm(file, confirmed) is not None

    def _result(self, uploaded: int, *, deleted: int, seconds: float) -> StagingResult:
        return StagingResult(
            source=str(self.plan.source),
            s3_uri=self.plan.s3_uri,
            objects=len(self.plan.files),
            size_bytes=self.plan.size_bytes,
            uploaded=uploaded,
            skipped=len(self.plan.files) - uploaded,
            deleted=deleted,
            elapsed_seconds=round(seconds, 3),
        )


def _named(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - NAMED_IN_MESSAGES} more" if len(keys) > NAMED_IN_MESSAGES else ""
    return ", ".join(keys[:NAMED_IN_MESSAGES]) + more
