"""
Damaged and forged recordings of every maker: only errors of ours, at once, in little memory, nothing written.

A few examples of each here; ``OPHYS_FUZZ_EXAMPLES=10000`` tries as many, of all makers together.
"""

from __future__ import annotations

import gc
import os
import resource
import time

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from recording_makers import MAKERS

from airflow_provider_ophys.exceptions import OphysError
from airflow_provider_ophys.extractors import open_imaging, open_segmentation
from airflow_provider_ophys.recordings import recording_of

EXAMPLES = max(15, int(os.environ.get("OPHYS_FUZZ_EXAMPLES", "0")) // len(MAKERS))
MOST_SECONDS, MOST_BYTES, LONGEST_MESSAGE = 5.0, 512 << 20, 4096
PIECES = [b"\0" * 8, b"\xff" * 8, b"\x7f" * 4, b"<", b"-1", b'"', b"&x;", b"1e999", b"NaN", b"../", b"/etc/passwd"]
HEADER_BYTES = 2000

pytestmark = [
    # What the readers say of a bad file on the way to their error.
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::ResourceWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module", params=MAKERS)
def made(request, tmp_path_factory):
    yield MAKERS[request.param](tmp_path_factory.mktemp("hostile") / "recording")
    gc.collect()


def damaged(draw, content):
    """Cut a file off, or write other bytes over some of it, mostly where headers are."""
    if not content or draw(st.integers(0, 4), label="cut if 0") == 0:
        return content[: draw(st.integers(0, len(content)), label="keep")]
    changed = bytearray(content)
    anywhere = st.integers(0, len(content) - 1)
    headers = st.integers(0, min(HEADER_BYTES, len(content)) - 1)
    footers = st.integers(max(0, len(content) - HEADER_BYTES), len(content) - 1)
    for _ in range(draw(st.integers(1, 4), label="changes")):
        at = draw(anywhere | headers | footers, label="at")
        piece = draw(st.binary(min_size=1, max_size=8) | st.sampled_from(PIECES), label="piece")
        changed[at : at + len(piece)] = piece
    return bytes(changed)


def look_at(made):
    """Look at a recording in every way; return the messages of what is refused."""
    opener = open_imaging if made.kind == "imaging" else open_segmentation
    looks = (
        lambda: recording_of(made.kind, made.extractor, made.arguments).contents(),
        lambda: recording_of(made.kind, made.extractor, made.arguments).metadata(),
        lambda: opener(made.extractor, made.arguments),
    )
    messages = []
    for look in looks:
        try:
            look()
        except OphysError as error:
            messages.append(str(error))
    return messages


def files_below(folder):
    return {path: path.stat().st_mtime_ns for path in folder.parent.rglob("*") if path.is_file()}


# Nobody learns much from the smallest example, and finding it takes many times as long.
@settings(max_examples=EXAMPLES, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damage_anywhere_gives_an_error_of_ours_or_none(made, data):
    file = data.draw(st.sampled_from(sorted(made.files)), label="file")
    content = file.read_bytes()
    file.write_bytes(damaged(data.draw, content))
    before, peak = files_below(made.folder), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.monotonic()
    try:
        messages = look_at(made)
        assert time.monotonic() - started < MOST_SECONDS
        assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) * 1024 < MOST_BYTES
        assert files_below(made.folder) == before
        assert all(len(message) < LONGEST_MESSAGE for message in messages)
    finally:
        file.write_bytes(content)
