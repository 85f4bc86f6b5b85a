"""What a folder, the files above it, its name and a table say of a session, each fact with its source."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
import tifffile
import yaml
from session_recordings import recording, suite2p, two_channels_of_three_planes

from airflow_provider_ophys.exceptions import (
    ConfigurationError,
    MetadataError,
    OphysError,
    PathNotAllowedError,
    SourceDataError,
    SourceNotFoundError,
)
from airflow_provider_ophys.sessions import describe_session


@pytest.fixture
def scanimage(tmp_path):
    """One movie of channel Green, which started on 6 May 2024, 07:08:09.5, by its header."""
    folder = tmp_path / "lab" / "m12_20240506_a"
    recording("ScanImage, one file", folder)
    return folder


def write(path, content):
    path.write_text(yaml.safe_dump(content))


def test_later_origins_win_field_by_field_and_each_field_has_its_source(scanimage):
    lab = scanimage.parent
    write(lab.parent / "lab.yaml", {"NWBFile": {"lab": "outer", "institution": "I", "protocol": "p"}})
    write(lab / "lab.yaml", {"NWBFile": {"lab": "inner"}, "Subject": {"sex": "U", "species": "Rattus rattus"}})
    (lab / "subjects.csv").write_text("subject_id,species,sex,cage\nm11,x,y,1\nm12,Mus musculus,,2\n")
    write(scanimage / "metadata.yaml", {"NWBFile": {"protocol": "own", "session_id": "b"}})

    session = describe_session(
        scanimage,
        subject_table=lab / "subjects.csv",
        folder_name="{subject_id}_{session_start_time:%Y%m%d}_{session_id}",
        metadata={"NWBFile": {"institution": "J"}},
    )

    said = {path: (value, session.sources[path]) for path, value in fields(session)}
    assert said["NWBFile.lab"] == ("inner", str(lab / "lab.yaml"))
    assert said["NWBFile.protocol"] == ("own", "metadata.yaml")
    assert said["NWBFile.institution"] == ("J", "arguments")
    assert said["NWBFile.session_id"] == ("b", "metadata.yaml")
    assert said["Subject.subject_id"] == ("m12", "the folder's name")
    assert said["Subject.species"] == ("Mus musculus", str(lab / "subjects.csv"))
    assert said["Subject.sex"] == ("U", str(lab / "lab.yaml"))
    # The name has the day only, the header the time of that day.
    assert said["NWBFile.session_start_time"] == ("2024-05-06T07:08:09.500000", "m1_00001.tif: epoch")
    assert "NWBFile.session_id is 'b' by metadata.yaml, and 'a' by the folder's name; the first is taken." in (
        session.remarks
    )


def fields(session):
    return [
        (f"{section}.{name}", value)
        for section in ("NWBFile", "Subject")
        for name, value in session.metadata[section].items()
    ]


def test_the_lab_files_above_the_root_do_not_count(scanimage):
    write(scanimage.parent.parent / "lab.yaml", {"NWBFile": {"lab": "outer"}})
    assert describe_session(scanimage).metadata["NWBFile"]["lab"] == "outer"
    assert "lab" not in describe_session(scanimage, root=scanimage.parent).metadata["NWBFile"]


def test_age_comes_from_date_of_birth_and_start(scanimage):
    table = {"m12": {"date_of_birth": "2024-02-01", "sex": "F"}}
    session = describe_session(scanimage, subject_table=table.get, metadata={"Subject": {"subject_id": "m12"}})
    assert session.metadata["Subject"] == {
        "subject_id": "m12",
        "date_of_birth": "2024-02-01",
        "sex": "F",
        "age": "P95D",
    }
    assert session.sources["Subject.age"] == "date of birth and start"
    assert session.sources["Subject.sex"] == "the subject table"


def test_a_subject_that_the_table_does_not_know_is_remarked(scanimage):
    session = describe_session(scanimage, subject_table={}.get, metadata={"Subject": {"subject_id": "m12"}})
    assert "the subject table does not know the subject 'm12'." in session.remarks


def test_a_regular_expression_reads_the_folders_name(scanimage):
    session = describe_session(scanimage, folder_name=r"(?P<subject_id>m\d+)_.*")
    assert session.metadata["Subject"] == {"subject_id": "m12"}


def test_a_name_of_another_day_than_the_header_wins_and_is_remarked(scanimage):
    other = scanimage.rename(scanimage.parent / "m12_20240507_a")
    session = describe_session(other, folder_name="{subject_id}_{session_start_time:%Y%m%d}_{session_id}")
    assert session.metadata["NWBFile"]["session_start_time"] == "2024-05-07"
    assert any(
        "session_start_time is '2024-05-07' by the folder's name, and '2024-05-06" in each
        for each in session.remarks
    )


def test_a_name_that_does_not_fit_is_remarked(scanimage):
    session = describe_session(scanimage, folder_name="{subject_id}-{session_id}")
    assert any("does not fit" in remark for remark in session.remarks)


def test_what_is_given_for_all_planes_and_for_a_channel_reaches_each_plane(tmp_path):
    two_channels_of_three_planes(tmp_path / "m1")
    planes = {
        "default_metadata_key": {"location": "V1", "indicator": "all"},
        "Green": {"indicator": "GCaMP6f"},
        "GreenPlane1": {"indicator": "own"},
    }
    write(tmp_path / "lab.yaml", {"Ophys": {"ImagingPlanes": planes}})

    session = describe_session(tmp_path / "m1", volumes=False)

    found = session.metadata["Ophys"]["ImagingPlanes"]
    assert set(found) == {f"{channel}Plane{plane}" for channel in ("Green", "Far") for plane in range(3)}
    assert {plane["location"] for plane in found.values()} == {"V1"}
    assert [found[key]["indicator"] for key in ("GreenPlane0", "GreenPlane1", "FarPlane1")] == [
        "GCaMP6f",
        "own",
        "all",
    ]
    assert session.sources["Ophys.ImagingPlanes.FarPlane1.location"] == str(tmp_path / "lab.yaml")


def test_a_key_of_the_users_own_is_that_of_the_only_movie(scanimage):
    series = {"two_photon": {"name": "Movie", "unit": "n.a.", "imaging_plane_metadata_key": "v1"}}
    write(
        scanimage / "metadata.yaml",
        {"Ophys": {"MicroscopySeries": series, "ImagingPlanes": {"v1": {"name": "V1"}}}},
    )
    session = describe_session(scanimage)
    assert [(movie.metadata_key, movie.name) for movie in session.imaging] == [("two_photon", "Movie")]
    assert session.metadata["Ophys"]["ImagingPlanes"].keys() == {"v1"}
    assert session.metadata["Ophys"]["ImagingPlanes"]["v1"]["imaging_rate"] == 30.0


def test_session_yaml_is_taken_in_place_of_what_would_be_found(tmp_path):
    two_channels_of_three_planes(tmp_path / "m1")
    movie = {"extractor": "ScanImage", "extractor_kwargs": {"file_path": "m1_00001.tif", "channel_name": "Far"}}
    write(tmp_path / "m1" / "session.yaml", {"imaging": movie | {"always_write_timestamps": True}})
    session = describe_session(tmp_path / "m1")
    assert [(each.channel, each.always_write_timestamps) for each in session.imaging] == [("Far", True)]
    assert session.segmentation == []


def test_recordings_of_makers_own_their_folder_at_any_depth(tmp_path):
    recording("Bruker, a file per frame", tmp_path / "day" / "TSeries")
    recording("Miniscope", tmp_path / "day" / "video")
    write_stack(tmp_path / "day" / "TSeries" / "mean" / "mean.tif")
    (tmp_path / "day" / "notes.txt").touch()
    (tmp_path / "day" / "DONE").touch()

    session = describe_session(tmp_path / "day")

    assert [(movie.recording, movie.name) for movie in session.imaging] == [
        ("TSeries", "TwoPhotonSeriesTSeriesCh2"),
        ("video/Scope_A", "OnePhotonSeriesScopeA"),
    ]
    assert {"TSeries/mean/mean.tif", "TSeries/TSeries.env", "notes.txt"} < set(session.unknown_files)
    assert "DONE" not in session.unknown_files
    assert any("different starts" in remark for remark in session.remarks)
    assert len(session.metadata["Devices"]) == 2


def test_two_devices_of_one_name_are_told_apart(tmp_path):
    recording("Bruker, a file per frame", tmp_path / "day" / "TSeries")
    recording("ScanImage, one file", tmp_path / "day" / "m1")
    session = describe_session(tmp_path / "day")
    planes = [session.metadata["Ophys"]["ImagingPlanes"][movie.metadata_key] for movie in session.imaging]
    devices = [session.metadata["Devices"][plane["device_metadata_key"]] for plane in planes]
    assert [device["name"] for device in devices] == ["Microscope", "Microscope1"]
    assert "ScanImage" in devices[1]["description"]

    write(tmp_path / "day" / "lab.yaml", {"Devices": {"rig": {"name": "Rig"}}})
    assert describe_session(tmp_path / "day").metadata["Devices"].keys() == {"rig"}


def test_traces_without_a_rate_take_that_of_their_movie(tmp_path):
    (tmp_path / "m1").mkdir()
    recording("EXTRACT", tmp_path / "m1" / "extract")
    with pytest.raises(ConfigurationError, match="does not say how fast") as refused:
        describe_session(tmp_path / "m1")
    _, _, lines = str(refused.value).partition("\n")
    (tmp_path / "m1" / "session.yaml").write_text(lines)
    (cells,) = describe_session(tmp_path / "m1").segmentation
    assert cells.extractor_kwargs["sampling_frequency"] == 30.0

    (tmp_path / "m1" / "session.yaml").unlink()
    recording("Miniscope", tmp_path / "m1" / "video")
    (cells,) = describe_session(tmp_path / "m1").segmentation
    assert cells.extractor_kwargs["sampling_frequency"] == 20.0


def write_stack(path, pages=4):
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, np.zeros((pages, 12, 20), "uint16"), metadata=None, photometric="minisblack")


def test_a_stack_beside_a_makers_recording_is_passed_over_with_a_remark(scanimage):
    write_stack(scanimage / "registered.tif")
    session = describe_session(scanimage)
    assert [movie.recording for movie in session.imaging] == ["m1_00001.tif"]
    assert any(
        remark.startswith("registered.tif does not say its rate; it is passed over") for remark in session.remarks
    )


def test_a_stack_without_a_rate_is_refused_with_the_lines_that_mend_it(tmp_path):
    write_stack(tmp_path / "m1" / "movie.tif")
    with pytest.raises(SourceDataError, match="does not say how fast") as refused:
        describe_session(tmp_path / "m1")
    _, _, lines = str(refused.value).partition("\n")
    (tmp_path / "m1" / "session.yaml").write_text(lines)
    (movie,) = describe_session(tmp_path / "m1").imaging
    assert (movie.rate, movie.num_samples) == (30.0, 4)


def test_two_segmentations_of_one_plane_are_refused(scanimage):
    suite2p(scanimage / "suite2p")
    suite2p(scanimage / "again" / "suite2p")
    with pytest.raises(ConfigurationError, match=r"2 segmentations of one plane: .*session\.yaml"):
        describe_session(scanimage)


def test_a_segmentation_that_may_be_of_several_movies_is_refused(tmp_path):
    for name in ("a", "b"):
        recording("ScanImage, one file", tmp_path / "day" / name)
    suite2p(tmp_path / "day" / "suite2p")
    with pytest.raises(ConfigurationError, match=r"suite2p may be of a/m1_00001.tif .* or of b/m1_00001.tif"):
        describe_session(tmp_path / "day")
    shutil.move(tmp_path / "day" / "suite2p", tmp_path / "day" / "b" / "suite2p")
    session = describe_session(tmp_path / "day")
    (of_b,) = (movie for movie in session.imaging if movie.recording.startswith("b/"))
    assert [each.imaging_plane for each in session.segmentation] == [of_b.metadata_key]


WRONG = {
    "number": ({"Subject": {"subject_id": 12}}, r"Subject\.subject_id.*12(.|\n)*metadata\.yaml"),
    "misspelt": ({"Subject": {"subjectid": "a"}}, r"Subject\.subjectid is not known"),
    "list form": ({"Ophys": {"Device": [{"name": "M"}]}}, "dict form"),
    "no mapping": ({"NWBFile": "x"}, "NWBFile in .*metadata.yaml is 'x'"),
    "date": ({"NWBFile": {"session_start_time": "yesterday"}}, r"session_start_time(.|\n)*metadata\.yaml"),
    "slash": ({"Devices": {"default_metadata_key": {"name": "a/b"}}}, r"Devices.*name(.|\n)*metadata\.yaml"),
    "unborn": (
        {"Subject": {"age": "P90D", "date_of_birth": "2025-01-01"}},
        r"date_of_birth is 2025-01-01, after .*2024-05-06(.|\n)*epoch(.|\n)*date_of_birth: metadata\.yaml",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_metadata_are_refused_by_field_and_file(scanimage, case):
    metadata, message = WRONG[case]
    write(scanimage / "metadata.yaml", metadata)
    with pytest.raises(MetadataError, match=message):
        describe_session(scanimage)


def test_a_yaml_bomb_is_refused(scanimage):
    aliases = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9))
    (scanimage / "metadata.yaml").write_text(f"a0: &a0 [x]\n{aliases}")
    with pytest.raises(MetadataError, match="more than 200,000 values"):
        describe_session(scanimage)


@pytest.mark.parametrize(
    "pattern",
    ["{mouse}_{session_id}", "(?P<subject_id>", "fixed", "{session_start_time:%Q}", "{subject_id}{subject_id}"],
)
def test_a_pattern_that_is_none_is_refused(scanimage, pattern):
    with pytest.raises(ConfigurationError, match="folder_name"):
        describe_session(scanimage, folder_name=pattern)


@pytest.mark.parametrize(
    ("table", "message"),
    [("id,sex\nm1,F\n", "no column subject_id"), ("subject_id\nm12\nm12\n", "2 rows"), (None, "cannot be read")],
)
def test_a_table_that_cannot_be_used_is_refused(scanimage, table, message):
    path = scanimage.parent / "subjects.csv"
    if table is not None:
        path.write_text(table)
    with pytest.raises(MetadataError, match=message):
        describe_session(scanimage, subject_table=path, folder_name=r"(?P<subject_id>m\d+)_.*")


def test_a_table_that_is_a_pipe_is_not_waited_for(scanimage):
    os.mkfifo(scanimage.parent / "subjects.csv")
    with pytest.raises(MetadataError, match="cannot be read: it is no regular file"):
        describe_session(
            scanimage, subject_table=scanimage.parent / "subjects.csv", metadata={"Subject": {"subject_id": "m1"}}
        )


def test_folders_that_hold_nothing_known_or_are_none_are_refused(tmp_path):
    with pytest.raises(SourceNotFoundError, match="no folder"):
        describe_session(tmp_path / "nowhere")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(SourceDataError, match=r"no recording that is known \(notes.txt\)"):
        describe_session(tmp_path)


def test_half_a_recording_is_refused(tmp_path):
    made = recording("Bruker, a file per frame", tmp_path / "T")
    made.files[-1].unlink()
    with pytest.raises(OphysError, match=made.files[-1].name):
        describe_session(tmp_path / "T")


def test_paths_outside_of_the_allowed_roots_are_refused(scanimage, tmp_path):
    assert describe_session(scanimage, allowed_roots=[tmp_path]).imaging
    with pytest.raises(PathNotAllowedError, match="allowed_roots"):
        describe_session(scanimage, allowed_roots=[tmp_path / "elsewhere"])


@pytest.mark.parametrize("name", ["metadata.yaml", "lab.yaml", "given"])
def test_nor_is_a_file_of_timestamps_read_outside_of_them(scanimage, tmp_path_factory, name):
    secret = tmp_path_factory.mktemp("elsewhere") / "secret.txt"
    secret.write_text("a secret")
    metadata = {"Ophys": {"MicroscopySeries": {"default_metadata_key": {"timestamps": str(secret)}}}}
    options = {"allowed_roots": [scanimage]}
    if name == "given":
        options["metadata"] = metadata
    else:
        (scanimage / name).write_text(json.dumps(metadata))
    with pytest.raises(PathNotAllowedError, match="secret.txt") as caught:
        describe_session(scanimage, **options)
    assert "a secret" not in str(caught.value)


def test_names_with_any_characters_travel(tmp_path):
    folder = tmp_path / "a\nb 🐭'\"[red]"
    recording("ScanImage, one file", folder)
    session = describe_session(folder)
    assert session.name == folder.name
    assert type(session).model_validate_json(session.model_dump_json()) == session
