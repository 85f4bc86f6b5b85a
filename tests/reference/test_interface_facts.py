"""
What the reference's interfaces fill by themselves is what docs/formats.md says, measured on the same recordings.

The reference lives in an environment of its own (``make reference``); without it this is skipped.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "recordings"))

from format_tables import FACTS, NEUROCONV, REFUSED, made_recordings

from airflow_provider_ophys.recordings import recording_of

PYTHON = Path(__file__).parents[2] / ".venv-reference/bin/python"

# What it writes whatever the headers say, or where they say nothing.
CONSTANT = re.compile(r"nan|unknown|.*Scanbox imaging|1970-01-01.*|OpticalChannel|.* optical channel of the .*")
# Devices are told of in a sentence, of which the version is the header's.
OF_DEVICE = re.compile(r"(Devices|DeviceModels|Ophys\.Device)\.(?!.*name$)")
# Its words for facts that we call otherwise.
WORDS = {
    "power": ("led0", "led power"),
    "gain": (".gain", "gain:", "pmt voltage"),
    "objective, zoom": ("zoomfactor",),
    "line rate": ("msperline",),
    "depth, position": ("translation", "focus:"),
}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Extractor -> what its interface said of each of its recordings: fields, or why there are none."""
    if not PYTHON.exists():
        pytest.skip("make reference builds the reference's environment")
    folder = tmp_path_factory.mktemp("recordings")
    asked = [
        (made.extractor, entry.extractor_kwargs)
        for recordings in made_recordings(folder).values()
        for made in recordings
        for entry in entries_of(made)
    ]
    (folder / "asked.json").write_text(json.dumps(asked))
    script = Path(__file__).with_name("interface_facts.py")
    command = [PYTHON, script, folder / "asked.json"]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    answers = [json.loads(line) for line in told.stdout.splitlines()]
    found = {}
    for (extractor, _), answer in zip(asked, answers, strict=True):
        found.setdefault(extractor, []).append(answer)
    return found


def entries_of(made):
    contents = recording_of(made.kind, made.extractor, made.arguments).contents()
    return [*contents.movies, *contents.segmentations]


def facts_in(fields):
    """The columns of the table that the fields of an interface fill."""
    said = {path: value for path, value in fields.items() if not CONSTANT.fullmatch(value)}
    text = " ".join(f"{path} {value}" for path, value in said.items() if path.startswith(("Ophys", "Dev"))).lower()
    facts = {
        fact
        for fact, (pattern, words) in FACTS.items()
        if fact != "device, software" and any(re.search(pattern, path) for path in said)
    }
    facts |= {fact for fact, words in WORDS.items() if any(word in text for word in words)}
    if any(OF_DEVICE.match(path) and re.search(r"\d", value) for path, value in said.items()):
        facts.add("device, software")
    return facts


def test_the_table_says_what_the_interfaces_fill(measured):
    filled = {
        extractor: set().union(*(facts_in(answer) for answer in answers if isinstance(answer, dict)))
        for extractor, answers in measured.items()
    }
    assert {extractor: facts for extractor, facts in filled.items() if facts} == NEUROCONV


def test_the_document_says_which_recordings_it_does_not_read(measured):
    refused = {
        extractor
        for extractor, answers in measured.items()
        if all(isinstance(answer, str) and answer != "no interface" for answer in answers)
    }
    assert refused == REFUSED
