"""What a destination has and lacks, told from its listing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Self

from airflow_provider_ophys.staging.checksums import Digest
from airflow_provider_ophys.staging.files import SourceFile
from airflow_provider_ophys.staging.plan import StagingPlan


@dataclass(frozen=True, slots=True)
class RemoteObject:
    """An object as a listing shows it; ``etag`` has no quotes."""

    key: str
    size: int
    etag: str


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
