"""A recording is known by what is in it, wherever it lies."""

from __future__ import annotations

import shutil

import pytest

from airflow_provider_ophys.exceptions import (
    ConfigurationError,
    ExtractorNotFoundError,
    SourceDataError,
    SourceNotFoundError,
)
from airflow_provider_ophys.extractors import find_extractor, numbers_as_annotated, open_imaging
from airflow_provider_ophys.recordings import recording_of
from airflow_provider_ophys.recordings.state import fingerprint


@pytest.mark.parametrize(
    ("short", "name"),
    [
        ("TiffImagingExtractor", "TiffImagingExtractor"),
        ("tiff", "TiffImagingExtractor"),
        ("scan_image", "ScanImageImagingExtractor"),
        ("ScanImageLegacy", "ScanImageLegacyImagingExtractor"),
        ("MultiTIFFMultiPage", "MultiTIFFMultiPageExtractor"),
    ],
)
def test_an_unambiguous_short_form_will_do(short, name):
    assert find_extractor("imaging", short).__name__ == name


@pytest.mark.parametrize("name", ["os.system", "subprocess:run", "BaseImagingExtractor", ""])
def test_only_registered_extractors_are_opened(name):
    with pytest.raises(ExtractorNotFoundError):
        find_extractor("imaging", name)


def test_what_cannot_be_opened_is_named(tmp_path):
    path = tmp_path / "movie.tif"
    path.write_bytes(b"not a tiff")
    with pytest.raises(SourceDataError, match=r"movie\.tif is no TIFF file"):
        open_imaging("Tiff", {"file_path": str(path), "sampling_frequency": 30.0})


def fingerprint_recording(kwargs):
    return fingerprint([recording_of("imaging", "SomeImagingExtractor", kwargs)])


@pytest.fixture
def recording(tmp_path):
    folder = tmp_path / "here"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.bin").write_bytes(bytes(3_000_000))
    (folder / "sub" / "b.bin").write_bytes(b"b")
    return folder


def test_a_copy_elsewhere_is_the_same_recording(tmp_path, recording):
    shutil.copytree(recording, tmp_path / "there")
    kwargs = {"folder_path": str(recording), "channel": 1}
    assert fingerprint_recording(kwargs) == fingerprint_recording(kwargs | {"folder_path": tmp_path / "there"})


@pytest.mark.parametrize("change", ["first byte", "last byte", "size", "name", "argument", "more files"])
def test_any_change_that_matters_is_another_recording(recording, change):
    kwargs = {"folder_path": str(recording), "channel": 1}
    before = fingerprint_recording(kwargs)
    file = recording / "a.bin"
    if change == "first byte":
        file.write_bytes(b"x" + bytes(2_999_999))
    elif change == "last byte":
        file.write_bytes(bytes(2_999_999) + b"x")
    elif change == "size":
        file.write_bytes(bytes(3_000_001))
    elif change == "name":
        file.rename(recording / "c.bin")
    elif change == "argument":
        kwargs["channel"] = 2
    else:
        (recording / "new.bin").write_bytes(b"")
    assert fingerprint_recording(kwargs) != before


def test_results_in_the_recordings_folder_do_not_make_it_another(recording):
    kwargs = {"folder_path": str(recording)}
    before = fingerprint_recording(kwargs)
    (recording / "a.nwb").write_bytes(b"result")
    (recording / "b.nwb.zarr").mkdir()
    (recording / "b.nwb.zarr" / "zarr.json").write_bytes(b"result")
    (recording / ".a.nwb.lock").touch()
    assert fingerprint_recording(kwargs) == before


def test_of_very_many_files_a_few_are_read(recording, monkeypatch):
    for number in range(200):
        (recording / f"{number:03}.tif").write_bytes(bytes([number]))
    kwargs = {"folder_path": str(recording)}
    before = fingerprint_recording(kwargs)
    read = []
    monkeypatch.setattr(
        "airflow_provider_ophys.recordings.state._update_with_samples", lambda _, file, __: read.append(file)
    )
    fingerprint_recording(kwargs)
    assert len(read) == 64
    (recording / "150.tif").write_bytes(b"of another size")
    monkeypatch.undo()
    assert fingerprint_recording(kwargs) != before


def test_a_missing_recording_is_named(tmp_path):
    with pytest.raises(SourceNotFoundError, match="file_path does not exist"):
        fingerprint_recording({"file_path": str(tmp_path / "nothing")})


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("Bruker", "BrukerTiffImagingExtractor"),
        ("Thor", "ThorTiffImagingExtractor"),
        ("TiffImaging", "TiffImagingExtractor"),
        ("Sbx", "SbxImagingExtractor"),
        ("MicroManager", "MicroManagerTiffImagingExtractor"),
        ("multi_tiff", "MultiTIFFMultiPageExtractor"),
    ],
)
def test_a_makers_name_is_enough(short, full):
    assert find_extractor("imaging", short).__name__ == full


def test_a_class_that_is_gone_has_a_hint_to_its_successor():
    with pytest.raises(ExtractorNotFoundError, match="any more. Use ScanImageImagingExtractor with plane_index"):
        find_extractor("imaging", "ScanImageTiffSinglePlaneImagingExtractor")


def test_planes_of_a_stack_have_a_name_and_arguments():
    with pytest.raises(ConfigurationError, match="give extractor, extractor_kwargs"):
        open_imaging("PlanarStack", {"imaging_extractors": [{"file_path": "a.tif"}]})


@pytest.mark.parametrize(("text", "number"), [("30", 30.0), ("29.97", 29.97), (" 3e1 ", 30.0)])
def test_a_number_that_a_template_rendered_is_a_number(text, number):
    given = {"file_path": "30", "sampling_frequency": text}
    assert numbers_as_annotated("imaging", "Tiff", given) == {"file_path": "30", "sampling_frequency": number}
    assert given["sampling_frequency"] == text


def test_a_text_where_a_number_belongs_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match="sampling_frequency of TiffImagingExtractor is 'fast'"):
        open_imaging("Tiff", {"file_path": str(tmp_path / "a.tif"), "sampling_frequency": "fast"})
