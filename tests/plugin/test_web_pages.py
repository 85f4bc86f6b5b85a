"""Airflow's web UI in a real browser, below a path, with two labs: the page Ophys and the tab Report."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.stack

OPHYS = "iframe[title=Ophys]"
HOSTILE = "<img src=x onerror=alert(1)>"


def overview(page):
    """The page Ophys inside of Airflow's, when it is there."""
    frame = page.frame_locator(OPHYS)
    frame.get_by_role("heading", name="Recordings").wait_for()
    return frame


def names(frame):
    return sorted(frame.locator("td.file strong").all_inner_texts())


def tab(airflow, dag_id, task, map_index=None):
    mapped = "" if map_index is None else f"/mapped/{map_index}"
    run_id = quote(airflow.runs[dag_id].run_id, safe="")
    return f"dags/{dag_id}/runs/{run_id}/tasks/{task}{mapped}/plugin/ophys-report"


def report_frame(page):
    return page.frame_locator("iframe[title=Report]").frame_locator("iframe[title=Report]")


def test_the_navigation_leads_to_the_page(visit):
    page = visit("ann", "")
    page.get_by_role("link", name="Ophys").click()
    assert "mouse_1.nwb" in names(overview(page))


def test_a_recording_is_one_row_with_all_that_was_done_to_it(visit, airflow):
    page = visit("ann", "plugin/ophys")
    row = overview(page).locator("tbody", has_text="mouse_1.nwb")
    expect(row).to_contain_text(str(airflow.root / "nwb" / "mouse_1.nwb"))
    expect(row).to_contain_text(f"from {airflow.root}/recording/movie.tif")
    assert row.locator("tr").count() == 3
    assert row.locator(".state").all_inner_texts() == ["success"] * 3
    expect(row).to_contain_text("write_segmentation [0]")
    duration, speed = row.locator("tr").first.locator("td.number").all_inner_texts()[:2]
    assert re.fullmatch(r"([\d.]+ s|\d+ min \d+ s)", duration)
    assert float(speed) > 0
    size = (airflow.root / "nwb" / "mouse_1.nwb").stat().st_size
    expect(row).to_contain_text(f"{size / 1e6:.3g} MB")
    expect(row.locator(".check", has_text="valid")).to_have_count(1)
    staged = row.get_by_role("link", name="s3://ophys/sessions/mouse_1.nwb")
    assert staged.get_attribute("href").startswith(airflow.s3.endpoint_url)
    picture = row.locator("img")
    picture.scroll_into_view_if_needed()
    picture.evaluate("image => image.decode()")
    assert picture.evaluate("image => image.naturalWidth") > 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_as_light_as_airflow(visit, keep, scheme):
    page = visit("ann", "plugin/ophys", scheme)
    colour = overview(page).locator("body").evaluate("body => getComputedStyle(body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", colour))) < 3 * 128) == (scheme == "dark")
    keep(page, f"overview-{scheme}")


def test_people_see_their_own_dags_only(visit):
    assert names(overview(visit("ann", "plugin/ophys"))) == [f"{HOSTILE}.nwb", "broken.nwb", "mouse_1.nwb"]
    bob = overview(visit("bob", "plugin/ophys"))
    assert names(bob) == ["secret.nwb"]
    assert bob.get_by_label("DAG").locator("option").all_inner_texts() == ["all", "elsewhere"]
    assert bob.get_by_text("wait", exact=True).count() == 0
    assert len(names(overview(visit("boss", "plugin/ophys")))) == 4


def test_filters_choose_and_stay_in_the_address(visit):
    page = visit("ann", "plugin/ophys")
    overview(page).get_by_label("State").select_option("failed")
    expect(overview(page).locator("td.file strong")).to_have_text(["broken.nwb"])
    page.wait_for_url(re.compile("state=failed"))
    page.reload()
    expect(overview(page).locator("td.file strong")).to_have_text(["broken.nwb"])
    overview(page).get_by_label("State").select_option("")
    overview(page).get_by_label("DAG").select_option("sessions")
    expect(overview(page).locator("td.file strong")).to_have_count(2)
    overview(page).get_by_label("to").fill("2020-01-02")
    overview(page).get_by_label("From").fill("2020-01-01")
    expect(overview(page).locator(".empty")).to_be_visible()


def test_what_waits_says_why(visit, airflow):
    waiting = overview(visit("ann", "plugin/ophys")).locator("tr", has_text="watching")
    expect(waiting).to_contain_text("deferred")
    expect(waiting).to_contain_text(f"No new complete folder in {airflow.root}/incoming yet.")
    folder = overview(visit("ann", "plugin/ophys")).locator("tr", has_text="not_complete")
    expect(folder).to_contain_text("waiting for its marker 'DONE'")


def test_links_lead_out_of_the_frame(visit, airflow):
    page = visit("ann", "plugin/ophys")
    overview(page).get_by_role("link", name="write_imaging [0]").click()
    page.wait_for_url(re.compile(r"/lab/airflow/dags/sessions/runs/[^/]+/tasks/write_imaging/mapped/0$"))


def test_what_comes_from_metadata_stays_text(visit, airflow, keep):
    page = visit("ann", "plugin/ophys")
    frame = overview(page)
    expect(frame.get_by_text(f"{HOSTILE}.nwb", exact=True)).to_be_visible()
    assert frame.locator("img[src=x]").count() == 0
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
