"""
A publisher killed in every state of its folder, on a file system that cannot exchange two names.

That is a FUSE file system that passes all on to another (``bindfs``); where it is not installed, or nothing may be
mounted, the test is left out. ``tests/conversion/test_killed_publishing.py`` does the same where the answer of the
system is made up.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "conversion"))

from test_killed_publishing import SCRIPT, make_file, make_store

PATIENCE_SECONDS = 900


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    for name in ("old", "new"):
        make_store(folder / f"{name}_store", name)
        make_file(folder / f"{name}_file", name)
    return folder


@pytest.fixture
def share(tmp_path: Path) -> Iterator[Path]:
    if shutil.which("bindfs") is None:
        pytest.skip("bindfs is not installed")
    under, point = tmp_path / "under", tmp_path / "share"
    under.mkdir()
    point.mkdir()
    mounted = subprocess.run(["bindfs", under, point], capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"nothing may be mounted here: {mounted.stderr}")
    try:
        yield point
    finally:
        subprocess.run(["umount", point], check=True)


@pytest.mark.parametrize("old", ["old_store", "old_file", "nothing"])
@pytest.mark.parametrize("new", ["new_store", "new_file"])
def test_killed_in_every_state_of_a_folder_on_fuse(made: Path, share: Path, old: str, new: str) -> None:
    for name in {old, new} - {"nothing"}:
        (share / name).symlink_to(made / name)
    command = [sys.executable, SCRIPT, share, old, new, "exchange"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    print(f"{old}, {new}: {told}")  # noqa: T201
    assert set(told["after"]) == {old, new}
    if "store" in old + new:
        assert "absent" in told["before"], (
            "the file system cannot exchange, so the moment that matters is among them"
        )
