"""ScanImage's acquisitions: long ones, and those of which a file is missing."""

from __future__ import annotations

import os
import struct

import numpy as np
import pytest
from recording_makers import MAKERS, random_frames
from recording_makers.scanimage import ENTRY, settings_of, write_file

from airflow_provider_ophys.conversion.environment import Environment
from airflow_provider_ophys.conversion.output import write_output
from airflow_provider_ophys.conversion.run import Run
from airflow_provider_ophys.exceptions import SourceChangedError, SourceDataError
from airflow_provider_ophys.extractors import open_imaging
from airflow_provider_ophys.models.conversion import ImagingConversion
from airflow_provider_ophys.recordings import recording_of

LONG_AGO = 1_700_000_000
NUMBER = 66_000  # more than 16 bits can count

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.mark.parametrize("num_files", [1, 2])
def test_more_pages_than_16_bits_count_are_read_right(tmp_path, num_files):
    frames = (np.arange(NUMBER)[:, None] * [1, 7, 13, 29] % 32_000).astype("int16").reshape(NUMBER, 2, 2)
    per_file = NUMBER // num_files
    settings = settings_of(**{"SI.hScan2D.logFramesPerFile": str(per_file)})
    for file in range(num_files):
        part = slice(file * per_file, (file + 1) * per_file)
        write_file(tmp_path / f"m1_00001_{file + 1:05d}.tif", frames[part], settings, first=1 + part.start)
    imaging = open_imaging("ScanImage", {"file_path": str(tmp_path / "m1_00001_00001.tif")})
    assert imaging.get_num_samples() == NUMBER
    for index in (0, per_file - 1, 65_535, 65_536, NUMBER - 1):
        np.testing.assert_array_equal(imaging.get_series(index, index + 1)[0], frames[index])


def three_files(tmp_path, num_frames=9, **changed):
    frames = random_frames(num_frames, "int16")
    settings = settings_of(**({"SI.hScan2D.logFramesPerFile": "3"} | changed))
    for file in range(3):
        part = frames[3 * file : 3 * file + 3]
        write_file(tmp_path / f"m1_00001_{file + 1:05d}.tif", part, settings, first=1 + 3 * file)
    return [tmp_path / f"m1_00001_{number:05d}.tif" for number in (1, 2, 3)]


@pytest.mark.parametrize(("gone", "named"), [(0, "begins with frame 4"), (1, "begins with frame 7")])
def test_a_missing_file_is_known_by_the_numbers_of_the_frames(tmp_path, gone, named):
    files = three_files(tmp_path)
    files[gone].unlink()
    os.utime(tmp_path, (LONG_AGO, LONG_AGO))
    with pytest.raises(SourceDataError, match=named):
        open_imaging("ScanImage", {"file_path": str(files[gone - 1])})


def end_after_page(file, number):
    """Take the rest of a file's pages out of their chain, so that neither its size nor its time change."""
    content, times = bytearray(file.read_bytes()), file.stat()
    (page,) = struct.unpack_from("<Q", content, 8)
    for _ in range(number):
        (entries,) = struct.unpack_from("<Q", content, page)
        link = page + 8 + entries * ENTRY.size
        (page,) = struct.unpack_from("<Q", content, link)
    struct.pack_into("<Q", content, link, 0)
    file.write_bytes(content)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_pages_that_go_while_they_are_read_are_missed_though_the_file_looks_the_same(tmp_path):
    files = three_files(tmp_path)
    options = {"extractor": "ScanImage", "extractor_kwargs": {"file_path": str(files[0])}}
    path = tmp_path / "a.nwb"
    run = Run(ImagingConversion(nwbfile_path=str(path), **options), Environment())
    assert run.look() is None
    output = run.prepare()
    end_after_page(files[2], 2)
    with pytest.raises(SourceChangedError, match=r"m1_00001_00001\.tif'.* had 9 samples, and has 8 now"):
        write_output(output, run.options, record=run.record, source=run.source)
    assert not path.exists()


VOLUMES = {
    "SI.hStackManager.enable": "true",
    "SI.hStackManager.numSlices": "3",
    "SI.hStackManager.numFramesPerVolume": "3",
    "SI.hStackManager.numFramesPerVolumeWithFlyback": "3",
}


def test_a_missing_last_file_is_known_by_the_number_of_volumes_that_were_to_be_recorded(tmp_path):
    files = three_files(tmp_path, **VOLUMES, **{"SI.hStackManager.numVolumes": "3"})
    files[2].unlink()
    os.utime(tmp_path, (LONG_AGO, LONG_AGO))
    with pytest.raises(SourceDataError, match="have 6 of 9 frames"):
        open_imaging("ScanImage", {"file_path": str(files[0])})


def test_an_acquisition_that_was_stopped_early_is_whole(tmp_path):
    files = three_files(tmp_path, num_frames=8, **VOLUMES, **{"SI.hStackManager.numVolumes": "30"})
    assert open_imaging("ScanImage", {"file_path": str(files[0])}).get_num_samples() == 2
    contents = recording_of("imaging", "ScanImage", {"file_path": str(files[0])}).contents()
    assert "The last 2 pages of m1_00001_00003.tif are no whole volume" in contents.remarks[0]


def test_a_chosen_part_of_an_acquisition_is_not_asked_for_its_other_files(tmp_path):
    files = three_files(tmp_path)
    chosen = [str(files[0]), str(files[2])]
    assert open_imaging("ScanImage", {"file_paths": chosen}).get_num_samples() == 6


def test_a_renamed_file_is_read_alone(tmp_path):
    files = three_files(tmp_path)
    renamed = files[0].rename(tmp_path / "mouse[1].tif")
    assert open_imaging("ScanImage", {"file_path": str(renamed)}).get_num_samples() == 3


def test_frames_that_were_averaged_have_the_rate_of_the_averages(tmp_path):
    made = MAKERS["ScanImage, one file"](tmp_path / "m")
    write_file(made.files[0], made.truth, settings_of(**{"SI.hScan2D.logAverageFactor": "4"}))
    contents = recording_of("imaging", "ScanImage", made.arguments).contents()
    assert contents.movies[0].rate == 7.5
    assert "the mean of 4" in contents.remarks[0]


def test_frames_of_one_plane_in_turn_are_interleaved_unless_one_is_chosen(tmp_path):
    frames, path = random_frames(4 * 6, "int16"), tmp_path / "m1_00001.tif"
    per_volume = {
        "SI.hStackManager.numFramesPerVolume": "6",
        "SI.hStackManager.numFramesPerVolumeWithFlyback": "6",
    }
    settings = settings_of(**VOLUMES | per_volume | {"SI.hStackManager.framesPerSlice": "2"})
    write_file(path, frames, settings)
    by_slice = frames.reshape(4, 3, 2, 12, 20)
    (movie,) = recording_of("imaging", "ScanImage", {"file_path": str(path)}).contents().movies
    imaging = open_imaging("ScanImage", movie.extractor_kwargs)
    assert imaging.get_num_samples() == movie.num_samples == 8
    np.testing.assert_array_equal(imaging.get_series()[1], by_slice[0, :, 1].transpose(1, 2, 0))
    second = {"file_path": str(path), "slice_sample": 1}
    (movie,) = recording_of("imaging", "ScanImage", second).contents().movies
    assert open_imaging("ScanImage", second).get_num_samples() == movie.num_samples == 4
