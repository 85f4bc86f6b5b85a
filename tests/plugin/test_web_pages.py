"""Airflow's web UI in a real browser, below a path, with two labs: the page Ophys and the tab Report."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from airflow_versions import needs_state_stores
from playwright.sync_api import expect
from plugin_stack import HAS_TEAMS, PATIENCE_SECONDS

pytestmark = pytest.mark.stack

OPHYS = "iframe[title=Ophys]"
HOSTILE = "<img src=x onerror=alert(1)>"
# Without teams Ann sees what is another lab's, too.
ANNS = {HOSTILE, "bad_session", "broken", "mended", "mouse_1", "parallel"} | (set() if HAS_TEAMS else {"secret"})


def overview(page):
    """The page Ophys inside of Airflow's, when it is there."""
    return when_ready(page.frame_locator(OPHYS))


def when_ready(frame):
    """What has the page Ophys: a frame of Airflow's page, or the page by itself, which is there much sooner."""
    frame.get_by_role("heading", name="Sessions").wait_for()
    # Until then a choice does nothing by itself.
    expect(frame.locator("html[data-ready]")).to_have_count(1)
    return frame


def names(frame):
    return set(frame.locator("th.name strong").all_inner_texts())


def row_of(frame, name):
    return frame.locator("tbody").filter(has=frame.get_by_text(name, exact=True))


def steps(row):
    return {
        step.inner_text().partition(":")[0].strip(): step.get_attribute("class")
        for step in row.locator(".steps li").all()
    }


def tab(airflow, dag_id, task, map_index=None):
    mapped = "" if map_index is None else f"/mapped/{map_index}"
    run_id = quote(airflow.runs[dag_id].run_id, safe="")
    return f"dags/{dag_id}/runs/{run_id}/tasks/{task}{mapped}/plugin/ophys-report"


def report_frame(page):
    return page.frame_locator("iframe[title=Report]").frame_locator("iframe[title=Report]")


def test_the_navigation_leads_to_the_page(visit):
    page = visit("ann", "")
    page.get_by_role("link", name="Ophys").click()
    assert "mouse_1" in names(overview(page))


def test_a_session_is_one_row_with_all_that_was_done_to_it(visit, airflow):
    row = row_of(when_ready(visit("ann", "ophys/")), "mouse_1")
    assert row.count() == 1
    done = ("converted", "checked", "staged", "archived")
    assert steps(row) == {"arrived": "none", "described": "none", **dict.fromkeys(done, "done")}
    expect(row.locator(".state")).to_have_text("done")
    expect(row).to_contain_text("simulated-mouse-0")
    size = (airflow.root / "nwb" / "mouse_1.nwb").stat().st_size
    expect(row).to_contain_text(f"{size / 1e6:.3g} MB")
    # On a busy machine it may be rounded to 0.
    assert float(row.locator("td[data-name='MB/s']").inner_text()) >= 0
    expect(row.locator(".check", has_text="valid")).to_have_count(1)
    row.get_by_text("where", exact=True).click()
    expect(row).to_contain_text(str(airflow.root / "nwb" / "mouse_1.nwb"))
    expect(row).to_contain_text("archive, sessions")
    for place in ("sessions", "archive"):
        expect(row.get_by_role("link", name=f"s3://ophys/{place}/mouse_1.nwb")).to_be_visible()
    picture = row.locator("img")
    picture.scroll_into_view_if_needed()
    picture.evaluate("image => image.decode()")
    assert picture.evaluate("image => image.naturalWidth") > 0


def test_what_failed_comes_first_and_says_why(visit):
    frame = when_ready(visit("ann", "ophys/"))
    first = frame.locator("th.name strong").all_inner_texts()[:2]
    assert set(first) == {"bad_session", "broken"}
    broken = row_of(frame, "broken")
    expect(broken.locator(".error")).to_contain_text("missing.tif. Check the path, and that this worker mounts")
    expect(broken).to_contain_text("broken · write_imaging")
    expect(row_of(frame, "bad_session").locator(".error")).to_contain_text("session.yaml")
    expect(frame.locator("#today")).to_contain_text(f"{len(ANNS) - 2} done, 2 failed")


def test_what_a_later_run_mended_is_not_red_though_it_is_an_operator_of_the_lab(visit):
    row = row_of(when_ready(visit("ann", "ophys/")), "mended")
    expect(row.locator(".state")).to_have_text("done")
    assert row.locator(".error").count() == 0


def test_what_many_tasks_wrote_is_one_session(visit):
    row = row_of(when_ready(visit("ann", "ophys/")), "parallel")
    assert steps(row)["converted"] == steps(row)["staged"] == "done"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_is_as_light_as_airflow_and_fits(visit, keep, scheme, width):
    page = visit("ann", "plugin/ophys", scheme, width)
    frame = overview(page)
    colour = frame.locator("body").evaluate("body => getComputedStyle(body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", colour))) < 3 * 128) == (scheme == "dark")
    assert frame.locator("html").evaluate("html => html.scrollWidth - html.clientWidth") == 0
    keep(page, f"overview-{scheme}-{width}")


@pytest.mark.skipif(not HAS_TEAMS, reason="Airflow has no teams before 3.2")
def test_people_see_their_own_dags_only(visit, airflow):
    assert names(when_ready(visit("ann", "ophys/"))) == ANNS
    bob = when_ready(visit("bob", "ophys/"))
    assert names(bob) == {"secret"}
    # A DAG is there that has left a note; of the other one somebody of that lab may have written it, as a test of
    # access does.
    run_id = quote(airflow.runs["envious"].run_id, safe="")
    entries = f"/dags/envious/dagRuns/{run_id}/taskInstances/claim/xcomEntries"
    keys = {entry["key"] for entry in airflow.client("boss").api("GET", entries)["xcom_entries"]}
    noted = ["elsewhere", "envious"] if "ophys_session" in keys else ["elsewhere"]
    assert bob.get_by_label("DAG").locator("option").all_inner_texts() == ["all", *noted]
    assert bob.get_by_text("wait", exact=True).count() == 0
    assert names(when_ready(visit("boss", "ophys/"))) == ANNS | {"secret"}


def test_choices_stay_in_the_address(visit):
    page = visit("ann", "plugin/ophys")
    overview(page).get_by_label("State").select_option("failed")
    expect(overview(page).locator("th.name strong")).to_have_count(2)
    page.wait_for_url(re.compile("state=failed"))
    page.reload()
    expect(overview(page).locator("th.name strong")).to_have_count(2)
    overview(page).get_by_label("State").select_option("")
    expect(overview(page).locator("th.name strong")).to_have_count(len(ANNS))
    overview(page).get_by_label("Search").fill("mouse_1.nwb")
    overview(page).get_by_label("Search").press("Enter")
    expect(overview(page).locator("th.name strong")).to_have_text(["mouse_1"])


def test_a_date_is_typed_and_counts_when_the_person_says_so(visit):
    frame = when_ready(visit("ann", "ophys/"))
    frame.get_by_label("to").focus()
    frame.get_by_label("to").press_sequentially("01022020")
    expect(frame.get_by_label("to")).to_have_value("2020-01-02")
    expect(frame.locator("th.name strong")).to_have_count(len(ANNS))
    frame.get_by_label("to").press("Enter")
    expect(frame.locator(".empty")).to_be_visible()


def test_looking_again_leaves_focus_scroll_and_what_is_open(visit):
    page = visit("ann", "plugin/ophys", "light", 390)
    frame = overview(page)
    row = row_of(frame, "parallel")
    row.get_by_text("where", exact=True).click()
    link = row.get_by_role("link", name="s3://ophys/sessions/parallel.nwb.zarr")
    link.focus()
    body = frame.locator("body")
    before = body.evaluate("() => { window.shown = 'x'; return [scrollY, shown = 'another'][0] }")
    body.evaluate("() => refresh()")
    expect(link).to_be_visible()
    expect(link).to_be_focused()
    assert body.evaluate("() => scrollY") == before
    search = frame.get_by_label("Search")
    search.fill("half a wo")
    body.evaluate("() => { document.getElementById('content').dataset.mark = 'old'; shown = 'another' }")
    body.evaluate("() => refresh()")
    assert frame.locator("#content").get_attribute("data-mark") == "old", "somebody types"


def test_what_waits_says_why(visit, airflow):
    waiting = when_ready(visit("ann", "ophys/")).locator("tr", has_text="watching")
    expect(waiting).to_contain_text("deferred")
    expect(waiting).to_contain_text(f"No new complete folder in {airflow.root}/incoming yet.")


@needs_state_stores
def test_a_folder_that_is_not_complete_waits_too(visit):
    folder = when_ready(visit("ann", "ophys/")).locator("tr", has_text="not_complete")
    expect(folder).to_contain_text("waiting for its marker 'DONE'")


def test_links_lead_out_of_the_frame_to_the_log(visit):
    page = visit("ann", "plugin/ophys")
    overview(page).get_by_role("link", name="Log of broken").click()
    page.wait_for_url(re.compile(r"/lab/airflow/dags/broken/runs/[^/]+/tasks/write_imaging$"))
    expect(page.get_by_text("Check the path, and that this").last).to_be_visible()


def test_a_task_is_cleared_where_it_is_shown_by_who_may(visit, airflow):
    page = visit("ann", "plugin/ophys")
    clear = overview(page).locator("a.clear").first
    clear.click()
    expect(clear).to_have_text("run it again?")
    clear.click()
    expect(clear).to_contain_text("not cleared: 403")
    page = visit("boss", "plugin/ophys")
    clear = overview(page).get_by_role("link", name="Clear write_imaging of broken")
    clear.click()
    clear.click()
    expect(clear).to_have_text("cleared")
    run = airflow.stack.client.wait_for_run(airflow.runs["broken"], timeout=PATIENCE_SECONDS)
    assert run.state == "failed"
    (again,) = airflow.stack.client.task_instances(run)
    assert again.try_number == 2


def test_what_comes_from_metadata_stays_text(visit, airflow, keep):
    page = when_ready(visit("ann", "ophys/"))
    expect(page.get_by_text(HOSTILE, exact=True)).to_be_visible()
    assert page.locator("img[src=x]").count() == 0
    page = visit("ann", tab(airflow, "sessions", "write_imaging", 1))
    report = report_frame(page)
    expect(report.get_by_text("<script>alert(1)").first).to_be_visible()
    assert report.locator("script").count() == 0
    expect(report.get_by_text("</td><script>alert(2)</script>").first).to_be_attached()
    keep(page, "report-of-a-hostile-device")


def test_the_tab_shows_the_report_of_a_task(visit, airflow, keep):
    page = visit("bob", tab(airflow, "elsewhere", "write_imaging"))
    expect(report_frame(page).locator("h1")).to_contain_text("secret")
    assert report_frame(page).locator("img").first.evaluate("image => image.naturalWidth") > 0
    keep(page, "report-light")


def test_the_tab_of_a_mapped_task_shows_that_one(visit, airflow, keep):
    page = visit("ann", tab(airflow, "sessions", "write_imaging", 0), "dark")
    expect(report_frame(page).locator("h1")).to_contain_text("mouse_1")
    keep(page, "report-dark")


def test_the_tab_of_another_task_says_that_there_is_none(visit, airflow):
    page = visit("ann", tab(airflow, "broken", "write_imaging"))
    expect(page.frame_locator("iframe[title=Report]").locator("main")).to_contain_text("made no report")


def test_trends_are_drawn_and_in_a_table(visit, keep):
    page = visit("ann", "plugin/ophys")
    overview(page).get_by_role("link", name="Trends").click()
    frame = page.frame_locator(OPHYS)
    expect(frame.locator("svg")).to_have_count(4)
    assert frame.locator("svg").first.locator("rect").count() >= 7
    subject = frame.get_by_role("row", name=re.compile("simulated-mouse-0"))
    expect(subject.locator("td").first).to_have_text("4")
    keep(page, "trends")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["ophys/", "ophys/trends", "ophys/report?dag_id=broken&run_id=x&task_id=y"])
def test_a_screen_reader_finds_names_and_contrast_for_all(visit, path, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-core is not installed")
    page = visit("ann", path, scheme)
    for summary in page.locator("summary").all():
        summary.click()
    found = axe.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
