"""What we encode is what HDF5's own filters would read; the presets keep their promises."""

from __future__ import annotations

import zlib

import h5py
import numpy as np
import pytest

from airflow_provider_ophys.writing.codecs import deflate_fast, deflate_small, hdf5_codec
from airflow_provider_ophys.writing.hdf5_sink import HDF5Sink

RNG = np.random.default_rng(0)
MOVIES = {
    "noise": RNG.poisson(200, (4, 32, 40)).astype("uint16"),
    "registered": (np.sin(np.linspace(0, 9, 4 * 32 * 40)).reshape(4, 32, 40) * 999).astype("int16"),
    "constant": np.full((4, 32, 40), 7, dtype="uint16"),
    "random bytes": RNG.integers(0, 256, (4, 32, 40), dtype="uint8"),
}


@pytest.mark.parametrize("movie", MOVIES.values(), ids=MOVIES.keys())
def test_small_is_never_larger_than_fast(movie):
    data = movie.reshape(-1).view("u1")
    assert zlib.decompress(deflate_fast(data)) == zlib.decompress(deflate_small(data)) == data.tobytes()
    assert len(deflate_small(data)) <= len(deflate_fast(data))


@pytest.mark.parametrize("method", ["fast", "small", "none", "gzip"])
@pytest.mark.parametrize("dtype", ["?", "u1", "i1", "<u2", ">u2", "i4", "u8", "f4", "f8"])
def test_hdf5_reads_every_type(tmp_path, method, dtype):
    data = RNG.integers(0, 100, (11, 6, 5)).astype(dtype)
    native = np.dtype(dtype).newbyteorder("=")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        codec = hdf5_codec(method, None, native.itemsize)
        dataset = file.create_dataset("data", data.shape, native, chunks=(4, 4, 4), **codec.filters)
        sink = HDF5Sink(dataset, codec)
        for start in range(0, 11, 4):
            sink.write(sink.encode(data[start : start + 4], start))
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(file["data"][:], data)
        assert file["data"].id.get_num_chunks() == 3 * 2 * 2


@pytest.mark.parametrize("shape", [(11,), (11, 3)])
def test_traces_and_timestamps_are_filled_too(tmp_path, shape):
    data = RNG.random(shape)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        codec = hdf5_codec("fast", None, 8)
        dataset = file.create_dataset("data", shape, "f8", chunks=(4, *shape[1:]), **codec.filters)
        sink = HDF5Sink(dataset, codec)
        for start in range(0, 11, 4):
            sink.write(sink.encode(data[start : start + 4], start))
        np.testing.assert_array_equal(dataset[:], data)


def test_a_filter_that_is_not_ours_has_no_codec():
    assert hdf5_codec("lzf", None, 2) is None
