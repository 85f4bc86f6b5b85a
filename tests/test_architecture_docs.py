"""The files, names and ways in docs/architecture.md and CONTRIBUTING.md are those of the code."""

from __future__ import annotations

import re
import sys
import threading
import traceback
from pathlib import Path

import movies
import pytest

from airflow_provider_ophys.compat import HAS_RETRY_POLICIES
from airflow_provider_ophys.operators.imaging import WriteImagingOperator

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "airflow_provider_ophys"
TEXT = (ROOT / "docs" / "architecture.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()


def in_code(text):
    return set(re.findall(r"`([^`\n]+)`", text))


def section(title):
    return TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_every_file_that_is_named_is_there():
    code = in_code(TEXT) | in_code(CONTRIBUTING)
    named = {name for name in code if re.fullmatch(r"[\w/-]+(\.py|/)", name)}
    assert "conversion/run.py" in named
    assert [name for name in sorted(named) if not (PACKAGE / name).exists() and not (ROOT / name).exists()] == []


def test_every_room_is_told_of():
    folders = {f"{init.parent.name}/" for init in PACKAGE.glob("*/__init__.py")}
    assert folders - in_code(section("The rooms")) == set()


def test_where_something_new_goes_names_what_is_there():
    source = "\n".join(file.read_text() for file in PACKAGE.rglob("*.py"))
    named = {name for name in in_code(section("Where something new goes")) if re.fullmatch(r"\w+(\(\))?", name)}
    assert {"FORMATS", "facts_of", "_reasons"} <= named
    assert [name for name in sorted(named) if name.removesuffix("()") not in source] == []


def files_on_the_way_to_the_first_chunk(operator):
    """The package's files in the calls from ``execute`` to the first chunk that is written, each once."""
    ways = []

    def look(frame, event, argument):
        if event == "call" and not ways and frame.f_code.co_qualname == "HDF5Sink.write":
            files = [Path(each.f_code.co_filename) for each, _ in traceback.walk_stack(frame)]
            ours = [str(file.relative_to(PACKAGE)) for file in reversed(files) if file.is_relative_to(PACKAGE)]
            ways.append(list(dict.fromkeys(ours)))

    before = sys.getprofile()
    threading.setprofile(look)
    sys.setprofile(look)
    try:
        operator.execute({"outlet_events": {}})
    finally:
        sys.setprofile(before)
        threading.setprofile(None)
    return ways[0]


def test_the_way_of_one_movie_is_that_of_a_conversion(tmp_path):
    movie = movies.write_tiff(tmp_path / "movie.tif")
    operator = WriteImagingOperator(task_id="movie", **movies.imaging(movie, tmp_path / "m1.nwb"))
    told = re.findall(r"^\| `([\w/]+\.py)` \| `", section("The way of one movie"), flags=re.MULTILINE)
    # Before Airflow 3.3 retries are decided around the operator (compat.py).
    around = [] if HAS_RETRY_POLICIES else ["retries.py"]
    assert [*around, *told] == files_on_the_way_to_the_first_chunk(operator)


def test_every_target_that_contributing_names_is_one_of_the_makefile():
    targets = set(re.findall(r"^([a-z- ]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    targets = {target for line in targets for target in line.split()}
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", CONTRIBUTING, flags=re.MULTILINE))
    assert {"setup", "check", "test", "chaos", "bench", "test-lowest", "test-newest"} <= named
    assert named <= targets


@pytest.mark.parametrize("page", sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]), ids=lambda page: page.name)
def test_every_link_leads_to_a_page_and_a_heading_of_it(page):
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text()):
        file, _, heading = target.partition("#")
        linked = page.parent / file if file else page
        assert linked.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(), flags=re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}
            assert heading in slugs, target
