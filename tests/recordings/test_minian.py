"""Minian's folders: nothing in their Zarr stores runs or leads out, and arrays and stamps belong together."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
from cell_recordings import RATE, traces
from recording_makers.minian import ROIS, SAMPLES, SURPLUS, minian, write_stamps, write_stores

from airflow_provider_ophys.exceptions import SourceDataError
from airflow_provider_ophys.extractor_internals import traces_of
from airflow_provider_ophys.extractors import open_segmentation
from airflow_provider_ophys.recordings import recording_of
from airflow_provider_ophys.recordings.state import fingerprint

LONG_AGO = 1_700_000_000


@pytest.fixture
def made(tmp_path):
    return minian(tmp_path / "minian")


def opened(made, **more):
    return open_segmentation(made.extractor, made.arguments | more)


def edit(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    os.utime(file, (LONG_AGO, LONG_AGO))


@pytest.mark.parametrize(
    "changes",
    [
        {"filters": [{"id": "pickle"}]},
        {"compressor": {"id": "pickle"}},
        {"filters": [{"id": "delta", "codec": {"id": "pickle", "protocol": 5}}]},
        {"filters": [{"id": "my-own"}], "dtype": "|O"},
    ],
)
@pytest.mark.parametrize("array", ["A.zarr/A", "C.zarr/C", "A.zarr/animal", "max_proj.zarr/width"])
def test_a_codec_that_would_run_something_is_refused(made, array, changes):
    """Also of an array that only the headers' reader looks at, or nobody."""
    edit(made.folder / array / ".zarray", **changes)
    for look in (opened, lambda made: recording_of(made.kind, made.extractor, made.arguments).metadata()):
        with pytest.raises(SourceDataError, match=r"\.zarray is not read: it asks for the codec"):
            look(made)


def test_a_codec_in_metadata_of_many_arrays_in_one_is_refused(made):
    group = {"metadata": {"A/.zarray": {"filters": [{"id": "pickle"}]}}, "zarr_consolidated_format": 1}
    (made.folder / "A.zarr" / ".zmetadata").write_text(json.dumps(group))
    with pytest.raises(SourceDataError, match=r"\.zmetadata is not read: it asks for the codec 'pickle'"):
        opened(made)


def test_a_codec_of_zarr_3_within_another_is_refused(tmp_path):
    write_stores(tmp_path, 3)
    write_stamps(tmp_path)
    arguments = {"folder_path": str(tmp_path)}
    denoised = traces_of(open_segmentation("Minian", arguments))["denoised"]
    assert np.array_equal(denoised, traces(ROIS, SAMPLES).T)
    inner = {"codecs": [{"name": "bytes"}, {"name": "numcodecs.pickle"}]}
    edit(tmp_path / "S.zarr" / "S" / "zarr.json", codecs=[{"name": "sharding_indexed", "configuration": inner}])
    with pytest.raises(SourceDataError, match=r"zarr.json is not read: it asks for the codec 'numcodecs.pickle'"):
        open_segmentation("Minian", arguments)


@pytest.mark.parametrize("what", ["store", "array", "chunk", "stamps"])
def test_links_out_of_the_recording_are_refused(made, tmp_path, what):
    place = (
        made.folder
        / {
            "store": "C.zarr",
            "array": "C.zarr/C",
            "chunk": "C.zarr/C/0.0",
            "stamps": "timeStamps.csv",
        }[what]
    )
    shutil.move(place, tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SourceDataError, match="out of the recording's folder"):
        opened(made)


def test_every_change_of_a_store_shows(made):
    known = recording_of(made.kind, made.extractor, made.arguments)
    before = fingerprint([known])
    chunk = made.folder / "C.zarr" / "C" / "0.0"
    content = bytearray(chunk.read_bytes())
    content[-1] ^= 1
    chunk.write_bytes(content)
    assert fingerprint([recording_of(made.kind, made.extractor, made.arguments)]) != before


def test_a_chunk_that_is_missing_is_noticed_if_it_stands_for_nothing(made):
    edit(made.folder / "C.zarr" / "C" / ".zarray", fill_value="NaN")
    (made.folder / "C.zarr" / "C" / "1.0").unlink()
    os.utime(made.folder / "C.zarr" / "C", (LONG_AGO, LONG_AGO))
    with pytest.raises(SourceDataError, match=r"C.zarr/C is not whole: 1 of 6 chunks are not there, such as 1.0"):
        opened(made)


def test_what_announces_more_than_it_holds_is_refused(made):
    edit(made.folder / "b.zarr" / "b" / ".zarray", shape=[20, 32], chunks=[1_000_000, 1_000_000])
    shutil.rmtree(made.folder / "b.zarr" / "height")
    for chunk in (made.folder / "b.zarr" / "b").glob("[0-9]*"):
        chunk.unlink()
    with pytest.raises(SourceDataError, match="should have 8,000,000,000,000 bytes, but 0 are there"):
        opened(made)


@pytest.mark.parametrize(("first", "number"), [(0, 5), (4, 20)])
def test_stamps_that_lack_frames_are_refused(made, first, number):
    write_stamps(made.folder, first, number)
    with pytest.raises(SourceDataError, match=r"timeStamps.csv has \d stamps of the 8 frames in C.zarr"):
        opened(made)


def test_stamps_of_frames_that_minian_left_out_are_right(made):
    write_stamps(made.folder, 0, 1000)
    stamps = opened(made).get_native_timestamps()
    assert np.allclose(stamps, np.arange(SURPLUS, SURPLUS + SAMPLES) / RATE)


def test_stamps_elsewhere_are_read_if_they_are_named(made, tmp_path):
    elsewhere = tmp_path / "stamps.csv"
    shutil.move(made.folder / "timeStamps.csv", elsewhere)
    known = recording_of(made.kind, made.extractor, made.arguments | {"timestamps_path": str(elsewhere)})
    known.check()
    assert elsewhere in known.files
    assert known.contents().segmentations[0].rate == pytest.approx(RATE)


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "Frame Number,Time Stamp (ms)\n1,x\n", "\0\0\0"])
def test_stamps_that_are_none_are_named(made, content):
    (made.folder / "timeStamps.csv").write_text(content)
    with pytest.raises(SourceDataError, match=r"timeStamps.csv has (no|0) "):
        opened(made)


@pytest.mark.parametrize("store", ["A", "b", "f"])
def test_a_store_that_is_missing_is_named(made, store):
    shutil.rmtree(made.folder / f"{store}.zarr")
    os.utime(made.folder, (LONG_AGO, LONG_AGO))
    with pytest.raises(SourceDataError, match=f"it lacks {store}.zarr"):
        opened(made)


def test_arrays_of_another_length_are_named(made):
    edit(made.folder / "S.zarr" / "S" / ".zarray", shape=[ROIS, SAMPLES - 1])
    with pytest.raises(SourceDataError, match="do not belong together"):
        opened(made)
