"""What is particular to movies of Femtonics, Inscopix, Scanbox, NWB, HDF5 and NumPy."""

from __future__ import annotations

import json
import os

import h5py
import numpy as np
import pytest
from hdmf_zarr import NWBZarrIO
from pynwb import NWBHDF5IO
from recording_makers import COLUMNS, ROWS, random_frames
from recording_makers.arrays import pixels
from recording_makers.hdf5 import text, write_nwb, write_unit
from recording_makers.inscopix import PROPERTIES, write_isxd
from recording_makers.sbx import write_sbx

from airflow_provider_ophys.exceptions import ConfigurationError, SourceChangedError, SourceDataError
from airflow_provider_ophys.extractors import open_imaging
from airflow_provider_ophys.recordings import recording_of
from airflow_provider_ophys.recordings.femtonics import FemtonicsRecording
from airflow_provider_ophys.recordings.inscopix_movie import InscopixRecording

LONG_AGO = 1_700_000_000


def imaging(extractor, **arguments):
    return recording_of("imaging", extractor, arguments)


def refusal(recording) -> str:
    for file in recording.paths.values():
        os.utime(file, (LONG_AGO, LONG_AGO))
    with pytest.raises(SourceDataError) as error:
        recording.check()
    return str(error.value)


def test_a_scanbox_volume_is_refused_for_the_reader_would_drop_planes(tmp_path):
    file = write_sbx(tmp_path, random_frames(6), otwave=np.array([0, 10, 20]), volscan=1)
    assert "3 planes" in refusal(imaging("Sbx", file_path=str(file)))


def test_scanbox_planes_are_counted_by_otwave_where_volscan_is_not_known(tmp_path):
    file = write_sbx(tmp_path, random_frames(6), otwave=np.array([0, 10]), volscan=np.array([]))
    assert "2 planes" in refusal(imaging("Sbx", file_path=str(file)))


def test_two_channels_of_scanbox_are_refused(tmp_path):
    file = write_sbx(tmp_path, random_frames(6), channels=1)
    assert "two channels" in refusal(imaging("Sbx", file_path=str(file)))


def test_a_part_of_a_scanbox_frame_is_refused_with_counts(tmp_path):
    file = write_sbx(tmp_path, random_frames(6))
    os.truncate(file, file.stat().st_size - 100)
    with pytest.raises(SourceChangedError):
        imaging("Sbx", file_path=str(file)).check()
    assert "5.79 frames of 480 bytes" in refusal(imaging("Sbx", file_path=str(file)))


def test_scanbox_is_known_by_its_header_too(tmp_path):
    movie = random_frames(6)
    file = write_sbx(tmp_path, movie)
    recording = imaging("Sbx", file_path=str(file.with_suffix(".mat")))
    assert recording.files == [file, file.with_suffix(".mat")]
    np.testing.assert_array_equal(open_imaging("Sbx", recording.arguments).get_series(), movie)


def test_a_scanbox_header_that_lacks_something_is_named(tmp_path):
    file = write_sbx(tmp_path, random_frames(6), sz=np.array([]), resfreq="fast")
    message = refusal(imaging("Sbx", file_path=str(file)))
    assert "lacks resfreq, sz (rows, columns)" in message
    assert str(file.with_suffix(".mat")) in message


def test_the_rate_of_scanbox_is_not_rounded(tmp_path):
    contents = imaging("Sbx", file_path=str(write_sbx(tmp_path, random_frames(6), resfreq=7930.5))).contents()
    assert contents.movies[0].rate == pytest.approx(7930.5 * 2 / ROWS)
    assert "1321 Hz" in contents.remarks[0]


def test_several_planes_of_inscopix_are_refused_for_the_reader_would_mix_them(tmp_path):
    microscope = PROPERTIES["microscope"] | {"multiplane": {"enabled": True}}
    write_isxd(tmp_path / "a.isxd", random_frames(4), PROPERTIES | {"microscope": microscope})
    assert "several planes" in refusal(imaging("Inscopix", file_path=str(tmp_path / "a.isxd")))


@pytest.mark.parametrize(
    "period", [{"num": 0, "den": 1000}, {"num": -50, "den": 1000}, {"num": 50, "den": 0}, None]
)
def test_inscopix_without_a_period_is_refused_for_its_library_divides_by_it(tmp_path, period):
    write_isxd(tmp_path / "a.isxd", random_frames(4), period=period)
    assert "no period above 0 (timingInfo.period)" in refusal(
        imaging("Inscopix", file_path=str(tmp_path / "a.isxd"))
    )


def test_frames_that_inscopix_dropped_are_remarked_on(tmp_path):
    write_isxd(tmp_path / "a.isxd", random_frames(4), numTimes=4 + 3, dropped=[2], cropped=["4 - 5"])
    recording = imaging("Inscopix", file_path=str(tmp_path / "a.isxd"))
    recording.check()
    assert recording.contents().movies[0].num_samples == 7
    assert "3 of 7 frames were dropped or cropped" in recording.contents().remarks[0]


def test_frames_that_inscopix_announces_and_are_not_there_are_refused(tmp_path):
    write_isxd(tmp_path / "a.isxd", random_frames(4), numTimes=6)
    message = refusal(imaging("Inscopix", file_path=str(tmp_path / "a.isxd")))
    assert "announces 6 frames of 480 bytes, and it has 1,920 bytes" in message


def test_a_movie_that_begins_in_1970_has_no_start(tmp_path):
    never = {"secsSinceEpoch": {"num": 0, "den": 1}, "utcOffset": 0}
    write_isxd(tmp_path / "a.isxd", random_frames(4), start=never)
    recording = imaging("Inscopix", file_path=str(tmp_path / "a.isxd"))
    assert recording.contents().movies[0].start is None
    assert "NWBFile" not in recording.metadata().metadata


def test_a_cell_set_is_no_movie(tmp_path):
    write_isxd(tmp_path / "movie.isxd", random_frames(4))
    content = (tmp_path / "movie.isxd").read_bytes()
    (tmp_path / "cells.isxd").write_bytes(content.replace(b'"type": 0', b'"type": 1'))
    found = InscopixRecording.find(tmp_path)
    assert [recording.extractor_kwargs["file_path"] for recording in found] == [str(tmp_path / "movie.isxd")]


def test_every_unit_of_a_mesc_file_is_found_and_one_must_be_chosen(tmp_path):
    movies = [random_frames(5, seed=seed) for seed in (0, 1)]
    with h5py.File(tmp_path / "a.mesc", "w") as file:
        write_unit(file, "MSession_0/MUnit_0", movies[:1])
        write_unit(file, "MSession_0/MUnit_2", movies)
    found = FemtonicsRecording.find(tmp_path)
    assert [recording.extractor_kwargs["munit_name"] for recording in found] == ["MUnit_0", "MUnit_2"]
    contents = imaging("Femtonics", **found[1].extractor_kwargs).contents()
    assert [movie.channel for movie in contents.movies] == ["UG", "UR"]
    for movie, truth in zip(contents.movies, movies, strict=True):
        np.testing.assert_array_equal(open_imaging("Femtonics", movie.extractor_kwargs).get_series(), truth)
    assert "2 units (MSession_0/MUnit_0, MSession_0/MUnit_2)" in refusal(
        imaging("Femtonics", file_path=str(tmp_path / "a.mesc"))
    )


def test_the_voltage_of_a_chosen_channel_is_told(tmp_path):
    with h5py.File(tmp_path / "a.mesc", "w") as file:
        write_unit(file, "MSession_0/MUnit_0", [random_frames(5), random_frames(5)])
    said = imaging("Femtonics", file_path=str(tmp_path / "a.mesc"), channel_name="UG").metadata().metadata
    (series,), (plane,) = (said["Ophys"][name].values() for name in ("MicroscopySeries", "ImagingPlanes"))
    assert "PMT voltage: 2.5 V" in series["description"]
    assert plane["optical_channel"][0]["name"] == "UG"
    assert "no channel 'UB', only UG, UR" in _contents_refusal(
        imaging("Femtonics", file_path=str(tmp_path / "a.mesc"), channel_name="UB")
    )


def _contents_refusal(recording) -> str:
    with pytest.raises(SourceDataError) as error:
        recording.contents()
    return str(error.value)


def test_a_mesc_unit_that_announces_more_frames_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.mesc", "w") as file:
        write_unit(file, "MSession_0/MUnit_0", [random_frames(5)]).attrs["ZDim"] = 9
    assert "announces 9 frames, and UG has 5" in refusal(imaging("Femtonics", file_path=str(tmp_path / "a.mesc")))


def test_a_mesc_unit_without_time_is_refused_in_clear_words(tmp_path):
    with h5py.File(tmp_path / "a.mesc", "w") as file:
        unit = write_unit(file, "MSession_0/MUnit_0", [random_frames(5)])
        unit.attrs["ZAxisConversionUnitName"] = text("µm")
    assert "in ms" in _contents_refusal(imaging("Femtonics", file_path=str(tmp_path / "a.mesc")))


def test_xml_that_defines_entities_is_not_read(tmp_path):
    with h5py.File(tmp_path / "a.mesc", "w") as file:
        unit = write_unit(file, "MSession_0/MUnit_0", [random_frames(5)])
        unit.attrs["MeasurementParamsXML"] = np.bytes_('<!DOCTYPE a [<!ENTITY b "c">]><Task>&b;</Task>')
    recording = imaging("Femtonics", file_path=str(tmp_path / "a.mesc"))
    assert recording.settings is None
    recording.metadata()


def test_a_series_of_an_nwb_file_must_be_there(tmp_path):
    write_nwb(tmp_path / "a.nwb", random_frames(4))
    assert "no series 'TwoPhotonSeries'" in refusal(imaging("Nwb", file_path=str(tmp_path / "a.nwb")))
    imaging("Nwb", file_path=str(tmp_path / "a.nwb"), optical_series_name=None).check()
    (movie,) = imaging("Nwb", file_path=str(tmp_path / "a.nwb")).contents().movies
    assert movie.extractor_kwargs["optical_series_name"] == "Movie"


def test_stamps_of_an_nwb_file_give_the_rate(tmp_path):
    write_nwb(tmp_path / "a.nwb", random_frames(4), timestamps=[3.0, 3.5, 4.0, 9.0])
    contents = imaging("Nwb", file_path=str(tmp_path / "a.nwb"), optical_series_name="Movie").contents()
    assert contents.movies[0].rate == 2.0
    assert contents.photon_series_type == "OnePhotonSeries"


def test_an_nwb_file_whose_data_lies_elsewhere_is_refused(tmp_path):
    write_nwb(tmp_path / "a.nwb", random_frames(4))
    with h5py.File(tmp_path / "a.nwb", "r+") as file:
        series = file["acquisition/Movie"]
        kept = dict(series["data"].attrs)
        del series["data"]
        shape = (1, COLUMNS, ROWS)
        series.create_dataset("data", shape=shape, dtype="u1", external=[("/proc/self/environ", 0, 240)])
        series["data"].attrs.update(kept)
    message = refusal(imaging("Nwb", file_path=str(tmp_path / "a.nwb"), optical_series_name="Movie"))
    assert "/acquisition/Movie/data is a dataset with external storage in '/proc/self/environ'" in message


@pytest.fixture
def store(tmp_path):
    write_nwb(tmp_path / "a.nwb", random_frames(4))
    with NWBHDF5IO(tmp_path / "a.nwb", "r") as source, NWBZarrIO(str(tmp_path / "store.zarr"), mode="w") as target:
        target.export(src_io=source, write_args={"link_data": False})
    return tmp_path / "store.zarr"


@pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part")
@pytest.mark.parametrize(
    "link",
    [{"source": "../other.zarr", "path": "/x"}, {"source": "/etc", "path": "/x"}, {"path": "/other.zarr"}],
)
def test_an_nwb_store_with_a_link_to_another_is_refused(store, link):
    recording = imaging("Nwb", file_path=str(store), optical_series_name="Movie")
    recording.check()
    file = store / "acquisition" / "Movie" / "zarr.json"
    content = json.loads(file.read_text())
    content["attributes"]["_LINKS"] = [{"name": "data", **link}]
    file.write_text(json.dumps(content))
    message = refusal(imaging("Nwb", file_path=str(store), optical_series_name="Movie"))
    assert str(file) in message
    assert "outside of the store" in message


def test_an_hdf5_movie_without_four_axes_is_refused_in_clear_words(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["mov"] = random_frames(4)
        file["other"] = 1
    assert "(channels, samples, rows, columns)" in refusal(imaging("Hdf5", file_path=str(tmp_path / "a.h5")))
    message = refusal(imaging("Hdf5", file_path=str(tmp_path / "a.h5"), mov_field="movie"))
    assert "no dataset 'movie', only 'mov', 'other'" in message


def test_the_second_channel_of_an_array_is_remarked_on(tmp_path):
    movie = random_frames(8).reshape(2, 4, ROWS, COLUMNS)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["mov"] = movie
    np.save(tmp_path / "a.npy", movie.transpose(1, 2, 3, 0))
    for recording in (
        imaging("Hdf5", file_path=str(tmp_path / "a.h5"), sampling_frequency=5.0),
        imaging("Numpy", timeseries=str(tmp_path / "a.npy"), sampling_frequency=5.0),
    ):
        assert "2 channels, of which roiextractors reads only the first" in recording.contents().remarks[0]
        extractor = open_imaging(recording.extractor, recording.arguments)
        np.testing.assert_array_equal(extractor.get_series(), movie[0])


def test_an_array_in_memory_needs_no_axis_of_channels():
    movie = random_frames(4)
    extractor = open_imaging("Numpy", {"timeseries": movie, "sampling_frequency": 5.0})
    np.testing.assert_array_equal(extractor.get_series(), movie)


def test_an_array_of_other_axes_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 4)))
    assert "has the shape (3, 4)" in refusal(imaging("Numpy", timeseries=str(tmp_path / "a.npy")))
    np.save(tmp_path / "a.npy", np.array([[[{}]]]), allow_pickle=True)
    assert "Python objects" in refusal(imaging("Numpy", timeseries=str(tmp_path / "a.npy")))
    with pytest.raises(SourceDataError, match="which is no file"):
        imaging("Numpy", timeseries="nowhere", sampling_frequency=1.0).check()


def test_pixels_alone_need_a_structure_that_makes_sense(tmp_path):
    made = pixels(tmp_path / "raw")
    for wrong in ({}, made.arguments["video_structure"] | {"rows_axis": 0}, {"num_rows": 0}, "rows first"):
        with pytest.raises(ConfigurationError, match="video_structure"):
            imaging(made.extractor, **made.arguments | {"video_structure": wrong}).check()
    with pytest.raises(ConfigurationError, match="dtype"):
        imaging(made.extractor, **made.arguments | {"dtype": "text"}).check()
    with pytest.raises(ConfigurationError, match="offset"):
        imaging(made.extractor, **made.arguments | {"offset": -1}).check()
    assert "frames of 480 bytes" in refusal(imaging(made.extractor, **made.arguments | {"offset": 0}))


def test_the_structure_of_roiextractors_is_understood(tmp_path):
    from roiextractors.extraction_tools import VideoStructure

    made = pixels(tmp_path / "raw")
    structure = VideoStructure(**made.arguments["video_structure"])
    extractor = open_imaging(made.extractor, made.arguments | {"video_structure": structure})
    np.testing.assert_array_equal(extractor.get_series(), made.truth)


def test_what_other_extractors_are_made_of_is_refused():
    with pytest.raises(ConfigurationError, match="NumpyMemmapImagingExtractor"):
        open_imaging("MemmapImagingExtractor", {"video": np.zeros((2, 3, 4, 1))})
