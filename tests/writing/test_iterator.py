"""Iterators show what they hold, as arrays do, refuse options that make no sense, and are written once."""

from __future__ import annotations

import numpy as np
import pytest
from pynwb import NWBHDF5IO
from pynwb.testing.mock.file import mock_NWBFile
from roiextractors import NumpyImagingExtractor
from roiextractors.testing import generate_dummy_imaging_extractor, generate_dummy_segmentation_extractor

from airflow_provider_ophys.exceptions import ConfigurationError, SourceDataError
from airflow_provider_ophys.models.remarks import gathering_remarks
from airflow_provider_ophys.nwb import (
    ImagingExtractorDataChunkIterator,
    add_imaging_to_nwbfile,
    add_segmentation_to_nwbfile,
    write_imaging_to_nwbfile,
    write_segmentation_to_nwbfile,
)

SESSION = {"NWBFile": {"session_start_time": "2026-11-22T09:30:00+01:00"}}


@pytest.fixture
def movie():
    return generate_dummy_imaging_extractor(num_samples=7, num_rows=5, num_columns=9)


def values_of(movie):
    return movie.get_series().swapaxes(1, 2)


def added(movie, **options):
    nwbfile = mock_NWBFile()
    add_imaging_to_nwbfile(movie, nwbfile, **options)
    return nwbfile, nwbfile.acquisition["TwoPhotonSeries"].data


def plainly_written(nwbfile, path):
    with NWBHDF5IO(path, "w") as io:
        io.write(nwbfile)
    with NWBHDF5IO(path, "r") as io:
        return io.read().acquisition["TwoPhotonSeries"].data[:]


def test_all_of_what_is_added_has_a_shape_and_values(movie):
    _, data = added(movie)
    assert data.shape == (7, 9, 5)
    np.testing.assert_array_equal(np.asarray(data), values_of(movie))
    np.testing.assert_array_equal(np.asarray(data, dtype=float), values_of(movie).astype(float))
    for mask_type in ("image", "pixel"):
        nwbfile, cells = mock_NWBFile(), generate_dummy_segmentation_extractor(mask_type="pixel")
        add_segmentation_to_nwbfile(cells, nwbfile, mask_type=mask_type)
        ophys = nwbfile.processing["ophys"]
        trace = ophys["Fluorescence"]["RoiResponseSeries"].data
        assert trace.shape == (30, 10)
        np.testing.assert_array_equal(np.asarray(trace), cells.get_traces(name="raw"))
        masks = next(
            column
            for column in ophys["ImageSegmentation"]["PlaneSegmentation"].columns
            if column.name == f"{mask_type}_mask"
        )
        assert np.asarray(masks.data).shape == masks.data.shape


def test_iterator_type_none_is_an_array(movie, tmp_path):
    nwbfile, data = added(movie, iterator_type=None)
    assert isinstance(data, np.ndarray)
    np.testing.assert_array_equal(plainly_written(nwbfile, tmp_path / "a.nwb"), values_of(movie))
    write_imaging_to_nwbfile(movie, tmp_path / "b.nwb", metadata=SESSION, iterator_type=None)
    with NWBHDF5IO(tmp_path / "b.nwb", "r") as io:
        stored = io.read().acquisition["TwoPhotonSeries"].data
        np.testing.assert_array_equal(stored[:], values_of(movie))
        assert stored.chunks == (7, 9, 5)
        assert stored.compression == "gzip"


def test_looking_does_no_harm(movie, tmp_path):
    nwbfile, data = added(movie, iterator_options={"buffer_shape": (3, 9, 5), "chunk_shape": (3, 9, 5)})
    np.asarray(data)
    data[2:4]
    parts = [part.data for part in data]
    next(iter(data))
    np.testing.assert_array_equal(np.concatenate(parts), values_of(movie))
    np.testing.assert_array_equal(plainly_written(nwbfile, tmp_path / "a.nwb"), values_of(movie))


def test_an_iterator_that_a_writer_had_to_its_end_raises(movie):
    _, data = added(movie)
    assert np.array_equal(next(data).data, values_of(movie))
    with pytest.raises(StopIteration):
        next(data)
    with pytest.raises(ConfigurationError, match="written to its end already"):
        next(data)


BAD = [
    {"buffer_gb": 0}, {"buffer_gb": -1.0}, {"buffer_gb": float("nan")}, {"buffer_gb": True}, {"chunk_mb": 0},
    {"chunk_mb": "ten"}, {"chunk_mb": float("inf")}, {"chunk_shape": (0, 5, 5)}, {"chunk_shape": (5, 5)},
    {"chunk_shape": 5}, {"chunk_shape": (1.5, 5, 5)}, {"buffer_shape": (-1, 5, 5)},
]  # fmt: skip


@pytest.mark.parametrize("option", BAD, ids=str)
def test_an_option_that_makes_no_sense_is_refused_by_name(movie, tmp_path, option):
    (name,) = option
    with pytest.raises(ConfigurationError, match=f"{name} is"):
        ImagingExtractorDataChunkIterator(movie, **option)
    with pytest.raises(ConfigurationError, match=f"{name} is"):
        write_imaging_to_nwbfile(movie, tmp_path / "a.nwb", metadata=SESSION, iterator_options=option)


@pytest.mark.parametrize("option", [{"chunk_shape": (0, 10)}, {"chunk_shape": (5,)}, {"chunk_mb": 0}], ids=str)
def test_those_of_traces_too(tmp_path, option):
    (name,) = option
    cells = generate_dummy_segmentation_extractor()
    with pytest.raises(ConfigurationError, match=f"{name} is"):
        write_segmentation_to_nwbfile(cells, tmp_path / "a.nwb", metadata=SESSION, iterator_options=option)


@pytest.mark.parametrize(("kind", "stored"), [("float16", "float32"), ("bool", "uint8")])
def test_types_that_nwb_has_not_become_wider_ones_with_a_remark(kind, stored):
    frames = (np.random.default_rng(0).random((6, 4, 3, 1)) * 3).astype(kind)
    with gathering_remarks() as remarks:
        iterator = ImagingExtractorDataChunkIterator(NumpyImagingExtractor(frames, sampling_frequency=30.0))
    assert iterator.dtype == stored
    np.testing.assert_array_equal(np.asarray(iterator), frames[..., 0].swapaxes(1, 2))
    (remark,) = remarks
    assert f"are {kind}, which NWB does not have, and were written as {stored}: no value differs" in remark


@pytest.mark.parametrize("kind", ["complex64", "complex128", "longdouble"])
def test_types_that_nothing_holds_are_refused_by_name(kind):
    frames = np.zeros((6, 4, 3, 1), kind)
    with pytest.raises(SourceDataError, match=frames.dtype.name):
        ImagingExtractorDataChunkIterator(NumpyImagingExtractor(frames, sampling_frequency=30.0))
