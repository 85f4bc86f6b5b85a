"""The objects of one plan: compared with what is there, sent, and verified."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from airflow_provider_ophys.exceptions import StagingError
from airflow_provider_ophys.staging.bucket import Bucket
from airflow_provider_ophys.staging.checksums import Digest
from airflow_provider_ophys.staging.comparison import Comparison, RemoteObject, compare, digests_needed
from airflow_provider_ophys.staging.files import SourceFile
from airflow_provider_ophys.staging.plan import StagingPlan, is_current
from airflow_provider_ophys.staging.progress import Progress

log = logging.getLogger(__name__)

NAMED_IN_MESSAGES = 5


class Transfer:
    """
    One plan on its way to its bucket.

    :param bucket: Where the objects go.
    :param plan: What they are.
    :param digests: Those that are known, by the path of the file; the others are computed when they are needed.
    """

    def __init__(self, bucket: Bucket, plan: StagingPlan, digests: Mapping[Path, Digest] | None = None) -> None:
        self.bucket = bucket
        self.plan = plan
        # By path and not by key, which may become another one.
        self._digests = dict(digests or {})
        # By key, the checksum of our content and the ETag of the object that was seen to hold it.
        self._confirmed: dict[str, Digest] = {}
        # By key, what was there when it was last looked at.
        self.remote: dict[str, RemoteObject] = {}

    def digests(self, files: Sequence[SourceFile]) -> Mapping[str, Digest]:
        """Read those of the files that were not read yet; return the digests of all of them by key."""
        unread = [file for file in files if file.path not in self._digests]
        # More threads than processors would only get into each other's way.
        found = self.bucket.workers.each_file(self.bucket.digest, unread, threads=os.cpu_count())
        self._digests |= {file.path: digest for file, digest in zip(unread, found, strict=True)}
        return {file.key: self._digests[file.path] for file in files}

    def crc64nvme(self, file: SourceFile) -> str:
        """Give the checksum of a file that was read."""
        known = self._confirmed.get(file.key) or self._digests[file.path]
        return known.crc64nvme

    def look(self) -> Comparison:
        """List the destination and compare it with the plan."""
        self.remote = self._list()
        digests = self.digests(digests_needed(self.plan, self.remote))
        found = compare(self.plan, self.remote, digests)
        answers = self.bucket.workers.each_file(
            lambda file: self.bucket.confirm(file, digests[file.key]), found.unclear
        )
        asked = dict(zip(found.unclear, answers, strict=True))
        for file in found.same:
            self._confirmed[file.key] = Digest(digests[file.key].crc64nvme, self.remote[file.key].etag)
        self._confirmed |= {file.key: confirmed for file, confirmed in asked.items() if confirmed}
        return found.settled(
            same=[file for file, confirmed in asked.items() if confirmed],
            different=[file for file, confirmed in asked.items() if not confirmed],
        )

    def wanted(self, found: Comparison) -> list[SourceFile]:
        """Give the files that must be sent; if anything is replaced, the root metadata too."""
        replaces = bool(found.different or found.extra)
        root = [file for file in found.same if replaces and file.key in self.plan.root_keys]
        return [*found.missing, *found.different, *root]

    def replace(self, found: Comparison, check: Callable[[], None]) -> int:
        """
        Send what is missing or different and delete what is left of other content, then verify all of it.

        :param found: What :meth:`look` told.
        :param check: Called before what others would see; raises if it must not be done any more.
        :return: How many objects were sent.
        :raises StagingError: If the source changes meanwhile or the verification fails.
        """
        wanted = self.wanted(found)
        if found.different or found.extra:
            # No reader may open a tree in which old and new objects are mixed.
            self._withdraw_root_metadata(check)
        self.bucket.workers.progress = Progress(self.plan.s3_uri, sum(file.size for file in wanted))
        log.info("Staging %s: %d of %d objects to send.", self.plan.s3_uri, len(wanted), len(self.plan.files))
        root_keys = self.plan.root_keys
        uploaded = self._send([file for file in wanted if file.key not in root_keys])
        check()
        self.bucket.delete([there.key for there in found.extra if there.key in self.remote])
        root = [file for file in wanted if file.key in root_keys]
        if root and not is_current(self.plan):
            raise StagingError(
                f"{self.plan.source} changed while it was being staged, so its root metadata was not uploaded and "
                "no reader can open it. Stage an output when it is finished; try again when nothing writes to it."
            )
        check()
        uploaded += self._send(root)
        if wanted or found.extra:
            self.verify()
        return uploaded

    def verify(self) -> None:
        """
        Compare every object with the server's own listing, and find what does not belong there.

        :raises StagingError: If anything is missing, altered or unknown.
        """
        remote = self._list()
        wrong = [file.key for file in self.plan.files if not self._is_verified(file, remote.get(file.key))]
        wrong += sorted(remote.keys() - self.plan.keys)
        if wrong:
            raise StagingError(
                f"What is at {self.plan.s3_uri} after the upload is not what was sent; missing, altered or "
                f"unknown: {named(wrong)}. Another writer may be at work there; try again when it is done."
            )
        log.info("Staged %s: %d objects verified.", self.plan.s3_uri, len(self.plan.files))

    def _list(self) -> dict[str, RemoteObject]:
        return (self.bucket.list_tree if self.plan.is_tree else self.bucket.list_object)(self.plan.key)

    def _withdraw_root_metadata(self, check: Callable[[], None]) -> None:
        withdrawn = sorted(self.plan.root_keys & self.remote.keys())
        check()
        self.bucket.delete(withdrawn)
        for key in withdrawn:
            del self.remote[key]

    def _send(self, files: Sequence[SourceFile]) -> int:
        def send(file: SourceFile) -> bool:
            # The manifest of a tree lists the MD5s, and no file should be read twice for it.
            sent = self.bucket.send(file, replaced=self.remote.get(file.key), with_md5=self.plan.is_tree)
            self._confirmed[file.key] = sent.stored
            if sent.content:
                self._digests[file.path] = sent.content
            return sent.was_sent

        return sum(self.bucket.workers.each_file(send, files))

    def _is_verified(self, file: SourceFile, there: RemoteObject | None) -> bool:
        if there is None or there.size != file.size:
            return False
        confirmed = self._confirmed[file.key]
        return there.etag == confirmed.etag or self.bucket.confirm(file, confirmed) is not None


def named(keys: Sequence[str]) -> str:
    """Name the first few keys, for a message."""
    more = f" and {len(keys) - NAMED_IN_MESSAGES} more" if len(keys) > NAMED_IN_MESSAGES else ""
    return ", ".join(keys[:NAMED_IN_MESSAGES]) + more
