"""Every configuration that this package returns is accepted by its writers, and may be changed in place."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
from pynwb.ophys import PlaneSegmentation
from pynwb.testing.mock.file import mock_NWBFile
from roiextractors import NumpyImagingExtractor
from roiextractors.testing import generate_dummy_imaging_extractor
from segmentations import BAR, DOT, InMemorySegmentation, dense, in_volume, traces
from thorough import THOROUGH

from airflow_provider_ophys.exceptions import BackendConfigurationError
from airflow_provider_ophys.models.remarks import gathering_remarks
from airflow_provider_ophys.nwb import (
    add_imaging_to_nwbfile,
    add_segmentation_to_nwbfile,
    get_default_backend_configuration,
    get_existing_backend_configuration,
    write_imaging_to_nwbfile,
    write_segmentation_to_nwbfile,
)
from airflow_provider_ophys.nwb.contents import open_contents

SESSION = {"NWBFile": {"session_start_time": "2026-11-22T09:30:00+01:00"}}
MOVIE = "acquisition/TwoPhotonSeries/data"
NOTHING = np.zeros((0, 3))

RECORDINGS = {
    "movie": lambda: (generate_dummy_imaging_extractor(native_timestamps="unevenly_spaced"), {}),
    "volume": lambda: (generate_dummy_imaging_extractor(num_planes=3), {}),
    "movie in memory": lambda: (generate_dummy_imaging_extractor(), {"iterator_type": None}),
    "float16": lambda: (NumpyImagingExtractor(np.zeros((9, 5, 4, 1), "float16"), sampling_frequency=1.0), {}),
    "image masks": lambda: (
        InMemorySegmentation(
            dense([BAR, DOT]), "image", traces={"raw": traces(2)}, images={"mean": np.ones((13, 29))}
        ),
        {},
    ),
    "pixel masks": lambda: (
        InMemorySegmentation([BAR, DOT], traces={"raw": traces(2)}).with_property("kind", ["a", "b"]),
        {"mask_type": "pixel"},
    ),
    "voxel masks": lambda: (
        InMemorySegmentation([in_volume(BAR, 1), in_volume(DOT, 0)], "voxel", (13, 29, 3), {"raw": traces(2)}),
        {"mask_type": "voxel"},
    ),
    "traces only": lambda: (InMemorySegmentation(None, traces={"raw": traces(3)}), {}),
    "empty masks": lambda: (
        InMemorySegmentation([NOTHING, NOTHING], traces={"raw": traces(2)}),
        {"mask_type": "pixel"},
    ),
    "background": lambda: (
        InMemorySegmentation(
            [BAR, DOT, DOT], num_background=1, traces={"raw": traces(2), "background": traces(1)}
        ),
        {"include_background_segmentation": True, "mask_type": "pixel"},
    ),
}
# What is written four times for each.
SEVERAL = list(RECORDINGS) if THOROUGH else ["volume", "voxel masks", "background"]


def functions_for(recording):
    if hasattr(recording, "get_roi_ids"):
        return add_segmentation_to_nwbfile, write_segmentation_to_nwbfile
    return add_imaging_to_nwbfile, write_imaging_to_nwbfile


@pytest.mark.parametrize("backend", ["hdf5", "zarr"])
@pytest.mark.parametrize("kind", RECORDINGS)
def test_the_default_and_that_of_a_file_are_accepted_unchanged(tmp_path, kind, backend):
    recording, options = RECORDINGS[kind]()
    add, write = functions_for(recording)
    nwbfile = mock_NWBFile()
    add(recording, nwbfile, **options)
    default = get_default_backend_configuration(nwbfile, backend)
    write(recording, tmp_path / "a.nwb", metadata=SESSION, **options, backend_configuration=default)
    existing = get_existing_backend_configuration(tmp_path / "a.nwb")
    assert existing.dataset_configurations.keys() == default.dataset_configurations.keys()
    write(recording, tmp_path / "b.nwb", metadata=SESSION, **options, backend_configuration=existing)


@pytest.mark.parametrize("backend", ["hdf5", "zarr"])
@pytest.mark.parametrize("kind", SEVERAL)
def test_that_of_a_whole_file_is_accepted_for_each_part_of_it_as_model_and_as_json(tmp_path, kind, backend):
    parts = [RECORDINGS[kind]()]
    parts.append(
        RECORDINGS["image masks" if functions_for(parts[0][0])[0] is add_imaging_to_nwbfile else "movie"]()
    )
    nwbfile = mock_NWBFile()
    for recording, options in parts:
        functions_for(recording)[0](recording, nwbfile, **options)
    default = get_default_backend_configuration(nwbfile, backend)
    default.apply_global_compression("gzip")

    def write_both(path, given):
        for place, (recording, options) in enumerate(parts):
            write = functions_for(recording)[1]
            more = {"append_on_disk_nwbfile": True} if place else {"metadata": SESSION}
            write(recording, path, **options, **more, backend_configuration=given)
        return get_existing_backend_configuration(path)

    existing = write_both(tmp_path / "a.nwb", default)
    assert existing.dataset_configurations.keys() == default.dataset_configurations.keys()
    assert {each.compression_method for each in existing.dataset_configurations.values()} == {"gzip"}
    assert write_both(tmp_path / "b.nwb", json.loads(existing.model_dump_json())) == existing


def test_what_is_not_applied_is_said_and_what_is_nowhere_is_an_error(tmp_path):
    movie, (cells, _) = generate_dummy_imaging_extractor(), RECORDINGS["image masks"]()
    path, nwbfile = tmp_path / "a.nwb", mock_NWBFile()
    for recording in (movie, cells):
        functions_for(recording)[0](recording, nwbfile)
    whole = get_default_backend_configuration(nwbfile, "hdf5")
    with gathering_remarks() as remarks:
        write_imaging_to_nwbfile(movie, path, metadata=SESSION, backend_configuration=whole)
    assert len(remarks) == 1
    assert "names what is not written by this conversion and is passed over: 'processing/ophys/" in remarks[0]
    assert MOVIE not in remarks[0]
    for nowhere in (
        {"acquisition/TwoPhotonSerie/data": {}},
        {"processing/ophys/Nothing/data": {"chunk_shape": [5]}},
    ):
        given = whole.model_dump(exclude_unset=True)
        given["dataset_configurations"] |= nowhere
        for write, recording in ((write_imaging_to_nwbfile, movie), (write_segmentation_to_nwbfile, cells)):
            for configuration in (nowhere, given):
                with pytest.raises(
                    BackendConfigurationError, match=f"{next(iter(nowhere))}', which is not written"
                ):
                    write(recording, tmp_path / "b.nwb", metadata=SESSION, backend_configuration=configuration)
    renamed = {"Ophys": {"MicroscopySeries": {"m": {"name": "Movie", "unit": "n.a."}}}}
    with pytest.raises(
        BackendConfigurationError, match=f"{MOVIE}', which is not written .*acquisition/Movie/data"
    ):
        write_imaging_to_nwbfile(
            movie, tmp_path / "b.nwb", metadata=SESSION | renamed, backend_configuration=whole
        )


@pytest.mark.parametrize("backend", ["hdf5", "zarr"])
def test_a_configuration_may_be_changed_in_place(tmp_path, backend):
    movie = generate_dummy_imaging_extractor(num_samples=30, num_rows=10, num_columns=12)
    nwbfile = mock_NWBFile()
    add_imaging_to_nwbfile(movie, nwbfile)
    configuration = get_default_backend_configuration(nwbfile, backend)
    dataset = configuration.dataset_configurations[MOVIE]
    dataset.chunk_shape = (7, 12, 10)
    dataset.compression_method = "gzip"
    dataset.compression_options = {"level": 2}
    write_imaging_to_nwbfile(movie, tmp_path / "a.nwb", metadata=SESSION, backend_configuration=configuration)
    stored = get_existing_backend_configuration(tmp_path / "a.nwb").dataset_configurations[MOVIE]
    assert (stored.chunk_shape, stored.compression_method) == ((7, 12, 10), "gzip")
    assert stored.compression_options == {"level": 2}
    dataset.chunk_shape = "traces"
    assert (dataset.chunk_shape, dataset.chunk_layout) == (None, "traces")
    for name, value in {"chunk_shape": (0, 1, 1), "compression_method": "none such", "no_field": 1}.items():
        before = dataset.model_copy()
        with pytest.raises(BackendConfigurationError, match=name):
            setattr(dataset, name, value)
        assert dataset == before


def test_one_call_sets_the_compression_of_all(tmp_path):
    segmentation, _ = RECORDINGS["image masks"]()
    nwbfile = mock_NWBFile()
    add_segmentation_to_nwbfile(segmentation, nwbfile)
    configuration = get_default_backend_configuration(nwbfile, "hdf5")
    configuration.apply_global_compression("gzip", {"level": 9})
    write_segmentation_to_nwbfile(
        segmentation, tmp_path / "a.nwb", metadata=SESSION, backend_configuration=configuration
    )
    with h5py.File(tmp_path / "a.nwb") as file:
        table = file["processing/ophys/ImageSegmentation/PlaneSegmentation"]
        assert {table[name].compression_opts for name in ("image_mask", "ROICentroids", "id")} == {9}
    with pytest.raises(BackendConfigurationError, match="none such"):
        configuration.apply_global_compression("none such")


@pytest.mark.parametrize("backend", ["hdf5", "zarr"])
def test_masks_that_a_user_added_are_compressed_too(tmp_path, backend):
    nwbfile = mock_NWBFile()
    add_segmentation_to_nwbfile(InMemorySegmentation([BAR, DOT]), nwbfile)
    segmentations = nwbfile.processing["ophys"]["ImageSegmentation"]
    plane = segmentations["PlaneSegmentation"].imaging_plane
    own = PlaneSegmentation(name="Own", description="by hand", imaging_plane=plane)
    members = [[(x, roi, 0.5) for x in range(100)] for roi in range(3)]
    for mask in members:
        own.add_roi(pixel_mask=mask)
    segmentations.add_plane_segmentation(own)
    movie = generate_dummy_imaging_extractor()
    write_imaging_to_nwbfile(movie, tmp_path / "a.nwb", nwbfile=nwbfile, backend=backend)
    location = "processing/ophys/ImageSegmentation/Own/pixel_mask/data"
    stored = get_existing_backend_configuration(tmp_path / "a.nwb").dataset_configurations[location]
    assert stored.compression_method != "none"
    with open_contents(tmp_path / "a.nwb") as contents:
        table = contents.nwbfile.processing["ophys"]["ImageSegmentation"]["Own"]
        assert [tuple(member) for member in table["pixel_mask"][2]] == members[2]
    assert own["pixel_mask"][1] == members[1], "the user's own table is as it was"
