"""
A read that fails is never a shorter movie, and is never put down to the recording or to the output.

The calls by which a conversion looks at a recording fail, once, twice or from one on: at one place for each way to
fail, with one recording for each library that reads them; ``OPHYS_FAILING_CALLS=100`` tries all at so many.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import zlib

import h5py
import numpy as np
import pytest
from failing_calls import END_OF_FILE, run_with_failures, why_not
from recording_makers import MAKERS

from airflow_provider_ophys.conversion.run import convert_imaging, convert_segmentation
from airflow_provider_ophys.exceptions import OphysError, is_passing
from airflow_provider_ophys.extractor_internals import properties_of, property_values, traces_of
from airflow_provider_ophys.extractors import open_segmentation
from airflow_provider_ophys.models.conversion import ImagingConversion, SegmentationConversion
from airflow_provider_ophys.recordings import recording_of
from airflow_provider_ophys.sessions import describe_session

PLACES = int(os.environ.get("OPHYS_FAILING_CALLS", "1"))
ONE_OF_EACH = ["NumPy without channels", "HDF5", "Miniscope", "ScanImage, three files", "Scanbox"]
ONE_OF_EACH += ["OME-TIFF, three files", "TIFF, a stack", "TIFF, a stack read by page", "suite2p", "CaImAn"]
METADATA = {"NWBFile": {"session_start_time": "2026-11-22T09:30:00+01:00"}}
LONG_AGO = 1_700_000_000
READS = frozenset({"read", "pread64", "readv", "preadv"})
LOOKS = READS | {"mmap", "open", "openat", "getdents64", "fstat", "stat", "lstat", "newfstatat", "statx", "lseek"}
ALWAYS = 10**9
MANY = 20
NEVER_THE_SAME = {"object_id", "file_create_date", "identifier", ".specloc"}

pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]


# Inscopix's library reads in threads of its own, which a forked process does not have once its parent has used it.
FORKABLE = [name for name in MAKERS if not name.startswith("Inscopix")]


@pytest.fixture(params=FORKABLE if "OPHYS_FAILING_CALLS" in os.environ else ONE_OF_EACH)
def made(request, tmp_path):
    recording = MAKERS[request.param](tmp_path / "recording")
    known = recording_of(recording.kind, recording.extractor, recording.arguments).contents()
    recording.arguments = (known.movies or known.segmentations)[0].extractor_kwargs
    for file in recording.folder.rglob("*"):
        os.utime(file, (LONG_AGO, LONG_AGO))
    return recording


def convert(made, output):
    """Convert; return what is in the output, or the error."""
    kind, convert_it = (
        (ImagingConversion, convert_imaging)
        if made.kind == "imaging"
        else (SegmentationConversion, convert_segmentation)
    )
    conversion = kind(
        extractor=made.extractor, extractor_kwargs=made.arguments, nwbfile_path=str(output), metadata=METADATA
    )
    try:
        convert_it(conversion)
    except OphysError as error:
        return {"error": type(error).__name__, "retryable": error.retryable, "message": str(error)}
    return {"values": values_of(output)}


def values_of(output):
    """All that is in the file, as text, but for what is another each time: the time of writing, and ids."""
    found = {}

    def note(name, item):
        if name.startswith("specifications"):
            return
        attributes = {key: value for key, value in item.attrs.items() if key not in NEVER_THE_SAME}
        found[name] = {key: spelled(value) for key, value in attributes.items()}
        if isinstance(item, h5py.Dataset) and name.rpartition("/")[2] not in NEVER_THE_SAME:
            found[name]["values"] = spelled(item[()])

    with h5py.File(output) as file:
        note("", file)
        file.visititems(note)
    return found


def spelled(value):
    """A value as text; of references, only how many."""
    array = np.asarray(value)
    if array.dtype.hasobject:
        flat = ["reference" if isinstance(each, h5py.Reference) else repr(each) for each in array.ravel()]
        return f"{array.shape} {flat}" if len(flat) < MANY else f"{array.shape} {hash_of(repr(flat).encode())}"
    return f"{array.dtype} {array.shape} {hash_of(array.tobytes())}"


def hash_of(content):
    return hashlib.sha256(content).hexdigest()


class Faults:
    """Makes calls on a folder fail from one on, so many of them; counts them."""

    def __init__(self, folder, first, count, number, kinds=LOOKS):
        self.folder, self.first, self.last = str(folder), first, first + count
        self.number, self.kinds, self.seen = number, kinds, 0

    def __call__(self, call):
        if call.name not in LOOKS or not call.path.startswith(self.folder):
            return 0
        self.seen += 1
        if not self.first < self.seen <= self.last or call.name not in self.kinds:
            return 0
        return self.number


def places(name, count, which):
    """Some places among so many calls, evenly spread, others for each recording and each way to fail."""
    shift = zlib.crc32(f"{name} {which}".encode()) / 2**32
    return sorted({int((place + shift) * count / PLACES) for place in range(PLACES)})


# Two failures in a row are what it took for a reader to go on with fewer pages.
WAYS = [(1, errno.EIO, LOOKS), (2, errno.ESTALE, LOOKS), (ALWAYS, errno.EIO, LOOKS)]
WAYS += [(1, END_OF_FILE, READS), (ALWAYS, END_OF_FILE, READS)]


def test_a_read_that_fails_gives_an_error_and_no_other_movie(made, tmp_path, request):
    calls = Faults(made.folder, 0, 0, 0)
    whole = run_with_failures(lambda: convert(made, tmp_path / "whole.nwb"), calls)
    assert "values" in whole, whole
    for which, (count, number, kinds) in enumerate(WAYS):
        for place in places(request.node.name, calls.seen, which):
            output = tmp_path / f"out{which}-{place}.nwb"
            faults = Faults(made.folder, place, count, number, kinds)
            got = run_with_failures(lambda output=output: convert(made, output), faults)
            if "error" not in got:
                assert got == whole
                continue
            # What seems to end cannot be told from what was cut off.
            assert got["retryable"] or number == END_OF_FILE, got
            assert not got["error"].startswith("Output"), got
            assert str(made.folder) in got["message"], got
            assert [path.name for path in tmp_path.iterdir() if output.stem in path.name] == []


def described(folder):
    """Describe the session in a folder; return all that is said of it, or the error."""
    try:
        session = describe_session(folder)
    except OphysError as error:
        return {"error": type(error).__name__, "retryable": error.retryable, "message": str(error)}
    return {"found": json.loads(session.model_dump_json())}


def test_a_recording_is_found_or_a_read_that_failed_is_told(made, request):
    calls = Faults(made.folder, 0, 0, 0)
    whole = run_with_failures(lambda: described(made.folder), calls)
    for which, (count, number, kinds) in enumerate([WAYS[0], WAYS[3]]):
        for place in places(request.node.name, calls.seen, which):
            faults = Faults(made.folder, place, count, number, kinds)
            got = run_with_failures(lambda: described(made.folder), faults)
            if got != whole:
                assert "error" in got, (place, got)
                assert got["retryable"] or number == END_OF_FILE, (place, got)


OPTIONAL = ["CaImAn", "NWB cells", "EXTRACT"]
STEP = 1 if "OPHYS_FAILING_CALLS" in os.environ else 7


@pytest.mark.parametrize("name", OPTIONAL)
def test_nothing_that_need_not_be_there_is_lost_by_a_look_that_fails_once(name, tmp_path):
    made = MAKERS[name](tmp_path / "recording")

    def look():
        try:
            cells = open_segmentation(made.extractor, made.arguments)
            traces = {role: spelled(np.asarray(trace)) for role, trace in traces_of(cells).items()}
            columns = {column: spelled(property_values(cells, column)) for column in properties_of(cells)}
            images = {image: spelled(found) for image, found in cells.get_images_dict().items()}
        except OphysError as error:
            return {"retryable": error.retryable}
        except (OSError, KeyError, RuntimeError) as error:
            return {"retryable": is_passing(error)}
        return {"found": [traces, columns, images]}

    calls = Faults(made.folder, 0, 0, 0)
    whole = run_with_failures(look, calls)
    assert "found" in whole, whole
    for place in range(0, calls.seen, STEP):
        got = run_with_failures(look, Faults(made.folder, place, 1, errno.EIO))
        assert got in (whole, {"retryable": True}), place
