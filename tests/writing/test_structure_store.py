"""The store that the structure of a Zarr file is written to: the same files as zarr-python's own, at the end."""

import asyncio
import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zarr
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import LocalStore

from airflow_provider_ophys.writing.structure_store import SMALL_BYTES, StructureStore


def write(store):
    """Groups, attributes, arrays of both sizes, and some of it deleted or written anew."""
    root = zarr.open_group(store, mode="w")
    root.attrs["title"] = "first"
    root.attrs["title"] = "second"
    table = root.require_group("processing").create_group("table")
    small = table.create_array("id", shape=(3,), chunks=(3,), dtype="i4")
    small[:] = [1, 2, 3]
    small.attrs["unit"] = "n.a."
    large = table.create_array("large", shape=(SMALL_BYTES,), chunks=(SMALL_BYTES,), dtype="i4", compressors=None)
    large[:] = np.arange(SMALL_BYTES)
    table.create_array("text", data=np.array(["one", "two"], dtype="U3"))
    table.create_array("gone", data=np.zeros(5))
    del table["gone"]
    root.create_group("old").create_group("inner")
    root.create_group("old", overwrite=True).attrs["new"] = True
    table["id"].resize((5,))
    return root


def files_below(folder):
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_it_leaves_the_files_that_zarrs_own_store_leaves(tmp_path):
    write(LocalStore(tmp_path / "zarrs"))
    store = StructureStore(tmp_path / "ours")
    write(store)
    store.flush()

    written = files_below(tmp_path / "ours")
    assert written == files_below(tmp_path / "zarrs")
    assert json.loads(written["zarr.json"])["attributes"] == {"title": "second"}


def test_what_is_not_on_the_disk_yet_is_read_and_listed(tmp_path):
    store = StructureStore(tmp_path)
    root = write(store)

    root.create_group("new").create_group("below")
    assert not list((tmp_path / "new").rglob("zarr.json"))
    assert "new/below" in root
    assert sorted(root["processing/table"]) == ["id", "large", "text"]
    assert dict(zarr.open_group(store, mode="r").attrs) == {"title": "second"}
    assert zarr.open_group(store, mode="r+")["processing/table/id"].shape == (5,)
    assert "old/inner" not in root


def test_consolidated_metadata_are_those_of_zarrs_own_store(tmp_path):
    ours, zarrs = StructureStore(tmp_path / "ours"), LocalStore(tmp_path / "zarrs")
    for store in (ours, zarrs):
        write(store)
        with pytest.warns(UserWarning, match="Consolidated metadata"):
            zarr.consolidate_metadata(store)
    ours.flush()

    assert json.loads((tmp_path / "ours" / "zarr.json").read_text()) == json.loads(
        (tmp_path / "zarrs" / "zarr.json").read_text()
    )


def test_a_store_that_is_there_is_changed(tmp_path):
    write(LocalStore(tmp_path))
    store = StructureStore(tmp_path)
    zarr.open_group(store, mode="r+")["processing"].attrs["added"] = 1
    store.flush()

    root = zarr.open_group(tmp_path, mode="r")
    assert dict(root["processing"].attrs) == {"added": 1}
    assert root["processing/table/id"][:3].tolist() == [1, 2, 3]


def test_what_is_listed_by_key_is_on_the_disk(tmp_path):
    store = StructureStore(tmp_path)
    write(store)

    async def keys(prefix):
        return {key async for key in store.list_prefix(prefix)}

    # In a thread of its own: in this one a browser's loop may still be running.
    with ThreadPoolExecutor(1) as pool:
        assert "processing/table/id/zarr.json" in pool.submit(lambda: asyncio.run(keys("processing"))).result()
        assert "zarr.json" in pool.submit(lambda: asyncio.run(keys(""))).result()


def test_one_that_is_read_only_takes_nothing(tmp_path):
    write(LocalStore(tmp_path))
    before = files_below(tmp_path)
    store = StructureStore(tmp_path, read_only=True)

    with pytest.raises(ValueError, match="read-only"):
        zarr.open_group(store, mode="r").attrs["more"] = 1
    store.flush()
    assert files_below(tmp_path) == before


def test_what_is_added_to_a_store_with_gathered_metadata_is_found(tmp_path):
    write(LocalStore(tmp_path))
    with pytest.warns(UserWarning, match="Consolidated metadata"):
        zarr.consolidate_metadata(tmp_path)
    store = StructureStore(tmp_path)
    store.scatter_metadata()
    zarr.open_group(store, mode="r+")["processing"].create_group("added")
    with pytest.warns(UserWarning, match="Consolidated metadata"):
        zarr.consolidate_metadata(store)
    store.flush()

    assert sorted(zarr.open_group(tmp_path, mode="r")["processing"]) == ["added", "table"]


def test_a_large_document_replaces_what_was_kept_of_it(tmp_path):
    store = StructureStore(tmp_path)
    root = zarr.open_group(store, mode="w")
    root.attrs["notes"] = "short"
    root.attrs["notes"] = "x" * (SMALL_BYTES + 1)
    assert len(zarr.open_group(store, mode="r").attrs["notes"]) == SMALL_BYTES + 1
    store.flush()
    assert len(zarr.open_group(tmp_path, mode="r").attrs["notes"]) == SMALL_BYTES + 1


@pytest.mark.parametrize("key", ["zarr.json", "a/b/zarr.json", "a/c/0"])
def test_what_was_removed_is_not_made_again_by_a_thread_that_goes_on(tmp_path, key):
    store = StructureStore(tmp_path / "store")
    zarr.open_group(store, mode="w")
    shutil.rmtree(tmp_path / "store")
    with pytest.raises(FileNotFoundError):
        store.set_sync(key, default_buffer_prototype().buffer.from_bytes(b"{}"))
    assert list(tmp_path.iterdir()) == []
