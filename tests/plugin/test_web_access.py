"""Who gets what from the plugin's app, asked without a browser: only who may see it, and only reports."""

from __future__ import annotations

import csv
import io
import urllib.error
import urllib.request
from urllib.parse import quote, urlencode

import pytest
from plugin_stack import HAS_TEAMS

from airflow_provider_ophys.models.result import REPORT_SUFFIXES

pytestmark = [
    pytest.mark.stack,
    pytest.mark.skipif(not HAS_TEAMS, reason="Airflow has no teams before 3.2"),
]

PAGES = ("", "report", "report/document", "report/picture")
LISTS = ("sessions.csv", "trends")


def get(airflow, page, *, token=None, cookie=None, **query):
    """Ask for a page; return status, headers and text."""
    address = f"{airflow.url}/ophys/{page}?{urlencode(query, doseq=True)}"
    request = urllib.request.Request(address)  # noqa: S310 -- it is http
    if token:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    if cookie:
        request.add_unredirected_header("Cookie", f"_token={cookie}")
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
            return answer.status, answer.headers, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode(errors="replace")


def task(airflow, dag_id, task_id, map_index=-1):
    return {
        "dag_id": dag_id,
        "run_id": airflow.runs[dag_id].run_id,
        "task_id": task_id,
        "map_index": map_index,
    }


@pytest.fixture(scope="module")
def tokens(airflow):
    return {user: airflow.client(user).log_in() for user in ("boss", "ann", "bob")}


@pytest.mark.parametrize("page", [*PAGES, *LISTS, "object"])
def test_nobody_gets_nothing(airflow, page):
    status, _, text = get(airflow, page, **task(airflow, "sessions", "write_imaging", 0))
    assert status == 401
    assert "mouse_1" not in text


@pytest.mark.parametrize("page", [*PAGES, *LISTS, "object"])
def test_a_forged_token_gets_nothing(airflow, tokens, page):
    head, payload, signature = tokens["ann"].split(".")
    for forged in ("nonsense", f"{head}.{payload}.{signature[::-1]}"):
        for way in ({"token": forged}, {"cookie": forged}):
            status, _, text = get(airflow, page, **way, **task(airflow, "sessions", "write_imaging", 0))
            assert status in {401, 403}
            assert "mouse_1" not in text


@pytest.mark.parametrize("page", PAGES[1:])
def test_who_may_not_read_the_dag_gets_no_report_of_it(airflow, tokens, page):
    wanted = task(airflow, "sessions", "write_imaging", 0)
    assert get(airflow, page, token=tokens["ann"], **wanted)[0] == 200
    assert get(airflow, page, cookie=tokens["ann"], **wanted)[0] == 200
    assert get(airflow, page, token=tokens["bob"], **wanted)[0] == 403
    # Neither of two names of a DAG gets past the check of the other.
    for twice in (["elsewhere", "sessions"], ["sessions", "elsewhere"]):
        status, _, text = get(airflow, page, token=tokens["bob"], **wanted | {"dag_id": twice})
        assert status in {403, 404} or "made no report" in text


@pytest.mark.parametrize("page", ["", *LISTS])
def test_the_list_of_one_who_asks_for_a_dag_of_others_is_empty(airflow, tokens, page):
    status, _, text = get(airflow, page, token=tokens["bob"], dag_id="sessions", since="")
    assert status == 200
    assert "mouse_1" not in text
    assert "write_imaging" not in text


@pytest.mark.parametrize("number", range(5))
def test_only_reports_below_the_allowed_roots_are_served(airflow, tokens, number):
    claimed = airflow.claims[number]
    wanted = task(airflow, "hostile", "claim", number)
    for page in ("report/document", "report/picture"):
        status, _, text = get(airflow, page, token=tokens["ann"], **wanted)
        assert status == 404
        assert "secret" not in text
        assert "root:" not in text
    _, _, text = get(airflow, "report", token=tokens["ann"], **wanted)
    assert "is not shown" in text
    assert str(claimed) in text


@pytest.fixture(scope="module")
def claimed_by_eve(airflow):
    """Eve may edit the XComs of her lab: she has one of her tasks say that another lab's report is its own."""
    run_id = quote(airflow.runs["envious"].run_id, safe="")
    result = f"/dags/envious/dagRuns/{run_id}/taskInstances/claim/xcomEntries/return_value"
    place = f"{airflow.root}/nwb/mouse_1.nwb"
    report = {kind: f"{place}{suffix}" for kind, suffix in REPORT_SUFFIXES.items()}
    value = {"nwbfile_path": place, "report": {**report, "summary": {}}}
    airflow.client("eve").api("PATCH", result, body={"value": value})
    assert airflow.client("eve").api("GET", result)["value"] is not None
    return task(airflow, "envious", "claim")


@pytest.mark.parametrize("page", PAGES[1:])
def test_who_writes_the_path_of_another_labs_report_into_an_xcom_does_not_get_it(airflow, claimed_by_eve, page):
    eve = airflow.client("eve").log_in()
    for kind in ("png", "thumbnail"):
        status, headers, text = get(airflow, page, token=eve, kind=kind, **claimed_by_eve)
        assert (status, "proves that this task made it" in text) == (200 if page == "report" else 404, True)
        assert headers["Content-Type"].startswith("text/html")
        assert "<h1>mouse_1" not in text


def test_a_report_can_do_nothing_but_be_looked_at(airflow, tokens):
    _, headers, _ = get(
        airflow, "report/document", token=tokens["ann"], **task(airflow, "sessions", "write_imaging", 0)
    )
    policy = {part.split()[0]: part.split()[1:] for part in headers["Content-Security-Policy"].split("; ")}
    assert policy["sandbox"] == []
    assert policy["default-src"] == policy["form-action"] == policy["base-uri"] == ["'none'"]
    assert "script-src" not in policy
    assert policy["frame-ancestors"] == ["'self'"]


@pytest.mark.parametrize("page", [*PAGES, "static/ophys.js"])
def test_every_answer_is_guarded(airflow, tokens, page):
    status, headers, _ = get(
        airflow, page, token=tokens["ann"], **task(airflow, "sessions", "write_imaging", 0) if page else {}
    )
    assert status == 200
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "default-src 'none'" in headers["Content-Security-Policy"]


@pytest.mark.parametrize("until", ["9999-12-31", "0001-01-01"])
@pytest.mark.parametrize("page", ["", *LISTS])
def test_any_day_may_be_asked_for(airflow, tokens, page, until):
    assert get(airflow, page, token=tokens["ann"], until=until, since="0001-01-01")[0] == 200


def test_all_sessions_that_are_chosen_are_in_the_table_for_spreadsheets(airflow, tokens):
    status, headers, text = get(airflow, "sessions.csv", token=tokens["ann"], q="mouse_1")
    assert status == 200
    assert headers["Content-Type"].startswith("text/csv")
    (row,) = csv.DictReader(io.StringIO(text))
    assert (row["session"], row["state"]) == ("mouse_1", "done")
    assert row["nwbfile_path"] == f"{airflow.root}/nwb/mouse_1.nwb"
    assert row["s3"].split() == ["s3://ophys/sessions/mouse_1.nwb", "s3://ophys/archive/mouse_1.nwb"]


def test_an_address_that_is_not_right_is_explained(airflow, tokens):
    status, _, text = get(airflow, "", token=tokens["ann"], since="yesterday", state="<b>")
    assert status == 422
    assert "since" in text
    assert "<b>" not in text


@pytest.fixture
def without_the_report(airflow):
    """Its page is not where the task wrote it, as when that was on another machine."""
    page = airflow.root / "nwb" / "mouse_1.nwb.report.html"
    elsewhere = page.rename(airflow.root / "elsewhere.html")
    yield
    elsewhere.rename(page)


def test_a_report_that_is_not_on_this_machine_says_so(airflow, tokens, without_the_report):
    status, _, text = get(airflow, "report", token=tokens["ann"], **task(airflow, "sessions", "write_imaging", 0))
    assert status == 200
    assert "not on the machine" in text


def test_a_report_in_s3_is_shown_through_the_connection_that_staged_it(airflow, tokens, without_the_report):
    wanted = task(airflow, "sessions", "stage", 0)
    status, headers, text = get(airflow, "report/document", token=tokens["ann"], **wanted)
    assert status == 200
    assert "sandbox" in headers["Content-Security-Policy"]
    assert "<h1>mouse_1" in text
    assert get(airflow, "report/picture", token=tokens["ann"], kind="png", **wanted)[0] == 200


def test_what_was_staged_opens_by_an_address_that_is_signed(airflow, tokens):
    status, _, content = get(airflow, "object", token=tokens["ann"], **task(airflow, "sessions", "stage", 0))
    assert status == 200, "the address was followed"
    assert content.startswith("\ufffdHDF")
    assert get(airflow, "object", token=tokens["bob"], **task(airflow, "sessions", "stage", 0))[0] == 403
    status, _, text = get(
        airflow, "object", token=tokens["ann"], to="neurosift", **task(airflow, "sessions", "stage", 0)
    )
    assert (status, "neurosift" in text) == (404, True), "it is off unless somebody turns it on"


def test_who_writes_the_address_of_another_labs_object_into_a_note_does_not_get_it(airflow, tokens):
    run_id = quote(airflow.runs["envious"].run_id, safe="")
    entries = f"/dags/envious/dagRuns/{run_id}/taskInstances/claim/xcomEntries"
    report = {kind: f"s3://ophys/sessions/mouse_1.nwb{suffix}" for kind, suffix in REPORT_SUFFIXES.items()}
    place = {"s3_uri": "s3://ophys/sessions/mouse_1.nwb", "aws_conn_id": "aws_default", "report": report}
    note = {"sessions": [{"step": "stage", **place}]}
    eve = airflow.client("eve")
    eve.api("POST", entries, body={"key": "ophys_session", "value": note})
    eve.api("PATCH", f"{entries}/return_value", body={"value": {"report": {**report, "summary": {}}}})
    for page in ("object", "report/document", "report/picture"):
        status, _, text = get(airflow, page, token=eve.log_in(), kind="png", **task(airflow, "envious", "claim"))
        assert status == 404, page
        assert "mouse_1" not in text
    # Her lab sees what she wrote, and no more; not in other tests.
    eve.api("PATCH", f"{entries}/ophys_session", body={"value": {"sessions": []}})
