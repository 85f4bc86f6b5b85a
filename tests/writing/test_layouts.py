"""Chunk shapes by name."""

from __future__ import annotations

import numpy as np
import pytest

from airflow_provider_ophys.exceptions import BackendConfigurationError
from airflow_provider_ophys.writing.iterator import ArrayDataChunkIterator
from airflow_provider_ophys.writing.layouts import layout_chunk_shape


@pytest.mark.parametrize(
    ("shape", "itemsize", "expected"),
    [
        ((2048, 512, 512), 2, (8, 512, 512)),
        ((3, 512, 512), 2, (3, 512, 512)),
        ((2048, 2048, 2048), 2, (1, 2048, 2048)),
        ((2048, 512, 512, 5), 2, (8, 512, 512, 1)),
    ],
)
def test_frames_are_whole_and_two_to_four_mebibytes(shape, itemsize, expected):
    assert layout_chunk_shape("frames", shape, itemsize) == expected


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((2048, 512, 512), (64, 128, 128)),
        ((20, 512, 100), (20, 128, 100)),
        ((2048, 512, 512, 5), (64, 128, 128, 1)),
    ],
)
def test_traces_are_long_in_time_and_small_in_space(shape, expected):
    assert layout_chunk_shape("traces", shape, 2) == expected


def test_a_layout_is_for_movies():
    with pytest.raises(BackendConfigurationError, match=r"is for movies; an array of the shape \(100, 20\)"):
        layout_chunk_shape("frames", (100, 20), 4)


def test_an_unknown_layout_names_the_known_ones():
    with pytest.raises(BackendConfigurationError, match="'frames', 'traces' or a shape"):
        layout_chunk_shape("frame", (100, 20, 20), 4)


def test_an_iterator_takes_a_layout_for_its_chunk_shape():
    movie = np.zeros((100, 200, 130), dtype="u1")
    assert ArrayDataChunkIterator(movie, chunk_shape="traces").chunk_shape == (64, 128, 128)
    assert ArrayDataChunkIterator(movie, chunk_shape="frames").chunk_shape == (100, 200, 130)
