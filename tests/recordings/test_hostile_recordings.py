"""
Damaged and forged recordings of every maker: only errors of ours, at once, in little memory, nothing else touched.

A few examples of each here; ``make fuzz`` tries thousands.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import hdmf_zarr  # noqa: F401 - the process that is watched has all there that takes long to import
import pytest
import roiextractors  # noqa: F401
from damaged_files import (
    EXAMPLES,
    LONGEST_MESSAGE,
    MOST_BYTES,
    MOST_SECONDS,
    damage,
    fuzzing,
    replace,
    restore,
    state_of,
)
from failing_calls import why_not
from hypothesis import event, given
from hypothesis import strategies as st
from recording_makers import MAKERS
from watched_processes import run_watched

from airflow_provider_ophys.conversion.environment import Defaults, Environment
from airflow_provider_ophys.conversion.run import convert_imaging, convert_segmentation
from airflow_provider_ophys.exceptions import OphysError
from airflow_provider_ophys.extractors import open_imaging, open_segmentation
from airflow_provider_ophys.models.conversion import ImagingConversion, SegmentationConversion
from airflow_provider_ophys.recordings import recording_of
from airflow_provider_ophys.writing.sharing import share_folder

# Threads of this library wait for ever in a process that was forked, once its parent has used it.
INSCOPIX, THREADED = "Inscopix", "isx"
START = {"NWBFile": {"session_start_time": "2026-11-22T09:30:00+01:00"}}

pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]


@pytest.fixture(scope="module", params=MAKERS)
def made(request, tmp_path_factory):
    """A recording, made in another process: some libraries work in one process, or in those that it forks."""
    if request.param.startswith(INSCOPIX) and THREADED in sys.modules:
        pytest.skip("Another test used Inscopix' library in this process; run this module by itself")
    folder = tmp_path_factory.mktemp("hostile") / "recording"

    def make():
        made = MAKERS[request.param](folder)
        known = {"extractor": made.extractor, "kind": made.kind, "files": [str(file) for file in made.files]}
        return known | {"arguments": chosen_arguments(made)}

    made = SimpleNamespace(folder=folder, **run_watched(make, reads=[folder], changes=[folder]).returned)
    made.files = [Path(file) for file in made.files]
    return made


def chosen_arguments(made):
    """Return those of the first movie or segmentation of a recording."""
    found = recording_of(made.kind, made.extractor, made.arguments).contents()
    return (found.movies or found.segmentations)[0].extractor_kwargs


def convert(made, path, *, validate):
    kinds = {
        "imaging": (ImagingConversion, convert_imaging),
        "segmentation": (SegmentationConversion, convert_segmentation),
    }
    conversion, run = kinds[made.kind]
    options = {"extractor": made.extractor, "extractor_kwargs": made.arguments, "nwbfile_path": str(path)}
    environment = Environment(Defaults(allowed_roots=(made.folder.parent,)))
    run(conversion(**options, metadata=START, validate_output=validate), environment)


def look_at(made, output, *, validate=True):
    """Look at a recording in every way, and convert it; return the messages of what is refused."""
    opener = open_imaging if made.kind == "imaging" else open_segmentation
    looks = (
        lambda: recording_of(made.kind, made.extractor, made.arguments).contents(),
        lambda: recording_of(made.kind, made.extractor, made.arguments).metadata(),
        lambda: opener(made.extractor, made.arguments),
        lambda: convert(made, output, validate=validate),
    )
    messages = []
    for look in looks:
        try:
            look()
        except OphysError as error:
            messages.append(str(error))
    return messages


@fuzzing(max(3, EXAMPLES * 3 // 4 // len(MAKERS)))
@given(data=st.data())
def test_damage_anywhere_gives_an_error_of_ours_or_none(made, data):
    whole = {file: file.read_bytes() for file in made.files}
    file = data.draw(st.sampled_from(sorted(made.files)), label="file")
    output = made.folder.parent / "out"
    output.mkdir()
    try:
        if data.draw(st.integers(0, 9), label="replace if below 2") < 2:
            replace(data.draw, file, [*whole.values()], is_named=repr(str(file)) in repr(made.arguments))
        else:
            damage(data.draw, file)
        before = state_of(made.folder)
        # The output's check against NWB's schema takes half of the time.
        validate = data.draw(st.integers(0, 3), label="validate if 0") == 0
        watched = run_watched(
            lambda: look_at(made, output / "a.nwb", validate=validate),
            reads=[made.folder],
            changes=[output],
            passed_over=[share_folder()],
        )
        assert watched.outside == []
        assert state_of(made.folder) == before
        assert watched.cpu_seconds < MOST_SECONDS
        assert watched.grown_bytes < MOST_BYTES
        assert all(len(message) < LONGEST_MESSAGE for message in watched.returned)
        event("refused" if watched.returned else "read")
    finally:
        restore(whole)
        shutil.rmtree(output)
