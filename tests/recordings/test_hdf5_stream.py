"""
HDF5 files are read through an object of ours: what cannot be read is an error, and never absent, zeros or endless.

HDF5 would read for ever in a heap of texts that has lost its content; such a file is refused before it does.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress

import h5py
import numpy as np
import pytest
from recording_makers import MAKERS

from airflow_provider_ophys.exceptions import SourceChangedError, SourceDataError
from airflow_provider_ophys.extractors import open_imaging, open_segmentation
from airflow_provider_ophys.recordings import recording_of
from airflow_provider_ophys.recordings.hdf5_references import referenced_files
from airflow_provider_ophys.recordings.hdf5_stream import HEAP, Hdf5Stream

MADE_IN_HDF5 = ["HDF5", "Femtonics", "NWB", "NWB cells"]
MADE_IN_HDF5 += ["CaImAn", "CNMF-E", "EXTRACT", "EXTRACT before version 1"]
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


def test_a_process_that_hdf5_keeps_for_good_is_ended_and_no_other(tmp_path):
    file = tmp_path / "movie.h5"
    with h5py.File(file, "w", userblock_size=512) as opened:
        in_a_dataset(opened)
    lose(file, "all")
    script = (
        "import sys, time, h5py\n"
        "from airflow_provider_ophys.recordings.stuck_processes import end_if_stuck\n"
        "with h5py.File(sys.argv[1]) as file:\n"
        "    end_if_stuck(2)\n"
        "    time.sleep(2.5)\n"
        "    print('goes on', flush=True)\n"
        "    for item in [file, *file.values()]:\n"
        "        for name in item.attrs: item.attrs[name]\n"
        "        if isinstance(item, h5py.Dataset): item[()]"
    )
    command = [sys.executable, "-c", script, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=5 * ENOUGH_SECONDS)
    assert (done.returncode, done.stdout) == (1, "goes on\n")
    assert "Timeout" in done.stderr


def test_nothing_ends_a_process_that_has_closed_its_files(file):
    script = (
        "import sys, threading, time, h5py\n"
        "from h5py._objects import phil\n"
        "from airflow_provider_ophys.recordings.stuck_processes import end_if_stuck\n"
        "end_if_stuck(2)\n"
        "h5py.File(sys.argv[1]).close()\n"
        "[thread.join() for thread in threading.enumerate() if thread.name == 'hdf5-watch']\n"
        "with phil: time.sleep(3)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(file)], check=False, timeout=ENOUGH_SECONDS)
    assert done.returncode == 0


def read_all(file):
    for item in [file, *file.values()]:
        for name in item.attrs:
            _ = item.attrs[name]
        if isinstance(item, h5py.Dataset):
            _ = item[()]


def test_a_heap_that_loses_its_content_while_the_file_is_read_ends_in_an_error(file):
    lose(file, "all")
    with pytest.raises(OSError, match="has no end"), h5py.File(Hdf5Stream(file)) as opened:
        read_all(opened)


def test_hdf5_gets_of_a_heap_what_was_looked_at(file):
    with h5py.File(Hdf5Stream(file)) as opened:
        read_all(opened)
    content = file.read_bytes()
    place = content.rindex(HEAP)
    size = int.from_bytes(content[place + 8 : place + 16], "little")
    stream = Hdf5Stream(file)
    stream.seek(place)
    begun = stream.read(size // 2)
    lose(file, "half")
    assert begun + stream.read(size - size // 2) == content[place : place + size]
    stream.close()


def test_a_file_that_becomes_shorter_is_an_error_and_a_read_beyond_its_end_is_none(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"12345678")
    with Hdf5Stream(path) as stream:
        stream.seek(6)
        assert stream.read(6) == b"78"
        os.truncate(path, 4)
        stream.seek(2)
        with pytest.raises(OSError, match="nothing comes at byte 4 of 8"):
            stream.read(6)


def test_two_processes_do_not_move_each_other(file):
    stream = Hdf5Stream(file)
    with h5py.File(stream) as opened:
        stream.seek(5)
        process = os.fork()
        if process == 0:
            stream.seek(100)
            os._exit(0)
        os.waitpid(process, 0)
        assert stream.tell() == 5
        assert opened["mov"].shape == (1, 3, 4, 5)


def test_a_process_ends_well_though_nobody_closes_the_file(file):
    script = (
        "import sys, h5py\n"
        "from airflow_provider_ophys.recordings.hdf5_stream import Hdf5Stream\n"
        "dataset = h5py.File(Hdf5Stream(sys.argv[1]))['mov']"
    )
    command = [sys.executable, "-W", "error", "-c", script, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MADE_IN_HDF5)
def test_all_extractors_of_hdf5_files_read_them_so(name, tmp_path):
    made = MAKERS[name](tmp_path / "recording")
    opener = open_imaging if made.kind == "imaging" else open_segmentation
    contents = recording_of(made.kind, made.extractor, made.arguments).contents()
    arguments = (contents.movies or contents.segmentations)[0].extractor_kwargs
    extractor = opener(made.extractor, arguments)
    ids = h5py.h5f.get_obj_ids(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE)
    drivers = {h5py.File(each).driver for each in ids if str(tmp_path) in str(h5py.File(each).filename)}
    assert drivers == set()
    assert "fileobj" in {h5py.File(each).driver for each in ids}
    del extractor


def test_a_text_that_is_said_to_be_longer_than_the_file_takes_no_memory(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", userblock_size=512) as file:
        file["note"] = ["a text of any length"] * 3
        place = file["note"].id.get_offset()
    assert referenced_files(path) == []
    content = bytearray(path.read_bytes())
    length = content.index((20).to_bytes(4, "little"), place)
    assert length == place
    content[place + 16 : place + 20] = b"\xff\xff\xff\x7f"
    path.write_bytes(content)
    os.utime(path, (LONG_AGO, LONG_AGO))
    with pytest.raises(SourceDataError, match=r"its texts are longer than the file \(/note\)"):
        referenced_files(path)
