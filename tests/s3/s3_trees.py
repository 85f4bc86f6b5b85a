"""Sources to stage: a size that needs several parts, and small folders that look like Zarr trees."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

from awscrt import checksums

from airflow_provider_ophys.staging.files import PART_SIZE

BIG = 2 * PART_SIZE + 5


def make_tree(folder: Path, *, chunks: int = 20, seed: int = 0) -> Path:
    """Make what looks like a Zarr tree; chunk contents depend on ``seed`` alone."""
    array = folder / "acquisition" / "data"
    (array / "c").mkdir(parents=True)
    (folder / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    (array / "zarr.json").write_text('{"zarr_format": 3, "node_type": "array"}')
    for number in range(chunks):
        (array / "c" / str(number)).write_bytes(bytes([seed, number % 256]) * 500)
    return folder


def files_of(tree: Path) -> dict[str, bytes]:
    """Give the content of all files of a tree by the keys they should have."""
    return {str(path.relative_to(tree.parent)): path.read_bytes() for path in tree.rglob("*") if path.is_file()}


def published(tree: Path) -> dict[str, bytes]:
    """Give all that must be in the bucket when a tree of small files is published."""
    return files_of(tree) | {f"{tree.name}.manifest.json": manifest_of(tree)}


def manifest_of(tree: Path) -> bytes:
    """Write the manifest that a tree of small files should have."""
    files = [
        {
            "path": str(path.relative_to(tree)),
            "size": path.stat().st_size,
            "crc64nvme": crc64nvme(path.read_bytes()),
            "etag": hashlib.md5(path.read_bytes()).hexdigest(),  # noqa: S324 -- as S3 does
        }
        for path in sorted(tree.rglob("*"), key=lambda path: str(path.relative_to(tree)))
        if path.is_file()
    ]
    digest = hashlib.sha256(_canonical(files)).hexdigest()
    name = "airflow-provider-ophys manifest 1"
    return _canonical({"format": name, "state": "published", "digest": f"sha256:{digest}", "files": files})


def crc64nvme(content: bytes) -> str:
    """Compute the checksum as S3 writes it."""
    return base64.b64encode(checksums.crc64nvme(content).to_bytes(8, "big")).decode()


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
