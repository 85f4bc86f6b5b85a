"""What we encode is what HDF5's own filters would read; the presets keep their promises."""

from __future__ import annotations

from fnmatch import fnmatch

import h5py
import numpy as np
import pytest
import zarr

from airflow_provider_ophys.models.backend import HDF5DatasetConfiguration, ZarrDatasetConfiguration
from airflow_provider_ophys.writing.codecs import hdf5_codec, hdf5_filters
from airflow_provider_ophys.writing.hdf5_sink import HDF5Sink
from airflow_provider_ophys.writing.zarr_codecs import zarr_codec
from airflow_provider_ophys.writing.zarr_sink import ZarrSink

RNG = np.random.default_rng(0)


def hdf5(method, filters=("shuffle",)):
    return HDF5DatasetConfiguration(compression_method=method, filter_methods=filters)


def zarr_stored(method, filters=(), options=()):
    return ZarrDatasetConfiguration(compression_method=method, filter_methods=filters, filter_options=options)


@pytest.mark.parametrize("method", ["fast", "small", "none", "gzip"])
@pytest.mark.parametrize("dtype", ["?", "u1", "i1", "<u2", ">u2", "i4", "u8", "f4", "f8"])
def test_hdf5_reads_every_type(tmp_path, method, dtype):
    data = RNG.integers(0, 100, (11, 6, 5)).astype(dtype)
    native = np.dtype(dtype).newbyteorder("=")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        configuration = hdf5(method, ("shuffle",) if method != "none" and native.itemsize > 1 else ())
        filters = hdf5_filters(configuration)
        dataset = file.create_dataset("data", data.shape, native, chunks=(4, 4, 4), **filters)
        sink = HDF5Sink(dataset, hdf5_codec(configuration))
        for start in range(0, 11, 4):
            sink.write(sink.encode(data[start : start + 4], start))
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(file["data"][:], data)
        assert file["data"].id.get_num_chunks() == 3 * 2 * 2


@pytest.mark.parametrize("shape", [(11,), (11, 3)])
def test_traces_and_timestamps_are_filled_too(tmp_path, shape):
    data = RNG.random(shape)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        filters = hdf5_filters(hdf5("fast"))
        dataset = file.create_dataset("data", shape, "f8", chunks=(4, *shape[1:]), **filters)
        sink = HDF5Sink(dataset, hdf5_codec(hdf5("fast")))
        for start in range(0, 11, 4):
            sink.write(sink.encode(data[start : start + 4], start))
        np.testing.assert_array_equal(dataset[:], data)


@pytest.mark.parametrize(
    "configuration", [hdf5("lzf"), hdf5("blosc", ()), hdf5("gzip", ("shuffle", "fletcher32")), hdf5("none")]
)
def test_what_hdf5_must_apply_itself_has_no_codec(configuration):
    assert hdf5_codec(configuration) is None


@pytest.mark.parametrize("method", ["fast", "small", "none", "zstd", "gzip", "blosc"])
@pytest.mark.parametrize("dtype", ["?", "u1", "<u2", ">u2", "i4", "u8", "f4", "f8"])
def test_zarr_reads_every_type(tmp_path, method, dtype):
    check_zarr(tmp_path, zarr_stored(method), dtype)


@pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3 specification")
@pytest.mark.parametrize(
    "configuration",
    [
        zarr_stored("gzip", ("shuffle",)),
        zarr_stored("zstd", ("delta",)),
        zarr_stored("none", ("delta", "shuffle")),
        zarr_stored("none", ("shuffle", "delta")),
        zarr_stored("blosc", ("fixedscaleoffset",), ({"offset": 0, "scale": 1},)),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "f8"])
def test_zarr_undoes_every_filter(tmp_path, configuration, dtype):
    check_zarr(tmp_path, configuration, dtype)


def check_zarr(tmp_path, configuration, dtype):
    data = RNG.integers(0, 100, (11, 6, 5)).astype(dtype)
    codec = zarr_codec(configuration, data.dtype)
    array = zarr.create_array(
        tmp_path / "a.zarr",
        shape=data.shape,
        dtype=data.dtype.newbyteorder("="),
        chunks=(2, 3, 2),
        shards=(4, 6, 4),
        filters=codec.filters,
        compressors=codec.compressors,
    )
    with ZarrSink(array, tmp_path / "a.zarr", codec) as sink:
        for start in range(0, 11, 2):
            sink.write(sink.encode(data[start : start + 2], start))
    read = zarr.open_array(tmp_path / "a.zarr", mode="r")
    np.testing.assert_array_equal(read[:], data)
    assert read.nchunks_initialized == 3 * 1 * 2 * 8, "every shard is there"
    files = {
        str(file.relative_to(tmp_path / "a.zarr")) for file in (tmp_path / "a.zarr").rglob("*") if file.is_file()
    }
    assert files == {"zarr.json", *(f"c/{row}/0/{plane}" for row in range(3) for plane in range(2))}


def test_a_shard_says_which_chunks_it_has(tmp_path):
    """What lies beyond the edge of the array is not stored, and the index says so."""
    codec = zarr_codec(zarr_stored("none"), np.dtype("u1"))
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=(3, 2), dtype="u1", chunks=(2, 2), shards=(6, 2), compressors=[]
    )
    data = np.arange(6, dtype="u1").reshape(3, 2)
    with ZarrSink(array, tmp_path / "a.zarr", codec) as sink:
        sink.write(sink.encode(data[:2], 0))
        (unfinished,) = (tmp_path / "a.zarr" / "c" / "0").iterdir()
        assert fnmatch(unfinished.name, ".0.*.part")
        sink.write(sink.encode(data[2:], 2))
    stored = (tmp_path / "a.zarr" / "c" / "0" / "0").read_bytes()
    assert stored[:8] == bytes([0, 1, 2, 3, 4, 5, 0, 0])
    index = np.frombuffer(stored[8:-4], dtype="<u8").reshape(3, 2)
    assert index.tolist() == [[0, 4], [4, 4], [2**64 - 1, 2**64 - 1]]


def test_a_shard_that_is_not_whole_is_not_there(tmp_path):
    codec = zarr_codec(zarr_stored("none"), np.dtype("u1"))
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=(4, 2), dtype="u1", chunks=(1, 2), shards=(2, 2), compressors=[]
    )
    with pytest.raises(OSError, match="disk"), ZarrSink(array, tmp_path / "a.zarr", codec) as sink:
        for row in range(3):
            sink.write(sink.encode(np.ones((1, 2), dtype="u1"), row))
        raise OSError("the disk is gone")
    files = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()}
    assert files == {"a.zarr/zarr.json", "a.zarr/c/0/0"}
