"""Task instances are gathered by the file that they are about, and their results are told at a glance."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from airflow_provider_ophys.operators.imaging import WriteImagingOperator
from airflow_provider_ophys.operators.parallel import PlanImagingOperator, PublishImagingOperator
from airflow_provider_ophys.operators.segmentation import WriteSegmentationOperator
from airflow_provider_ophys.operators.staging import StageToS3Operator
from airflow_provider_ophys.plugin import pages
from airflow_provider_ophys.plugin.checks import checks
from airflow_provider_ophys.plugin.choice import Run, whole_moments
from airflow_provider_ophys.plugin.recordings import gather
from airflow_provider_ophys.plugin.tasks import OPERATORS, SENSOR, STAGING, WRITING, Task, TaskKey
from airflow_provider_ophys.sensors.acquisition import AcquisitionFolderSensor

NIGHT = datetime(2026, 11, 22, 3, tzinfo=UTC)


def a_task(task_id, operator, *, map_index=-1, run_id="r1", state="success", minute=0, result=None, fields=None):
    return Task(
        key=TaskKey("dag", run_id, task_id, map_index),
        operator=operator,
        state=state,
        run_after=NIGHT,
        started=None if minute is None else NIGHT + timedelta(minutes=minute),
        ended=None,
        seconds=1.0,
        result=result or {},
        address="",
        fields=fields or {},
    )


def test_the_names_of_our_operators_are_those_that_airflow_notes():
    assert AcquisitionFolderSensor.__name__ == SENSOR
    assert StageToS3Operator.__name__ == STAGING
    writing = (WriteImagingOperator, WriteSegmentationOperator, PlanImagingOperator, PublishImagingOperator)
    assert {operator.__name__ for operator in writing} <= set(WRITING) < set(OPERATORS)


def test_what_writes_and_stages_a_file_is_one_recording():
    (recording,) = gather(
        [
            a_task("stage", STAGING, minute=9, result={"source": "/nwb/m1.nwb", "s3_uri": "s3://b/m1.nwb"}),
            a_task("write", WRITING[0], result={"nwbfile_path": "/nwb/m1.nwb", "size_bytes": 7}),
            a_task("wait", SENSOR),
        ]
    )
    assert (recording.name, recording.s3_uri, recording.size_bytes) == ("m1.nwb", "s3://b/m1.nwb", 7)
    assert [task.key.task_id for task in recording.tasks] == ["write", "stage"]
    assert recording.started == NIGHT


def test_of_a_report_here_and_in_s3_the_one_here_is_shown_and_the_other_named():
    here, there = {"html": "/nwb/m1.nwb.report.html"}, {"html": "s3://b/m1.nwb.report.html"}
    staged = {"source": "/nwb/m1.nwb", "s3_uri": "s3://b/m1.nwb"}
    write = a_task("write", WRITING[0], result={"nwbfile_path": "/nwb/m1.nwb", "report": here})
    (recording,) = gather([write, a_task("stage", STAGING, minute=9, result={**staged, "report": there})])
    assert recording.reported == write
    assert recording.places_in_s3 == ["s3://b/m1.nwb.report.html"]
    (recording,) = gather([write, a_task("stage", STAGING, minute=9, result={**staged, "report": None})])
    assert recording.places_in_s3 == ["s3://b/m1.nwb"]


def test_a_report_of_what_is_in_s3_belongs_to_what_was_staged():
    staged = {"source": "/nwb/m1.nwb", "s3_uri": "s3://b/m1.nwb"}
    (recording,) = gather(
        [
            a_task("stage", STAGING, result=staged),
            a_task("report", WRITING[2], minute=2, result={"s3_uri": "s3://b/m1.nwb"}, fields={"source": staged}),
        ]
    )
    assert recording.name == "m1.nwb"


def test_two_files_of_a_run_and_a_file_of_two_runs_are_apart():
    found = gather(
        [
            a_task("write", WRITING[0], map_index=0, result={"nwbfile_path": "/nwb/m1.nwb"}),
            a_task("write", WRITING[0], map_index=1, result={"nwbfile_path": "/nwb/m2.nwb"}),
            a_task("write", WRITING[0], map_index=0, run_id="r2", result={"nwbfile_path": "/nwb/m1.nwb"}),
        ]
    )
    assert [recording.name for recording in found] == ["m1.nwb", "m2.nwb", "m1.nwb"]


def test_a_task_that_has_not_started_belongs_to_the_file_of_its_map_index():
    later = {"state": None, "minute": None}
    first, second = gather(
        [
            a_task("write", WRITING[0], map_index=0, fields={"nwbfile_path": "/nwb/m1.nwb"}, state="running"),
            a_task("write", WRITING[0], map_index=1, result={"nwbfile_path": "/nwb/m2.nwb"}),
            a_task("stage", STAGING, map_index=0, **later),
            a_task("stage", STAGING, map_index=1, **later),
        ]
    )
    assert [len(recording.tasks) for recording in (first, second)] == [2, 2]
    assert (first.name, first.states) == ("m1.nwb", {"running", None})


def test_what_has_not_started_is_no_recording_yet():
    assert gather([a_task("write", WRITING[0], state="scheduled", minute=None)]) == []


def test_a_task_that_failed_is_known_by_what_it_was_told():
    (recording,) = gather(
        [
            a_task("write", WRITING[0], result={"nwbfile_path": "/nwb/m1.nwb"}),
            a_task("stage", STAGING, state="failed", fields={"source": {"nwbfile_path": "/nwb/m1.nwb"}}),
        ]
    )
    assert recording.states == {"success", "failed"}


def test_the_last_word_of_each_check_counts():
    marks = [{"kind": "light leak", "detail": "at 3 s"}, {"kind": "light leak", "detail": "at 9 s"}]
    found = checks(
        [
            {"validation": "valid", "inspection": ["no subject"], "report": None},
            {"validation": "valid", "inspection": [], "report": {"summary": {"movies": [{"marks": marks}]}}},
            {"s3_uri": "s3://b/m1.nwb", "report": {"html": "s3://b/m1.nwb.report.html"}},
        ]
    )
    assert [(check.text, check.kind) for check in found] == [
        ("valid", "good"),
        ("no findings", "good"),
        ("light leak: 2", "care"),
    ]
    assert found[2].detail == "at 3 s\nat 9 s"


def due(*minutes):
    return [Run("dag", f"r{number}", NIGHT - timedelta(minutes=minute)) for number, minute in enumerate(minutes)]


@pytest.mark.parametrize(
    ("minutes", "shown", "next_page"),
    [
        ((0, 1, 2), 3, None),
        ((0, 1, 2, 3), 3, timedelta(minutes=3)),
        # Two DAGs of the same hour stay together.
        ((0, 1, 2, 2), 2, timedelta(minutes=2)),
        # More at one moment than fit: the first are shown, and the next page goes on before them.
        ((0, 0, 0, 0), 3, timedelta(microseconds=1)),
    ],
)
def test_a_page_ends_between_two_moments(minutes, shown, next_page):
    kept, rest = whole_moments(due(*minutes), 3)
    assert len(kept) == shown
    assert rest == (next_page and NIGHT - next_page)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1234, "1.23 kB"),
        (911_000, "911 kB"),
        (2.5e12, "2.5 TB"),
        (None, ""),
        ("x", ""),
    ],
)
def test_sizes_are_written_for_people(size, text):
    assert pages._bytes(size) == text


@pytest.mark.parametrize(("speed", "text"), [(0.0612, "0.0612"), (261.4, "261"), (1520.0, "1520"), ("fast", "")])
def test_speeds_are_written_for_people(speed, text):
    assert pages._speed(a_task("write", WRITING[0], result={"throughput_mb_per_s": speed})) == text


def test_only_what_is_more_than_a_suggestion_asks_for_care():
    suggestion = {"importance": "BEST_PRACTICE_SUGGESTION", "message": "name the lab", "location": "/"}
    serious = {"importance": "CRITICAL", "message": "rate is 0", "location": "/acquisition/movie"}
    (harmless,), (serious,) = (
        checks([{"inspection": [suggestion]}]),
        checks([{"inspection": [suggestion, serious]}]),
    )
    assert (harmless.text, harmless.kind) == ("1 finding", "good")
    assert (serious.text, serious.kind) == ("2 findings", "care")
    assert "CRITICAL rate is 0 /acquisition/movie" in serious.detail


@pytest.mark.parametrize("odd", [5, "text", ["list"], {"movies": 3}, {"movies": [None, {"marks": [1, {}]}]}])
def test_a_result_of_any_shape_breaks_nothing(odd):
    checks([{"report": odd}, {"report": {"summary": odd}}, {"inspection": odd, "validation": odd}])
    gather([a_task("write", WRITING[0], result={"nwbfile_path": odd, "report": odd, "size_bytes": odd})])
