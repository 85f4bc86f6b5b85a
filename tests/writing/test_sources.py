"""Whatever a source is, what is stored is what it holds: every type, planar or volumetric, of any length."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import zarr

from airflow_provider_ophys.models.backend import HDF5DatasetConfiguration, ZarrDatasetConfiguration
from airflow_provider_ophys.writing.codecs import hdf5_codec, hdf5_filters
from airflow_provider_ophys.writing.hdf5_sink import HDF5FilterSink, HDF5Sink
from airflow_provider_ophys.writing.iterator import ImagingExtractorDataChunkIterator
from airflow_provider_ophys.writing.pipeline import fill
from airflow_provider_ophys.writing.sharing import Resources
from airflow_provider_ophys.writing.zarr_codecs import zarr_codec
from airflow_provider_ophys.writing.zarr_sink import ZarrSink

TYPES = [
    "?",
    "u1",
    "i1",
    "<u2",
    ">u2",
    "<i2",
    ">i2",
    "u4",
    ">i4",
    "u8",
    "i8",
    ">u8",
    "f2",
    "<f4",
    ">f4",
    "<f8",
    ">f8",
]

# Samples, rows, columns and planes, and a chunk (samples, columns, rows, planes) that does not divide them.
SHAPES = {
    "planar": ((23, 10, 14), (4, 6, 8)),
    "volumetric": ((7, 10, 14, 3), (2, 14, 10, 2)),
    "one frame": ((1, 10, 14), (1, 14, 10)),
    "one column": ((9, 5, 1), (4, 1, 5)),
    "more rows than are transposed at once": ((7, 150, 128), (3, 128, 80)),
}


class Movie:
    """An extractor of an array, as far as writing needs one."""

    def __init__(self, array):
        self._array = array

    def get_num_samples(self):
        return self._array.shape[0]

    def get_sample_shape(self):
        return self._array.shape[1:]

    def get_dtype(self):
        return self._array.dtype

    def get_series(self, start_sample, end_sample):
        return self._array[start_sample:end_sample]


def movie_of(shape, dtype):
    random = np.random.default_rng(0)
    if np.dtype(dtype).kind == "f":
        movie = random.normal(size=shape).astype(dtype)
        movie.flat[:2] = [np.nan, -0.0]
        return movie
    bits = random.integers(0, 256, (*shape, np.dtype(dtype).itemsize), dtype="u1")
    return (bits[..., 0] > 127) if dtype == "?" else bits.view(dtype)[..., 0]


def store_hdf5(folder, source, chunks, method, resources):
    with h5py.File(folder / "a.h5", "w") as file:
        shuffle = ("shuffle",) if method != "none" and source.dtype.itemsize > 1 else ()
        configuration = HDF5DatasetConfiguration(compression_method=method, filter_methods=shuffle)
        codec, filters = hdf5_codec(configuration), hdf5_filters(configuration)
        dataset = file.create_dataset("data", source.maxshape, source.dtype, chunks=chunks, **filters)
        sink = HDF5FilterSink(dataset) if codec is None else HDF5Sink(dataset, codec)
        fill(source, sink, resources, name="data")
    with h5py.File(folder / "a.h5") as file:
        return file["data"][:]


def store_zarr(folder, source, chunks, method, resources):
    codec = zarr_codec(ZarrDatasetConfiguration(compression_method=method), source.dtype)
    shards = tuple(2 * chunk for chunk in chunks)
    array = zarr.create_array(
        folder / "a.zarr",
        shape=source.maxshape,
        dtype=source.dtype,
        chunks=chunks,
        shards=shards,
        compressors=codec.compressors,
    )
    with ZarrSink(array, folder / "a.zarr", codec) as sink:
        fill(source, sink, resources, name="data")
    return zarr.open_array(folder / "a.zarr", mode="r")[:]


STORES = {"hdf5": store_hdf5, "zarr": store_zarr}


def check(folder, backend, movie, chunks, *, method="fast", threads=8, budget=2**20):
    source = ImagingExtractorDataChunkIterator(Movie(movie), chunk_shape=chunks)
    stored = STORES[backend](folder, source, chunks, method, Resources(budget, threads))
    assert stored.dtype == {"float16": "f4", "bool": "u1"}.get(movie.dtype.name, movie.dtype.newbyteorder("="))
    # Bit by bit, so that NaN and -0 count too.
    assert stored.tobytes() == np.ascontiguousarray(movie.swapaxes(1, 2)).astype(stored.dtype).tobytes()


@pytest.mark.parametrize("backend", STORES)
@pytest.mark.parametrize("dtype", TYPES)
def test_every_type(tmp_path, backend, dtype):
    shape, chunks = SHAPES["planar"]
    check(tmp_path, backend, movie_of(shape, dtype), chunks)


@pytest.mark.parametrize("backend", STORES)
@pytest.mark.parametrize("kind", SHAPES)
def test_every_shape_with_more_threads_than_chunks(tmp_path, backend, kind):
    shape, chunks = SHAPES[kind]
    check(tmp_path, backend, movie_of(shape, "<u2"), chunks, threads=64)


@pytest.mark.parametrize("backend", STORES)
@pytest.mark.parametrize("method", ["fast", "small", "none", "gzip"])
def test_every_method(tmp_path, backend, method):
    shape, chunks = SHAPES["volumetric"]
    check(tmp_path, backend, movie_of(shape, "<i2"), chunks, method=method)


def test_a_filter_that_hdf5_has_to_apply(tmp_path):
    shape, chunks = SHAPES["planar"]
    check(tmp_path, "hdf5", movie_of(shape, "<i2"), chunks, method="lzf")


@pytest.mark.parametrize("backend", STORES)
def test_a_budget_of_one_task(tmp_path, backend):
    shape, chunks = SHAPES["planar"]
    movie = movie_of(shape, "<u2")
    row_bytes = movie[0].nbytes
    check(tmp_path, backend, movie, chunks, budget=4 * chunks[0] * row_bytes)


@pytest.mark.parametrize("frames_at_once", [8, 4])
def test_what_is_read_at_once_is_bounded_by_the_budget_and_not_by_the_chunk(frames_at_once):
    """Each read of a TIFF of many pages may begin with finding the place, so few and long ones are better."""
    reads = []

    class Counting(Movie):
        def get_series(self, start_sample, end_sample):
            reads.append(end_sample - start_sample)
            return super().get_series(start_sample, end_sample)

    class Sink:
        rows_per_task = 1
        scratch_tasks = result_tasks = 1

        def encode(self, _block, start):
            return start

        def write(self, _encoded):
            pass

    source = ImagingExtractorDataChunkIterator(Counting(movie_of((64, 10, 14), "u1")), chunk_shape=(1, 14, 10))
    budget = (1 + 5 * frames_at_once) * 140
    fill(source, Sink(), Resources(budget, 1), name="a")
    assert max(reads) == frames_at_once
