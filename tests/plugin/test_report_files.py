"""Which files may be served: those of a report below an allowed folder that their record says the task made."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from airflow_provider_ophys.models.result import REPORT_SUFFIXES
from airflow_provider_ophys.plugin.files import (
    LARGEST,
    Policy,
    ReportNotServedError,
    read_reported,
    reported_path,
)
from airflow_provider_ophys.report.origin import Maker, record_origin, record_path

MAKER = Maker("lab_a", "write")
STRANGER = Maker("lab_b", "claim")


@pytest.fixture
def allowed(tmp_path):
    (tmp_path / "allowed").mkdir()
    (tmp_path / "outside.html").write_text("secret")
    return tmp_path / "allowed"


def a_report(folder, *makers, content="m1"):
    files = {kind: Path(folder) / f"m1.nwb{suffix}" for kind, suffix in REPORT_SUFFIXES.items()}
    for kind, path in files.items():
        path.write_text(f"{kind} of {content}")
    for maker in makers:
        record_origin(files, maker)
    return files


def served(path, roots, kind="html", maker=MAKER, *, bound=None, team=None):
    return read_reported(str(path), kind, Policy(roots, bound or {}), maker, team)


@pytest.mark.parametrize("kind", REPORT_SUFFIXES)
def test_a_report_below_an_allowed_folder_is_served_to_the_task_that_made_it(allowed, kind):
    files = a_report(allowed, MAKER)
    assert served(files[kind], [allowed], kind) == f"{kind} of m1".encode()


def test_nobody_else_gets_it(allowed):
    files = a_report(allowed, MAKER)
    for other in (STRANGER, Maker("lab_a", "claim"), Maker("lab_b", "write")):
        with pytest.raises(ReportNotServedError, match="proves"):
            served(files["html"], [allowed], maker=other)


def test_a_task_that_found_it_made_gets_it_too(allowed):
    files = a_report(allowed, MAKER, STRANGER)
    assert served(files["html"], [allowed], maker=MAKER) == served(files["html"], [allowed], maker=STRANGER)


def test_what_another_dag_made_since_is_its_own(allowed):
    a_report(allowed, MAKER)
    files = a_report(allowed, STRANGER, content="something else")
    assert served(files["html"], [allowed], maker=STRANGER)
    with pytest.raises(ReportNotServedError, match="proves"):
        served(files["html"], [allowed], maker=MAKER)


def test_what_another_task_of_the_same_dag_made_since_is_served_to_both(allowed):
    a_report(allowed, MAKER)
    files = a_report(allowed, Maker("lab_a", "write_cells"), content="with cells")
    assert served(files["html"], [allowed], maker=MAKER) == b"html of with cells"


def test_a_file_that_the_record_does_not_speak_of_is_not_served(allowed):
    files = a_report(allowed, MAKER)
    files["html"].write_text("changed since")
    with pytest.raises(ReportNotServedError, match="proves"):
        served(files["html"], [allowed])
    with pytest.raises(ReportNotServedError, match="no report"):
        served(files["png"], [allowed], "html")


@pytest.mark.parametrize("record", [b"", b"[]", b'{"makers": 5}', b"x" * 2**21])
def test_without_a_whole_record_nothing_is_served(allowed, record):
    files = a_report(allowed)
    record_path(files["html"]).write_bytes(record)
    with pytest.raises(ReportNotServedError):
        served(files["html"], [allowed])
    record_path(files["html"]).unlink()
    with pytest.raises(ReportNotServedError, match="proves"):
        served(files["html"], [allowed])


def test_a_record_elsewhere_proves_nothing(allowed, tmp_path):
    """A link to another lab's report, with a record of one's own beside the link."""
    (allowed / "a").mkdir()
    (allowed / "b").mkdir()
    files = a_report(allowed / "a", MAKER)
    mine = {kind: allowed / "b" / path.name for kind, path in files.items()}
    for kind, path in files.items():
        mine[kind].symlink_to(path)
    record_origin(mine, STRANGER)
    with pytest.raises(ReportNotServedError, match="proves"):
        served(mine["html"], [allowed], maker=STRANGER)


def test_a_place_may_be_for_some_dags_only(allowed):
    files = a_report(allowed, MAKER)
    for who in (["lab_a"], ["lab_*"], ["team:other", "lab_a"]):
        assert served(files["html"], [allowed], bound={str(allowed): who})
    assert served(files["html"], [allowed], bound={str(allowed): ["team:a"]}, team="a")
    for who in ([], ["lab_b"], ["team:lab_a"], ["team:"]):
        with pytest.raises(ReportNotServedError, match="other DAGs"):
            served(files["html"], [allowed], bound={str(allowed): who})
    assert served(files["html"], [allowed], bound={f"{allowed}-other": []})


def test_an_allowed_folder_may_be_a_link(allowed, tmp_path):
    (tmp_path / "link").symlink_to(allowed)
    a_report(allowed, MAKER)
    assert served(tmp_path / "link" / "m1.nwb.report.html", [tmp_path / "link"]) == b"html of m1"


@pytest.mark.parametrize("way", ["../outside.html", "link.html", "folder/outside.html", "hard/../../outside.html"])
def test_no_way_leads_out(allowed, tmp_path, way):
    (allowed / "link.html").symlink_to(tmp_path / "outside.html")
    (allowed / "folder").symlink_to(tmp_path)
    (allowed / "hard").mkdir()
    with pytest.raises(ReportNotServedError, match="outside the folders"):
        served(f"{allowed}/{way}", [allowed])


def test_a_sibling_whose_name_begins_alike_is_outside(allowed, tmp_path):
    (tmp_path / "allowed-not").mkdir()
    files = a_report(tmp_path / "allowed-not", MAKER)
    with pytest.raises(ReportNotServedError, match="outside the folders"):
        served(files["html"], [allowed])


def test_without_an_allowed_folder_nothing_is_served(allowed):
    files = a_report(allowed, MAKER)
    with pytest.raises(ReportNotServedError, match="allowed_roots"):
        served(files["html"], [])


def test_a_file_of_another_kind_is_not_served(allowed):
    (allowed / "m1.nwb").write_bytes(b"data")
    (allowed / "m1.nwb.report.html").symlink_to(allowed / "m1.nwb")
    for kind in REPORT_SUFFIXES:
        with pytest.raises(ReportNotServedError, match="no report"):
            served(allowed / "m1.nwb.report.html", [allowed], kind)


def test_what_is_no_regular_file_of_a_reports_size_is_not_served(allowed):
    os.mkfifo(allowed / "pipe.report.html")
    (allowed / "folder.report.html").mkdir()
    with (allowed / "large.report.html").open("wb") as file:
        file.truncate(LARGEST + 1)
    for name in ("pipe", "folder", "large"):
        with pytest.raises(ReportNotServedError):
            served(allowed / f"{name}.report.html", [allowed])


@pytest.mark.parametrize("path", ["/nowhere/m1.report.html", "m1\0.report.html", "x" * 5000])
def test_what_is_not_here_is_not_served(allowed, path):
    with pytest.raises(ReportNotServedError):
        served(path, [allowed])


@pytest.mark.parametrize("report", [None, "text", ["list"], {}, {"html": 5}, {"html": None}])
def test_a_result_of_any_shape_has_a_report_or_none(report):
    assert reported_path({"report": report}, "html") == ""
    assert reported_path({}, "html") == ""
