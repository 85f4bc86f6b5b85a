"""A publisher killed between any two of its system calls loses nothing, whatever the file system can do."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import h5py
import pytest

from airflow_provider_ophys.conversion.publishing import publishing
from airflow_provider_ophys.conversion.repair import repair
from airflow_provider_ophys.exceptions import OutputFolderError, SourceNotFoundError
from airflow_provider_ophys.nwb.existing import backend_of
from airflow_provider_ophys.writing.replacement import _Journal, settle, state_of

SCRIPT = Path(__file__).with_name("killed_publishing.py")


def make_store(path: Path, name: str) -> None:
    """Make what is an NWB store to all that look at it without zarr."""
    document = {"zarr_format": 3, "node_type": "group", "attributes": {"nwb_version": "2.9.0", "object_id": name}}
    for group in ("", "acquisition"):
        (path / group).mkdir(parents=True)
        (path / group / "zarr.json").write_text(json.dumps(document))
    (path / "acquisition" / "data" / "c").mkdir(parents=True)
    (path / "acquisition" / "data" / "zarr.json").write_text(json.dumps({"node_type": "array"}))
    (path / "acquisition" / "data" / "c" / "0").write_text(f"the movie of the {name} one")


def make_file(path: Path, name: str) -> None:
    with h5py.File(path, "w") as file:
        file.attrs.update({"nwb_version": "2.9.0", "object_id": name})
        file["data"] = list(range(len(name)))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    for name in ("old", "new"):
        make_store(folder / f"{name}_store", name)
        make_file(folder / f"{name}_file", name)
    return folder


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "aarch64"), reason="knows the calls of two processors only"
)
@pytest.mark.parametrize("how", ["exchange", "steps"])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("old_store", "new_store"),
        ("old_file", "new_file"),
        ("old_file", "new_store"),
        ("old_store", "new_file"),
        ("nothing", "new_store"),
        ("nothing", "new_file"),
    ],
)
def test_killed_between_any_two_calls(made, tmp_path, old, new, how):
    for name in {old, new} - {"nothing"}:
        (tmp_path / name).symlink_to(made / name)
    done = subprocess.run(
        [sys.executable, SCRIPT, tmp_path, old, new, how], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    assert set(told["after"]) == {old, new}, "each of the two after some of the kills"
    if old != "nothing":
        in_steps = how == "steps" and "store" in old + new
        assert ("absent" in told["before"]) == in_steps, "the moment that matters is among them"


def test_what_appears_between_the_steps_stays_and_so_does_the_old_one(made, tmp_path):
    path = tmp_path / "a.nwb"
    make_store(tmp_path / ".a.nwb.old", "old")
    make_store(tmp_path / ".a.part.nwb", "new")
    new, old = state_of(tmp_path / ".a.part.nwb"), state_of(tmp_path / ".a.nwb.old")
    _Journal(".a.part.nwb", ".a.nwb.old", new, old).write(path)
    path.mkdir()
    (path / "thesis.txt").write_text("years of work")
    settle(path)
    assert (path / "thesis.txt").read_text() == "years of work"
    assert state_of(tmp_path / ".a.nwb.old") == old
    (tmp_path / ".a.nwb.lock").touch()
    assert any(f"{tmp_path / '.a.nwb.old'}: an old output is still there" in told for told in repair(path))


def test_an_old_output_without_a_journal_is_put_back_and_never_removed(tmp_path):
    path = tmp_path / "a.nwb"
    make_store(tmp_path / ".a.nwb.old", "old")
    assert backend_of(path) == "zarr"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.nwb"]
    make_store(tmp_path / ".a.nwb.old", "older")
    with publishing(path, replace=True) as part:
        make_store(part, "new")
    assert "older" in (tmp_path / ".a.nwb.old" / "zarr.json").read_text()
    assert "new" in (path / "zarr.json").read_text()


def test_a_journal_that_leads_elsewhere_is_refused(tmp_path):
    path = tmp_path / "a.nwb"
    for part in ("../thesis", "thesis", ".."):
        (tmp_path / ".a.nwb.journal").write_text(
            json.dumps({"part": part, "aside": ".a.nwb.old", "new": "", "old": ""})
        )
        with pytest.raises(OutputFolderError, match="is not what this package writes there"):
            settle(path)


def test_who_may_not_write_reads_what_is_there_and_is_told_what_to_do_if_nothing_is(tmp_path):
    path = tmp_path / "a.nwb"
    make_store(tmp_path / ".a.nwb.old", "old")
    make_store(tmp_path / ".a.part.nwb", "new")
    new, old = state_of(tmp_path / ".a.part.nwb"), state_of(tmp_path / ".a.nwb.old")
    _Journal(".a.part.nwb", ".a.nwb.old", new, old).write(path)
    for entry in (tmp_path, *tmp_path.rglob("*")):
        entry.chmod(0o555 if entry.is_dir() else 0o444)
    script = (
        "import os, pathlib\n"
        "from airflow_provider_ophys.nwb.existing import backend_of\n"
        "os.setuid(65534)\n"
        f"print(backend_of(pathlib.Path({str(path)!r})))"
    )
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    for parent in tmp_path.parents[:3]:
        parent.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert f"Run 'python -m airflow_provider_ophys repair {path}'" in done.stderr
    tmp_path.chmod(0o755)
    assert repair(path) == [f"{path}: a replacement that was interrupted is finished, or taken back."]
    assert "new" in (path / "zarr.json").read_text()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "zarr"


class TimeIsOver(BaseException):
    """What Airflow raises when an execution_timeout is over: at any moment, and no OSError."""


def test_a_time_limit_that_ends_while_a_part_is_removed_is_in_nobodys_way(tmp_path):
    path, part = tmp_path / "a.nwb", tmp_path / ".a.part.nwb"
    interrupted = 0

    def end(*_):
        raise TimeIsOver

    before = signal.signal(signal.SIGALRM, end)
    try:
        for seconds in (0.001, 0.002, 0.004, 0.008):
            with suppress(TimeIsOver):
                with suppress(TimeIsOver), publishing(path, replace=True) as made:
                    made.mkdir()
                    for number in range(1000):
                        (made / str(number)).touch()
                    signal.setitimer(signal.ITIMER_REAL, seconds)
                    raise TimeIsOver
                signal.setitimer(signal.ITIMER_REAL, 0)
            interrupted += part.exists()
            # The next writer comes, and is interrupted as it removes what was left.
            with suppress(TimeIsOver):
                signal.setitimer(signal.ITIMER_REAL, seconds)
                with suppress(TimeIsOver), publishing(path, replace=True):
                    raise TimeIsOver
                signal.setitimer(signal.ITIMER_REAL, 0)
            with suppress(ZeroDivisionError), publishing(path, replace=True):
                raise ZeroDivisionError
            assert list(tmp_path.iterdir()) == []
    finally:
        signal.signal(signal.SIGALRM, before)
    assert interrupted, "a removal was interrupted"


def test_a_repair_tells_what_it_did(tmp_path):
    path = tmp_path / "a.nwb"
    with pytest.raises(SourceNotFoundError, match="nothing is left of one"):
        repair(path)
    make_store(path, "old")
    assert repair(path) == []
    make_store(tmp_path / ".a.part.nwb", "half")
    with pytest.raises(OutputFolderError, match="there is no lock file beside it"):
        repair(path)
    (tmp_path / ".a.nwb.lock").touch()
    assert repair(path) == [f"{path}: what a killed task had written of a new output is removed."]
    (path / "notes.txt").write_text("ours")
    assert "holds notes.txt" in repair(path)[0]
