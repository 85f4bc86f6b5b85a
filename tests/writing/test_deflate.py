"""Any zlib reads our streams; "small" chooses by looking at the data and never makes more than "fast"."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from noisy_movies import simulated_movies

from airflow_provider_ophys.writing import deflate
from airflow_provider_ophys.writing.chunks import gather_bytes, slab_rows
from airflow_provider_ophys.writing.deflate import deflate_fast, deflate_small

MOVIES = simulated_movies(6) | {"tiny": np.arange(6, dtype="int64").reshape(6, 1, 1)}


def planes_of(movie):
    planes = np.empty((movie.itemsize, *movie.shape), dtype="u1")
    gather_bytes(movie, planes, np.empty((slab_rows(movie.shape, movie.dtype), *movie.shape[1:]), movie.dtype))
    return planes.reshape(movie.itemsize, -1)


@pytest.mark.parametrize("movie", MOVIES.values(), ids=MOVIES.keys())
def test_small_is_never_larger_than_fast(movie):
    planes = planes_of(movie)
    fast, small = deflate_fast(planes), deflate_small(planes)
    assert zlib.decompress(fast) == zlib.decompress(small) == planes.tobytes()
    assert len(small) <= len(fast)


@pytest.mark.parametrize("name", ["noisy", "denoised", "denoised integers"])
def test_small_is_clearly_smaller_than_fast_where_there_is_something_to_gain(name):
    planes = planes_of(MOVIES[name])
    assert len(deflate_small(planes)) < 0.99 * len(deflate_fast(planes))


def test_each_plane_gets_the_coder_that_suits_it():
    random = np.random.default_rng(0)
    noise = random.poisson(100, 100_000).astype("u1")
    runs = np.repeat(random.integers(0, 3, 500, dtype="u1"), 200)
    text = np.frombuffer(b"the same words again and again, " * 3000, dtype="u1")
    assert deflate._best_coder(noise) in (deflate._frequencies, deflate._repeats)
    assert deflate._best_coder(runs) is not deflate._frequencies
    assert deflate._best_coder(text) in (deflate._repeats, deflate._thorough)


@pytest.mark.parametrize("movie", MOVIES.values(), ids=MOVIES.keys())
def test_without_the_fast_coders_zlib_does(movie, monkeypatch):
    """Where isal and zlib-ng have no wheels; the bytes differ, what they mean does not."""
    monkeypatch.setattr(deflate, "igzip_lib", None)
    monkeypatch.setattr(deflate, "isal_zlib", None)
    monkeypatch.setattr(deflate, "zlib", zlib)
    planes = planes_of(movie)
    assert zlib.decompress(deflate_fast(planes)) == zlib.decompress(deflate_small(planes)) == planes.tobytes()
    assert len(deflate_small(planes)) <= len(deflate_fast(planes))
