"""What people leave out, misspell or save in another way: taken as it is meant, or told in one message."""

from __future__ import annotations

import re

import numpy as np
import pytest
import tifffile
from session_recordings import recording, suite2p, two_channels_of_three_planes

from airflow_provider_ophys.exceptions import (
    ExtractorNotFoundError,
    MetadataError,
    OphysError,
    SourceDataError,
    SourceNotFoundError,
)
from airflow_provider_ophys.sessions import describe_session

MOVIE = "imaging: {extractor: ScanImage, extractor_kwargs: {file_path: %s}}"


@pytest.fixture
def scanimage(tmp_path):
    folder = tmp_path / "lab" / "m12_a"
    recording("ScanImage, one file", folder)
    return folder


@pytest.fixture
def two_channels(tmp_path):
    """Volumes of Green and of Far, and the cells of three planes, below a lab.yaml."""
    two_channels_of_three_planes(tmp_path / "m1")

    def describe(lab, **options):
        (tmp_path / "lab.yaml").write_text(lab)
        return describe_session(tmp_path / "m1", **options)

    return describe


@pytest.mark.parametrize("name", ["lab.yml", "m12_a/lab.yml", "m12_a/metadata.yml", "m12_a/session.yml"])
def test_a_file_that_ends_in_yml_is_not_passed_over_in_silence(scanimage, name):
    file = scanimage.parent / name
    file.write_text("Subject: {sex: F}")
    session = describe_session(scanimage)
    assert f"{file} is not read. Call it {file.stem}.yaml." in session.remarks
    assert "Subject" not in session.metadata


INTEGERS = {"012": 10, "2024_01": 202401, "12:30": 750}


@pytest.mark.parametrize("text", INTEGERS)
def test_a_subject_that_yaml_takes_for_another_number_is_named_as_it_is_written(scanimage, text):
    (scanimage / "metadata.yaml").write_text(f"Subject:\n  subject_id: {text}\n")
    message = (
        rf'metadata\.yaml .*Subject\.subject_id in line 2 is {text}, .* the number {INTEGERS[text]}.*"{text}"'
    )
    with pytest.raises(MetadataError, match=message):
        describe_session(scanimage)
    (scanimage / "metadata.yaml").write_text(f"Subject: {{subject_id: '{text}', weight: '0.02'}}")
    assert describe_session(scanimage).metadata["Subject"]["subject_id"] == text


def test_a_subject_called_no_is_asked_for_in_quotes(scanimage):
    (scanimage / "metadata.yaml").write_text("Subject: {subject_id: no}")
    with pytest.raises(MetadataError, match=r"Subject\.subject_id is a text, but YAML reads .*no.* as False"):
        describe_session(scanimage)


def test_the_file_of_a_section_that_is_not_known_is_named(scanimage):
    (scanimage.parent / "lab.yaml").write_text("Subjekt: {sex: F}")
    with pytest.raises(MetadataError, match=r"Subjekt is not known(.|\n)*lab\.yaml"):
        describe_session(scanimage)


DOUBTS = {
    "sex": ("subject_id: m1, sex: male", "Subject.sex is 'male' by metadata.yaml. NWB's are M"),
    "no duration": ("subject_id: m1, age: 90 days", "Subject.age is '90 days' .* no duration"),
    "age": (
        "subject_id: m1, age: P90D, date_of_birth: 2023-01-06",
        "From the date of birth, 2023-01-06, .* P486D",
    ),
    "slash": ("subject_id: a/b", "Subject.subject_id is 'a/b' by metadata.yaml. .*hyphens"),
    "lines": (r'subject_id: "a\nb"', r"Subject.subject_id is 'a\\nb'"),
}


@pytest.mark.parametrize(("facts", "remark"), DOUBTS.values(), ids=DOUBTS)
def test_facts_of_a_subject_that_cannot_be_right_are_remarked(scanimage, facts, remark):
    (scanimage / "metadata.yaml").write_text(f"Subject: {{{facts}}}")
    assert len([one for one in describe_session(scanimage).remarks if re.search(remark, one)]) == 1


@pytest.mark.parametrize("facts", ["sex: O, age: P16M", "age: P69W", "age: P486D", "age: P1Y/P2Y", "age: P1Y4M"])
def test_facts_that_agree_as_far_as_they_are_precise_are_not(scanimage, facts):
    (scanimage / "metadata.yaml").write_text(f"Subject: {{subject_id: m1, {facts}, date_of_birth: 2023-01-06}}")
    assert not [one for one in describe_session(scanimage).remarks if one.startswith("Subject.")]


ROWS = "Subject ID;Sex;Date of birth;cage\r\nm11;M;2024-01-05;1\r\nm12;F;2024-01-06;2\r\n"
TABLES = {
    "semicolons": ROWS.encode(),
    "with a mark": ROWS.encode("utf-8-sig"),
    "tabs in UTF-16": ROWS.replace(";", "\t").encode("utf-16"),
    "the separator named": b"sep=;\r\n" + ROWS.encode(),
    "commas": ROWS.replace(";", ",").replace("Subject ID", "subject_id").encode(),
    "quoted, after empty lines": b"\n\n" + ROWS.replace("m12", '"m12"').encode(),
}


@pytest.mark.parametrize("content", TABLES.values(), ids=TABLES)
def test_a_subject_table_is_read_as_spreadsheets_save_it(scanimage, content):
    table = scanimage.parent / "subjects.csv"
    table.write_bytes(content)
    session = describe_session(scanimage, subject_table=table, folder_name="{subject_id}_{session_id}")
    told = {"subject_id": "m12", "sex": "F", "date_of_birth": "2024-01-06", "age": "P121D"}
    assert session.metadata["Subject"] == told


WRONG_TABLES = {
    "a comma too many": (
        "subject_id,strain,sex\nm12,C57BL/6J, x,F\n",
        "'m12' .* more cells than there are columns",
    ),
    "a column twice": ("subject_id,sex,Sex\nm12,F,M\n", "has the column sex twice"),
}


@pytest.mark.parametrize(("text", "message"), WRONG_TABLES.values(), ids=WRONG_TABLES)
def test_a_subject_table_of_which_a_cell_may_be_another_is_refused(scanimage, text, message):
    table = scanimage.parent / "subjects.csv"
    table.write_text(text)
    with pytest.raises(MetadataError, match=message):
        describe_session(scanimage, subject_table=table, folder_name="{subject_id}_{session_id}")


def test_a_function_that_returns_no_row_is_refused(scanimage):
    with pytest.raises(MetadataError, match=r"subject table returned \['F'\] for 'm12'"):
        describe_session(scanimage, subject_table=lambda _: ["F"], folder_name="{subject_id}_{session_id}")


NAMES = {
    "m1+(a).b": "{subject_id}+({session_id}).b",
    "m1 é a": "{subject_id} é {session_id}/",
    "m1_06May2024_a": "{subject_id}_{session_start_time:%d%b%Y}_{session_id}",
    "m1_a": r"(?P<subject_id>[^/_]+)_(?P<session_id>[^/]+)",
}


@pytest.mark.parametrize(("name", "pattern"), NAMES.items(), ids=NAMES)
def test_a_folders_name_is_read_by_characters_that_mean_something_elsewhere(tmp_path, name, pattern):
    recording("ScanImage, one file", tmp_path / name)
    metadata = describe_session(tmp_path / name, folder_name=pattern).metadata
    assert (metadata["Subject"]["subject_id"], metadata["NWBFile"]["session_id"]) == ("m1", "a")


def test_what_was_tied_to_the_plane_of_all_finds_its_own(two_channels):
    planes = "ImagingPlanes: {default_metadata_key: {indicator: GCaMP8m}}"
    tie = "default_metadata_key: {imaging_plane_metadata_key: default_metadata_key}"
    session = two_channels(f"Ophys: {{{planes}, MicroscopySeries: {{{tie}}}, PlaneSegmentations: {{{tie}}}}}")
    ophys = session.metadata["Ophys"]
    assert {key: entry["indicator"] for key, entry in ophys["ImagingPlanes"].items()} == {
        "Green": "GCaMP8m",
        "Far": "GCaMP8m",
    }
    tied = {key: entry["imaging_plane_metadata_key"] for key, entry in ophys["MicroscopySeries"].items()}
    assert tied == {"Green": "Green", "Far": "Far"}


TIES = {
    "plane": "MicroscopySeries: {Green: {imaging_plane_metadata_key: on}}, ImagingPlanes: {Far: {location: V1}}",
    "misspelt": "MicroscopySeries: {Far: {imaging_plane_metadata_key: Fat}}, ImagingPlanes: {Far: {location: V}}",
    "no text": "MicroscopySeries: {Far: {imaging_plane_metadata_key: [Far]}}, ImagingPlanes: {Far: {location: V}}",
    "device": "ImagingPlanes: {default_metadata_key: {device_metadata_key: scop}}",
}


@pytest.mark.parametrize("ophys", TIES.values(), ids=TIES)
def test_a_lab_file_that_refers_to_what_it_does_not_have_is_refused(two_channels, ophys):
    message = r"Ophys\.\w+\.\w+\.\w+_metadata_key in .*lab\.yaml is .*, which is no key of .*known: "
    with pytest.raises(MetadataError, match=message):
        two_channels(f"Devices: {{scope: {{name: Scope}}}}\nOphys: {{{ophys}}}")


def test_a_lab_file_may_tell_of_channels_that_this_session_does_not_have(two_channels, scanimage):
    planes = "default_metadata_key: {location: V1}, Green: {indicator: G8}, Red: {indicator: R}"
    lab = f"Ophys: {{ImagingPlanes: {{{planes}}}}}"
    for session, keys in ((two_channels(lab), {"Green", "Far"}), (describe_session(scanimage), {"Green"})):
        planes = session.metadata["Ophys"]["ImagingPlanes"]
        assert planes.keys() == keys
        assert (planes["Green"]["indicator"], planes["Green"]["location"]) == ("G8", "V1")
        assert [
            one
            for one in session.remarks
            if one.startswith("Ophys.ImagingPlanes tells of Red, which this session does not have")
        ]


MISTAKEN = {
    "no such extractor": (
        "imaging: {extractor: ScanImge, extractor_kwargs: {}}",
        ExtractorNotFoundError,
        "ScanImage",
    ),
    "no such channel": (
        MOVIE % "m1_00001.tif, channel_name: Red",
        SourceDataError,
        "no channel 'Red', only Green",
    ),
    "no such file": (MOVIE % "m2.tif", SourceNotFoundError, r"m2\.tif"),
}


@pytest.mark.parametrize(("text", "error", "message"), MISTAKEN.values(), ids=MISTAKEN)
def test_an_entry_of_session_yaml_that_opens_nothing_is_named(scanimage, text, error, message):
    (scanimage / "session.yaml").write_text(text)
    with pytest.raises(error, match=rf"session\.yaml: imaging\.0: .*{message}"):
        describe_session(scanimage)


def write_ome(path, **pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, np.zeros((4, 12, 20), "uint16"), ome=True, metadata={"axes": "TYX", **pixels})


def test_an_ome_tiff_without_a_rate_is_refused_with_the_lines_that_mend_it(tmp_path):
    for name in ("a.ome.tif", "b.ome.tif"):
        write_ome(tmp_path / "m1" / name)
    with pytest.raises(OphysError, match=r"a\.ome\.tif, b\.ome\.tif in .* do not say how fast") as refused:
        describe_session(tmp_path / "m1")
    _, _, lines = str(refused.value).partition("\n")
    (tmp_path / "m1" / "session.yaml").write_text(lines)
    movies = describe_session(tmp_path / "m1").imaging
    assert [(movie.name, movie.rate) for movie in movies] == [
        ("TwoPhotonSeriesA", 30.0),
        ("TwoPhotonSeriesB", 30.0),
    ]
    (tmp_path / "m1" / "session.yaml").write_text(lines.replace(", sampling_frequency: 30.0", ""))
    with pytest.raises(OphysError, match=r"session\.yaml: sampling_frequency in its extractor_kwargs"):
        describe_session(tmp_path / "m1")


def test_brukers_frames_without_their_index_are_no_movies_of_another_maker(tmp_path):
    made = recording("Bruker, a file per frame", tmp_path / "TSeries-1")
    renamed = made.folder.rename(tmp_path / "m1")
    with pytest.raises(SourceNotFoundError, match=r"m1\.xml does not exist.*Call the folder 'TSeries-1' again"):
        describe_session(renamed)
    (renamed / "TSeries-1.xml").unlink()
    with pytest.raises(SourceNotFoundError, match="Copy it too"):
        describe_session(renamed)


def test_a_link_to_a_folder_is_the_folder(tmp_path):
    recording("Bruker, a file per frame", tmp_path / "rig" / "TSeries-1")
    (tmp_path / "m12_a").symlink_to(tmp_path / "rig" / "TSeries-1")
    session = describe_session(tmp_path / "m12_a", folder_name="{subject_id}_{session_id}")
    assert [(movie.recording, movie.num_samples) for movie in session.imaging] == [(".", 6)]
    assert session.metadata["Subject"]["subject_id"] == "m12"
    assert session.unknown_files == ["TSeries-1.env", "References/reference.tif"]


def test_leftovers_of_another_maker_can_be_told_from_the_session(scanimage):
    made = recording("Bruker, a file per frame", scanimage / "TSeries-1")
    made.files[-1].unlink()
    with pytest.raises(
        OphysError, match=r"TSeries-1 is not whole(.|\n)*take it out .*session\.yaml with what does"
    ):
        describe_session(scanimage)


def test_a_recording_is_named_after_its_folder_or_after_its_file_without_the_suffix(tmp_path):
    recording("Thor, frames that are means", tmp_path / "m1" / "thor")
    recording("Miniscope", tmp_path / "m1" / "mini")
    for name in ("2024.05.06_a", "2024.05.06_b"):
        write_ome(tmp_path / "m2" / f"{name}.ome.tif", TimeIncrement=0.1)
    names = [movie.name for folder in ("m1", "m2") for movie in describe_session(tmp_path / folder).imaging]
    assert names == [
        "OnePhotonSeriesScopeA",
        "TwoPhotonSeriesThorChanA",
        "TwoPhotonSeries20240506A",
        "TwoPhotonSeries20240506B",
    ]


def test_recordings_of_one_name_are_named_after_the_folders_that_they_lie_in(tmp_path):
    for name in ("fov0", "fov1"):
        recording("ScanImage, one file", tmp_path / "m1" / name)
        suite2p(tmp_path / "m1" / name / "suite2p", samples=7)
    session = describe_session(tmp_path / "m1")
    assert [movie.name for movie in session.imaging] == ["TwoPhotonSeriesFov0Green", "TwoPhotonSeriesFov1Green"]
    tied = [(each.name, each.imaging_plane) for each in session.segmentation]
    assert tied == [("PlaneSegmentationFov0", "Fov0Green"), ("PlaneSegmentationFov1", "Fov1Green")]


def test_the_only_movie_is_named_as_the_only_one_though_pictures_lie_beside_it(scanimage):
    write_ome(scanimage / "registered.ome.tif")
    session = describe_session(scanimage)
    assert [movie.name for movie in session.imaging] == ["TwoPhotonSeries"]
    assert (
        "registered.ome.tif does not say its rate; it is passed over, beside a movie that does." in session.remarks
    )
