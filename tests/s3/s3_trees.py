"""Sources to stage: a size that needs several parts, and small folders that look like Zarr trees."""

from __future__ import annotations

from pathlib import Path

from airflow_provider_ophys.staging.files import PART_SIZE

BIG = 3 * PART_SIZE + 5


def make_tree(folder: Path, *, chunks: int = 20, seed: int = 0) -> Path:
    """Make what looks like a Zarr tree; chunk contents depend on ``seed`` alone."""
    array = folder / "acquisition" / "data"
    (array / "c").mkdir(parents=True)
    (folder / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    (array / "zarr.json").write_text('{"zarr_format": 3, "node_type": "array"}')
    for number in range(chunks):
        (array / "c" / str(number)).write_bytes(bytes([seed, number]) * 500)
    return folder


def files_of(tree: Path) -> dict[str, bytes]:
    """Give the content of all files of a tree by the keys they should have."""
    return {str(path.relative_to(tree.parent)): path.read_bytes() for path in tree.rglob("*") if path.is_file()}
