"""Looking at what was staged earlier: what is missing, altered or extra, told from its source or its manifest."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from airflow_provider_ophys.exceptions import SourceNotFoundError
from airflow_provider_ophys.staging.checksums import Digest
from airflow_provider_ophys.staging.files import Fingerprint, SourceFile
from airflow_provider_ophys.staging.manifest import SUFFIX, Manifest, ManifestEntry
from airflow_provider_ophys.staging.plan import Destination, StagingPlan, plan_staging
from airflow_provider_ophys.staging.store import Store
from airflow_provider_ophys.staging.transfer import Transfer
from airflow_provider_ophys.staging.transfer_threads import TransferThreads
from airflow_provider_ophys.staging.versions import POINTER

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AuditReport:
    """
    What an audit found.

    ``against`` is what the objects were compared with: ``source``, ``manifest`` or ``digest``. ``missing``,
    ``altered`` and ``extra`` are keys, the manifest's own included; ``intact`` says that there are none.
    """

    s3_uri: str
    manifest_uri: str | None
    against: str
    objects: int
    size_bytes: int
    missing: list[str]
    altered: list[str]
    extra: list[str]
    intact: bool
    elapsed_seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the report as what XCom carries."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Expected:
    """
    What should be in the bucket.

    :param plan: Which objects.
    :param digests: What they hold, by the path of the file; of other files the digests come from reading them.
    :param digest: Of all of it, if staging reported that.
    :param against: Where this is known from.
    """

    plan: StagingPlan
    digests: Mapping[Path, Digest]
    digest: str | None
    against: str


def audit(
    store: Store,
    workers: TransferThreads,
    source: Path,
    destination: Destination,
    staged: Mapping[str, Any] | None,
) -> AuditReport:
    """
    Compare what is in a store with what should be there; nothing is written.

    :param store: Where to look.
    :param workers: Who reads the files.
    :param source: What was staged; if it is not there any more, the manifest tells what it was.
    :param destination: Where it was staged to.
    :param staged: What staging reported, if that is known: it tells the version, and the digest of a file.
    :raises SourceNotFoundError: If nothing tells what should be there.
    """
    started = time.monotonic()
    key = _key(store, source, destination, staged)
    expected = _from_source(source, destination, key) or _from_digest(source, destination, key, staged)
    expected = expected or _from_manifest(store, source, destination, key, staged)
    transfer = Transfer(store, workers, expected.plan, expected.digests)
    found = transfer.look()
    missing = [file.key for file in found.missing]
    altered = [file.key for file in found.different]
    if expected.plan.is_tree:
        # Whoever altered the manifest may have made it fit itself, but not what staging reported.
        manifest = Manifest.of(expected.plan, transfer.digests(expected.plan.files))
        there = store.get(f"{key}{SUFFIX}")
        if there is None:
            missing.append(f"{key}{SUFFIX}")
        elif there.content != manifest.to_bytes() or expected.digest not in (None, manifest.digest):
            altered.append(f"{key}{SUFFIX}")
    extra = [there.key for there in found.extra]
    for kind, keys in (("missing", missing), ("altered", altered), ("extra", extra)):
        for one in keys:
            log.warning("%s: %s", kind, store.uri(one))
    return AuditReport(
        s3_uri=expected.plan.s3_uri,
        manifest_uri=store.uri(f"{key}{SUFFIX}") if expected.plan.is_tree else None,
        against=expected.against,
        objects=len(expected.plan.files),
        size_bytes=expected.plan.size_bytes,
        missing=missing,
        altered=altered,
        extra=extra,
        intact=not (missing or altered or extra),
        elapsed_seconds=round(time.monotonic() - started, 3),
    )


def _key(store: Store, source: Path, destination: Destination, staged: Mapping[str, Any] | None) -> str:
    """Find where it is: where staging said, at the newest version, or in place."""
    if staged:
        return str(staged["s3_uri"]).removeprefix(f"s3://{destination.bucket}/")
    key = destination.key_of(source)
    pointer = store.get(f"{key}/{POINTER}")
    return str(json.loads(pointer.content)["key"]) if pointer else key


def _from_source(source: Path, destination: Destination, key: str) -> Expected | None:
    if not source.exists():
        return None
    return Expected(plan_staging(source, destination).moved(key), {}, None, "source")


def _from_digest(
    source: Path, destination: Destination, key: str, staged: Mapping[str, Any] | None
) -> Expected | None:
    kind, _, crc = str((staged or {}).get("digest", "")).partition(":")
    if staged is None or kind != "crc64nvme":
        return None
    file = SourceFile(source, key, Fingerprint(0, 0, int(staged["size_bytes"]), 0))
    plan = StagingPlan(source, destination.bucket, key, (file,), is_tree=False)
    return Expected(plan, {source: Digest(crc, "unknown")}, None, "digest")


def _from_manifest(
    store: Store, source: Path, destination: Destination, key: str, staged: Mapping[str, Any] | None
) -> Expected:
    there = store.get(f"{key}{SUFFIX}")
    if there is None:
        raise SourceNotFoundError(
            f"Nothing tells what should be at s3://{destination.bucket}/{key}: there is no {source}, and no "
            "manifest. Correct the source; of a file that is not here any more, give what staging returned."
        )
    manifest = Manifest.from_bytes(there.content, store.uri(f"{key}{SUFFIX}"))
    files = [_file(source, key, entry) for entry in manifest.files]
    plan = StagingPlan(source, destination.bucket, key, tuple(files), is_tree=True)
    digests = {
        file.path: Digest(entry.crc64nvme, entry.etag) for file, entry in zip(files, manifest.files, strict=True)
    }
    return Expected(plan, digests, staged["digest"] if staged else None, "manifest")


def _file(source: Path, key: str, entry: ManifestEntry) -> SourceFile:
    return SourceFile(source / entry.path, f"{key}/{entry.path}", Fingerprint(0, 0, entry.size, 0))
