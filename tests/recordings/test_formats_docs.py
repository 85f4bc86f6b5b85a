"""What docs/formats.md says of each format is what the recordings made here show."""

from __future__ import annotations

import gc
import re
import tomllib
from pathlib import Path

import pytest
from airflow.sdk import DAG
from format_tables import DOCUMENT, EXTRAS, FACTS, NAMES, NEUROCONV, facts_of, made_recordings, tables, tables_in
from pynwb import NWBHDF5IO

ROOT = Path(__file__).parents[2]

pytestmark = [
    # What the readers say of a bad file on the way to their error.
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::ResourceWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    pytest.importorskip("isx", reason="the rows about Inscopix need isx")
    yield made_recordings(tmp_path_factory.mktemp("formats"))
    gc.collect()


def test_the_tables_are_what_the_recordings_show(made):
    """To write them anew: python tests/recordings/format_tables.py."""
    assert tables_in(DOCUMENT.read_text()) == tables(made)


def test_every_fact_that_the_reference_fills_is_filled(made):
    lacking = {name: facts - facts_of(made[name]) for name, facts in NEUROCONV.items()}
    assert {name: facts for name, facts in lacking.items() if facts} == {}
    assert {fact for facts in NEUROCONV.values() for fact in facts} <= FACTS.keys()


def test_every_extractor_without_a_recording_here_is_explained(made):
    text = DOCUMENT.read_text()
    prose = text[text.index("## Not in the tables") :]
    assert [name for name in NAMES if not made[name] and f"`{name}`" not in prose] == []


def test_two_channels_become_two_series_of_one_file(made, tmp_path):
    (recording,) = [each for each in made["ScanImageImagingExtractor"] if each.num_movies == 2]
    (shown,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), flags=re.DOTALL)
    shown = shown.replace("/data/m2/movie.tif", recording.arguments["file_path"]).replace("Red", "Far")
    shown = shown.replace("/data/nwb", str(tmp_path))
    with DAG("shown") as dag:
        exec(shown)
    result = dag.get_task("movie").execute({"outlet_events": {}})
    assert {series["name"] for series in result["photon_series"]} == {"TwoPhotonSeriesGreen", "TwoPhotonSeriesFar"}
    with NWBHDF5IO(result["nwbfile_path"], "r") as io:
        assert len(io.read().imaging_planes) == 2


def test_every_extra_is_one_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(EXTRAS.values()) <= project["optional-dependencies"].keys()
