"""Headers that name what lies elsewhere, that would expand without end, or that name nothing: refused at once."""

from __future__ import annotations

import os
import re

import pytest
import tifffile
from recording_makers import MAKERS, random_frames

from airflow_provider_ophys.exceptions import SourceDataError
from airflow_provider_ophys.extractors import open_imaging
from airflow_provider_ophys.recordings import recording_of
from airflow_provider_ophys.recordings.formats import FORMATS, format_of

BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
LONG_AGO = 1_700_000_000
RATES = re.compile(rb"(Rate = )([^\n]+)")

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


def replace_in(path, old, new):
    """Replace text in a file; in a TIFF, without moving what comes after it."""
    content = path.read_bytes()
    assert old.encode() in content
    if path.suffix == ".tif":
        new = new.ljust(len(old))
        assert len(new) == len(old)
    path.write_bytes(content.replace(old.encode(), new.encode()))
    os.utime(path, (LONG_AGO, LONG_AGO))


@pytest.mark.parametrize("elsewhere", ["../s.ome.tif", "/etc/passwd0"])
def test_the_ome_xml_names_no_file_elsewhere(tmp_path, elsewhere):
    made = MAKERS["OME-TIFF, three files"](tmp_path / "m")
    tifffile.imwrite(tmp_path / "s.ome.tif", random_frames(2))
    for file in made.files:
        replace_in(file, '"m1_1.ome.tif"', f'"{elsewhere}"')
    with pytest.raises(SourceDataError, match="out of the recording's folder"):
        open_imaging(made.extractor, made.arguments)


def test_a_reader_of_any_tiff_does_not_follow_ome_xml_elsewhere_either(tmp_path):
    made = MAKERS["OME-TIFF, three files"](tmp_path / "m")
    tifffile.imwrite(tmp_path / "s.ome.tif", random_frames(2))
    replace_in(made.files[0], '"m1_1.ome.tif"', '"../s.ome.tif"')
    with pytest.raises(SourceDataError, match="out of the recording's folder"):
        open_imaging("TiffImaging", made.arguments | {"sampling_frequency": 1.0})


def test_a_companion_file_lies_beside_its_tiffs(tmp_path):
    made = MAKERS["OME-TIFF, with a companion file"](tmp_path / "m")
    (tmp_path / "n.companion.me").write_text("<OME/>")
    replace_in(made.files[0], '"m1.companion.ome"', '"../n.companion.me"'[:18])
    with pytest.raises(SourceDataError):
        open_imaging(made.extractor, made.arguments)


@pytest.mark.parametrize("elsewhere", ["../secret.tif", "/etc/passwd"])
def test_the_index_of_bruker_names_no_file_elsewhere(tmp_path, elsewhere):
    made = MAKERS["Bruker, a file per frame"](tmp_path / "m")
    tifffile.imwrite(tmp_path / "secret.tif", random_frames(1)[0])
    replace_in(made.files[0], f'filename="{made.files[3].name}"', f'filename="{elsewhere}"')
    with pytest.raises(SourceDataError, match="out of the recording's folder"):
        open_imaging(made.extractor, made.arguments)


@pytest.mark.parametrize(
    ("name", "file"), [("Bruker, a file per frame", "m.xml"), ("Thor, frames that are means", "Experiment.xml")]
)
def test_an_xml_with_a_document_type_is_refused(tmp_path, name, file):
    made = MAKERS[name](tmp_path / "m")
    path = tmp_path / "m" / file
    first, rest = path.read_text().split("?>", 1)
    path.write_text(f"{first}?>{BOMB}{rest}")
    with pytest.raises(SourceDataError, match="document type"):
        recording_of("imaging", made.extractor, made.arguments).metadata()


def test_settings_of_scanimage_that_are_longer_than_the_file_are_refused(tmp_path):
    made = MAKERS["ScanImage, one file"](tmp_path / "m")
    content = bytearray(made.files[0].read_bytes())
    content[24:28] = (2**31).to_bytes(4, "little")
    made.files[0].write_bytes(content)
    with pytest.raises(SourceDataError, match="settings of 2,147,483,648 bytes"):
        open_imaging(made.extractor, made.arguments)


def test_a_named_pipe_is_not_waited_for(tmp_path):
    made = MAKERS["Bruker, a file per frame"](tmp_path / "m")
    made.files[3].unlink()
    os.mkfifo(made.files[3])
    with pytest.raises(SourceDataError, match="named pipe"):
        open_imaging(made.extractor, made.arguments)


def test_a_cycle_that_lacks_a_plane_is_named(tmp_path):
    made = MAKERS["Bruker, volumes"](tmp_path / "m")
    text = made.files[0].read_text()
    last = text.rindex("<Frame ")
    made.files[0].write_text(text[:last] + text[text.index("</Frame>", last) + len("</Frame>") :])
    with pytest.raises(SourceDataError, match="Cycle 4 of 4 .* has 2 planes, but the first has 3"):
        open_imaging(made.extractor, made.arguments)


@pytest.mark.parametrize("content", [b"", b"II*\0", b"MM\0*" + b"\xff" * 20, b"no TIFF at all"])
def test_what_is_called_a_tiff_and_is_none_keeps_nothing_else_from_being_found(tmp_path, content):
    made = MAKERS["ScanImage, one file"](tmp_path / "m")
    for name in ("a.tif", "z.ome.tif", "Experiment.tif"):
        (made.folder / name).write_bytes(content)
    formats = {format_of("imaging", name) for name in FORMATS["imaging"]}
    found = [each for known in formats for each in known.find(made.folder)]
    assert [each.extractor_kwargs for each in found] == [made.arguments]


def test_an_encoding_that_does_not_exist_is_told(tmp_path):
    made = MAKERS["Bruker, a file per frame"](tmp_path / "m")
    text = made.files[0].read_text().replace('encoding="utf-8"', 'encoding="utf-0"')
    made.files[0].write_text(text)
    with pytest.raises(SourceDataError, match=r"m.xml"):
        open_imaging(made.extractor, made.arguments)


@pytest.mark.parametrize("maker", ["OME-TIFF, three files", "Thor, volumes of two channels"])
@pytest.mark.parametrize("place", [0, -1])
def test_a_page_of_more_strips_than_it_has_is_refused_for_readers_make_zeros_of_the_others(tmp_path, maker, place):
    made = MAKERS[maker](tmp_path / "m")
    tiffs = [file for file in made.files if file.suffix == ".tif"]
    with tifffile.TiffFile(tiffs[place], mode="r+") as tiff:
        rows = tiff.pages[0].tags["ImageLength"]
        number = rows.value
        tiff.pages[0].tags["RowsPerStrip"].overwrite(number)
        rows.overwrite(40_000 * number)
    os.utime(tiffs[place], (LONG_AGO, LONG_AGO))
    with pytest.raises(SourceDataError, match=r"frame 0 .* has 1 of its 40000 strips or tiles") as refused:
        open_imaging(made.extractor, made.arguments)
    assert tiffs[place].name in str(refused.value)


def test_files_of_one_recording_have_frames_of_one_kind(tmp_path):
    made = MAKERS["OME-TIFF, three files"](tmp_path / "m")
    with tifffile.TiffFile(made.files[1], mode="r+") as tiff:
        tiff.pages[-1].tags["ImageLength"].overwrite(1)
    with pytest.raises(SourceDataError, match=r"has frames of 1 x \d+ pixels \(uint16\), and .* of \d\d"):
        open_imaging(made.extractor, made.arguments)


@pytest.mark.parametrize("rate", ["NaN", "fast"])
def test_a_rate_that_is_no_number_is_named(tmp_path, rate):
    made = MAKERS["ScanImage, volumes of two channels"](tmp_path / "m")
    for file in made.files:
        content = file.read_bytes()
        assert RATES.search(content)
        file.write_bytes(
            RATES.sub(lambda found: found[1] + rate.encode().ljust(len(found[2]))[: len(found[2])], content)
        )
    with pytest.raises(SourceDataError, match="for the rate of the recording"):
        open_imaging(made.extractor, made.arguments | {"channel_name": "Green"})
