"""
A publisher killed in every state of its folder, and two hosts at one output, on file systems that cannot do all.

One is a FUSE file system that passes all on to another (``bindfs``), and cannot exchange two names; where it is
not installed, or nothing may be mounted, it is left out. ``CHAOS_FOLDER`` names another, see ``shares.py``.
``tests/conversion/test_killed_publishing.py`` does the same where the answer of the system is made up.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from shares import FOLDER, on_two_hosts

from airflow_provider_ophys.conversion.publishing import publishing
from airflow_provider_ophys.exceptions import OutputBusyError, OutputExistsError
from airflow_provider_ophys.writing.output_lock import _is_same_file, output_lock
from airflow_provider_ophys.writing.replacement import RENAME_EXCHANGE, _rename, move_to_nothing, state_of

sys.path.append(str(Path(__file__).parents[1] / "conversion"))

from test_killed_publishing import SCRIPT, make_file, make_store

ADDER = Path(__file__).with_name("adding_hosts.py")
PATIENCE_SECONDS = 3600
ADDITIONS = 15

Hosts = tuple[Path, Path]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    for name in ("old", "new"):
        make_store(folder / f"{name}_store", name)
        make_file(folder / f"{name}_file", name)
    return folder


@pytest.fixture(params=["bindfs", "CHAOS_FOLDER"])
def share(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hosts]:
    """Give a folder as two hosts see it."""
    if request.param == "CHAOS_FOLDER":
        if not FOLDER:
            pytest.skip("CHAOS_FOLDER names no file system that is to be tried")
        with on_two_hosts(tmp_path) as hosts:
            yield hosts
        return
    if shutil.which("bindfs") is None:
        pytest.skip("bindfs is not installed")
    under, point = tmp_path / "under", tmp_path / "share"
    under.mkdir()
    point.mkdir()
    mounted = subprocess.run(["bindfs", under, point], capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"nothing may be mounted here: {mounted.stderr}")
    try:
        yield point, point
    finally:
        subprocess.run(["umount", point], check=True)


def can_exchange(folder: Path) -> bool:
    names = folder / "one", folder / "other"
    for name in names:
        name.touch()
    can = _rename(*names, RENAME_EXCHANGE)
    for name in names:
        name.unlink()
    return can


@pytest.mark.parametrize("old", ["old_store", "old_file", "nothing"])
@pytest.mark.parametrize("new", ["new_store", "new_file"])
def test_killed_in_every_state_of_a_folder_and_looked_at_from_another_host(
    made: Path, share: Hosts, old: str, new: str
) -> None:
    folder, seen = share
    for name in {old, new} - {"nothing"}:
        (folder / name).symlink_to(made / name)
    command = [sys.executable, SCRIPT, folder, old, new, "exchange", seen]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    print(f"{old}, {new}: {told}")  # noqa: T201
    assert set(told["after"]) == {old, new}
    if "store" in old + new and not can_exchange(folder):
        assert "absent" in told["before"], (
            "the file system cannot exchange, so the moment that matters is among them"
        )


@pytest.mark.parametrize("kind", ["store", "file"])
def test_what_two_hosts_add_to_one_output_at_a_time_is_all_there(share: Hosts, kind: str) -> None:
    (make_store if kind == "store" else make_file)(share[0] / "a.nwb", "first")
    hosts = [
        subprocess.Popen([sys.executable, ADDER, folder, name, str(ADDITIONS)], stderr=subprocess.PIPE, text=True)
        for folder, name in zip(share, "ab", strict=True)
    ]
    said = [host.communicate(timeout=PATIENCE_SECONDS)[1] for host in hosts]
    assert [host.returncode for host in hosts] == [0, 0], said
    told = subprocess.run(
        [sys.executable, ADDER, share[0], "-", "0"], capture_output=True, text=True, check=True
    ).stdout
    assert set(json.loads(told)) == {f"{name}{number}" for name in "ab" for number in range(ADDITIONS)}
    assert [entry.name for entry in share[0].iterdir()] == ["a.nwb"]


def test_a_lock_that_one_host_holds_the_other_does_not_get_and_one_that_is_removed_it_does_not_take(
    share: Hosts,
) -> None:
    here, there = (folder / "a.nwb" for folder in share)
    with output_lock(here), pytest.raises(OutputBusyError), output_lock(there):
        pass
    with output_lock(here):
        # The other host opens the lock file, looks at it, and is slow.
        file = there.with_name(".a.nwb.lock")
        descriptor = os.open(file, os.O_RDWR)
        file.stat()
    assert not _is_same_file(file, descriptor), "its holder has removed it"
    os.close(descriptor)


@pytest.mark.parametrize("kind", ["store", "file"])
def test_what_one_host_made_the_other_neither_replaces_nor_misses(share: Hosts, kind: str) -> None:
    make = make_store if kind == "store" else make_file
    here, there = (folder / "a.nwb" for folder in share)
    part = there.with_name(".a.part.nwb")
    make(part, "part")
    assert state_of(there) is None
    assert not there.exists()
    make(here, "theirs")
    found = state_of(here)
    with pytest.raises(OutputExistsError):
        move_to_nothing(part, there)
    assert state_of(there) == found
    make(here.with_name("next"), "a later one")
    if kind == "store":
        shutil.rmtree(here)
    here.with_name("next").rename(here)
    assert state_of(there) != found, "it has changed"


def test_who_has_a_chunk_open_reads_on_and_is_in_nobodys_way(share: Hosts) -> None:
    path = share[0] / "a.nwb"
    make_store(path, "first")
    with (path / "acquisition" / "data" / "c" / "0").open() as reader:
        for name in ("second", "third"):
            with publishing(path, replace=True) as part:
                make_store(part, name)
            assert name in (path / "acquisition" / "data" / "c" / "0").read_text()
        assert reader.read() == "the movie of the first one"
    with publishing(path, replace=True) as part:
        make_store(part, "fourth")
    assert [entry.name for entry in share[0].iterdir()] == ["a.nwb"]
