"""The manifest of a Zarr tree: which files it has, their checksums, and one digest of all of that."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from airflow_provider_ophys.exceptions import StagingConflictError
from airflow_provider_ophys.staging.checksums import Digest
from airflow_provider_ophys.staging.plan import StagingPlan

FORMAT = "airflow-provider-ophys manifest 1"
SUFFIX = ".manifest.json"
State = Literal["publishing", "published"]
_STATES: dict[tuple[str, str], State] = {(FORMAT, "publishing"): "publishing", (FORMAT, "published"): "published"}


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    """A file of a tree: its path inside the tree, its size in bytes, and its checksums as S3 writes them."""

    path: str
    size: int
    crc64nvme: str
    etag: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """
    What a tree consists of.

    :param state: ``publishing`` while objects are replaced: what is there then is neither the old tree nor the
        new one.
    :param digest: One for the same files with the same content, whoever reads them.
    :param files: Sorted by path; empty while ``publishing``.
    """

    state: State
    digest: str
    files: tuple[ManifestEntry, ...]

    @classmethod
    def of(cls, plan: StagingPlan, digests: Mapping[str, Digest]) -> Self:
        """Describe a planned tree, from the digests of all its files by their keys."""
        entries = sorted(
            (
                ManifestEntry(
                    file.key.removeprefix(f"{plan.key}/"),
                    file.size,
                    digests[file.key].crc64nvme,
                    digests[file.key].etag,
                )
                for file in plan.files
            ),
            key=lambda entry: entry.path,
        )
        described = _canonical([_described(entry) for entry in entries])
        return cls("published", f"sha256:{hashlib.sha256(described).hexdigest()}", tuple(entries))

    def in_progress(self) -> Manifest:
        """Announce that this tree is on its way."""
        return Manifest("publishing", self.digest, ())

    def to_bytes(self) -> bytes:
        """Write it as canonical JSON: the same tree is always the same bytes."""
        content = {
            "format": FORMAT,
            "state": self.state,
            "digest": self.digest,
            "files": [_described(entry) for entry in self.files],
        }
        return _canonical(content)

    @classmethod
    def from_bytes(cls, content: bytes, uri: str) -> Self:
        """
        Read what :meth:`to_bytes` wrote.

        :param uri: Where it was found, for the message.
        :raises StagingConflictError: If it is something else.
        """
        try:
            found = json.loads(content)
            state = _STATES[found["format"], found["state"]]
            return cls(state, str(found["digest"]), tuple(ManifestEntry(**entry) for entry in found["files"]))
        except (ValueError, KeyError, TypeError) as error:
            raise StagingConflictError(
                f"{uri} is where the manifest belongs, and something else. Nothing was uploaded. Move that object "
                "away, or choose another destination."
            ) from error


def _described(entry: ManifestEntry) -> dict[str, Any]:
    return {"path": entry.path, "size": entry.size, "crc64nvme": entry.crc64nvme, "etag": entry.etag}


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
