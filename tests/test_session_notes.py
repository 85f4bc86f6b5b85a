"""What operators tell of their sessions: under one key, at the start, at the end and of an error."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.sdk import BaseOperator

from airflow_provider_ophys.compat import AirflowSkipException
from airflow_provider_ophys.exceptions import DiskSpaceError, SourceDataError
from airflow_provider_ophys.models.session_note import MOST_TEXTS, SessionNote
from airflow_provider_ophys.session_notes import KEY, LOG_COLUMNS, leaves_notes, tell_batch, wrapped


class Instance(SimpleNamespace):
    """A task instance that keeps what is pushed."""

    def xcom_push(self, key, value):
        self.pushed.append((key, value))


class Converter(BaseOperator):
    """Does what it is told to."""

    def __init__(self, nwbfile_path, act, **kwargs):
        super().__init__(task_id="convert", **kwargs)
        self.nwbfile_path, self.act = nwbfile_path, act

    @leaves_notes("convert")
    def execute(self, context):  # noqa: ARG002
        return self.act()


def fail(error):
    def act():
        raise error from OSError("the library's own words")

    return act


def run(act, **options):
    instance = Instance(pushed=[])
    operator = Converter(nwbfile_path="/nwb/m1.nwb", act=act, **options)
    try:
        operator.execute({"ti": instance})
    finally:
        run.operator = operator
        run.told = [value["sessions"] for key, value in instance.pushed if key == KEY]
    return run.told


def test_a_task_tells_its_session_at_the_start_and_its_result_at_the_end():
    start, end = run(lambda: {"nwbfile_path": "/nwb/m1.nwb", "size_bytes": 5, "session": {"subject_id": "m7"}})
    assert start == [{"step": "convert", "nwbfile_path": "/nwb/m1.nwb"}]
    assert end == [{"step": "convert", "nwbfile_path": "/nwb/m1.nwb", "size_bytes": 5, "subject": "m7"}]


def test_an_error_of_ours_is_told_and_raised_alone_and_ends_the_log(caplog):
    message = "The disk is full. " * 20
    with pytest.raises(DiskSpaceError) as raised:
        run(fail(DiskSpaceError(message)))
    assert run.told[-1][0]["error"] == message
    assert (raised.value.__cause__, raised.value.__suppress_context__) == (None, True)
    assert str(raised.value) == message
    frames = [frame.name for frame in raised.traceback]
    assert "act" not in frames
    with caplog.at_level(logging.ERROR):
        (repeat,) = run.operator.on_failure_callback
        repeat({})
    assert caplog.messages == [wrapped(message)]
    assert max(map(len, caplog.messages[0].splitlines())) <= LOG_COLUMNS


def test_callbacks_of_the_user_stay():
    mine = print
    with pytest.raises(SourceDataError):
        run(fail(SourceDataError("It is cut off.")), on_failure_callback=mine)
    assert run.operator.on_failure_callback[0] is mine


def test_an_error_of_others_keeps_its_causes():
    with pytest.raises(ZeroDivisionError) as raised:
        run(fail(ZeroDivisionError("x")))
    assert raised.value.__cause__ is not None
    assert run.told[-1][0]["error"] == "ZeroDivisionError: x"


def test_a_skipped_task_has_not_failed():
    with pytest.raises(AirflowSkipException):
        run(fail(AirflowSkipException("nothing to do")))
    assert "failed" not in run.told[-1][0]


def test_of_a_batch_each_session_is_told():
    instance = Instance(pushed=[])
    converted = {"session": "a/m1", "state": "converted", "nwbfile_path": "/nwb/a_m1.nwb", "size_bytes": 5}
    converted |= {"subject_id": "mouse 7", "validation": "valid", "throughput_mb_per_s": 3.0}
    tell_batch({"ti": instance}, Path("/in"), [converted, {"session": "m2", "state": "failed", "why": "cut off"}])
    ((_, value),) = instance.pushed
    assert [(note["folder"], note.get("error"), note.get("done", False)) for note in value["sessions"]] == [
        ("/in/a/m1", None, True),
        ("/in/m2", "cut off", False),
    ]
    first = value["sessions"][0]
    assert (first["subject"], first["valid"], first["speed"], first["size_bytes"]) == ("mouse 7", "valid", 3.0, 5)


def test_who_wants_no_xcom_gets_none():
    assert run(dict, do_xcom_push=False) == []


def test_a_database_that_takes_nothing_fails_no_task(caplog):
    operator = Converter(nwbfile_path="/nwb/m1.nwb", act=lambda: 5)
    assert operator.execute({"ti": SimpleNamespace()}) == 5
    assert "was not taken" in caplog.text


@pytest.mark.parametrize(
    ("options", "known"),
    [
        ({"folder": {"path": "/in/a/m1", "name": "a/m1"}}, {"folder": "/in/a/m1", "name": "a/m1"}),
        ({"folder": "/in/m1"}, {"folder": "/in/m1"}),
        (
            {"session": {"folder": "/in/m1", "name": "m1", "metadata": {"Subject": {"subject_id": 7}}}},
            {"folder": "/in/m1", "name": "m1", "subject": "7"},
        ),
        ({"source": "s3://a/m1.nwb"}, {"s3_uri": "s3://a/m1.nwb"}),
        (
            {"source": {"source": "/nwb/m1.nwb", "s3_uri": "s3://a/m1.nwb"}},
            {"nwbfile_path": "/nwb/m1.nwb", "s3_uri": "s3://a/m1.nwb"},
        ),
        (
            {
                "plan": {
                    "conversion": {"nwbfile_path": "/nwb/m1.nwb", "extractor_kwargs": {"file_path": "/in/m.tif"}}
                }
            },
            {"nwbfile_path": "/nwb/m1.nwb", "source": "/in/m.tif"},
        ),
        (
            {"metadata": ["/lab.yaml", {"Subject": {"subject_id": "m7"}, "NWBFile": {"session_id": "s"}}]},
            {"subject": "m7", "session_id": "s"},
        ),
        ({"extractor_kwargs": [{"file_paths": ["/in/a.tif"]}], "nwbfile_path": None}, {"source": "/in/a.tif"}),
        ({"session": 5, "plan": [], "metadata": {"Subject": "x"}, "folder": True}, {}),
    ],
)
def test_the_session_is_known_from_what_the_operator_was_told(options, known):
    assert SessionNote.of_options("convert", options).to_json() == {"step": "convert", **known}


def test_findings_and_marks_are_few_and_the_serious_ones_first():
    findings = [{"importance": "BEST_PRACTICE_SUGGESTION", "message": str(number)} for number in range(100)]
    report = {
        "html": "/m1.html",
        "summary": {"movies": [{"marks": [{"kind": "light leak", "detail": "at 3 s"}] * 99}]},
    }
    note = SessionNote(step="convert").with_result(
        {"inspection": [*findings, {"importance": "CRITICAL", "message": "no subject"}], "report": report}
    )
    assert (len(note.findings), note.findings[0], note.serious) == (MOST_TEXTS, "CRITICAL no subject", 1)
    assert note.marks == ("light leak: at 3 s",) * MOST_TEXTS


def test_a_long_message_is_wrapped_between_words_and_keeps_its_lines():
    path = "/data/" + "x" * 150
    lines = wrapped(f"1. first {'word ' * 30}\n   {path}").splitlines()
    assert len(lines) == 3
    assert lines[-1].strip() == path
