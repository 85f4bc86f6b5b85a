"""An archive: what has no NWB file is converted, whatever is broken in it, and all is reported."""

from __future__ import annotations

import csv
import json
import os
import shutil
from itertools import chain
from pathlib import Path

import ophys_backfill
import pytest
import yaml
from airflow_runs import result_of, run_dag
from airflow_versions import DagBag
from described import simulate_described
from pynwb import NWBHDF5IO

from airflow_provider_ophys.conversion.archive import (
    MOST_DEATHS,
    Archive,
    convert_batch,
    in_batches,
    summarize,
)
from airflow_provider_ophys.exceptions import OutputBusyError, SourceDataError, SourceNotFoundError

pytestmark = pytest.mark.usefixtures("airflow_db")


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    return simulate_described(tmp_path_factory.mktemp("recording") / "session", num_samples=20)


@pytest.fixture
def archive(tmp_path, recording, monkeypatch):
    """Eight sessions: two sound ones, one without ROIs, one without YAML, and four that are broken."""
    root = tmp_path / "archive"
    broken = ("2017/cut_off", "2018/metadata", "2018/words", "odd")
    for name in ("2016/m1/a", "2016/m1/b", "2017/no_rois", "no_yaml", *broken):
        shutil.copytree(recording, root / name)
    session = yaml.safe_load((root / "2017/no_rois/session.yaml").read_text())
    del session["segmentation"]
    (root / "2017/no_rois/session.yaml").write_text(yaml.safe_dump(session))
    movie = root / "2017/cut_off/movie.tif"
    os.truncate(movie, movie.stat().st_size // 2)
    # Long ago: a movie that was just written might still be growing, and would be tried again later.
    os.utime(movie, (0, 0))
    (root / "2018/metadata/metadata.yaml").write_text("Subject: {sex: 7}")
    for name in ("session.yaml", "metadata.yaml"):
        (root / "no_yaml" / name).unlink()
    (root / "2018/words/session.yaml").write_text("a movie of a mouse")
    session["imaging"]["extractor"] = "NoSuchImagingExtractor"
    (root / "odd/session.yaml").write_text(yaml.safe_dump(session))
    (root / "2016/notes").mkdir()
    monkeypatch.setenv("AIRFLOW_VAR_OPHYS_BACKFILL_ROOT", str(root))
    monkeypatch.setenv("AIRFLOW_VAR_OPHYS_OUTPUT_ROOT", str(tmp_path / "nwb"))
    return root


def run_backfill():
    bag = DagBag(Path(ophys_backfill.__file__).parent, bundle_name="tests")
    instances = run_dag(bag.dags["ophys_backfill"], conf={"batch_size": 2})
    return instances, result_of(instances["report"][0])


def test_the_sound_are_converted_the_broken_reported_and_the_next_run_converts_nothing(archive, tmp_path):
    instances, result = run_backfill()

    assert [instance.state for instance in instances["convert"]] == ["success"] * 4
    assert {instance.rendered_map_index for instance in instances["convert"]} >= {"2016/m1/a and 1 more"}
    assert instances["report"][0].state == "failed"
    assert {state: result[state] for state in ("converted", "reused", "failed")} == {
        "converted": 4,
        "reused": 0,
        "failed": 4,
    }
    outputs = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "nwb").glob("*.nwb")}
    assert set(outputs) == {"2016_m1_a.nwb", "2016_m1_b.nwb", "2017_no_rois.nwb", "no_yaml.nwb"}
    report = json.loads(Path(result["report"]).read_text())
    why = {session["session"]: session.get("why", "") for session in report["sessions"]}
    assert "movie.tif" in why["2017/cut_off"]
    assert "metadata.yaml" in why["2018/metadata"]
    assert "session.yaml holds no mapping" in why["2018/words"]
    assert "NoSuchImagingExtractor" in why["odd"]
    with Path(result["table"]).open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert [(row["session"], row["state"]) for row in rows] == [
        (session["session"], session["state"]) for session in report["sessions"]
    ]

    _, again = run_backfill()

    assert {state: again[state] for state in ("converted", "reused", "failed")} == {
        "converted": 0,
        "reused": 4,
        "failed": 4,
    }
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "nwb").glob("*.nwb")} == outputs


def test_the_rois_that_a_session_got_later_are_added_to_its_file(archive, tmp_path):
    sessions = Archive(archive, tmp_path / "nwb")
    rois = archive / "no_yaml" / "suite2p"
    rois.rename(tmp_path / "suite2p")
    assert sessions.convert("no_yaml")["state"] == "converted"
    assert sessions.is_converted("no_yaml")

    (tmp_path / "suite2p").rename(rois)
    assert not sessions.is_converted("no_yaml")
    assert sessions.convert("no_yaml")["state"] == "converted"

    assert sessions.is_converted("no_yaml")
    assert sessions.convert("no_yaml")["state"] == "reused"
    with NWBHDF5IO(tmp_path / "nwb" / "no_yaml.nwb", "r") as io:
        nwbfile = io.read()
        (movie,) = nwbfile.acquisition.values()
        (table,) = nwbfile.processing["ophys"]["ImageSegmentation"].plane_segmentations.values()
        assert table.imaging_plane is movie.imaging_plane


def test_sessions_lie_where_the_pattern_says_and_where_a_file_in_them_says_it(tmp_path):
    for name in ("m1/a", "m1/b/raw", "m2", "m3/x/y", "nwb/old"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "m3/x/y/session.yaml").touch()
    (tmp_path / "m2/DONE").touch()

    def found(pattern):
        return Archive(tmp_path, tmp_path / "nwb", pattern).sessions()[0]

    assert found("") == ["m2", "m3/x/y"]
    assert found("*") == ["m1", "m2", "m3/x/y"]
    assert found("m*/*") == ["m1/a", "m1/b", "m2", "m3/x/y"]


def test_sessions_that_would_share_an_nwb_file_are_refused(tmp_path):
    for name in ("a/b_c", "a_b/c", "d"):
        (tmp_path / "archive" / name).mkdir(parents=True)
        (tmp_path / "archive" / name / "session.yaml").touch()

    plan = Archive(tmp_path / "archive", tmp_path / "nwb").plan(20, 1000)

    assert set(plan["refused"]) == {"a/b_c", "a_b/c"}
    assert plan["batches"] == [["d"]]
    sessions = summarize(plan, [])
    assert [(each["session"], each["state"]) for each in sessions] == [
        ("a/b_c", "failed"),
        ("a_b/c", "failed"),
        ("d", "failed"),
    ]
    assert "did not end" in sessions[2]["why"]


def test_an_archive_without_a_session_says_how_to_name_them(tmp_path):
    (tmp_path / "m1" / "day 1").mkdir(parents=True)
    with pytest.raises(SourceNotFoundError, match=r"no session below .*pattern ''.*such as \*/\*"):
        Archive(tmp_path, tmp_path / "nwb").plan(20, 1000)


def test_a_root_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SourceNotFoundError, match=r"no folder .*nowhere"):
        Archive(tmp_path / "nowhere", tmp_path / "nwb").plan(20, 1000)


@pytest.mark.parametrize(
    ("num_sessions", "batch_size", "num_batches"),
    [(0, 20, 0), (1, 20, 1), (41, 20, 3), (5, 1, 5), (2500, 1, 30), (2500, 100, 25)],
)
def test_batches_are_even_and_no_more_than_can_be_mapped_over(num_sessions, batch_size, num_batches):
    names = [str(number) for number in range(num_sessions)]
    batches = in_batches(names, batch_size, 30)
    assert len(batches) == num_batches
    assert sorted(chain(*batches)) == sorted(names)
    sizes = {len(batch) for batch in batches}
    assert not sizes or max(sizes) - min(sizes) <= 1


class Store(dict):
    """A task's state store, which outlives its tries."""

    def set(self, key, value):
        self[key] = value

    def delete(self, key):
        self.pop(key, None)


class WorkerDied(BaseException):
    """What a SIGKILL looks like to those who come later: nothing after it happened."""


def test_a_session_that_kills_its_worker_does_not_keep_the_others_from_being_converted():
    store, converted = Store(), []

    def convert(name):
        if name == "deadly":
            raise WorkerDied
        converted.append(name)
        return {"state": "converted"}

    names = ["deadly", "m1", "m2"]
    for _ in range(MOST_DEATHS):
        with pytest.raises(WorkerDied):
            convert_batch(names, store, convert)
    assert converted == ["m1", "m2"]
    outcomes, passing = convert_batch(names, store, convert)
    assert {outcome["session"]: outcome["state"] for outcome in outcomes} == {
        "m1": "converted",
        "m2": "converted",
        "deadly": "failed",
    }
    assert "died 2 times" in outcomes[-1]["why"]
    assert passing is None
    assert store == {}


def test_only_what_may_pass_is_worth_another_try():
    def convert(name):
        raise {"busy": OutputBusyError, "bad": SourceDataError, "bug": ZeroDivisionError}[name](f"{name} it is")

    outcomes, passing = convert_batch(["busy", "bad", "bug"], Store(), convert)

    assert [outcome["why"] for outcome in outcomes] == ["busy it is", "bad it is", "ZeroDivisionError: bug it is"]
    assert isinstance(passing, OutputBusyError)
    assert convert_batch(["bad", "bug"], Store(), convert)[1] is None
