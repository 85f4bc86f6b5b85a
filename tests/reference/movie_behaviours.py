"""What the reference's writers do with movies, and with the configuration of their storage."""

from __future__ import annotations

import copy

import numpy as np
from calls import (
    DEVICES,
    ONE_PHOTON,
    PLANE,
    SERIES,
    TWO_PHOTON,
    behaviour,
    described,
    each,
    empty,
    listed,
    new_file,
    written,
)
from recordings_in_memory import COLUMNS, LINE, ROWS, SAMPLES, cells, movie


@behaviour
def movie_of_which_nothing_is_known(w, folder):
    return written(w.add_imaging_to_nwbfile(movie(), empty()), folder)


@behaviour
def movie_described_in_the_dict_form(w, folder):
    metadata = described(SERIES | TWO_PHOTON)
    return written(w.add_imaging_to_nwbfile(movie(), empty(), metadata, metadata_key="movie"), folder)


@behaviour
def movie_of_one_photon(w, folder):
    metadata = described(SERIES | ONE_PHOTON)
    options = {"metadata_key": "movie", "photon_series_type": "OnePhotonSeries"}
    return written(w.add_imaging_to_nwbfile(movie(), empty(), metadata, **options), folder)


@each(first=0, second=1)
def movie_described_in_the_list_form(w, folder, index):
    return written(w.add_imaging_to_nwbfile(movie(), empty(), listed(), photon_series_index=index), folder)


@behaviour
def movie_of_which_the_list_form_says_little(w, folder):
    ophys = {
        "Device": [{"name": "Scope"}],
        "ImagingPlane": [{"name": "V1"}],
        "TwoPhotonSeries": [{"name": "Movie"}],
    }
    return written(w.add_imaging_to_nwbfile(movie(), empty(), {"Ophys": ophys}), folder)


@each(
    series={"name": "Movie", "imaging_plane_metadata_key": "v1"},
    plane={"name": "V1", "device_metadata_key": "scope"},
    channel=PLANE | {"optical_channel": [{"name": "Green"}]},
)
def movie_without_what_nwb_requires(w, folder, entry):
    metadata = described()
    ophys = metadata["Ophys"]
    if "imaging_plane_metadata_key" in entry:
        ophys["MicroscopySeries"] = {"movie": entry}
    else:
        ophys["ImagingPlanes"] = {"v1": entry}
    return written(w.add_imaging_to_nwbfile(movie(), empty(), metadata, metadata_key="movie"), folder)


@behaviour
def movie_without_a_plane(w, folder):
    series = {
        "name": "Movie",
        "unit": "n.a.",
        "description": "Raw.",
        "comments": "None.",
        "dimension": [COLUMNS, ROWS],
    }
    return written(w.add_imaging_to_nwbfile(movie(), empty(), described(series), metadata_key="movie"), folder)


@behaviour
def plane_without_a_device(w, folder):
    metadata = described()
    metadata["Ophys"]["ImagingPlanes"]["v1"] = {k: v for k, v in PLANE.items() if k != "device_metadata_key"}
    return written(w.add_imaging_to_nwbfile(movie(), empty(), metadata, metadata_key="movie"), folder)


@behaviour
def device_with_its_maker(w, folder):
    metadata = described()
    metadata["Devices"] = DEVICES | {"scope": {"name": "Scope", "manufacturer": "Maker", "model_number": "B-2"}}
    return written(w.add_imaging_to_nwbfile(movie(), empty(), metadata, metadata_key="movie"), folder)


@each(core="Device", unknown="Telescope")
def device_of_a_type(w, folder, type_name):
    metadata = described()
    metadata["Devices"] = DEVICES | {"scope": {"type": type_name, "name": "V4"}}
    return written(w.add_imaging_to_nwbfile(movie(), empty(), metadata, metadata_key="movie"), folder)


@behaviour
def two_movies_of_one_plane(w, folder):
    metadata = described()
    metadata["Ophys"]["MicroscopySeries"]["again"] = SERIES | {"name": "Again"}
    nwbfile = w.add_imaging_to_nwbfile(movie(), empty(), metadata, metadata_key="movie")
    return written(w.add_imaging_to_nwbfile(movie(), nwbfile, metadata, metadata_key="again"), folder)


@behaviour
def movie_of_two_planes_that_are_described(w, folder):
    metadata = described(SERIES | {"imaging_plane_metadata_key": "m1"})
    return written(w.add_imaging_to_nwbfile(movie(), empty(), metadata, metadata_key="movie"), folder)


@behaviour
def movie_that_was_processed(w, folder):
    options = {"metadata_key": "movie", "parent_container": "processing/ophys"}
    return written(w.add_imaging_to_nwbfile(movie(), empty(), described(), **options), folder)


@each(
    uint8="uint8", int16="int16", int32="int32", float32="float32", float64="float64", big_endian=">u2",
    float16="float16", bool="bool",
)  # fmt: skip
def movie_of_numbers(w, folder, dtype):
    return written(
        w.add_imaging_to_nwbfile(movie(dtype=dtype), empty(), described(), metadata_key="movie"), folder
    )


@behaviour
def volume(w, folder):
    series = SERIES | {"dimension": [COLUMNS, ROWS, 3]}
    made = movie((SAMPLES, ROWS, COLUMNS, 3))
    return written(w.add_imaging_to_nwbfile(made, empty(), described(series), metadata_key="movie"), folder)


@each(movie=(SAMPLES, ROWS, COLUMNS), volume=(SAMPLES, ROWS, COLUMNS, 3))
def array_in_memory(w, folder, shape):
    series = SERIES | {"dimension": [COLUMNS, ROWS, *shape[3:]]}
    options = {"metadata_key": "movie", "iterator_type": None}
    return written(w.add_imaging_to_nwbfile(movie(shape), empty(), described(series), **options), folder)


@behaviour
def dimension_that_nobody_gave(w, folder):
    series = {key: value for key, value in SERIES.items() if key != "dimension"}
    return written(w.add_imaging_to_nwbfile(movie(), empty(), described(series), metadata_key="movie"), folder)


@behaviour
def comments_that_nobody_gave(w, folder):
    series = {key: value for key, value in SERIES.items() if key != "comments"}
    return written(w.add_imaging_to_nwbfile(movie(), empty(), described(series), metadata_key="movie"), folder)


JITTER = np.where(np.arange(SAMPLES) % 2, 1.0, 0.0)
STAMPS = {
    "none": {},
    "regular": {"stamps": 3.5 + LINE},
    "irregular": {"stamps": 3.5 + LINE**1.5},
    "almost_regular": {"stamps": 3.5 + LINE + 4e-7 * JITTER},
    "jittering": {"stamps": 3.5 + LINE + 4e-6 * JITTER},
    "drifting": {"stamps": 3.5 + LINE * (1 + 1e-4)},
    "drifting_from_the_rate": {"stamps": 3.5 + LINE * 1.01, "rate": 20.0},
    "equal": {"stamps": np.full(SAMPLES, 3.5)},
}


@each(**STAMPS)
def movie_with_stamps(w, folder, stamps):
    return written(w.add_imaging_to_nwbfile(movie(**stamps), empty(), described(), metadata_key="movie"), folder)


@each(**{name: STAMPS[name] for name in ("none", "regular", "irregular")})
def movie_with_stamps_that_are_always_written(w, folder, stamps):
    options = {"metadata_key": "movie", "always_write_timestamps": True}
    return written(w.add_imaging_to_nwbfile(movie(**stamps), empty(), described(), **options), folder)


@each(regular=7.0 + LINE, irregular=7.0 + LINE**1.5)
def stamps_that_were_set(w, folder, stamps):
    made = movie(stamps=3.5 + LINE)
    made.set_times(stamps)
    return written(w.add_imaging_to_nwbfile(made, empty(), described(), metadata_key="movie"), folder)


@behaviour
def movie_of_one_sample(w, folder):
    made = movie((1, ROWS, COLUMNS), stamps=[2.5])
    return written(w.add_imaging_to_nwbfile(made, empty(), described(), metadata_key="movie"), folder)


@each(
    photon_series_type={"photon_series_type": "ThreePhotonSeries"},
    iterator_type={"iterator_type": "v1"},
    parent_container={"parent_container": "stimulus"},
    metadata_key={"metadata_key": "other"},
    photon_series_index={"metadata": listed(), "metadata_key": None, "photon_series_index": 5},
    chunk_twice={"iterator_options": {"chunk_mb": 1.0, "chunk_shape": (1, COLUMNS, ROWS)}},
    buffer_twice={"iterator_options": {"buffer_gb": 1.0, "buffer_shape": (1, COLUMNS, ROWS)}},
    chunk_beyond_buffer={"iterator_options": {"buffer_gb": 0.001, "chunk_mb": 10.0}},
    iterator_option={"iterator_options": {"chunk_gb": 1.0}},
    device_key={"metadata": described() | {"Devices": {}}},
    plane_key={"metadata": described(SERIES | {"imaging_plane_metadata_key": "nowhere"})},
)
def movie_with_a_wrong(w, folder, option):
    options = {"metadata": described(), "metadata_key": "movie"} | option
    return written(w.add_imaging_to_nwbfile(movie(), empty(), **options), folder)


@behaviour
def movie_of_a_name_that_is_taken(w, folder):
    nwbfile = w.add_imaging_to_nwbfile(movie(), empty(), described(), metadata_key="movie")
    return written(w.add_imaging_to_nwbfile(movie(), nwbfile, described(), metadata_key="movie"), folder)


@each(dict=(described(), {"metadata_key": "movie"}), list=(listed(), {}))
def metadata_that_was_given(w, folder, given):
    metadata, options = copy.deepcopy(given[0]), given[1]
    w.add_imaging_to_nwbfile(movie(), empty(), metadata, **options)
    return {"unchanged": metadata == given[0]}


@each(default={}, chunk_mb={"chunk_mb": 0.01}, chunk_shape={"chunk_shape": (10, 20, 30)})
def chunks_of_the_iterator(w, folder, options):
    iterator = w.ImagingExtractorDataChunkIterator(movie((600, 60, 40)), **options)
    return {"chunk_shape": iterator.chunk_shape, "maxshape": iterator.maxshape, "dtype": str(iterator.dtype)}


@behaviour
def values_of_the_iterator(w, folder):
    made = movie((30, 6, 4))
    iterator = w.ImagingExtractorDataChunkIterator(made, chunk_shape=(10, 4, 6), buffer_shape=(20, 4, 6))
    seen = np.zeros(iterator.maxshape, dtype=iterator.dtype)
    pieces = 0
    for piece in iterator:
        seen[piece.selection] = piece.data
        pieces += 1
    return {"pieces": pieces, "all": bool((seen == made.data.transpose(0, 2, 1)).all())}


# Movies in files


@each(hdf5="hdf5", zarr="zarr")
def new_file_with_a_movie(w, folder, backend):
    path = folder / "file.nwb"
    metadata = new_file() | described()
    metadata["Ophys"]["MicroscopySeries"] = {"default_metadata_key": SERIES}
    w.write_imaging_to_nwbfile(movie(), path, metadata=metadata, backend=backend)
    return path


@behaviour
def file_of_an_nwbfile_in_memory(w, folder):
    path = folder / "file.nwb"
    w.write_imaging_to_nwbfile(movie(), path, nwbfile=empty(), metadata=listed())
    return path


@behaviour
def new_file_without_a_start(w, folder):
    metadata = new_file() | described()
    del metadata["NWBFile"]["session_start_time"]
    w.write_imaging_to_nwbfile(movie(), folder / "file.nwb", metadata=metadata)


@each(nothing={}, overwrite={"overwrite": True})
def file_that_exists(w, folder, options):
    path = folder / "file.nwb"
    w.write_imaging_to_nwbfile(movie(), path, metadata=new_file() | listed())
    w.write_imaging_to_nwbfile(movie(dtype="uint8"), path, metadata=new_file() | listed(), **options)
    return path


@each(hdf5="hdf5", zarr="zarr")
def movie_appended(w, folder, backend):
    path = folder / "file.nwb"
    w.write_imaging_to_nwbfile(movie(), path, metadata=new_file() | listed(), backend=backend)
    metadata = listed()
    del metadata["Ophys"]["TwoPhotonSeries"][0]
    w.write_imaging_to_nwbfile(movie(dtype="uint8"), path, metadata=metadata, append_on_disk_nwbfile=True)
    return path


@each(
    nwbfile_too={"nwbfile": empty(), "append_on_disk_nwbfile": True},
    other_backend={"backend": "zarr", "append_on_disk_nwbfile": True},
)
def appending_with(w, folder, options):
    path = folder / "file.nwb"
    w.write_imaging_to_nwbfile(movie(), path, metadata=new_file() | listed())
    w.write_imaging_to_nwbfile(movie(), path, metadata=listed(), **options)


@behaviour
def appending_to_no_file(w, folder):
    path = folder / "file.nwb"
    w.write_imaging_to_nwbfile(movie(), path, metadata=listed(), append_on_disk_nwbfile=True)


@behaviour
def metadata_of_an_extractor(w, folder):
    made = movie()
    made.nwb_metadata = new_file() | listed()
    path = folder / "file.nwb"
    w.write_imaging_to_nwbfile(made, path, metadata={"NWBFile": {"session_id": "other"}})
    return path


@each(hdf5="hdf5", zarr="zarr")
def default_configuration(w, folder, backend):
    nwbfile = w.add_imaging_to_nwbfile(movie(stamps=LINE**1.5), empty(), described(), metadata_key="movie")
    w.add_segmentation_to_nwbfile(cells(), nwbfile, described(), metadata_key="cells")
    configurations = w.get_default_backend_configuration(nwbfile, backend).dataset_configurations
    return {location: each.chunk_shape for location, each in configurations.items()}


@each(hdf5="hdf5", zarr="zarr")
def configuration_changed_in_place(w, folder, backend):
    path = folder / "file.nwb"
    nwbfile = w.add_imaging_to_nwbfile(movie(), empty(), listed())
    configuration = w.get_default_backend_configuration(nwbfile, backend)
    configuration.dataset_configurations["acquisition/Movie/data"].chunk_shape = (4, COLUMNS, ROWS)
    configuration.dataset_configurations["acquisition/Movie/data"].buffer_shape = (SAMPLES, COLUMNS, ROWS)
    w.write_imaging_to_nwbfile(movie(), path, metadata=new_file() | listed(), backend_configuration=configuration)
    return {"chunks": w.read_chunks(path, "acquisition/Movie/data")}
