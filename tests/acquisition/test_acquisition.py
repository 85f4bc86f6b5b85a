from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path

import pytest
from folder_states import SETTLE, STATES, DictStore, State, put, unprivileged_folder

from airflow_provider_ophys.acquisition import AcquisitionOptions, AcquisitionWatch
from airflow_provider_ophys.acquisition.ledger import waiting_key
from airflow_provider_ophys.acquisition.readiness import FileSeen, Look, Summary, path_matches, readable_size
from airflow_provider_ophys.exceptions import (
    AcquisitionAccessError,
    ConfigurationError,
    SourceNotFoundError,
)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Watched:
    """A watch with a clock that the test sets."""

    def __init__(self, root: Path, ledger: DictStore | None = None, **options) -> None:
        self.root = root
        self.clock = Clock()
        self.ledger = DictStore() if ledger is None else ledger
        self.log: list[str] = []
        self.options = AcquisitionOptions.create(path=root, **options)
        self.watch = AcquisitionWatch(self.options, self.ledger, self.clock)

    def look(self, after: float = 0.0) -> list[str]:
        """The names of the folders that are ready, some time after the last look."""
        self.clock.now += after
        self.watch.refresh()
        self.found = self.watch.ready()
        self.log += [line for _, line in self.watch.news()]
        return [acquisition.folder.name for acquisition in self.found]

    def hand_over(self) -> None:
        for acquisition in self.found:
            self.watch.record(acquisition, "a test")


@pytest.mark.parametrize("state", STATES, ids=str)
def test_each_state_is_judged(tmp_path, state: State):
    root = tmp_path / "root"
    root.mkdir()
    state.build(root / "rec")
    watched = Watched(root, **{"settle_seconds": SETTLE} | state.options)

    watched.look()
    assert ("rec" in watched.look(after=2 * SETTLE)) == state.complete
    assert any(line.startswith("rec: ") and state.why in line for line in watched.log)


def test_a_folder_is_ready_with_its_facts(tmp_path):
    put(tmp_path / "rig1" / "s1", "a.tif", "b.tif", "sub/c.tif", size=1000)
    watched = Watched(tmp_path, pattern="*/*/", settle_seconds=0)

    assert watched.look() == ["rig1/s1"]
    assert watched.found[0].as_dict() == {
        "path": str(tmp_path / "rig1" / "s1"),
        "name": "rig1/s1",
        "num_files": 3,
        "size_bytes": 3000,
    }


def _grow(rec: Path) -> None:
    with (rec / "movie.tif").open("ab") as file:
        file.write(b"more")


def _touch(rec: Path) -> None:
    os.utime(rec / "movie.tif", ns=(1, 1))


@pytest.mark.parametrize(
    "change",
    [
        _grow,
        _touch,
        lambda rec: put(rec, "new.tif"),
        lambda rec: put(rec, "deep/down/new.tif"),
        lambda rec: (rec / "b.tif").unlink(),
        lambda rec: (rec / "b.tif").rename(rec / "c.tif"),
    ],
    ids=["grown", "touched", "added", "added below", "removed", "renamed"],
)
def test_any_change_starts_the_quiet_time_anew(tmp_path, change):
    rec = put(tmp_path / "rec", "movie.tif", "b.tif")
    watched = Watched(tmp_path, settle_seconds=60)

    assert watched.look() == []
    assert watched.look(after=59) == []
    change(rec)
    assert watched.look(after=10) == []
    assert watched.look(after=59) == []
    assert watched.look(after=1) == ["rec"]


def test_one_look_never_shows_that_a_folder_is_quiet(tmp_path):
    rec = put(tmp_path / "rec", "movie.tif")
    os.utime(rec / "movie.tif", ns=(10**9, 10**9))
    assert Watched(tmp_path, settle_seconds=1).look(after=10**6) == []


def test_the_file_servers_clock_does_not_matter(tmp_path):
    rec = put(tmp_path / "rec", "movie.tif")
    os.utime(rec / "movie.tif", ns=(2**62, 2**62))
    watched = Watched(tmp_path, settle_seconds=60)
    watched.look()
    assert watched.look(after=60) == ["rec"]


def test_settle_time_zero_needs_one_look(tmp_path):
    put(tmp_path / "rec", "movie.tif")
    assert Watched(tmp_path, settle_seconds=0).look() == ["rec"]


def test_why_a_folder_waits_is_said_once(tmp_path):
    watched = Watched(tmp_path, settle_seconds=60)
    for size in (400_000, 400_001, 400_002, 400_003):
        put(tmp_path / "rec", "1.tif", "2.tif", "movie.tif", size=size)
        watched.look(after=10)
        watched.look(after=10)
    watched.look(after=60)

    assert watched.log == [
        "rec: 3 files, 1.2 MB, waiting until it has been quiet for 60 s",
        "rec: 3 files, 1.2 MB, still growing",
        "rec: 3 files, 1.2 MB, complete",
    ]


def test_a_long_list_of_waiting_folders_is_cut_short(tmp_path):
    for number in range(50):
        put(tmp_path / f"rec{number}", "movie.tif")
    watched = Watched(tmp_path, marker_file="DONE")
    watched.look()
    assert len(watched.log) == 21
    assert watched.log[-1] == "... and 30 more."


# --- after a restart -----------------------------------------------------------------------------------


class SlowLedger(DictStore):
    """A ledger that takes a second to answer."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.asked: list[str] = []

    def get(self, key, default=None):
        self.asked.append(key)
        self.clock.now += 1
        return super().get(key, default)


def restarted(root: Path, handed_over: int, **options) -> Watched:
    """A watch of a folder with so many acquisitions that were handed over before, one a minute."""
    for number in range(handed_over):
        folder = put(root / f"rec{number}", "movie.tif")
        os.utime(folder, ns=(number * 60 * 10**9, number * 60 * 10**9))
    ledger = SlowLedger()
    before = Watched(root, ledger, settle_seconds=0, **options)
    ledger.clock = before.clock
    while before.look():
        before.hand_over()
    after = Watched(root, ledger, settle_seconds=0, **options)
    ledger.clock, ledger.asked = after.clock, []
    return after


def test_a_new_folder_does_not_wait_until_all_old_ones_are_looked_up(tmp_path):
    watched = restarted(tmp_path, handed_over=30)
    put(tmp_path / "new", "movie.tif")
    assert watched.look() == ["new"]
    assert len(watched.ledger.asked) < 10
    assert any("older folders are looked up in the ledger later" in line for line in watched.log)


def test_every_old_folder_is_looked_up_once_and_one_that_came_meanwhile_is_found(tmp_path):
    watched = restarted(tmp_path, handed_over=30)
    os.utime(put(tmp_path / "copied with its times", "movie.tif"), ns=(5, 5))
    found = []
    for _ in range(10):
        found += watched.look()
        watched.hand_over()
    assert found == ["copied with its times"]
    asked = [key for key in watched.ledger.asked if key.startswith("acquisition:") and "copied" not in key]
    assert len(asked) == len(set(asked)) == 30


def test_what_waits_and_why_is_in_the_ledger_until_it_is_complete(tmp_path):
    watched = Watched(tmp_path, marker_file="DONE")
    folder = put(tmp_path / "m1", "movie.tif")
    watched.look()
    key = waiting_key(tmp_path)
    assert watched.ledger.get(key) == {
        "path": str(tmp_path),
        "folders": [{"name": "m1", "reason": "waiting for its marker 'DONE'"}],
        "more": 0,
    }
    watched.ledger.values[key] = json.dumps("not written again while nothing changes")
    watched.look()
    assert watched.ledger.get(key) == "not written again while nothing changes"
    (folder / "DONE").touch()
    # Also by a watch that does not know what the one before has left.
    after = Watched(tmp_path, watched.ledger, marker_file="DONE")
    assert after.look() == ["m1"]
    assert watched.ledger.get(key)["folders"] == []


def test_of_many_folders_that_wait_the_ledger_names_a_few(tmp_path):
    watched = Watched(tmp_path, marker_file="DONE")
    for number in range(60):
        put(tmp_path / f"{number:03}{'x' * 240}", "movie.tif")
    watched.look()
    note = watched.ledger.get(waiting_key(tmp_path))
    assert (len(note["folders"]), note["more"]) == (50, 10)
    assert len(json.dumps(note)) < 65535


def test_folders_that_were_set_aside_stay_aside(tmp_path):
    for number in range(30):
        put(tmp_path / f"rec{number}", "movie.tif")
    watched = restarted(tmp_path, handed_over=0, existing="ignore")
    put(tmp_path / "new", "movie.tif")
    assert watched.look() == ["new"]
    watched.hand_over()
    assert not any(watched.look() for _ in range(10))


def look_at(files, options) -> Look:
    summary = Summary(options)
    for file in files:
        summary.add(file)
    return summary.look()


def test_the_order_in_which_files_are_listed_does_not_matter():
    options = AcquisitionOptions.create(path="/data")
    seen = [FileSeen(f"{number}.tif", number % 7, number) for number in range(100)]
    assert look_at(seen, options) == look_at(reversed(seen), options)


@pytest.mark.parametrize(
    ("path", "glob", "matches"),
    [
        ("m.tif", "*.tif", True),
        ("a/m.tif", "*.tif", False),
        ("a/m.tif", "*/*.tif", True),
        ("a/b/m.tif", "**/*.tif", True),
        ("m.tif", "**/*.tif", True),
        ("a/b/m.tif", "a/**/m.tif", True),
        ("m.TIF", "*.tif", False),
        (".m.tif", "*.tif", False),
        (".m.tif", ".*.tif", True),
        ("m.tif/x", "m.tif", False),
    ],
)
def test_globs_are_those_of_a_shell(path, glob, matches):
    assert path_matches(path, glob) is matches


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 bytes"), (999, "999 bytes"), (1.2e9, "1.2 GB"), (5e12, "5.0 TB")]
)
def test_sizes_are_readable(size, text):
    assert readable_size(size) == text


# --- new -----------------------------------------------------------------------------------------------


def test_a_folder_that_was_handed_over_is_not_ready_again(tmp_path):
    put(tmp_path / "rec", "movie.tif")
    watched = Watched(tmp_path, settle_seconds=0)
    watched.look()
    watched.hand_over()

    assert watched.look() == []
    assert Watched(tmp_path, watched.ledger, settle_seconds=0).look() == []


def test_a_folder_recorded_again_under_the_same_name_is_new(tmp_path):
    rec = put(tmp_path / "rec", "movie.tif", size=100)
    watched = Watched(tmp_path, settle_seconds=0)
    watched.look()
    watched.hand_over()
    shutil.rmtree(rec)
    assert watched.look() == []
    put(rec, "movie.tif", size=101)

    assert watched.look() == ["rec"]
    assert Watched(tmp_path, watched.ledger, settle_seconds=0).look() == ["rec"]


def test_what_is_added_to_a_recording_later_does_not_make_it_new(tmp_path):
    rec = put(tmp_path / "rec", "movie.tif", size=100)
    watched = Watched(tmp_path, settle_seconds=0)
    watched.look()
    watched.hand_over()
    put(rec, "notes.txt")
    put(rec, "suite2p/huge.bin", size=1000)

    assert watched.look() == []


def test_a_folder_that_comes_back_unchanged_with_its_share_is_not_new(tmp_path):
    put(tmp_path / "rec", "movie.tif")
    watched = Watched(tmp_path, settle_seconds=0)
    watched.look()
    watched.hand_over()
    (tmp_path / "rec").rename(tmp_path.with_name("away"))
    assert watched.look() == []
    tmp_path.with_name("away").rename(tmp_path / "rec")

    assert watched.look() == []


def test_looking_past_a_folder_that_was_handed_over_does_not_list_it():
    with unprivileged_folder() as root:
        rec = put(root / "rec", "movie.tif")
        watched = Watched(root, settle_seconds=0)
        watched.look()
        watched.hand_over()
        rec.chmod(0o111)
        watched.log.clear()

        assert watched.look() == []
        assert watched.log == []


def test_two_watched_folders_share_a_ledger_without_mixing_names(tmp_path):
    for rig in ("rig1", "rig2"):
        put(tmp_path / rig / "rec", "movie.tif")
    first = Watched(tmp_path / "rig1", settle_seconds=0)
    first.look()
    first.hand_over()
    assert Watched(tmp_path / "rig2", first.ledger, settle_seconds=0).look() == ["rec"]


def test_somebody_else_may_get_a_folder_first(tmp_path):
    put(tmp_path / "rec", "movie.tif")
    slow = Watched(tmp_path, settle_seconds=60)
    slow.look()
    quick = Watched(tmp_path, slow.ledger, settle_seconds=0)
    quick.look()
    quick.hand_over()
    assert slow.look(after=60) == []


@pytest.mark.parametrize("entry", ["nonsense", {}, {"anchor": None}, {"anchor": {"file": 3}}, 17])
def test_a_broken_ledger_entry_loses_no_folder(tmp_path, entry):
    put(tmp_path / "rec", "movie.tif")
    watched = Watched(tmp_path, settle_seconds=0)
    watched.look()
    watched.ledger.set(watched.found[0].folder.key, entry)
    assert Watched(tmp_path, watched.ledger, settle_seconds=0).look() == ["rec"]


def test_oldest_first_and_no_more_than_the_limit(tmp_path):
    for age, name in enumerate(["d", "b", "a", "c"]):
        rec = put(tmp_path / name, "movie.tif")
        os.utime(rec / "movie.tif", ns=(age * 10**9, age * 10**9))
    watched = Watched(tmp_path, settle_seconds=0, max_folders=3)
    assert watched.look() == ["d", "b", "a"]
    watched.hand_over()
    assert watched.look() == ["c"]


def test_existing_folders_can_be_ignored(tmp_path):
    put(tmp_path / "old", "movie.tif")
    put(tmp_path / "growing", "movie.tif")
    (tmp_path / "empty").mkdir()
    first = Watched(tmp_path, settle_seconds=0, existing="ignore")
    assert first.look() == []
    put(tmp_path / "growing", "movie.tif", size=1000)
    put(tmp_path / "empty", "movie.tif")
    put(tmp_path / "new", "movie.tif")

    again = Watched(tmp_path, first.ledger, settle_seconds=0, existing="ignore")
    assert sorted(again.look()) == ["empty", "growing", "new"]


def test_a_root_that_is_away_at_the_first_start_does_not_count_as_empty(tmp_path):
    root = tmp_path / "share"
    watched = Watched(root, settle_seconds=0, existing="ignore")
    with pytest.raises(SourceNotFoundError):
        watched.look()
    assert watched.watch.ready() == []
    put(root / "old", "movie.tif")
    assert watched.look() == []


# --- the folders ---------------------------------------------------------------------------------------


def test_hidden_folders_and_files_are_no_acquisitions(tmp_path):
    put(tmp_path / ".snapshot", "movie.tif")
    put(tmp_path, "movie.tif")
    assert Watched(tmp_path, settle_seconds=0).look() == []


def test_a_folder_may_say_by_its_name_that_it_is_incomplete(tmp_path):
    put(tmp_path / "rec.part", "movie.tif")
    watched = Watched(tmp_path, settle_seconds=0)
    assert watched.look() == []
    (tmp_path / "rec.part").rename(tmp_path / "rec")
    assert watched.look() == ["rec"]


def test_a_link_is_the_folder_it_leads_to(tmp_path):
    root = tmp_path / "root"
    put(root / "rec", "movie.tif")
    (root / "latest").symlink_to("rec")
    (root / "linked").symlink_to(put(root / ".raw" / "r2", "movie.tif"))
    (root / "outside").symlink_to(put(tmp_path / "outside", "movie.tif"))
    (root / "dangling").symlink_to("nothing")
    (root / "itself").symlink_to("itself")
    assert sorted(Watched(root, settle_seconds=0).look()) == ["linked", "rec"]


def test_the_watched_folder_may_be_a_link(tmp_path):
    put(tmp_path / "real" / "rec", "movie.tif")
    (tmp_path / "root").symlink_to("real")
    watched = Watched(tmp_path / "root", settle_seconds=0)
    assert watched.look() == ["rec"]
    assert watched.found[0].folder.path == str(tmp_path / "root" / "rec")


def test_a_folder_that_vanishes_while_it_is_looked_at_is_passed_over(tmp_path):
    rec = put(tmp_path / "rec", "movie.tif")
    put(tmp_path / "stays", "movie.tif")
    watched = Watched(tmp_path, settle_seconds=0)
    watched.watch.refresh()
    shutil.rmtree(rec)
    assert [found.folder.name for found in watched.watch.ready()] == ["stays"]


def test_names_that_are_not_unicode(tmp_path):
    put(tmp_path / os.fsdecode(b"m\xfcller"), "movie.tif")
    put(tmp_path / "rec", os.fsdecode(b"m\xfcvie.tif"))
    watched = Watched(tmp_path, settle_seconds=0)

    assert watched.look() == ["rec"]
    watched.hand_over()
    assert watched.look() == []
    assert any("not valid UTF-8" in line and line.encode() for line in watched.log)


def test_a_very_long_name_still_has_a_key(tmp_path):
    name = "/".join(["µ" * 120] * 4)
    put(tmp_path / name, "movie.tif")
    watched = Watched(tmp_path, pattern="*/*/*/*", settle_seconds=0)
    assert watched.look() == [name]
    watched.hand_over()
    assert watched.look() == []


# --- trouble -------------------------------------------------------------------------------------------


def test_a_missing_root_is_an_error_that_says_what_to_check(tmp_path):
    with pytest.raises(SourceNotFoundError, match=r"nowhere does not exist.*Check the path.*mounted"):
        Watched(tmp_path / "nowhere").look()
    put(tmp_path, "file")
    with pytest.raises(SourceNotFoundError, match="is not a folder"):
        Watched(tmp_path / "file").look()


def test_a_root_that_may_not_be_read_is_an_error_that_says_what_to_mend():
    with unprivileged_folder() as root:
        root.chmod(0o000)
        with pytest.raises(AcquisitionAccessError, match=rf"{root} may not be read.*give this user permission"):
            Watched(root).look()


def test_a_folder_that_may_not_be_read_holds_up_no_other():
    with unprivileged_folder() as root:
        put(root / "rig1" / "rec", "movie.tif")
        put(root / "rig1" / "locked", "movie.tif")
        put(root / "rig2" / "rec", "movie.tif")
        (root / "rig1" / "locked").chmod(0o000)
        (root / "rig2").chmod(0o000)
        watched = Watched(root, pattern="*/*", settle_seconds=0)

        assert watched.look() == ["rig1/rec"]
        assert watched.look() == ["rig1/rec"]
        assert [line.split(":")[0] for line in watched.log if "permission" in line] == ["rig2", "rig1/locked"]


def test_what_could_not_be_read_was_not_quiet():
    with unprivileged_folder() as root:
        rec = put(root / "rec", "movie.tif")
        watched = Watched(root, settle_seconds=60)
        watched.look()
        rec.chmod(0o000)
        watched.look(after=50)
        rec.chmod(0o755)
        assert watched.look(after=50) == []
        assert watched.look(after=60) == ["rec"]


def test_a_root_that_goes_away_is_told_once_until_it_is_back(tmp_path):
    root = tmp_path / "root"
    put(root / "rec", "movie.tif")
    watched = Watched(root, settle_seconds=0)
    watched.look()
    root.rename(tmp_path / "away")
    for _ in range(3):
        with pytest.raises(SourceNotFoundError) as error:
            watched.look()
        watched.watch.note_root_error(error.value)
    (tmp_path / "away").rename(root)
    watched.log.clear()

    assert watched.look() == ["rec"]
    assert [line for line in watched.log if "watched folder" in line] == [
        f"{error.value} Trying again.",
        f"The watched folder {root} can be read again.",
    ]


def test_a_watch_that_is_stopped_ends(tmp_path):
    put(tmp_path / "rec", "movie.tif")
    watched = Watched(tmp_path)
    watched.watch.stop()
    with pytest.raises(RuntimeError, match="was stopped"):
        watched.look()


# --- from one process to the next -----------------------------------------------------------------------


def test_a_watch_goes_on_in_another_process(tmp_path):
    put(tmp_path / "rec", "movie.tif")
    first = Watched(tmp_path, settle_seconds=60)
    first.look()
    second = Watched(tmp_path, settle_seconds=60)
    second.watch.resume(json.loads(json.dumps(first.watch.state())), seconds=20)

    assert second.look(after=39) == []
    assert second.log == []
    assert second.look(after=1) == ["rec"]


def test_what_goes_to_another_process_stays_small(tmp_path):
    for number in range(1000):
        put(tmp_path / f"{'long' * 20}{number}", "movie.tif")
    watched = Watched(tmp_path, settle_seconds=60)
    watched.look()
    assert len(json.dumps(watched.watch.state())) < 2**16


# --- options -------------------------------------------------------------------------------------------


def test_options_may_be_text_as_templates_render_them():
    options = AcquisitionOptions.create(
        path="/data", settle_seconds="1.5", min_size="2MiB", min_files="3", max_folders="", required_files="*.tif"
    )
    assert (options.settle_seconds, options.min_size, options.min_files) == (1.5, 2 * 2**20, 3)
    assert options.max_folders is None
    assert options.required_files == ("*.tif",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": ""}, "path"),
        ({"pattern": "**"}, r"one part per level of folders"),
        ({"pattern": "../*"}, "stays inside"),
        ({"pattern": ""}, "pattern"),
        ({"marker_file": "/DONE"}, "marker_file"),
        ({"required_files": ["../x"]}, r"required_files\.0"),
        ({"settle_seconds": -1}, "settle_seconds"),
        ({"settle_seconds": "inf"}, "settle_seconds"),
        ({"min_size": "two"}, "min_size"),
        ({"min_files": 1.5}, "min_files"),
        ({"existing": "delete"}, "existing"),
        ({"max_folders": 0}, "max_folders"),
        ({"setle_seconds": 3}, "setle_seconds"),
    ],
)
def test_an_option_that_makes_no_sense_is_named(options, message):
    with pytest.raises(ConfigurationError, match=message):
        AcquisitionOptions.create(**{"path": "/data"} | options)


def test_all_wrong_options_are_named_at_once():
    with pytest.raises(ConfigurationError, match=r"2 option\(s\)(?s:.*)pattern(?s:.*)existing"):
        AcquisitionOptions.create(path="/data", pattern="/", existing="no")


def test_trouble_is_a_warning_and_waiting_is_not(tmp_path):
    put(tmp_path / os.fsdecode(b"\xff"), "movie.tif")
    put(tmp_path / "rec", "movie.tif")
    watched = Watched(tmp_path)
    watched.watch.refresh()
    watched.watch.ready()
    assert {level for level, _ in watched.watch.news()} == {logging.INFO, logging.WARNING}
