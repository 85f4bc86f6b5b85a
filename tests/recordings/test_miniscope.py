"""Recordings of Miniscopes: all of their files, whole or refused, and what their headers say."""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recording_makers import COLUMNS, ROWS
from recording_makers.miniscope import (
    START,
    miniscope_device,
    miniscope_session,
    write_stamps,
)

from airflow_provider_ophys.exceptions import (
    OphysError,
    SourceChangedError,
    SourceDataError,
    SourceNotFoundError,
)
from airflow_provider_ophys.extractors import open_imaging
from airflow_provider_ophys.models.metadata import validate_metadata
from airflow_provider_ophys.recordings import Recording, recording_of
from airflow_provider_ophys.recordings.avi import read_avi
from airflow_provider_ophys.recordings.miniscope import MiniscopeRecording
from airflow_provider_ophys.recordings.miniscope_series import MiniscopeMultiRecording

LONG_AGO = 1_700_000_000
KEY = "default_metadata_key"
HALF_PAST_FIVE = timezone(timedelta(hours=5, minutes=30))


def miniscope(folder: Path, **arguments: object) -> Recording:
    return recording_of("imaging", "Miniscope", {"folder_path": str(folder), **arguments})


def made_long_ago(folder: Path) -> None:
    for file in folder.rglob("*"):
        os.utime(file, (LONG_AGO, LONG_AGO))


def refusal(recording: Recording) -> str:
    with pytest.raises(SourceDataError) as error:
        recording.check()
    return str(error.value)


@pytest.fixture
def session(tmp_path):
    folder, movie = miniscope_session(tmp_path / "23_05_07")
    made_long_ago(tmp_path)
    return folder, movie


def test_the_files_are_the_movies_the_stamps_and_the_headers_of_device_and_session(session):
    folder, _ = session
    names = ["0.avi", "1.avi", "2.avi", "timeStamps.csv", "metaData.json", "../metaData.json"]
    assert [os.path.relpath(file, folder) for file in miniscope(folder).files] == names
    by_name = {"file_paths": [str(folder / "0.avi"), str(folder / "1.avi"), str(folder / "2.avi")]}
    assert recording_of("imaging", "Miniscope", by_name).files == miniscope(folder).files


def test_ten_movies_come_after_nine(tmp_path):
    miniscope_device(tmp_path / "Miniscope", samples=11, per_file=1)
    assert [file.name for file in miniscope(tmp_path / "Miniscope").files[:11]] == [f"{n}.avi" for n in range(11)]


def test_contents_are_what_the_extractor_gives(session):
    folder, movie = session
    (found,) = miniscope(folder).contents().movies
    extractor = open_imaging("Miniscope", found.extractor_kwargs)
    assert found.num_samples == extractor.get_num_samples() == 15
    assert found.sample_shape == extractor.get_sample_shape() == (ROWS, COLUMNS)
    assert found.dtype == str(extractor.get_dtype())
    assert found.rate == pytest.approx(extractor.get_sampling_frequency()) == pytest.approx(20)
    assert found.duration == pytest.approx(0.75 + 0.05)
    # The first frame was exposed 13 ms before the recording began.
    assert found.start == datetime(2024, 2, 29, 23, 5, 7, 237000, HALF_PAST_FIVE)
    np.testing.assert_array_equal(extractor.get_series(), movie)
    assert miniscope(folder).contents().photon_series_type == "OnePhotonSeries"


def test_the_headers_say_who_recorded_what_when_and_with_which_settings(session):
    folder, _ = session
    said = miniscope(folder).metadata()
    metadata = said.metadata
    assert metadata["NWBFile"] == {
        "session_start_time": "2024-02-29T23:05:07.250000+05:30",
        "experimenter": ["R. Searcher"],
        "experiment_description": "open field",
    }
    assert metadata["Subject"] == {"subject_id": "m 12"}
    assert metadata["DeviceModels"][KEY]["name"] == "Miniscope_V4_BNO"
    device = metadata["Devices"][KEY]
    assert device["name"] == "Scope A"
    for setting in ("Gain: 3.5", "LED power setting: 17", "lens setting: -12", "FFV1", "20FPS", "20 x 12 pixels"):
        assert setting in device["description"]
    assert metadata["Ophys"]["ImagingPlanes"][KEY]["imaging_rate"] == pytest.approx(20)
    assert said.sources["Subject.subject_id"] == "23_05_07/metaData.json: animalName"
    assert said.remarks == []
    metadata["Ophys"]["MicroscopySeries"][KEY] |= {"name": "OnePhotonSeries", "unit": "n.a."}
    validate_metadata(metadata)


@pytest.mark.parametrize("parts", [START, START | {"msecSinceEpoch": 12345}, START | {"msecSinceEpoch": "soon"}])
def test_a_start_without_a_zone_is_that_of_the_machine(session, parts):
    folder, _ = session
    (folder.parent / "metaData.json").write_text(json.dumps({"recordingStartTime": parts}))
    said = miniscope(folder).metadata()
    assert said.metadata["NWBFile"]["session_start_time"] == "2024-02-29T23:05:07.250000"
    assert "time zone" in said.remarks[0]


def test_the_older_header_has_the_start_beside_the_rest(session):
    folder, _ = session
    (folder.parent / "metaData.json").write_text(json.dumps(START | {"animalName": "m1"}))
    assert miniscope(folder).metadata().metadata["NWBFile"]["session_start_time"].startswith("2024-02-29T23:05:07")


def test_a_device_without_headers_has_its_movie(tmp_path):
    miniscope_device(tmp_path / "Miniscope")
    (tmp_path / "Miniscope" / "metaData.json").unlink()
    recording = miniscope(tmp_path / "Miniscope")
    recording.check()
    assert recording.contents().movies[0].start is None
    assert recording.metadata().metadata["Devices"][KEY]["name"] == "Miniscope"


def test_a_miniscope_is_found_and_a_behaviour_camera_is_not(session):
    folder, _ = session
    (found,) = MiniscopeRecording.find(folder)
    assert found.extractor == "MiniscopeImagingExtractor"
    assert found.extractor_kwargs == {"folder_path": str(folder)}
    assert MiniscopeRecording.find(folder.parent / "BehavCam_0") == []
    assert MiniscopeRecording.find(folder.parent) == []


@pytest.mark.parametrize("stamps", [14, 16, 0])
def test_more_or_fewer_stamps_than_frames_are_refused(session, stamps):
    folder, _ = session
    write_stamps(folder, [50 * number for number in range(stamps)])
    made_long_ago(folder)
    message = refusal(miniscope(folder))
    assert f"timeStamps.csv has {stamps} stamps, but the 3 movies from 0.avi to 2.avi have 15 frames" in message


def test_a_missing_last_movie_is_named(session):
    folder, _ = session
    (folder / "2.avi").unlink()
    message = refusal(miniscope(folder))
    assert "15 stamps, but the 2 movies from 0.avi to 1.avi have 12 frames" in message
    assert "2.avi" in message


def test_a_missing_movie_in_between_is_named(session):
    folder, _ = session
    (folder / "1.avi").unlink()
    assert "no 1.avi" in refusal(miniscope(folder))


def test_movies_without_all_of_their_recording_are_refused(session):
    folder, _ = session
    part = recording_of("imaging", "Miniscope", {"file_paths": [str(folder / "1.avi"), str(folder / "2.avi")]})
    assert "15 stamps, but the 2 movies from 1.avi to 2.avi have 9 frames" in refusal(part)


@pytest.mark.parametrize("keep", [0.05, 0.5, 0.999])
def test_a_movie_that_was_cut_off_is_refused(session, keep):
    folder, _ = session
    file = folder / "1.avi"
    os.truncate(file, int(file.stat().st_size * keep))
    os.utime(file, (LONG_AGO, LONG_AGO))
    assert str(file) in refusal(miniscope(folder))


def test_a_recording_that_was_just_written_to_may_still_be_growing(session):
    folder, _ = session
    os.truncate(folder / "2.avi", 4000)
    with pytest.raises(SourceChangedError, match="may still be growing"):
        miniscope(folder).check()


def test_a_movie_that_was_never_closed_is_refused(session):
    folder, _ = session
    content = bytearray((folder / "2.avi").read_bytes())
    content[4:8] = bytes(4)
    (folder / "2.avi").write_bytes(content)
    os.utime(folder / "2.avi", (LONG_AGO, LONG_AGO))
    assert "never closed" in refusal(miniscope(folder))


def test_a_rate_can_stand_in_for_stamps(session):
    folder, _ = session
    (folder / "timeStamps.csv").unlink()
    assert "lacks timeStamps.csv" in refusal(miniscope(folder))
    recording = miniscope(folder, sampling_frequency=25.0)
    recording.check()
    assert recording.contents().movies[0].rate == 25.0


def test_a_header_or_movie_that_leads_out_is_refused(session, tmp_path):
    folder, _ = session
    outside = tmp_path / "elsewhere.json"
    outside.write_text('{"deviceName": "secret"}')
    (folder / "metaData.json").unlink()
    (folder / "metaData.json").symlink_to(outside)
    with pytest.raises(SourceDataError, match="out of the recording's folder"):
        _ = miniscope(folder).files
    (folder / "metaData.json").unlink()
    shutil.move(folder / "2.avi", tmp_path / "2.avi")
    (folder / "2.avi").symlink_to(tmp_path / "2.avi")
    with pytest.raises(SourceDataError, match="out of the recording's folder"):
        _ = miniscope(folder).files


def test_a_named_pipe_is_not_opened(session):
    folder, _ = session
    (folder / "metaData.json").unlink()
    os.mkfifo(folder / "metaData.json")
    with pytest.raises(SourceDataError, match="named pipe"):
        miniscope(folder).check()


def test_what_does_not_exist_is_said_to_be_missing(tmp_path):
    with pytest.raises(SourceNotFoundError, match="folder_path does not exist"):
        miniscope(tmp_path / "none").check()


def riff(name: bytes, kind: bytes, *parts: bytes) -> bytes:
    content = kind + b"".join(parts)
    return name + struct.pack("<I", len(content)) + content


def chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def big_avi(announced: int, first: int, further: int) -> bytes:
    """Make an AVI that goes on in a second part, as those of more than 1 GB do: without an index there."""
    stream = chunk(b"strh", b"vids" + bytes(28) + struct.pack("<I", announced) + bytes(20))
    form = chunk(b"strf", struct.pack("<Iii", 40, COLUMNS, -ROWS) + bytes(28))
    sound = riff(b"LIST", b"strl", chunk(b"strh", b"auds" + bytes(52)), chunk(b"strf", bytes(20)))
    header = riff(b"LIST", b"hdrl", chunk(b"avih", bytes(56)), sound, riff(b"LIST", b"strl", stream, form))
    movie = riff(b"LIST", b"movi", *[chunk(b"01dc", b"abc"), chunk(b"00wb", b"sound")] * first)
    index = chunk(b"idx1", b"".join(b"01dc" + struct.pack("<III", 0, 4, 3) for _ in range(first)))
    more = riff(b"LIST", b"movi", riff(b"LIST", b"rec ", *[chunk(b"01db", b"abcd")] * further))
    return riff(b"RIFF", b"AVI ", header, movie, index) + riff(b"RIFF", b"AVIX", more)


def test_the_frames_of_all_parts_of_a_big_movie_count(tmp_path):
    file = tmp_path / "0.avi"
    file.write_bytes(big_avi(announced=8, first=3, further=5))
    assert (read_avi(file).num_frames, read_avi(file).rows, read_avi(file).columns) == (8, ROWS, COLUMNS)
    file.write_bytes(big_avi(announced=8, first=3, further=4))
    os.utime(file, (LONG_AGO, LONG_AGO))
    with pytest.raises(SourceDataError, match="announces 8 frames, and there are 7"):
        read_avi(file)


def several(parent: Path) -> Recording:
    return recording_of("imaging", "MiniscopeMultiRecording", {"folder_path": str(parent)})


@pytest.fixture
def recordings(tmp_path):
    movies = []
    for number, hour in enumerate((9, 10)):
        folder, movie = miniscope_session(tmp_path / f"{hour}_00_00", "Miniscope", samples=8 + number)
        start = {"recordingStartTime": START | {"hour": hour, "minute": 0}}
        (folder.parent / "metaData.json").write_text(json.dumps(start))
        movies.append(movie)
    made_long_ago(tmp_path)
    return tmp_path, np.concatenate(movies)


@pytest.mark.filterwarnings("ignore:MiniscopeMultiRecordingImagingExtractor is deprecated:FutureWarning")
def test_several_recordings_are_one_movie_with_the_time_between_them(recordings):
    parent, movie = recordings
    recording = several(parent)
    recording.check()
    (found,) = recording.contents().movies
    extractor = open_imaging("MiniscopeMultiRecording", found.extractor_kwargs)
    assert found.num_samples == extractor.get_num_samples() == 17
    np.testing.assert_allclose(recording.stamps, extractor.get_native_timestamps())
    assert found.duration == pytest.approx(3600.5, abs=0.02)
    np.testing.assert_array_equal(extractor.get_series(), movie)
    assert len(recording.files) == 2 * 5
    assert MiniscopeMultiRecording.find(parent) == []


def test_several_recordings_must_be_whole_and_belong_together(recordings):
    parent, _ = recordings
    (parent / "metaData.json").write_text("{}")
    several(parent).check()
    write_stamps(parent / "10_00_00" / "Miniscope", [0, 50])
    assert "2 stamps" in refusal(several(parent))
    shutil.rmtree(parent / "10_00_00" / "Miniscope")
    assert "10_00_00" in refusal(several(parent))


@pytest.mark.parametrize("name", ["..", "*", "a/b", ""])
def test_the_device_of_several_recordings_is_the_name_of_a_folder(recordings, name):
    arguments = {"folder_path": str(recordings[0]), "miniscope_device_name": name}
    assert "name of a folder" in refusal(recording_of("imaging", "MiniscopeMultiRecording", arguments))


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return miniscope_session(tmp_path_factory.mktemp("template") / "session")[0].parent


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    name=st.sampled_from(["0.avi", "timeStamps.csv", "metaData.json", "../metaData.json"]),
)
def test_mutated_headers_give_only_errors_of_ours(template, tmp_path_factory, seed, name):
    session = tmp_path_factory.mktemp("mutated") / "session"
    shutil.copytree(template, session)
    folder, rng = session / "Scope_A", random.Random(seed)  # noqa: S311
    content = bytearray((folder / name).read_bytes())
    for _ in range(rng.randint(1, 6)):
        place = rng.randrange(min(len(content), 600))
        kind = rng.randrange(3)
        if kind == 0:
            content[place] = rng.randrange(256)
        elif kind == 1:
            del content[place : place + rng.randint(1, 40)]
        else:
            content[place:place] = rng.choice(
                [b"9" * 400, b"\0\0\0\0", b"[" * 3000, b"nan", b"1e999", b"\xff", b'"x":1,']
            )
    (folder / name).write_bytes(content)
    MiniscopeRecording.find(folder)
    for ask in (Recording.check, Recording.contents, Recording.metadata):
        with suppress(OphysError):
            getattr(miniscope(folder), ask.__name__)()
    shutil.rmtree(session)
