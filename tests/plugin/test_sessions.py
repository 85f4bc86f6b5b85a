"""What many tasks told of a session is one row: how far it is, what failed, and what was mended since."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from airflow_provider_ophys.models.session_note import SessionNote
from airflow_provider_ophys.plugin.choice import Choice
from airflow_provider_ophys.plugin.listing import today_in
from airflow_provider_ophys.plugin.sessions import session_row
from airflow_provider_ophys.plugin.table import as_csv
from airflow_provider_ophys.plugin.tasks import TaskKey, TaskNote

NIGHT = datetime(2026, 11, 22, 3, tzinfo=UTC)
FILE = "/nwb/m1.nwb"


def noted(step, *, task="", dag="lab", run="r1", state="success", minute=0, index=-1, **facts):
    at = NIGHT + timedelta(minutes=minute)
    note = SessionNote(step=step, **facts)
    return TaskNote(TaskKey(dag, run, task or step, index), note, at, state, at, at)


def row(*notes):
    made = session_row(FILE, notes)
    assert made is not None
    return made


def steps(made):
    return {step.name: step.state for step in made.steps if step.state}


def written(**facts):
    facts = {"nwbfile_path": FILE, "valid": "valid", "size_bytes": 7, "speed": 3.0, "minute": 2, **facts}
    return noted("convert", **facts)


def test_a_session_is_followed_from_its_arrival_to_the_archive():
    made = row(
        noted("arrive", folder="/in/m1", name="m1"),
        noted("describe", minute=1, folder="/in/m1", name="m1", subject="mouse 7"),
        written(folder="/in/m1"),
        noted("stage", minute=3, nwbfile_path=FILE, s3_uri="s3://a/m1.nwb"),
        noted("stage", minute=4, dag="archive", nwbfile_path=FILE, s3_uri="s3://b/m1.nwb"),
    )
    assert steps(made) == dict.fromkeys(
        ("arrived", "described", "converted", "checked", "staged", "archived"), "done"
    )
    assert (made.name, made.subject, made.state, made.size_bytes, made.speed) == ("m1", "mouse 7", "done", 7, 3.0)
    assert [place.uri for place in made.places] == ["s3://a/m1.nwb", "s3://b/m1.nwb"]
    assert made.at == NIGHT + timedelta(minutes=4)


def test_a_session_whose_description_failed_has_its_name_and_the_reason():
    made = row(noted("describe", folder="/in/m1", state="failed", error="session.yaml is wrong", failed=True))
    assert (made.name, made.state, made.error) == ("m1", "failed", "session.yaml is wrong")
    assert made.failure.key.task_id == "describe"


def test_a_task_that_was_killed_is_said_to_have_been_silent():
    made = row(noted("convert", nwbfile_path=FILE, state="failed"))
    assert (made.name, made.state) == ("m1", "failed")
    assert "killed" in made.error


@pytest.mark.parametrize(
    "later",
    [
        written(minute=9),
        written(minute=9, run="r2"),
        written(minute=9, run="r2", task="by_hand", dag="other"),
        noted("stage", minute=9, run="r2", nwbfile_path=FILE, s3_uri="s3://a/m1.nwb"),
    ],
    ids=["the same task again", "in another run", "by another DAG", "a later step"],
)
def test_what_was_mended_later_is_no_longer_red(later):
    failed = noted("convert", state="failed", minute=1, nwbfile_path=FILE, failed=True, error="no disk")
    made = row(written(minute=0, run="r0"), failed, later)
    assert made.state == "done"
    assert made.failure is None
    assert "failed" not in steps(made).values()


@pytest.mark.parametrize(
    "later",
    [
        noted("stage", minute=9, nwbfile_path=FILE, s3_uri="s3://a/m1.nwb"),
        noted("describe", minute=9, run="r2", folder="/in/m1"),
        noted("convert", minute=9, run="r2", state="upstream_failed", nwbfile_path=FILE),
    ],
    ids=["another task of the same run", "an earlier step", "what did not start"],
)
def test_what_was_not_mended_stays_red(later):
    failed = noted("convert", state="failed", minute=1, nwbfile_path=FILE, failed=True, error="no disk")
    made = row(failed, later)
    assert (made.state, made.error, steps(made)["converted"]) == ("failed", "no disk", "failed")


def test_what_runs_again_is_not_red_meanwhile():
    failed = noted("convert", state="failed", minute=1, nwbfile_path=FILE, failed=True, error="no disk")
    made = row(failed, noted("convert", state="running", minute=5, run="r2", nwbfile_path=FILE))
    assert (made.state, made.failure, made.running.key.run_id) == ("running", None, "r2")


def test_what_is_tried_again_says_so():
    made = row(noted("convert", state="up_for_retry", nwbfile_path=FILE, failed=True, error="S3 is away"))
    assert made.state == "retrying"


def test_reused_looks_reused_and_keeps_the_speed_of_the_conversion():
    made = row(written(), written(minute=9, run="r2", reused=True, speed=0.0))
    assert (made.state, made.speed, steps(made)["converted"]) == ("reused", 3.0, "reused")


def test_a_conversion_whose_speed_nobody_told_counts_and_one_that_adds_cells_leaves_the_speed():
    assert row(written(speed=None)).converted is not None
    assert row(written(), written(minute=9, run="r2", speed=None)).speed == 3.0


def test_one_of_many_sessions_of_a_task_may_fail_alone():
    failed = noted("convert", nwbfile_path=FILE, failed=True, error="its TIFF is cut off")
    assert row(failed).error == "its TIFF is cut off"


def test_a_session_that_is_done_is_not_tried_again_with_its_batch():
    batch = {"state": "up_for_retry", "nwbfile_path": FILE}
    assert row(noted("convert", **batch, done=True)).state == "done"
    assert row(noted("convert", **batch, failed=True, error="the disk is full")).state == "retrying"


def test_of_a_movie_that_many_tasks_write_it_is_told_how_many_are_done():
    plan = noted("plan", nwbfile_path=FILE, shares=3)
    fills = [
        noted("fill", index=number, state=state, minute=1, nwbfile_path=FILE)
        for number, state in enumerate(("success", "success", "running"))
    ]
    assert row(plan, *fills).progress == (2, 3)


def test_what_has_arrived_and_has_no_file_waits():
    made = row(noted("arrive", folder="/in/m1", name="m1"))
    assert (made.state, made.has_file) == ("waiting", False)


def choose(**asked):
    given = {"q": "", "dag_id": "", "state": None, "since": None, "until": None, "sort": ""}
    return Choice(**{**given, "descending": False, "page": 1, "zone": UTC, **asked})


def made_of(name, **facts):
    return session_row(name, [written(name=name, nwbfile_path=f"/nwb/{name}.nwb", **facts)])


ROWS = [
    made_of("b", minute=1, subject="mouse 2", size_bytes=5),
    made_of("a", minute=9, subject="mouse 1", size_bytes=9),
    made_of("c", minute=5, state="failed", failed=True, error="its disk is full", size_bytes=None),
]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, "cab"),
        ({"sort": "when"}, "acb"),
        ({"sort": "name"}, "abc"),
        ({"sort": "name", "descending": True}, "cba"),
        ({"sort": "size"}, "abc"),
        ({"q": "MOUSE 1"}, "a"),
        ({"q": "/nwb/b"}, "b"),
        ({"q": "disk"}, "c"),
        ({"q": "nowhere"}, ""),
        ({"state": "failed"}, "c"),
        ({"state": "no file"}, "c"),
        ({"dag_id": "other"}, ""),
        ({"until": date.max}, "cab"),
        ({"until": date(2026, 11, 21)}, ""),
        ({"since": date(2026, 11, 22)}, "cab"),
    ],
)
def test_sessions_are_searched_and_sorted(asked, found):
    assert "".join(row.name for row in choose(**asked).pick(ROWS)) == found


def test_every_session_is_on_a_page():
    many = [made_of(f"m{number}", minute=number % 7) for number in range(300)]
    picked = choose().pick(many)
    seen = [row.name for page in range(1, 7) for row in choose(page=page).one_page(picked)]
    assert sorted(seen) == sorted(row.name for row in many)


def test_the_address_of_a_page_leads_to_the_same_choice():
    choice = choose(q="mouse 1", state="failed", sort="size", since=date(2026, 1, 2))
    assert choice.query(page=2) == "q=mouse+1&state=failed&since=2026-01-02&sort=size&page=2"
    assert choice.query(since=None).endswith("since=&sort=size")


def test_today_counts_by_the_day_of_this_airflow():
    now = datetime.now(UTC)
    at = (now - NIGHT).total_seconds() / 60
    rows = [made_of("a", minute=at), made_of("b", minute=at, state="failed", failed=True), made_of("c", minute=0)]
    assert today_in(rows, UTC) == {"done": 1, "failed": 1}


def test_a_name_is_no_formula_in_a_spreadsheet():
    header, line = as_csv([made_of('=HYPERLINK("http://evil")')], UTC).splitlines()
    assert header.startswith("session,subject,state")
    assert line.startswith("\"'=HYPERLINK")
