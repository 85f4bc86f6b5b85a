"""The objects of one plan: compared with what is there, sent, and verified."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from airflow_provider_ophys.exceptions import StagingError
from airflow_provider_ophys.staging.checksums import Digest
from airflow_provider_ophys.staging.files import SourceFile
from airflow_provider_ophys.staging.plan import StagingPlan, is_current
from airflow_provider_ophys.staging.sending import Sender, Sent
from airflow_provider_ophys.staging.store import RemoteObject, Store
from airflow_provider_ophys.staging.workers import Progress, Workers

log = logging.getLogger(__name__)

NAMED_IN_MESSAGES = 5


@dataclass(frozen=True, slots=True)
class Comparison:
    """
    What a destination has and lacks.

    :param missing: Files that have no object there.
    :param same: Files whose object has the same content.
    :param different: Files whose object has other content.
    :param unclear: Files whose object has the same size and another ETag: it may be no MD5 (an encrypted bucket,
        parts of another size), so that only the object's checksum can tell.
    :param extra: Objects inside the tree that no file corresponds to.
    """

    missing: tuple[SourceFile, ...]
    same: tuple[SourceFile, ...]
    different: tuple[SourceFile, ...]
    unclear: tuple[SourceFile, ...]
    extra: tuple[RemoteObject, ...]

    @property
    def is_complete(self) -> bool:
        """Whether the destination holds exactly what it should."""
        return not (self.missing or self.different or self.unclear or self.extra)

    def settled(self, *, same: Iterable[SourceFile], different: Iterable[SourceFile]) -> Self:
        """Tell the unclear files apart."""
        return replace(self, same=(*self.same, *same), different=(*self.different, *different), unclear=())


def compare(plan: StagingPlan, remote: Mapping[str, RemoteObject], digests: Mapping[str, Digest]) -> Comparison:
    """
    Compare a plan with what is at its destination.

    :param plan: What should be there.
    :param remote: What is there, by key.
    :param digests: By key, those of at least the files for which :func:`digests_needed` asks.
    """
    missing, same, different, unclear = [], [], [], []
    for file in plan.files:
        there = remote.get(file.key)
        if there is None:
            missing.append(file)
        elif there.size != file.size:
            different.append(file)
        elif there.etag == digests[file.key].etag:
            same.append(file)
        else:
            unclear.append(file)
    planned = plan.keys
    extra = [there for key, there in sorted(remote.items()) if key not in planned]
    return Comparison(tuple(missing), tuple(same), tuple(different), tuple(unclear), tuple(extra))


def digests_needed(plan: StagingPlan, remote: Mapping[str, RemoteObject]) -> list[SourceFile]:
    """Name the files that have an object of their size: only these must be read to be compared."""
    return [file for file in plan.files if file.key in remote and remote[file.key].size == file.size]


class Transfer:
    """
    One plan on its way to its store.

    :param store: Where the objects go.
    :param workers: Who reads and sends the files.
    :param plan: What they are.
    :param digests: Those that are known, by the path of the file; the others are computed when they are needed.
    """

    def __init__(
        self, store: Store, workers: Workers, plan: StagingPlan, digests: Mapping[Path, Digest] | None = None
    ) -> None:
        self.store = store
        self.workers = workers
        self.plan = plan
        self._sender = Sender(store, workers)
        # By path and not by key, which may become another one.
        self._digests = dict(digests or {})
        # By key, the checksum of our content and the ETag of the object that was seen to hold it.
        self._confirmed: dict[str, Digest] = {}
        # By key, what was there when it was last looked at.
        self.remote: dict[str, RemoteObject] = {}
        # What went to the store so far, and what that copied from objects which were replaced.
        self.sent_bytes = self.copied_bytes = 0

    def digests(self, files: Sequence[SourceFile]) -> Mapping[str, Digest]:
        """Read those of the files that were not read yet; return the digests of all of them by key."""
        unread = [file for file in files if file.path not in self._digests]
        # More threads than processors would only get into each other's way.
        found = self.workers.each_file(self._sender.digest, unread, threads=os.cpu_count())
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
        answers = self.workers.each_file(lambda file: self._sender.confirm(file, digests[file.key]), found.unclear)
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
        self.workers.progress = Progress(self.plan.s3_uri, sum(file.size for file in wanted))
        log.info("Staging %s: %d of %d objects to send.", self.plan.s3_uri, len(wanted), len(self.plan.files))
        root_keys = self.plan.root_keys
        uploaded = self._send([file for file in wanted if file.key not in root_keys])
        check()
        self.store.delete([there.key for there in found.extra if there.key in self.remote])
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
        if self.plan.is_tree:
            return {there.key: there for there in self.store.list_all(f"{self.plan.key}/")}
        found = self.store.find(self.plan.key)
        return {found.key: found} if found else {}

    def _withdraw_root_metadata(self, check: Callable[[], None]) -> None:
        withdrawn = sorted(self.plan.root_keys & self.remote.keys())
        check()
        self.store.delete(withdrawn)
        for key in withdrawn:
            del self.remote[key]

    def _send(self, files: Sequence[SourceFile]) -> int:
        def send(file: SourceFile) -> Sent:
            # The manifest of a tree lists the MD5s, and no file should be read twice for it.
            sent = self._sender.send(file, replaced=self.remote.get(file.key), with_md5=self.plan.is_tree)
            self._confirmed[file.key] = sent.stored
            if sent.content:
                self._digests[file.path] = sent.content
            return sent

        results = self.workers.each_file(send, files)
        self.sent_bytes += sum(sent.sent_bytes for sent in results)
        self.copied_bytes += sum(sent.copied_bytes for sent in results)
        return sum(sent.was_sent for sent in results)

    def _is_verified(self, file: SourceFile, there: RemoteObject | None) -> bool:
        if there is None or there.size != file.size:
            return False
        confirmed = self._confirmed[file.key]
        return there.etag == confirmed.etag or self._sender.confirm(file, confirmed) is not None


def named(keys: Sequence[str]) -> str:
    """Name the first few keys, for a message."""
    more = f" and {len(keys) - NAMED_IN_MESSAGES} more" if len(keys) > NAMED_IN_MESSAGES else ""
    return ", ".join(keys[:NAMED_IN_MESSAGES]) + more
