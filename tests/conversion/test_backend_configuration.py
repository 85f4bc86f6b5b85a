"""Every dataset is stored as its configuration says: by default, as overridden, and as in another file."""

from __future__ import annotations

import json
import subprocess
import sys

import h5py
import numpy as np
import pynwb
import pytest
import zarr
from hdmf_zarr import NWBZarrIO
from pynwb import NWBHDF5IO
from roiextractors import NumpyImagingExtractor
from roiextractors.testing import generate_dummy_imaging_extractor, generate_dummy_segmentation_extractor

from airflow_provider_ophys.conversion.storages import open_storage
from airflow_provider_ophys.exceptions import BackendConfigurationError
from airflow_provider_ophys.models.backend import (
    HDF5PLUGIN_OPTIONS,
    HDF5BackendConfiguration,
    ZarrBackendConfiguration,
    parse_backend_configuration,
)
from airflow_provider_ophys.models.metadata import validate_metadata
from airflow_provider_ophys.models.remarks import gathering_remarks
from airflow_provider_ophys.nwb import (
    add_imaging_to_nwbfile,
    add_segmentation_to_nwbfile,
    get_default_backend_configuration,
    get_existing_backend_configuration,
    write_imaging_to_nwbfile,
    write_segmentation_to_nwbfile,
)
from airflow_provider_ophys.nwb.nwbfile import make_nwbfile

METADATA = {"NWBFile": {"session_start_time": "2026-11-22T09:30:00+01:00"}}
BACKENDS = ["hdf5", "zarr"]
MOVIE = "acquisition/TwoPhotonSeries/data"
TIMES = "acquisition/TwoPhotonSeries/timestamps"
TABLE = "processing/ophys/ImageSegmentation/PlaneSegmentation"


@pytest.fixture
def imaging():
    return generate_dummy_imaging_extractor(
        num_rows=13, num_columns=29, num_samples=40, native_timestamps="unevenly_spaced"
    )


def session(imaging):
    """An NWBFile with every kind of dataset: movie, timestamps, columns, masks, traces, images, a user's own."""
    nwbfile = make_nwbfile(validate_metadata(METADATA))
    add_imaging_to_nwbfile(imaging, nwbfile)
    segmentation = generate_dummy_segmentation_extractor(num_rois=6, num_rows=13, num_columns=29)
    add_segmentation_to_nwbfile(segmentation, nwbfile)
    nwbfile.add_acquisition(pynwb.TimeSeries(name="Lick", data=np.arange(50.0), unit="V", rate=10.0))
    nwbfile.add_trial_column("side", "where the mouse licked")
    for start in range(3):
        nwbfile.add_trial(start_time=float(start), stop_time=start + 0.5, side="left")
    return nwbfile


def open_nwb(path, backend):
    return NWBHDF5IO(path, "r") if backend == "hdf5" else NWBZarrIO(str(path), "r")


def stored_at(root, location):
    """The dataset that a configuration calls so; columns and images are datasets of their own name."""
    return root[location] if location in root else root[location.removesuffix("/data")]


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_dataset_has_a_default_and_is_stored_so(tmp_path, imaging, backend):
    nwbfile = session(imaging)
    configuration = get_default_backend_configuration(nwbfile, backend)
    locations = set(configuration.dataset_configurations)
    assert {
        MOVIE, TIMES, "acquisition/Lick/data", f"{TABLE}/image_mask/data", f"{TABLE}/ROICentroids/data",
        f"{TABLE}/id/data", "processing/ophys/SegmentationImages/mean/data", "intervals/trials/start_time/data",
        "intervals/trials/side/data", "processing/ophys/Fluorescence/Neuropil/data",
        "processing/ophys/Fluorescence/Neuropil/rois/data",
    } <= locations  # fmt: skip
    path = tmp_path / "a.nwb"
    write_imaging_to_nwbfile(
        generate_dummy_imaging_extractor(num_rows=13, num_columns=29, num_samples=5),
        path,
        nwbfile=nwbfile,
        metadata={"Ophys": {"MicroscopySeries": {"m": {"name": "Second", "unit": "n.a."}}}},
        backend_configuration=configuration,
    )
    root = h5py.File(path) if backend == "hdf5" else zarr.open_group(path, mode="r")
    for location, wanted in configuration.dataset_configurations.items():
        dataset = stored_at(root, location)
        if backend == "hdf5" and wanted.compression_method == "none":
            assert dataset.compression is None
            assert dataset.dtype.kind == "O", f"only texts are not compressed, {location} is no text"
            continue
        assert tuple(dataset.chunks) == wanted.chunk_shape
        if backend == "hdf5":
            assert dataset.compression == "gzip"
            assert dataset.shuffle == ("shuffle" in wanted.filter_methods) == (dataset.dtype.itemsize > 1)
        else:
            assert type(dataset.compressors[0]).__name__ == "BloscCodec"
            assert tuple(dataset.shards) == wanted.shard_shape
    with open_nwb(path, backend) as io:
        back = io.read()
        assert pynwb.validate(io=io) == []
        np.testing.assert_array_equal(back.acquisition["TwoPhotonSeries"].timestamps[:], imaging.get_timestamps())
        np.testing.assert_array_equal(back.acquisition["Lick"].data[:], np.arange(50.0))
        assert list(back.trials["side"][:]) == ["left"] * 3
        assert list(back.trials["start_time"][:]) == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_overridden_changes_and_the_rest_does_not(tmp_path, imaging, backend):
    path = tmp_path / "a.nwb"
    overrides = {
        TIMES: {"compression_method": "none"},
        MOVIE: {"chunk_shape": (10, 29, 13), "buffer_shape": (10, 29, 13)},
    }
    write_imaging_to_nwbfile(imaging, path, metadata=METADATA, backend=backend, backend_configuration=overrides)
    root = h5py.File(path) if backend == "hdf5" else zarr.open_group(path, mode="r")
    assert tuple(root[MOVIE].chunks) == (10, 29, 13)
    if backend == "hdf5":
        assert (root[MOVIE].compression, root[TIMES].compression, root[TIMES].chunks) == ("gzip", None, None)
    else:
        assert (len(root[MOVIE].compressors), len(root[TIMES].compressors)) == (1, 0)
    np.testing.assert_array_equal(root[TIMES][:], imaging.get_timestamps())


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_buffer_bounds_what_is_read_at_once(tmp_path, imaging, backend):
    read, lengths = imaging.get_series, []

    def get_series(start_sample=None, end_sample=None):
        lengths.append(end_sample - start_sample)
        return read(start_sample, end_sample)

    imaging.get_series = get_series
    configuration = {MOVIE: {"chunk_shape": (4, 29, 13), "buffer_shape": (8, 29, 13)}}
    write_imaging_to_nwbfile(
        imaging, tmp_path / "a.nwb", metadata=METADATA, backend=backend, backend_configuration=configuration
    )
    assert max(lengths) == 8


@pytest.mark.parametrize("backend", BACKENDS)
def test_appending_configures_only_what_is_new(tmp_path, imaging, backend):
    path = tmp_path / "a.nwb"
    write_imaging_to_nwbfile(imaging, path, metadata=METADATA, backend=backend)
    before = get_existing_backend_configuration(path).dataset_configurations
    segmentation = generate_dummy_segmentation_extractor(num_rois=6, num_rows=13, num_columns=29)
    configuration = {
        f"{TABLE}/image_mask/data": {"chunk_shape": (2, 29, 13), "compression_method": "gzip"},
        MOVIE: {"chunk_shape": (1, 1, 1)},
    }
    with gathering_remarks() as remarks:
        write_segmentation_to_nwbfile(
            segmentation, path, append_on_disk_nwbfile=True, backend_configuration=configuration
        )
    assert [MOVIE in remark for remark in remarks] == [True], "it is said that the movie stays as it is"
    after = get_existing_backend_configuration(path).dataset_configurations
    assert before.items() <= after.items()
    assert after[f"{TABLE}/image_mask/data"].chunk_shape == (2, 29, 13)
    assert after[f"{TABLE}/image_mask/data"].compression_method == "gzip"


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_file_is_stored_like_another_one(tmp_path, imaging, backend):
    chosen = {
        MOVIE: {"chunk_shape": (7, 10, 13), "compression_method": "gzip", "compression_options": {"level": 2}},
        TIMES: {"compression_method": "blosc", "compression_options": {"clevel": 3, "cname": "lz4"}},
    }
    write_imaging_to_nwbfile(
        imaging, tmp_path / "a.nwb", metadata=METADATA, backend=backend, backend_configuration=chosen
    )
    read = get_existing_backend_configuration(tmp_path / "a.nwb")
    for location, settings in chosen.items():
        for field, value in settings.items():
            assert (
                dict(getattr(read.dataset_configurations[location], field)).items() >= value.items()
                if isinstance(value, dict)
                else getattr(read.dataset_configurations[location], field) == value
            )
    carried = json.loads(read.model_dump_json())
    write_imaging_to_nwbfile(imaging, tmp_path / "b.nwb", metadata=METADATA, backend_configuration=carried)
    assert get_existing_backend_configuration(tmp_path / "b.nwb") == read


@pytest.mark.parametrize("method", [*HDF5PLUGIN_OPTIONS])
def test_every_filter_of_hdf5plugin(tmp_path, method):
    hdf5plugin = pytest.importorskip("hdf5plugin")
    # Those for floating point lose something on purpose; FCI's and HTJ2K are for images of whole numbers.
    is_float = method in ("sperr", "sz", "sz3", "zfp")
    options = {
        "sz": {"absolute": 0.01},
        "sz3": {"absolute": 0.01},
        "sperr": {"absolute": 0.01},
        "zfp": {"accuracy": 0.01},
    }
    imaging = generate_dummy_imaging_extractor(
        num_rows=32, num_columns=48, num_samples=12, dtype="float32" if is_float else "uint16"
    )
    chunk_shape = (1, 48, 32) if method in ("fcidecomp", "htj2k") else (12, 48, 32)
    configuration = {
        MOVIE: {
            "compression_method": method,
            "compression_options": options.get(method, {}),
            "chunk_shape": chunk_shape,
        }
    }
    path = tmp_path / "a.nwb"
    write_imaging_to_nwbfile(imaging, path, metadata=METADATA, backend_configuration=configuration, validate=False)
    with h5py.File(path) as file:
        wanted = imaging.get_series().transpose(0, 2, 1)
        if is_float:
            np.testing.assert_allclose(file[MOVIE][:], wanted, atol=0.1)
        else:
            np.testing.assert_array_equal(file[MOVIE][:], wanted)
    read = get_existing_backend_configuration(path).dataset_configurations[MOVIE].compression_method
    # hdf5plugin cannot say with which options SZ's were made.
    assert read == (None if method in ("sz", "sz3") else method)
    assert {kind.__name__.lower() for kind in hdf5plugin.get_filters()} == set(HDF5PLUGIN_OPTIONS)


@pytest.mark.parametrize(
    ("backend", "settings", "message"),
    [
        ("hdf5", {"chunk_shape": [0, 1, 1]}, "greater than 0"),
        ("hdf5", {"chunk_shape": [9, 29, 13], "buffer_shape": [8, 29, 13]}, "does not hold a whole chunk"),
        ("hdf5", {"compression_method": "zip"}, "Input should be 'fast'"),
        ("hdf5", {"compression_method": "gzip", "compression_options": {"level": 10}}, "level 10 .* 0 to 9"),
        ("hdf5", {"compression_method": "gzip", "compression_options": {"clevel": 1}}, "has no option 'clevel'"),
        ("hdf5", {"compression_method": "fast", "compression_options": {"level": 1}}, "has no option 'level'"),
        ("hdf5", {"compression_options": {"level": 1}}, "need a compression_method"),
        ("hdf5", {"compression_method": "Blosc", "compression_options": {"cname": "x"}}, "not one of blosclz"),
        ("hdf5", {"filter_methods": ["delta"]}, "filter 'delta' is not known"),
        ("hdf5", {"filter_methods": ["shuffle"], "filter_options": [{"a": 1}]}, "'shuffle' has no option 'a'"),
        ("hdf5", {"shard_shape": [40, 29, 13]}, "shard_shape"),
        ("hdf5", {"method": "gzip"}, "method"),
        ("zarr", {"chunk_shape": [5, 2, 1], "shard_shape": [12, 2, 1]}, "no whole multiple of chunk_shape"),
        ("zarr", {"compression_method": "lzf"}, "Input should be 'fast'"),
        ("zarr", {"compression_method": "zstd", "compression_options": {"level": 23}}, "not one of 1 to 22"),
        ("zarr", {"filter_methods": ["delta"], "filter_options": [{}, {}]}, "2 entries for 1 filter_methods"),
    ],
)
def test_a_wrong_value_is_refused_with_its_reason(backend, settings, message):
    with pytest.raises(BackendConfigurationError, match=message) as caught:
        parse_backend_configuration(backend, {MOVIE: settings})
    assert MOVIE in str(caught.value)


@pytest.mark.parametrize(
    ("backend", "location", "settings", "message"),
    [
        ("hdf5", MOVIE, {"chunk_shape": [10, 29]}, "does not fit its shape"),
        ("hdf5", MOVIE, {"chunk_shape": [10, 29, 14]}, "does not fit its shape"),
        ("hdf5", MOVIE, {"buffer_shape": [41, 29, 13]}, "does not fit its shape"),
        ("hdf5", TIMES, {"buffer_shape": [10]}, "in memory as a whole"),
        ("hdf5", MOVIE, {"compression_method": "sperr", "chunk_shape": [1, 29, 13]}, "HDF5 cannot store a chunk"),
        ("hdf5", MOVIE, {"compression_method": "zfp", "compression_options": {"rate": "much"}}, "plugin's Zfp"),
        ("zarr", MOVIE, {"shard_shape": [7, 29, 13]}, "no whole multiple of chunk_shape"),
        ("zarr", MOVIE, {"filter_methods": ["bitround"], "filter_options": [{"keepbits": 3}]}, "of type uint16"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_data_is_refused_before_anything_is_written(
    tmp_path, imaging, backend, location, settings, message
):
    with pytest.raises(BackendConfigurationError, match=message):
        write_imaging_to_nwbfile(
            imaging,
            tmp_path / "a.nwb",
            metadata=METADATA,
            backend=backend,
            backend_configuration={location: settings},
        )
    assert list(tmp_path.iterdir()) == []


def test_the_configuration_decides_the_backend_if_nothing_else_does(tmp_path, imaging):
    configuration = ZarrBackendConfiguration(dataset_configurations={MOVIE: {"chunk_shape": (5, 29, 13)}})
    write_imaging_to_nwbfile(imaging, tmp_path / "a", metadata=METADATA, backend_configuration=configuration)
    assert zarr.open_group(tmp_path / "a", mode="r")[MOVIE].chunks == (5, 29, 13)
    with pytest.raises(BackendConfigurationError, match="is for 'zarr', but the file is 'hdf5'"):
        parse_backend_configuration("hdf5", configuration)


def test_a_configuration_means_the_same_on_every_machine():
    """Neither the number of CPUs nor what is installed is in it: a DAG may be parsed where hdf5plugin is not."""
    code = (
        "import sys; sys.modules['hdf5plugin'] = None\n"
        "from airflow_provider_ophys.models.backend import HDF5BackendConfiguration\n"
        "c = HDF5BackendConfiguration(dataset_configurations={'a': {'compression_method': 'Blosc'}})\n"
        "print(c.model_dump_json())"
    )
    elsewhere = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    here = HDF5BackendConfiguration(dataset_configurations={"a": {"compression_method": "blosc"}})
    assert HDF5BackendConfiguration.model_validate_json(elsewhere.stdout) == here


def test_a_filter_that_is_not_installed_is_named_with_what_to_install(tmp_path, imaging, monkeypatch):
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    configuration = {MOVIE: {"compression_method": "blosc"}}
    with pytest.raises(BackendConfigurationError, match=r"airflow-provider-ophys\[hdf5plugin\]"):
        write_imaging_to_nwbfile(
            imaging, tmp_path / "a.nwb", metadata=METADATA, backend_configuration=configuration
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_nwbfile_in_memory_holds_afterwards_what_it_held_before(tmp_path, imaging, backend):
    nwbfile = session(imaging)
    second = {"Ophys": {"MicroscopySeries": {"m": {"name": "Second", "unit": "n.a."}}}}
    write_imaging_to_nwbfile(imaging, tmp_path / "a.nwb", nwbfile=nwbfile, metadata=second, backend=backend)
    series = nwbfile.acquisition["TwoPhotonSeries"]
    assert isinstance(series.timestamps, np.ndarray)
    np.testing.assert_array_equal(next(series.data).data, imaging.get_series().transpose(0, 2, 1))


@pytest.mark.parametrize(("layout", "chunks"), [("frames", (100, 200, 130)), ("traces", (64, 128, 128))])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_chunk_shape_may_be_the_name_of_a_layout(tmp_path, backend, layout, chunks):
    path = tmp_path / f"a.nwb{'.zarr' if backend == 'zarr' else ''}"
    movie = NumpyImagingExtractor(np.zeros((100, 130, 200, 1), "u1"), sampling_frequency=30.0)
    write_imaging_to_nwbfile(
        movie,
        path,
        metadata=METADATA,
        backend=backend,
        backend_configuration={MOVIE: {"chunk_shape": layout}},
    )
    with open_storage(path).open_groups(path, "r") as root:
        assert root[MOVIE].chunks == chunks


def test_an_unknown_layout_is_refused_with_the_known_ones():
    with pytest.raises(BackendConfigurationError, match="'frames' or 'traces'"):
        parse_backend_configuration("hdf5", {"a/data": {"chunk_shape": "frame"}})
