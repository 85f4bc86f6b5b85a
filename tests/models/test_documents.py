"""Metadata files are read within bounds, and only regular ones."""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from itertools import pairwise

import pytest
from failing_calls import END_OF_FILE, run_with_failures, why_not

from airflow_provider_ophys.exceptions import ConfigurationError, MetadataError, SourceAccessError
from airflow_provider_ophys.models.conversion import ImagingConversion
from airflow_provider_ophys.models.documents import read_document
from airflow_provider_ophys.models.metadata import load_metadata, validate_metadata

START = "session_start_time: 2025-01-01T10:00:00+00:00"


def aliases(levels: int) -> str:
    names = [f"a{level}" for level in range(levels + 1)]
    steps = (f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]" for old, new in pairwise(names))
    return "\n".join(["a0: &a0 [x]", *steps])


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("m.yaml", aliases(8), "with its aliases it holds more than"),
        ("m.yaml", "a: &a [*a]", "of nothing that is complete before it"),
        ("m.yaml", "a: " + "[" * 5000 + "]" * 5000, "nested more than 40 levels"),
        ("m.yaml", "a: " + "{b: " * 100 + "1" + "}" * 100, "nested more than 40 levels"),
        ("m.json", '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "is not valid YAML or JSON"),
        ("m.json", '{"a": ' + "[" * 100 + "]" * 100 + "}", "nested more than 40 levels"),
        ("m.yaml", "a: " + "x" * 5_000_000, "larger than 4 MiB"),
        ("m.yaml", "text: &t " + "x" * 100_000 + "\nall: [" + "*t, " * 1000 + "]", "holds more than"),
        ("m.yaml", "a: !!python/object/apply:os.getcwd []", "is not valid YAML"),
        ("m.yaml", "a: \xff", "byte 3 is not UTF-8. Save it as UTF-8"),
    ],
)
def test_what_grows_beyond_bounds_is_refused_at_once(tmp_path, name, text, reason):
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    started = time.process_time()
    with pytest.raises(MetadataError, match=reason) as caught:
        load_metadata(tmp_path / name)
    assert len(str(caught.value)) < 6500
    assert time.process_time() - started < 5


def test_aliases_that_save_typing_are_read(tmp_path):
    (tmp_path / "m.yaml").write_text(f"common: &common {{{START}}}\nNWBFile: {{<<: *common, lab: ours}}\n")
    found = load_metadata(tmp_path / "m.yaml")
    assert found["NWBFile"]["session_start_time"].year == 2025
    assert found["NWBFile"]["lab"] == "ours"


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        (
            "lab.yaml",
            "Subject: {sex: F}\nNWBFile: {}\nSubject: {sex: M}\n",
            "Subject twice, in line 1 and in line 3",
        ),
        ("lab.yaml", "Subject:\n  sex: F\n  'sex': M\n", "Subject.sex twice, in line 2 and in line 3"),
        ("lab.yaml", "a: [{b: 1}, {c: 1, c: 2}]", "a.1.c twice, in line 1 and in line 1"),
        ("lab.yaml", "a: &a {b: 1, b: 2}\nc: {<<: *a}", "a.b twice"),
        ("lab.json", '{"Subject": {"sex": "F", "sex": "M"}}', "sex twice"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(tmp_path, name, text, told):
    (tmp_path / name).write_text(text)
    with pytest.raises(MetadataError, match=rf"{name}.*it has {told}.*Keep one"):
        load_metadata(tmp_path / name)


def test_a_day_that_is_none_is_refused_with_its_field_and_line(tmp_path):
    (tmp_path / "lab.yaml").write_text("NWBFile:\n  lab: A\n  session_start_time: 2026-02-30\n")
    # Python's own words follow: "day is out of range for month", or from 3.14 on the range.
    told = r"lab\.yaml.*NWBFile\.session_start_time in line 3 is 2026-02-30, and there is no such date \(day "
    with pytest.raises(MetadataError, match=told):
        load_metadata(tmp_path / "lab.yaml")


def test_a_key_may_stand_in_two_mappings_and_over_one_that_is_merged(tmp_path):
    (tmp_path / "m.yaml").write_text("a: &a {b: 1}\nc: {<<: *a, b: 2}\nd: *a\n1: {b: 3}\n'1': {}\n")
    assert load_metadata(tmp_path / "m.yaml") == {
        "a": {"b": 1},
        "c": {"b": 2},
        "d": {"b": 1},
        1: {"b": 3},
        "1": {},
    }


def test_pipes_devices_and_sockets_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.yaml"))
        for name in ("pipe.yaml", "zero.yaml", "socket.yaml"):
            with pytest.raises(MetadataError, match="cannot be read"):
                load_metadata(tmp_path / name)


def test_a_mapping_that_is_nested_too_deeply_is_refused():
    deep: dict = {}
    for _ in range(100):
        deep = {"a": deep}
    circle: dict = {}
    circle["a"] = circle
    for metadata in (deep, circle, [deep]):
        with pytest.raises(MetadataError, match="nested more than 40 levels"):
            load_metadata(metadata)


def test_many_problems_are_told_on_a_screen():
    with pytest.raises(MetadataError) as caught:
        validate_metadata({"NWBFile": {f"key{number}": 1 for number in range(10_000)}})
    assert "1000" in str(caught.value).partition("problem(s)")[0]
    assert " more." in str(caught.value)[-20:]
    assert len(str(caught.value)) < 6500
    with pytest.raises(ConfigurationError) as refused:
        ImagingConversion.from_options({"extractor": "Tiff", "nwbfile_path": "/a.nwb", "threads": "x" * 10**7})
    assert len(str(refused.value)) < 6500
    assert json.dumps(str(refused.value))


@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
@pytest.mark.parametrize("failure", [errno.EIO, END_OF_FILE])
def test_what_a_share_does_not_give_of_a_file_is_no_shorter_text(failure, tmp_path):
    path = tmp_path / "metadata.yaml"
    path.write_text("NWBFile: {session_id: '7'}\nSubject: {subject_id: m1}\n")

    def read():
        try:
            return read_document(path)
        except SourceAccessError as error:
            return {"retryable": error.retryable}

    def fails(call):
        return failure if call.name == "read" and call.path == str(path) else 0

    assert run_with_failures(read, lambda _: 0) == {
        "NWBFile": {"session_id": "7"},
        "Subject": {"subject_id": "m1"},
    }
    assert run_with_failures(read, fails) == {"retryable": True}
