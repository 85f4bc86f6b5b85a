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
from airflow_provider_ophys.staging.files import PART_SIZE, SourceFile
from airflow_provider_ophys.staging.known_digests import KnownDigests
from airflow_provider_ophys.staging.plan import StagingPlan, is_current
from airflow_provider_ophys.staging.sending import Sender, Sent
from airflow_provider_ophys.staging.server_copies import Twin
from airflow_provider_ophys.staging.store import RemoteObject, Store
from airflow_provider_ophys.staging.transfer_threads import TransferProgress, TransferThreads

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
    :param known: What an earlier staging of the same files has left.
    """

    def __init__(
        self,
        store: Store,
        workers: TransferThreads,
        plan: StagingPlan,
        digests: Mapping[Path, Digest] | None = None,
        known: KnownDigests | None = None,
    ) -> None:
        self.store = store
        self.workers = workers
        self.plan = plan
        self._sender = Sender(store, workers)
        # By path and not by key, which may become another one.
        self._digests = dict(digests or {})
        self._known = known or KnownDigests(plan)
        self._digests |= self._known.digests
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

    @property
    def found_digests(self) -> dict[Path, Digest]:
        """
        All that is known of the files by now, by their paths.

        Of a file that was sent in parts, the ETag is that of the store. In trees all have that of their content.
        """
        confirmed = {} if self.plan.is_tree else self._confirmed
        found = {file.path: self._digests.get(file.path) or confirmed.get(file.key) for file in self.plan.files}
        return {path: digest for path, digest in found.items() if digest}

    def look(self) -> Comparison:
        """List the destination and compare it with the plan."""
        self.remote = self._list()
        digests = self.digests(digests_needed(self.plan, self.remote))
        found = compare(self.plan, self.remote, digests)
        answers = self.workers.each_file(lambda file: self._sender.confirm(file, digests[file.key]), found.unclear)
        asked = dict(zip(found.unclear, answers, strict=True))
        if doubtful := [file.path for file, confirmed in asked.items() if not confirmed and self._is_kept(file)]:
            # Before anything is refused or replaced because of what was only kept, it is read.
            for path in doubtful:
                del self._digests[path], self._known.digests[path]
            return self.look()
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
        self.workers.progress = TransferProgress(self.plan.s3_uri, sum(file.size for file in wanted))
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
        found = _list_place(self.store, self.plan.key, is_tree=self.plan.is_tree)
        return {there.key: there for there in found}

    def _withdraw_root_metadata(self, check: Callable[[], None]) -> None:
        withdrawn = sorted(self.plan.root_keys & self.remote.keys())
        check()
        self.store.delete(withdrawn)
        for key in withdrawn:
            del self.remote[key]

    def _send(self, files: Sequence[SourceFile]) -> int:
        elsewhere = self._elsewhere(files)

        def send(file: SourceFile) -> Sent:
            # The manifest of a tree lists the MD5s, and no file should be read twice for it.
            sent = self._sender.send(
                file,
                replaced=self.remote.get(file.key),
                with_md5=self.plan.is_tree,
                twin=Twin(elsewhere[file.key], self._digests[file.path]) if file.key in elsewhere else None,
            )
            self._confirmed[file.key] = sent.stored
            if sent.content:
                self._digests[file.path] = sent.content
            return sent

        results = self.workers.each_file(send, files)
        self.sent_bytes += sum(sent.sent_bytes for sent in results)
        self.copied_bytes += sum(sent.copied_bytes for sent in results)
        return sum(sent.was_sent for sent in results)

    def _is_kept(self, file: SourceFile) -> bool:
        return file.path in self._known.digests

    def _elsewhere(self, files: Sequence[SourceFile]) -> dict[str, RemoteObject]:
        """Find, by key, objects of the same bucket with what is known to be the content of big files."""
        own = self.plan.key
        wanted = {file.key: file for file in files if file.size > PART_SIZE and self._is_kept(file)}
        found: dict[str, RemoteObject] = {}
        for place in self._known.places if wanted else ():
            bucket, _, key = place.removeprefix("s3://").partition("/")
            if bucket != self.plan.bucket or key == own:
                continue
            for there in _list_place(self.store, key, is_tree=self.plan.is_tree):
                file = wanted.get(own + there.key.removeprefix(key))
                if file is not None and there.size == file.size:
                    found.setdefault(file.key, there)
        return found

    def _is_verified(self, file: SourceFile, there: RemoteObject | None) -> bool:
        if there is None or there.size != file.size:
            return False
        confirmed = self._confirmed[file.key]
        return there.etag == confirmed.etag or self._sender.confirm(file, confirmed) is not None


def _list_place(store: Store, key: str, *, is_tree: bool) -> Iterable[RemoteObject]:
    if is_tree:
        return store.list_all(f"{key}/")
    found = store.find(key)
    return [found] if found else []


def named(keys: Sequence[str]) -> str:
    """Name the first few keys, for a message."""
    more = f" and {len(keys) - NAMED_IN_MESSAGES} more" if len(keys) > NAMED_IN_MESSAGES else ""
    return ", ".join(keys[:NAMED_IN_MESSAGES]) + more
