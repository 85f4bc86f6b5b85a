"""Arrays that readers map are read as files are: a file that was cut off is an error, and no dead process."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recording_makers import MAKERS

from airflow_provider_ophys.exceptions import SourceChangedError
from airflow_provider_ophys.extractor_internals import traces_of
from airflow_provider_ophys.extractors import open_imaging, open_segmentation
from airflow_provider_ophys.recordings import mapped_files, recording_of
from airflow_provider_ophys.recordings.mapped_files import read_mapped
from airflow_provider_ophys.writing.iterator import ArrayDataChunkIterator, ImagingExtractorDataChunkIterator

# What roiextractors 0.10 maps.
MAPPED_MOVIES = ["TIFF, a stack", "NumPy with channels", "NumPy without channels", "pixels alone", "Scanbox"]

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::ResourceWarning")


def is_mapped(array):
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap) and array._mmap is not None:
            return True
        array = array.base
    return False


@st.composite
def parts(draw):
    """A shape, an order, a type, an offset, and a part of an array of that kind."""
    shape = draw(st.lists(st.integers(1, 9), min_size=1, max_size=4).map(tuple))
    spans = []
    for length in shape:
        start, stop = sorted(draw(st.tuples(*[st.integers(0, length)] * 2)))
        step = draw(st.sampled_from([1, 1, 1, 2, -1, 3]))
        whole = slice(start, stop, step) if step > 0 else slice(stop - 1 if stop else None, None, step)
        spans.append(draw(st.sampled_from([whole, slice(None), draw(st.integers(0, length - 1))])))
    axes = draw(st.permutations(range(sum(isinstance(span, slice) for span in spans))))
    dtype = draw(st.sampled_from(["u1", "<u2", ">u2", "<f4", ">f8"]))
    return shape, draw(st.sampled_from("CF")), dtype, draw(st.integers(0, 5000)), tuple(spans), axes


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(part=parts(), run_bytes=st.sampled_from([1, 16, 10**6]), piece_bytes=st.sampled_from([1, 64, 10**6]))
def test_any_part_has_the_values_that_are_in_the_file(tmp_path, monkeypatch, part, run_bytes, piece_bytes):
    shape, order, dtype, offset, spans, axes = part
    monkeypatch.setattr(mapped_files, "SHORTEST_RUN_BYTES", run_bytes)
    monkeypatch.setattr(mapped_files, "PIECE_BYTES", piece_bytes)
    values = np.random.default_rng(0).integers(0, 200, shape).astype(dtype)
    file = tmp_path / "values"
    file.write_bytes(b"\1" * offset + values.tobytes(order))
    mapped = np.memmap(file, dtype, "r", offset, shape, order)
    expected, chosen = values[spans], mapped[spans]
    if isinstance(chosen, np.ndarray):
        expected, chosen = expected.transpose(axes), chosen.transpose(axes)
        for given_array in (chosen, np.asarray(chosen)):
            read = read_mapped(given_array)
            assert read.dtype == expected.dtype
            assert not is_mapped(read) or not expected.size
            np.testing.assert_array_equal(read, expected)


def test_what_is_in_memory_is_not_touched():
    array = np.arange(6).reshape(2, 3)
    assert read_mapped(array) is array


@pytest.mark.parametrize("name", MAPPED_MOVIES)
def test_a_movie_that_is_cut_off_while_it_is_read_is_an_error(tmp_path, name):
    made = MAKERS[name](tmp_path / "m")
    imaging = open_imaging(made.extractor, made.arguments)
    movie = ImagingExtractorDataChunkIterator(imaging)
    np.testing.assert_array_equal(movie.read(0, 2), np.swapaxes(made.truth[:2], 1, 2))
    file = max(made.files, key=lambda each: each.stat().st_size)
    os.truncate(file, 1)
    with pytest.raises(SourceChangedError, match="by now") as caught:
        movie.read(0, len(movie))
    assert str(file) in str(caught.value)
    assert caught.value.retryable


def test_traces_that_are_cut_off_while_they_are_read_are_an_error(tmp_path):
    made = MAKERS["suite2p"](tmp_path / "m")
    traces = traces_of(open_segmentation(made.extractor, made.arguments))
    assert all(is_mapped(trace) for trace in traces.values())
    rows = ArrayDataChunkIterator(traces["raw"])
    np.testing.assert_array_equal(rows.read(0, len(rows)), made.truth)
    os.truncate(tmp_path / "m" / "plane0" / "F.npy", 130)
    with pytest.raises(SourceChangedError, match=r"F\.npy ends at byte 130 by now"):
        rows.read(0, len(rows))


@pytest.mark.parametrize("name", MAKERS)
def test_no_other_reader_gives_what_is_mapped(tmp_path, name):
    """A map of a recording that is still mapped when it has been read would be one that was not read around."""
    made = MAKERS[name](tmp_path / "m")
    known = recording_of(made.kind, made.extractor, made.arguments).contents()
    arguments = (known.movies or known.segmentations)[0].extractor_kwargs
    if made.kind == "imaging":
        movie = ImagingExtractorDataChunkIterator(open_imaging(made.extractor, arguments))
        given_arrays = [movie.read(0, len(movie))]
        assert is_mapped(movie.imaging_extractor.get_series(0, 1)) == (name in MAPPED_MOVIES and name != "Scanbox")
    else:
        segmentation = open_segmentation(made.extractor, arguments)
        traces = traces_of(segmentation)
        given_arrays = [ArrayDataChunkIterator(trace).read(0, len(trace)) for trace in traces.values()]
    assert not any(map(is_mapped, given_arrays))
