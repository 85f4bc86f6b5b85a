"""
What the reference's writers are documented to do, done by both: the same values, but for what is listed.

The reference lives in an environment of its own (``make reference``); without it these tests are skipped.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cell_behaviours  # noqa: F401 - registers them
import movie_behaviours  # noqa: F401
import pytest
from calls import BEHAVIOURS
from differences import DIFFERENCES, RENAMED, changes, renamed

ROOT = Path(__file__).parents[2]
PYTHONS = {"reference": ROOT / ".venv-reference/bin/python", "ours": Path(sys.executable)}
DOCUMENT = (ROOT / "docs/reference-writer.md").read_text()

needs_reference = pytest.mark.skipif(
    not PYTHONS["reference"].exists(), reason="make reference builds the reference writer's environment"
)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What became of each behaviour: side -> behaviour -> outcome."""
    folder = tmp_path_factory.mktemp("sides")
    script = Path(__file__).with_name("run_side.py")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    running = {
        side: subprocess.Popen(
            [python, script, side, folder / side],
            env=environment if side == "ours" else None,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for side, python in PYTHONS.items()
    }
    errors = {side: process.communicate()[1] for side, process in running.items()}
    assert all(process.returncode == 0 for process in running.values()), errors
    return {side: json.loads((folder / side / "outcomes.json").read_text()) for side in running}


@needs_reference
@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_both_write_the_same_but_for_what_is_listed(outcomes, behaviour):
    theirs, ours = renamed(behaviour, outcomes["reference"][behaviour]), outcomes["ours"][behaviour]
    unlisted = [
        change
        for change in changes(theirs, ours)
        if not any(_is(difference, behaviour, change) for difference in DIFFERENCES)
    ]
    assert unlisted == []


@needs_reference
@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda difference: f"{difference.row}-{difference.where}")
def test_what_is_listed_is_seen(outcomes, difference):
    assert any(
        _is(difference, behaviour, change)
        for behaviour, ours in outcomes["ours"].items()
        for change in changes(renamed(behaviour, outcomes["reference"][behaviour]), ours)
    )


def test_the_document_says_what_is_listed():
    rows = {row.strip() for row in re.findall(r"^\|([^|]*)\|", DOCUMENT, re.MULTILINE)}
    assert {each.row for each in (*DIFFERENCES, *RENAMED)} - rows == set()


def _is(difference, behaviour, change):
    location, theirs, ours = change
    return (
        re.search(difference.where, f"{behaviour}:{location}") is not None
        and re.search(difference.theirs, str(theirs), re.DOTALL) is not None
        and re.search(difference.ours, str(ours), re.DOTALL) is not None
    )
