"""What staging reports."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class StagingResult:
    """
    What staging reports.

    ``source`` is the local path. ``manifest_uri`` is the list of a tree's objects; a file needs none. ``digest``
    stands for the content: ``crc64nvme:`` and the checksum that S3 itself shows of a file, ``sha256:`` and that of
    the list of all objects and their checksums of a tree. ``latest_uri`` is what names the newest version in the
    versioned layout. ``objects`` and ``size_bytes`` count all that it became;
    ``uploaded`` of these objects were sent now and ``skipped`` were there already; ``deleted`` objects of earlier
    content were removed, and ``deleted_local`` tells whether the source was. After a ``dry_run`` these say what
    would have been done.
    """

    source: str
    s3_uri: str
    manifest_uri: str | None
    latest_uri: str | None
    digest: str
    objects: int
    size_bytes: int
    uploaded: int
    skipped: int
    deleted: int
    deleted_local: bool
    dry_run: bool
    elapsed_seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the result as what XCom and asset events carry."""
        return asdict(self)
