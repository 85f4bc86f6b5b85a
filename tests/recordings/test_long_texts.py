"""
Texts in headers, attributes and tables that are too long or too many are refused before they fill the memory.

Sizes are those of holes in files, and of texts that stand in many places, so that the files take no room.
"""

from __future__ import annotations

import os
import struct
import tracemalloc
import zlib

import h5py
import pytest
from recording_makers import MAKERS

from airflow_provider_ophys.exceptions import MetadataError, SourceDataError
from airflow_provider_ophys.models.timestamps_file import MOST_STAMPS, read_timestamps
from airflow_provider_ophys.recordings import recording_of
from airflow_provider_ophys.recordings.hdf5_references import referenced_files
from airflow_provider_ophys.recordings.headers import Headers
from airflow_provider_ophys.recordings.json_headers import read_json_object
from airflow_provider_ophys.recordings.mat_file import read_mat_file
from airflow_provider_ophys.recordings.miniscope_files import read_stamps
from airflow_provider_ophys.recordings.tiff_pages import read_first_page, read_pages
from airflow_provider_ophys.recordings.xml_headers import parse_xml, scan_xml
from airflow_provider_ophys.sessions.subject_table import look_up_subject

LONG_AGO = 1_700_000_000
LONG, MOST_MEMORY = 300_000_000, 100_000_000
DESCRIPTION, SOFTWARE, UNKNOWN = 270, 305, 65000


@pytest.fixture(autouse=True)
def little_memory():
    tracemalloc.start()
    yield
    assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY
    tracemalloc.stop()


def aged(path):
    os.utime(path, (LONG_AGO, LONG_AGO))
    return path


def write_tiff(path, tag, num_bytes, pages=1):
    """Write pages of one pixel, which all have the same field."""
    page = struct.Struct("<H" + "HHII" * 6 + "I")
    begin = 8 + pages * page.size
    content = struct.pack("<2sHI", b"II", 42, 8)
    for number in range(1, pages + 1):
        fields = [(256, 3, 1, 1), (257, 3, 1, 1), (258, 3, 1, 8), (273, 4, 1, begin), (279, 4, 1, 1)]
        fields = sorted([*fields, (tag, 2, num_bytes, begin)])
        following = 8 + number * page.size if number < pages else 0
        content += page.pack(6, *(value for field in fields for value in field), following)
    path.write_bytes(content)
    os.truncate(path, begin + num_bytes)
    return aged(path)


@pytest.mark.parametrize("tag", [DESCRIPTION, SOFTWARE, UNKNOWN])
def test_a_field_of_a_tiff_file_is_refused_by_its_length(tag, tmp_path):
    path = write_tiff(tmp_path / "a.tif", tag, LONG)
    with pytest.raises(SourceDataError, match=rf"a field \(tag {tag}\) of 300,000,000 bytes in a page, where "):
        read_first_page(path)


def test_a_text_that_all_pages_share_is_not_read_for_each(tmp_path):
    path = write_tiff(tmp_path / "a.tif", DESCRIPTION, 10_000_000, pages=100)
    with pytest.raises(SourceDataError, match="many pages have the same long text"):
        read_pages(path)


def long_attribute(file):
    file.attrs["note"] = "x" * 17_000_000


def long_dataset(file):
    file["note"] = "x" * 17_000_000


def long_texts_of_one_length(file):
    file.create_dataset("note", (3,), dtype="S300000000", chunks=(1,))


def very_many_texts(file):
    file.create_dataset("note", (10**10,), dtype=h5py.string_dtype(), chunks=(1000,))


def one_text_in_many_places(file):
    note = file.create_dataset("note", (200_000,), dtype=h5py.string_dtype(), chunks=(20_000,), compression="gzip")
    note[0] = "y" * 1_000_000
    first = zlib.decompress(note.id.read_direct_chunk((0,))[1])[:16]
    for start in range(0, 200_000, 20_000):
        note.id.write_direct_chunk((start,), zlib.compress(first * 20_000))


TOO_LONG = {
    long_attribute: "a text has some 17,",
    long_dataset: "a text has some 17,",
    long_texts_of_one_length: r"a text has 300,000,000 bytes, where 16,777,216 are the most \(/note\)",
    very_many_texts: r"it has more than 1,000,000 texts \(/note\)",
    one_text_in_many_places: r"its texts are longer than the file \(/note\)",
}


@pytest.mark.parametrize("put", TOO_LONG)
def test_texts_of_an_hdf5_file_are_refused_before_they_are_read(put, tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        put(file)
    aged(path)
    with pytest.raises(SourceDataError, match=TOO_LONG[put]):
        referenced_files(path)


def test_one_text_in_all_places_of_an_attribute_is_refused(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.attrs.create("names", [f"name{number:04d}" for number in range(1000)], dtype=h5py.string_dtype())
        file["long"] = "y" * 1_000_000
        long_at = file["long"].id.get_offset()
    assert referenced_files(path) == []
    content = bytearray(path.read_bytes())
    reference = content[long_at : long_at + 16]
    heap = content.rindex(b"GCOL", 0, content.index(b"name0000"))
    names = content.index(struct.pack("<IQ", 8, heap))
    content[names : names + 16_000] = reference * 1000
    aged(path).write_bytes(content)
    aged(path)
    with pytest.raises(SourceDataError, match="in too many places"):
        referenced_files(path)


def test_a_few_long_texts_beside_many_short_ones_are_read(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["long"] = "y" * 5_000_000
        file.attrs.create("names", [f"name{number:04d}" for number in range(1000)], dtype=h5py.string_dtype())
        file.create_dataset(
            "notes", data=["short"] * 500 + ["y" * 100_000], chunks=(100,), dtype=h5py.string_dtype()
        )
        file.create_dataset("table", data=[["short"] * 20] * 3, dtype=h5py.string_dtype(), chunks=(3, 20))
    assert referenced_files(path) == []


@pytest.mark.parametrize("text", ["<a b='{}'/>", "<a>{}</a>", "<a><!--{}--></a>"])
def test_an_element_is_refused_that_has_no_end(text, tmp_path):
    content, path = text.format("x" * 6_000_000), tmp_path / "a.xml"
    path.write_text(content)
    for read in (lambda: parse_xml(content, "It"), lambda: scan_xml(path, lambda *_: None)):
        with pytest.raises(SourceDataError, match="has an element of more than 4,194,304 bytes"):
            read()


def test_more_elements_than_of_100_000_frames_are_refused():
    with pytest.raises(SourceDataError, match="2,300,002 elements and attributes"):
        parse_xml("<a>" + "<b/>" * 2_300_000 + "</a>", "It")


@pytest.mark.parametrize("read", [read_json_object, read_mat_file])
def test_a_header_is_refused_by_its_size(read, tmp_path):
    path = tmp_path / "a"
    path.touch()
    os.truncate(path, LONG)
    with pytest.raises(SourceDataError, match="has 300,000,000 bytes; a header has "):
        read(path)


def test_a_companion_of_an_ome_tiff_is_refused_by_its_size(tmp_path):
    made = MAKERS["OME-TIFF, with a companion file"](tmp_path / "recording")
    (companion,) = (file for file in made.files if "companion" in file.name)
    os.truncate(companion, LONG)
    with pytest.raises(SourceDataError, match="has 300,000,000 bytes; a header has "):
        recording_of(made.kind, made.extractor, made.arguments).contents()


def test_of_a_long_text_in_a_header_it_is_said_that_only_a_part_is_written():
    headers = Headers()
    headers.add("NWBFile", "notes", "n" * 20_000, "a.xml: notes")
    found = headers.result()
    assert found.metadata["NWBFile"]["notes"] == "n" * 10_000
    assert found.remarks == ["a.xml: notes has 20,000 characters, of which the first 10,000 are written."]


def test_stamps_are_read_line_by_line(tmp_path):
    path = tmp_path / "timeStamps.csv"
    path.write_text("Frame Number,Time Stamp (ms),Buffer Index\n" + "1,2,3\n" * 500_000)
    tracemalloc.reset_peak()
    assert len(read_stamps(path)) == 500_000
    assert tracemalloc.get_traced_memory()[1] < 20_000_000


def test_timestamps_are_refused_beyond_those_of_days(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("time\n1\n2\n3\n")
    assert read_timestamps(str(path)) == [1, 2, 3]
    os.truncate(path, 40 * MOST_STAMPS)
    with pytest.raises(ValueError, match="one of more than 256,000,000 bytes"):
        read_timestamps(str(path))
    monkeypatch.setattr("airflow_provider_ophys.models.timestamps_file.MOST_STAMPS", 2)
    path.write_text("1\n2\n3\n")
    with pytest.raises(ValueError, match="it holds more than 2 numbers"):
        read_timestamps(str(path))


def test_a_subject_table_of_more_animals_than_any_laboratory_has_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "subjects.csv"
    path.write_text("subject_id,sex\nm1,F\nm2,F\nm3,F\n")
    assert look_up_subject(path, "m1") == {"sex": "F"}
    monkeypatch.setattr("airflow_provider_ophys.sessions.subject_table.MOST_SUBJECTS", 2)
    with pytest.raises(MetadataError, match="has more than 2 rows"):
        look_up_subject(path, "m1")
