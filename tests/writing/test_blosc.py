"""Any blosc reads what we encode; "small" chooses by looking at the data and never makes more than "fast"."""

from __future__ import annotations

import numpy as np
import pytest
import zarr
from noisy_movies import simulated_movies
from numcodecs import blosc

from airflow_provider_ophys.models.backend import ZarrDatasetConfiguration
from airflow_provider_ophys.writing.blosc import fast_encoder, small_encoder
from airflow_provider_ophys.writing.zarr_codecs import zarr_codec
from airflow_provider_ophys.writing.zarr_sink import ZarrSink

MOVIES = simulated_movies(8) | {"one value": np.array([[[3.0]]])}


@pytest.mark.parametrize("movie", MOVIES.values(), ids=MOVIES.keys())
def test_small_is_never_larger_than_fast(movie):
    fast, small = fast_encoder(movie.itemsize)(movie), small_encoder(movie.itemsize)(movie)
    for encoded in (fast, small):
        np.testing.assert_array_equal(np.frombuffer(blosc.decompress(encoded), movie.dtype), movie.reshape(-1))
    assert len(small) <= len(fast)


def test_chunks_that_were_made_in_different_ways_are_read_as_one_array(tmp_path):
    """zarr's metadata name one way of shuffling; what counts is what each chunk says of itself."""
    movie = np.concatenate([MOVIES["denoised"], MOVIES["registered"]])
    codec = zarr_codec(ZarrDatasetConfiguration(compression_method="small"), np.dtype("f4"))
    array = zarr.create_array(
        tmp_path / "a.zarr",
        shape=movie.shape,
        dtype="f4",
        chunks=MOVIES["denoised"].shape,
        compressors=codec.compressors,
    )
    with ZarrSink(array, tmp_path / "a.zarr", codec) as sink:
        for start in (0, 8):
            sink.write(sink.encode(movie[start : start + 8], start))
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "a.zarr", mode="r")[:], movie)
