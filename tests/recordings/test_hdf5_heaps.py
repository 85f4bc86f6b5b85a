"""HDF5 would read for ever in a heap of texts that has lost its content; such a file is refused before it does."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress

import h5py
import numpy as np
import pytest

from airflow_provider_ophys.exceptions import SourceChangedError, SourceDataError
from airflow_provider_ophys.recordings.hdf5_heaps import HEAP
from airflow_provider_ophys.recordings.hdf5_references import referenced_files

LONG_AGO = 1_700_000_000
ENOUGH_SECONDS = 60


def in_an_attribute(file):
    file["mov"].attrs["note"] = "a text of any length"


def in_a_dataset(file):
    file["note"] = "a text of any length"


def in_a_list(file):
    file["notes"] = ["a text of any length"] * 500


def in_a_record(file):
    record = np.dtype([("number", "i4"), ("text", h5py.string_dtype())])
    file["records"] = np.array([(1, "a text of any length")], dtype=record)


@pytest.fixture(params=[in_an_attribute, in_a_dataset, in_a_list, in_a_record])
def file(request, tmp_path):
    path = tmp_path / "movie.h5"
    with h5py.File(path, "w", userblock_size=512) as opened:
        opened["mov"] = np.zeros((1, 3, 4, 5), dtype="u1")
        request.param(opened)
    return path


def lose(path, part):
    """Put zeros in place of all that is in the last heap of a file, or of its second half; return its place."""
    content = bytearray(path.read_bytes())
    heap = content.rindex(HEAP)
    size = int.from_bytes(content[heap + 8 : heap + 16], "little")
    start = heap + (16 if part == "all" else size // 2)
    content[start : heap + size] = bytes(heap + size - start)
    path.write_bytes(content)
    os.utime(path, (LONG_AGO, LONG_AGO))
    return heap


def test_a_sound_file_is_looked_at_without_a_word(file):
    assert referenced_files(file) == []


def test_a_heap_without_content_is_refused_by_its_place(file):
    heap = lose(file, "all")
    with pytest.raises(SourceDataError, match=f"its heap of texts at byte {heap:,} has lost its content"):
        referenced_files(file)
    os.utime(file)
    with pytest.raises(SourceChangedError, match="may still be growing"):
        referenced_files(file)


def test_what_is_let_through_is_read_to_its_end_by_hdf5(file):
    lose(file, "half")
    script = (
        "import sys, h5py\n"
        "with h5py.File(sys.argv[1]) as file:\n"
        "    for item in [file, *file.values()]:\n"
        "        for name in item.attrs: item.attrs[name]\n"
        "        if isinstance(item, h5py.Dataset): item[()]"
    )
    with suppress(SourceDataError):
        referenced_files(file)
        subprocess.run([sys.executable, "-c", script, str(file)], check=False, timeout=ENOUGH_SECONDS)
