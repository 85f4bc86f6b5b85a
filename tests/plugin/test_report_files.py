"""Which files may be served: regular ones of a report's kind below an allowed folder, whatever way leads there."""

from __future__ import annotations

import os

import pytest

from airflow_provider_ophys.plugin.files import LARGEST, ReportNotServedError, read_reported, reported_path


@pytest.fixture
def allowed(tmp_path):
    (tmp_path / "allowed").mkdir()
    (tmp_path / "outside.html").write_text("secret")
    return tmp_path / "allowed"


def test_a_report_below_an_allowed_folder_is_served(allowed):
    (allowed / "m1.report.html").write_text("<h1>m1</h1>")
    assert read_reported(str(allowed / "m1.report.html"), "html", [allowed]) == b"<h1>m1</h1>"


def test_an_allowed_folder_may_be_a_link(allowed, tmp_path):
    (tmp_path / "link").symlink_to(allowed)
    (allowed / "m1.report.html").write_text("m1")
    assert read_reported(str(tmp_path / "link" / "m1.report.html"), "html", [tmp_path / "link"]) == b"m1"


@pytest.mark.parametrize("way", ["../outside.html", "link.html", "folder/outside.html", "hard/../../outside.html"])
def test_no_way_leads_out(allowed, tmp_path, way):
    (allowed / "link.html").symlink_to(tmp_path / "outside.html")
    (allowed / "folder").symlink_to(tmp_path)
    (allowed / "hard").mkdir()
    with pytest.raises(ReportNotServedError, match="outside the folders"):
        read_reported(f"{allowed}/{way}", "html", [allowed])


def test_a_sibling_whose_name_begins_alike_is_outside(allowed, tmp_path):
    (tmp_path / "allowed-not").mkdir()
    (tmp_path / "allowed-not" / "m1.html").write_text("secret")
    with pytest.raises(ReportNotServedError, match="outside the folders"):
        read_reported(f"{tmp_path}/allowed-not/m1.html", "html", [allowed])


def test_without_an_allowed_folder_nothing_is_served(allowed):
    (allowed / "m1.html").write_text("m1")
    with pytest.raises(ReportNotServedError, match="allowed_roots"):
        read_reported(str(allowed / "m1.html"), "html", [])


def test_a_file_of_another_kind_is_not_served(allowed):
    (allowed / "m1.nwb").write_bytes(b"data")
    (allowed / "m1.html").symlink_to(allowed / "m1.nwb")
    for kind in ("html", "png", "thumbnail"):
        with pytest.raises(ReportNotServedError, match="no report"):
            read_reported(str(allowed / "m1.html"), kind, [allowed])


def test_what_is_no_regular_file_of_a_reports_size_is_not_served(allowed):
    os.mkfifo(allowed / "pipe.html")
    (allowed / "folder.html").mkdir()
    with (allowed / "large.html").open("wb") as file:
        file.truncate(LARGEST + 1)
    for name in ("pipe", "folder", "large"):
        with pytest.raises(ReportNotServedError):
            read_reported(str(allowed / f"{name}.html"), "html", [allowed])


@pytest.mark.parametrize("path", ["s3://bucket/m1.html", "/nowhere/m1.html", "m1\0.html", "x" * 5000])
def test_what_is_not_here_is_not_served(allowed, path):
    with pytest.raises(ReportNotServedError):
        read_reported(path, "html", [allowed])


@pytest.mark.parametrize("report", [None, "text", ["list"], {}, {"html": 5}, {"html": None}])
def test_a_result_of_any_shape_has_a_report_or_none(report):
    assert reported_path({"report": report}, "html") == ""
    assert reported_path({}, "html") == ""
