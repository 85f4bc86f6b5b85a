"""A movie, written to HDF5 and to Zarr, is read back by plain readers as what the extractor gives."""

from __future__ import annotations

import copy
import re
from typing import ClassVar

import h5py
import numpy as np
import pynwb
import pytest
from hdmf_zarr import NWBZarrIO
from pynwb import NWBHDF5IO
from pynwb.testing.mock.file import mock_NWBFile
from roiextractors import NwbImagingExtractor
from roiextractors.testing import generate_dummy_imaging_extractor

from airflow_provider_ophys.exceptions import ConfigurationError, MemoryBudgetError, MetadataError
from airflow_provider_ophys.nwb import add_imaging_to_nwbfile, write_imaging_to_nwbfile

METADATA = {
    "NWBFile": {"session_start_time": "2026-11-22T09:30:00+01:00", "session_description": "two mice, one wheel"},
    "Subject": {"subject_id": "m1", "species": "Mus musculus", "sex": "F", "age": "P90D"},
    "DeviceModels": {"model": {"name": "Model 1", "manufacturer": "us", "model_number": "1"}},
    "Devices": {"scope": {"name": "Scope", "description": "a microscope", "device_model_metadata_key": "model"}},
    "Ophys": {
        "ImagingPlanes": {
            "plane": {
                "name": "Plane",
                "description": "layer 2/3",
                "device_metadata_key": "scope",
                "excitation_lambda": 920.0,
                "indicator": "GCaMP8",
                "location": "V1",
                "optical_channel": [{"name": "Green", "description": "green", "emission_lambda": 510.0}],
            }
        },
        "MicroscopySeries": {
            "movie": {
                "name": "Movie",
                "description": "the raw movie",
                "unit": "n.a.",
                "imaging_plane_metadata_key": "plane",
            }
        },
    },
}

BACKENDS = ["hdf5", "zarr"]


def open_nwb(path, backend):
    return NWBHDF5IO(path, "r") if backend == "hdf5" else NWBZarrIO(str(path), "r")


def dummy(**options):
    # Rows and columns differ, and neither divides the chunk: an axis mistake or a lost edge shows.
    return generate_dummy_imaging_extractor(num_rows=13, num_columns=29, num_samples=47, **options)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
def test_pixels_are_equal_and_x_is_the_image_column(tmp_path, backend, dtype):
    imaging = dummy(dtype=dtype)
    path = tmp_path / f"movie.{backend}.nwb"
    chunks = {"acquisition/Movie/data": {"chunk_shape": (10, 29, 13)}}
    write_imaging_to_nwbfile(imaging, path, metadata=METADATA, backend=backend, backend_configuration=chunks)
    with open_nwb(path, backend) as io:
        series = io.read().acquisition["Movie"]
        assert series.data.shape == (47, 29, 13)
        assert series.data.dtype == np.dtype(dtype)
        assert tuple(series.dimension) == (29, 13)
        np.testing.assert_array_equal(series.data[:], imaging.get_series().transpose(0, 2, 1))
        assert pynwb.validate(io=io) == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_metadata_arrives_field_by_field(tmp_path, backend):
    path = tmp_path / "movie.nwb"
    write_imaging_to_nwbfile(dummy(), path, metadata=METADATA, backend=backend)
    with open_nwb(path, backend) as io:
        nwbfile = io.read()
        series = nwbfile.acquisition["Movie"]
        assert nwbfile.session_description == "two mice, one wheel"
        assert nwbfile.session_start_time.isoformat() == "2026-11-22T09:30:00+01:00"
        assert nwbfile.subject.species == "Mus musculus"
        assert series.description == "the raw movie"
        assert series.rate == 30.0
        plane = series.imaging_plane
        assert (plane.name, plane.location, plane.indicator) == ("Plane", "V1", "GCaMP8")
        assert plane.excitation_lambda == 920.0
        assert plane.device.model.manufacturer == "us"
        assert plane.optical_channel[0].emission_lambda == 510.0
        packages = dict(nwbfile.was_generated_by[:].tolist())
        assert set(packages) == {"airflow-provider-ophys", "roiextractors", "pynwb"}


@pytest.mark.parametrize("backend", BACKENDS)
def test_placeholders_where_nothing_is_known(tmp_path, backend):
    path = tmp_path / "movie.nwb"
    metadata = {"NWBFile": METADATA["NWBFile"]}
    write_imaging_to_nwbfile(dummy(), path, metadata=metadata, backend=backend)
    with open_nwb(path, backend) as io:
        series = io.read().acquisition["TwoPhotonSeries"]
        plane = series.imaging_plane
        assert (plane.indicator, plane.location, plane.device.name) == ("unknown", "unknown", "Microscope")
        assert np.isnan(plane.excitation_lambda)
        assert series.unit == "n.a."


@pytest.mark.parametrize("compression", ["fast", "small", "none"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_compression_is_lossless(tmp_path, backend, compression):
    imaging = dummy()
    path = tmp_path / "movie.nwb"
    write_imaging_to_nwbfile(imaging, path, metadata=METADATA, backend=backend, compression=compression)
    with open_nwb(path, backend) as io:
        data = io.read().acquisition["Movie"].data[:]
    np.testing.assert_array_equal(data, imaging.get_series().transpose(0, 2, 1))


@pytest.mark.parametrize("chunk_shape", [(7, 10, 13), (47, 29, 13), (1, 1, 5)])
def test_an_hdf5_dataset_is_stored_as_configured(tmp_path, chunk_shape):
    imaging = dummy()
    path = tmp_path / "movie.nwb"
    configuration = {
        "acquisition/Movie/data": {
            "chunk_shape": chunk_shape,
            "compression_method": "gzip",
            "compression_options": {"level": 7},
        }
    }
    write_imaging_to_nwbfile(imaging, path, metadata=METADATA, backend_configuration=configuration)
    with h5py.File(path) as file:
        data = file["acquisition/Movie/data"]
        assert data.chunks == chunk_shape
        assert (data.compression, data.compression_opts, data.shuffle) == ("gzip", 7, True)
        np.testing.assert_array_equal(data[:], imaging.get_series().transpose(0, 2, 1))


def test_a_filter_that_hdf5_applies_itself_works_too(tmp_path, caplog):
    imaging = dummy()
    path = tmp_path / "movie.nwb"
    configuration = {"acquisition/Movie/data": {"compression_method": "lzf"}}
    write_imaging_to_nwbfile(imaging, path, metadata=METADATA, backend_configuration=configuration)
    assert "compressed with lzf: whoever reads it needs that filter too" in caplog.text
    with h5py.File(path) as file:
        data = file["acquisition/Movie/data"]
        assert data.compression == "lzf"
        np.testing.assert_array_equal(data[:], imaging.get_series().transpose(0, 2, 1))


@pytest.mark.parametrize(
    ("method", "options"),
    [("zstd", {"level": 3}), ("gzip", {"level": 3}), ("blosc", {"clevel": 3, "cname": "lz4"})],
)
def test_a_zarr_array_is_stored_as_configured(tmp_path, method, options):
    import zarr

    imaging = dummy()
    path = tmp_path / "movie.nwb.zarr"
    configuration = {
        "acquisition/Movie/data": {
            "chunk_shape": (5, 29, 13),
            "shard_shape": (20, 29, 13),
            "compression_method": method,
            "compression_options": options,
        }
    }
    write_imaging_to_nwbfile(imaging, path, metadata=METADATA, backend="zarr", backend_configuration=configuration)
    array = zarr.open_group(path, mode="r")["acquisition/Movie/data"]
    assert array.chunks == (5, 29, 13)
    assert array.shards == (20, 29, 13)
    assert method in type(array.compressors[0]).__name__.lower()
    shards = [file for file in (path / "acquisition/Movie/data").rglob("*") if file.name != "zarr.json"]
    assert len([file for file in shards if file.is_file()]) == 3
    np.testing.assert_array_equal(array[:], imaging.get_series().transpose(0, 2, 1))


def test_roiextractors_reads_back_what_it_gave(tmp_path):
    imaging = dummy()
    path = tmp_path / "movie.nwb"
    write_imaging_to_nwbfile(imaging, path, metadata=METADATA)
    back = NwbImagingExtractor(file_path=path, optical_series_name="Movie")
    np.testing.assert_array_equal(back.get_series(), imaging.get_series())
    assert back.get_sampling_frequency() == imaging.get_sampling_frequency()
    assert back.get_image_shape() == imaging.get_image_shape()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_volume_keeps_its_planes(tmp_path, backend):
    imaging = dummy(num_planes=3)
    path = tmp_path / "movie.nwb"
    write_imaging_to_nwbfile(imaging, path, metadata=METADATA, backend=backend)
    with open_nwb(path, backend) as io:
        series = io.read().acquisition["Movie"]
        np.testing.assert_array_equal(series.data[:], imaging.get_series().transpose(0, 2, 1, 3))
        assert tuple(series.dimension) == (29, 13, 3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_timing(tmp_path, backend):
    even = dummy(native_timestamps="evenly_spaced")
    uneven = dummy(native_timestamps="unevenly_spaced")
    for name, imaging in {"even": even, "uneven": uneven}.items():
        path = tmp_path / f"{name}.nwb"
        write_imaging_to_nwbfile(imaging, path, metadata=METADATA, backend=backend)
        with open_nwb(path, backend) as io:
            series = io.read().acquisition["Movie"]
            if name == "even":
                assert series.timestamps is None
                assert series.rate == pytest.approx(30.0)
            else:
                assert series.rate is None
                np.testing.assert_allclose(series.timestamps[:], uneven.get_native_timestamps())


def test_a_processed_one_photon_movie(tmp_path):
    path = tmp_path / "movie.nwb"
    write_imaging_to_nwbfile(
        dummy(),
        path,
        metadata=METADATA,
        photon_series_type="OnePhotonSeries",
        parent_container="processing/ophys",
        always_write_timestamps=True,
    )
    with NWBHDF5IO(path, "r") as io:
        series = io.read().processing["ophys"]["Movie"]
        assert type(series).__name__ == "OnePhotonSeries"
        np.testing.assert_allclose(series.timestamps[:], np.arange(47) / 30.0)


class Bar:
    """Counts what a progress bar is told."""

    made: ClassVar[list[Bar]] = []

    def __init__(self, **options):
        self.options, self.steps = options, 0
        Bar.made.append(self)

    def update(self, n=1):
        self.steps += n

    def write(self, text):
        pass

    def close(self):
        pass


@pytest.mark.parametrize(
    ("options", "chunks", "buffer"),
    [
        ({}, (47, 29, 13), (47, 29, 13)),
        ({"chunk_mb": 0.01}, (13, 29, 13), (47, 29, 13)),
        ({"chunk_mb": 0.002, "buffer_gb": 0.00001}, (2, 29, 13), (12, 29, 13)),
        ({"chunk_shape": (5, 10, 13), "buffer_shape": (10, 29, 13)}, (5, 10, 13), (10, 29, 13)),
    ],
)
def test_anyone_can_write_the_nwbfile_in_memory(tmp_path, options, chunks, buffer):
    from airflow_provider_ophys.models.metadata import validate_metadata
    from airflow_provider_ophys.nwb import add_imaging_to_nwbfile
    from airflow_provider_ophys.nwb.nwbfile import make_nwbfile

    imaging = dummy()
    nwbfile = make_nwbfile(validate_metadata(METADATA))
    shown = {"display_progress": True, "progress_bar_class": Bar, "progress_bar_options": {"desc": "movie"}}
    add_imaging_to_nwbfile(imaging, nwbfile, METADATA, iterator_options=options | shown)
    data = nwbfile.acquisition["Movie"].data
    assert (data.buffer_shape, len(data), data.ndim) == (buffer, 47, 3)
    pixels = imaging.get_series().transpose(0, 2, 1)
    np.testing.assert_array_equal(data[3:5, 2:4, -1], pixels[3:5, 2:4, -1])
    with NWBHDF5IO(tmp_path / "movie.nwb", "w") as io:
        io.write(nwbfile)
    assert Bar.made[-1].options["desc"] == "movie"
    assert Bar.made[-1].steps == -(-47 // buffer[0])
    with h5py.File(tmp_path / "movie.nwb") as file:
        assert file["acquisition/Movie/data"].chunks == chunks
        np.testing.assert_array_equal(file["acquisition/Movie/data"][:], pixels)


@pytest.mark.parametrize("options", [[1], "frames", 5, {1: 2}])
def test_iterator_options_that_are_no_options_are_refused(tmp_path, options):
    with pytest.raises(ConfigurationError, match="iterator_options is .*; write a dict"):
        write_imaging_to_nwbfile(dummy(), tmp_path / "a.nwb", metadata=METADATA, iterator_options=options)


@pytest.mark.parametrize("key", [["a"], 5, "nothing"])
def test_a_key_that_is_none_is_refused(key):
    described = {"Ophys": {"MicroscopySeries": {"a": {"name": "A", "unit": "n.a."}}}}
    with pytest.raises(MetadataError, match=r"metadata_key .* is not in Ophys.MicroscopySeries \(known: 'a'\)"):
        add_imaging_to_nwbfile(dummy(), mock_NWBFile(), described, metadata_key=key)


@pytest.mark.parametrize(
    "options",
    [
        {"chunk_mb": 1.0, "chunk_shape": (1, 29, 13)},
        {"buffer_gb": 1.0, "buffer_shape": (47, 29, 13)},
        {"chunk_mb": 20.0, "buffer_gb": 0.01},
        {"chunk_shape": (10, 29, 13), "buffer_shape": (15, 29, 13)},
        {"chunk_size": 1},
    ],
)
def test_iterator_options_that_make_no_sense_are_refused(tmp_path, options):
    with pytest.raises(ConfigurationError):
        write_imaging_to_nwbfile(dummy(), tmp_path / "a.nwb", metadata=METADATA, iterator_options=options)


@pytest.mark.parametrize("num_planes", [None, 3])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_movie_can_be_read_at_once(tmp_path, backend, num_planes):
    imaging = dummy(num_planes=num_planes)
    path = tmp_path / "movie.nwb"
    write_imaging_to_nwbfile(imaging, path, metadata=METADATA, backend=backend, iterator_type=None)
    with open_nwb(path, backend) as io:
        data = io.read().acquisition["Movie"].data[:]
    np.testing.assert_array_equal(data, imaging.get_series().swapaxes(1, 2))
    with pytest.raises(ConfigurationError, match="iterator_type is 'v1'"):
        write_imaging_to_nwbfile(imaging, tmp_path / "b.nwb", metadata=METADATA, iterator_type="v1")
    with pytest.raises(ConfigurationError, match="with None there is no iterator"):
        write_imaging_to_nwbfile(
            imaging, tmp_path / "b.nwb", metadata=METADATA, iterator_type=None, iterator_options={"chunk_mb": 1}
        )


def test_a_movie_that_does_not_fit_into_memory_is_not_read_at_once(tmp_path):
    imaging = dummy()
    imaging.get_num_samples = lambda: 10**13
    with pytest.raises(MemoryBudgetError, match="Use iterator_type='v2'"):
        write_imaging_to_nwbfile(imaging, tmp_path / "a.nwb", metadata=METADATA, iterator_type=None)
    assert list(tmp_path.iterdir()) == []


def test_the_dimension_agrees_with_the_data(tmp_path):
    metadata = copy.deepcopy(METADATA)
    metadata["Ophys"]["MicroscopySeries"]["movie"]["dimension"] = [13, 29]
    with pytest.raises(MetadataError, match=r"dimension .* is \[13, 29\] .* = \[29, 13\]"):
        write_imaging_to_nwbfile(dummy(), tmp_path / "a.nwb", metadata=metadata)


def test_a_series_says_what_it_was_read_from(tmp_path, shared_data):
    from airflow_provider_ophys.extractors import open_imaging

    source = {"file_path": str(shared_data / "two_photon_tiff/mouse2p.tiff"), "sampling_frequency": 30.0}
    write_imaging_to_nwbfile(open_imaging("Tiff", source), tmp_path / "a.nwb", metadata=METADATA)
    with NWBHDF5IO(tmp_path / "a.nwb", "r") as io:
        comments = io.read().acquisition["Movie"].comments
    assert re.fullmatch(
        r"Read from mouse2p\.tiff with TiffImagingExtractor of roiextractors [\d.]+ by airflow-provider-ophys .*",
        comments,
    )


def test_traces_say_what_they_were_read_from(tmp_path, shared_data):
    from airflow_provider_ophys.extractors import open_segmentation
    from airflow_provider_ophys.nwb import write_segmentation_to_nwbfile

    cells = open_segmentation("Caiman", {"file_path": str(shared_data / "caiman/cellset.hdf5")})
    write_segmentation_to_nwbfile(cells, tmp_path / "a.nwb", metadata={"NWBFile": METADATA["NWBFile"]})
    with h5py.File(tmp_path / "a.nwb") as file:
        comments = file["processing/ophys/Fluorescence/RoiResponseSeries"].attrs["comments"]
    assert re.match("Read (from cellset.hdf5 )?with CaimanSegmentationExtractor of roiextractors", comments)


def test_several_series_planes_and_devices_by_repeated_calls():
    from airflow_provider_ophys.models.metadata import validate_metadata
    from airflow_provider_ophys.nwb import add_imaging_to_nwbfile
    from airflow_provider_ophys.nwb.nwbfile import make_nwbfile

    nwbfile = make_nwbfile(validate_metadata(METADATA))
    metadata = copy.deepcopy(METADATA)
    plane = METADATA["Ophys"]["ImagingPlanes"]["plane"]
    metadata["Devices"]["second"] = {"name": "Second scope"}
    metadata["Ophys"]["ImagingPlanes"]["deep"] = plane | {"name": "Deep", "device_metadata_key": "second"}
    metadata["Ophys"]["MicroscopySeries"] |= {
        "again": {"name": "Again", "unit": "n.a.", "imaging_plane_metadata_key": "plane"},
        "deep": {"name": "DeepMovie", "unit": "n.a.", "imaging_plane_metadata_key": "deep"},
    }
    before = copy.deepcopy(metadata)
    for key, parent in {"movie": "acquisition", "again": "acquisition", "deep": "processing/ophys"}.items():
        add_imaging_to_nwbfile(dummy(), nwbfile, metadata, metadata_key=key, parent_container=parent)
    assert metadata == before
    assert set(nwbfile.acquisition) == {"Movie", "Again"}
    assert set(nwbfile.processing["ophys"].data_interfaces) == {"DeepMovie"}
    assert (set(nwbfile.imaging_planes), set(nwbfile.devices)) == ({"Plane", "Deep"}, {"Scope", "Second scope"})
    assert nwbfile.acquisition["Movie"].imaging_plane is nwbfile.acquisition["Again"].imaging_plane


@pytest.mark.parametrize("given", [None, {}, {"NWBFile": METADATA["NWBFile"]}], ids=str)
def test_an_nwbfile_in_memory_needs_no_metadata(tmp_path, given):
    from airflow_provider_ophys.models.metadata import validate_metadata
    from airflow_provider_ophys.nwb.nwbfile import make_nwbfile

    nwbfile = make_nwbfile(validate_metadata(METADATA))
    write_imaging_to_nwbfile(dummy(), tmp_path / "a.nwb", nwbfile=nwbfile, metadata=given)
    plane = nwbfile.acquisition["TwoPhotonSeries"].imaging_plane
    assert (plane.indicator, plane.location, plane.device.name) == ("unknown", "unknown", "Microscope")


def test_what_the_extractor_knows_is_under_what_the_caller_says(tmp_path):
    imaging = dummy()
    imaging.nwb_metadata = {"NWBFile": {"session_description": "by itself", "lab": "its lab"}}
    nwbfile = write_imaging_to_nwbfile(imaging, tmp_path / "a.nwb", metadata=METADATA)
    assert (nwbfile.session_description, nwbfile.lab) == ("two mice, one wheel", "its lab")


@pytest.mark.filterwarnings("ignore:The 'manufacturer' field is deprecated")
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_real_one_photon_nwb_movie(tmp_path, shared_data, backend):
    source = shared_data / "one_photon_nwb/movie.nwb"
    imaging = NwbImagingExtractor(file_path=source, optical_series_name="OnePhotonSeries")
    path = tmp_path / "movie.nwb"
    write_imaging_to_nwbfile(
        imaging,
        path,
        metadata={"NWBFile": METADATA["NWBFile"]},
        photon_series_type="OnePhotonSeries",
        backend=backend,
    )
    with h5py.File(source) as file, open_nwb(path, backend) as io:
        given, series = file["acquisition/OnePhotonSeries"], io.read().acquisition["OnePhotonSeries"]
        np.testing.assert_array_equal(series.data[:], given["data"][:])
        assert series.starting_time == given["starting_time"][()], "seconds since 1970, to the bit"
        assert series.rate == given["starting_time"].attrs["rate"] == 5.56
        assert tuple(series.dimension) == (35, 29)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_real_two_photon_tiff(tmp_path, shared_data, backend):
    from airflow_provider_ophys.extractors import open_imaging

    imaging = open_imaging(
        "Tiff", {"file_path": str(shared_data / "two_photon_tiff/mouse2p.tiff"), "sampling_frequency": 30.0}
    )
    path = tmp_path / "mouse.nwb"
    write_imaging_to_nwbfile(imaging, path, metadata=METADATA, backend=backend)
    with open_nwb(path, backend) as io:
        data = io.read().acquisition["Movie"].data
        assert data.dtype == np.dtype("uint16"), "ImageJ's big-endian pixels are stored in the machine's order"
        np.testing.assert_array_equal(data[:], imaging.get_series().transpose(0, 2, 1))
