"""The writers know the recording of an extractor that is open: what its headers say, and its files."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from pynwb import NWBHDF5IO

sys.path.append(str(Path(__file__).parents[1] / "recordings"))

from recording_makers import MAKERS, ROWS, Made
from roiextractors.testing import generate_dummy_imaging_extractor, generate_dummy_segmentation_extractor

from airflow_provider_ophys.conversion import write_session
from airflow_provider_ophys.conversion.run import convert_imaging, convert_segmentation
from airflow_provider_ophys.exceptions import ExtractorVersionError, MetadataError, SourceChangedError
from airflow_provider_ophys.extractors import find_extractor, open_imaging, open_segmentation
from airflow_provider_ophys.mended_extractors import mended
from airflow_provider_ophys.models.conversion import ImagingConversion, SegmentationConversion
from airflow_provider_ophys.nwb import write_imaging_to_nwbfile, write_segmentation_to_nwbfile
from airflow_provider_ophys.opened_recordings import MOST_NAMED_FILES, note_recording, recording_behind
from airflow_provider_ophys.recordings import recording_of

SESSION = {"NWBFile": {"session_start_time": "2026-11-22T09:30:00+00:00"}}

# roiextractors' own object, of another class, does not tell what it was asked for.
NOT_KNOWN = {
    "Bruker, volumes by the older extractor",
    "Bruker, planes by the older extractor",
    "Micro-Manager",
    "NumPy with channels",
    "NumPy without channels",
    "Planes in files of their own",
    "ScanImage before 2016",
    "pixels alone",
}

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]


def last_part(made: Made):
    """Arguments of the last of the movies, or segmentations, of a recording."""
    contents = recording_of(made.kind, made.extractor, made.arguments).contents()
    parts = contents.movies if made.kind == "imaging" else contents.segmentations
    return parts[-1].extractor_kwargs


def paths_of(arguments):
    """The arguments of roiextractors' own classes, some of which take no text for a path."""
    return {name: Path(value) if name.endswith("_path") else value for name, value in arguments.items()}


@pytest.mark.parametrize("name", sorted(MAKERS.keys() - NOT_KNOWN))
def test_the_recording_of_any_open_extractor_is_the_one_that_it_was_opened_with(tmp_path, name):
    made = MAKERS[name](tmp_path / "recording")
    arguments = last_part(made)
    wanted = recording_of(made.kind, made.extractor, arguments)
    extractor = mended(find_extractor(made.kind, made.extractor), wanted)(**paths_of(arguments))

    found = recording_behind(made.kind, extractor)

    assert found is not None
    assert set(found.files) == set(wanted.files)
    assert found.metadata() == wanted.metadata()


@pytest.mark.parametrize("name", sorted(NOT_KNOWN & MAKERS.keys()))
def test_of_an_extractor_that_does_not_tell_nothing_is_guessed_but_what_was_opened_here_is_known(tmp_path, name):
    made = MAKERS[name](tmp_path / "recording")
    arguments = last_part(made)
    opened, wanted = open_imaging(made.extractor, arguments), recording_of("imaging", made.extractor, arguments)
    assert recording_behind("imaging", opened).metadata() == wanted.metadata()
    del opened._ophys_recording
    found = recording_behind("imaging", opened)
    said = {} if found is None else found.metadata().metadata
    assert said in ({}, wanted.metadata().metadata)


def said_in(path):
    """All that a file says of the session, devices, planes, movies and tables, but for references and pixels."""
    said = {}

    def note(name, item):
        values = {f"{name}.{key}": value for key, value in item.attrs.items()}
        if isinstance(item, h5py.Dataset) and item.size < 100:
            values[name] = item[()]
        for key, value in values.items():
            if not key.endswith(("object_id", "airflow_provider_ophys", "identifier", "file_create_date")):
                is_reference = isinstance(value, h5py.Reference) or getattr(value, "dtype", None) == h5py.ref_dtype
                said[key] = "reference" if is_reference else str(value)

    with h5py.File(path) as file:
        file.visititems(note)
    return said


FORMATS = (
    "ScanImage, volumes of two channels",
    "Bruker, a file per frame",
    "Miniscope",
    "suite2p",
    "Micro-Manager",
)


@pytest.mark.parametrize(
    "name",
    ["ScanImage, volumes of two channels", "Bruker, a file per frame", "Miniscope", "suite2p", "Micro-Manager"],
)
def test_the_writers_and_the_operators_write_the_same_of_the_headers(tmp_path, name):
    made = MAKERS[name](tmp_path / "recording")
    arguments = last_part(made)
    metadata = SESSION if made.start is None else {"NWBFile": {"lab": "A lab"}}
    options = {"extractor": made.extractor, "extractor_kwargs": arguments, "metadata": metadata}
    if made.kind == "imaging":
        convert_imaging(ImagingConversion(nwbfile_path=str(tmp_path / "a.nwb"), **options))
        write_imaging_to_nwbfile(open_imaging(made.extractor, arguments), tmp_path / "b.nwb", metadata=metadata)
    else:
        convert_segmentation(SegmentationConversion(nwbfile_path=str(tmp_path / "a.nwb"), **options))
        cells = open_segmentation(made.extractor, arguments)
        write_segmentation_to_nwbfile(cells, tmp_path / "b.nwb", metadata=metadata)
    by_operator, by_writer = said_in(tmp_path / "a.nwb"), said_in(tmp_path / "b.nwb")
    assert by_writer == by_operator
    assert any(key.endswith("imaging_rate") for key in by_writer)


def test_what_is_given_wins_and_the_session_starts_when_the_header_says(tmp_path):
    made = MAKERS["ScanImage, one file"](tmp_path / "recording")
    given = {"Ophys": {"ImagingPlanes": {"mine": {"name": "V1", "location": "V1", "imaging_rate": 29.0}}}}
    plain = find_extractor("imaging", made.extractor)(**paths_of(made.arguments))
    with pytest.raises(MetadataError, match="optical_channel is missing"):
        write_imaging_to_nwbfile(plain, tmp_path / "a.nwb", metadata=given, source_metadata=False)
    given["Ophys"]["ImagingPlanes"]["mine"] |= {"excitation_lambda": 920.0, "indicator": "GCaMP6s"}
    write_imaging_to_nwbfile(plain, tmp_path / "a.nwb", metadata=given)
    with NWBHDF5IO(tmp_path / "a.nwb", "r") as io:
        nwbfile = io.read()
        assert nwbfile.session_start_time.replace(tzinfo=None) == made.start
        (plane,) = nwbfile.imaging_planes.values()
        assert (plane.name, plane.location, plane.imaging_rate) == ("V1", "V1", 29.0)
        assert plane.optical_channel[0].name == "Green"
        series = nwbfile.acquisition["TwoPhotonSeries"]
        assert series.scan_line_rate == made.facts["series.scan_line_rate"]
        assert series.imaging_plane is plane


def test_headers_are_not_asked_where_the_caller_does_not_want_them(tmp_path):
    made = MAKERS["ScanImage, one file"](tmp_path / "recording")
    movie = open_imaging(made.extractor, made.arguments)
    with pytest.raises(MetadataError, match="no NWBFile.session_start_time"):
        write_imaging_to_nwbfile(movie, tmp_path / "a.nwb", source_metadata=False)
    write_imaging_to_nwbfile(movie, tmp_path / "a.nwb", metadata=SESSION, source_metadata=False)
    with NWBHDF5IO(tmp_path / "a.nwb", "r") as io:
        assert io.read().acquisition["TwoPhotonSeries"].scan_line_rate is None


def test_some_of_the_samples_have_the_headers_of_all_and_a_cut_out_has_none(tmp_path):
    made = MAKERS["ScanImage, one file"](tmp_path / "recording")
    movie = open_imaging(made.extractor, made.arguments)
    assert recording_behind("imaging", movie.slice_samples(2, 5)) is recording_behind("imaging", movie)
    assert recording_behind("imaging", movie.slice_field_of_view(row_start=2, row_end=ROWS)) is None
    write_imaging_to_nwbfile(movie.slice_samples(2, 5), tmp_path / "a.nwb")
    with NWBHDF5IO(tmp_path / "a.nwb", "r") as io:
        series = io.read().acquisition["TwoPhotonSeries"]
        np.testing.assert_array_equal(series.data[:].transpose(0, 2, 1), made.truth[2:5])
        assert series.imaging_plane.imaging_rate == made.rate


@pytest.mark.parametrize("name", ["_parent_imaging", "_channel_index"])
def test_where_a_later_roiextractors_has_another_name_nothing_is_guessed(tmp_path, name):
    made = MAKERS["Bruker, two channels of many pages"](tmp_path / "recording")
    movie = open_imaging(made.extractor, last_part(made))
    del movie._ophys_recording
    movie = movie.slice_samples(0, 2) if name == "_parent_imaging" else movie
    vars(movie)[f"_new{name}"] = vars(movie).pop(name)
    with pytest.raises(ExtractorVersionError, match=f"has no {name}, which roiextractors"):
        recording_behind("imaging", movie)


def two_cells():
    return generate_dummy_segmentation_extractor(num_rois=2, num_samples=3)


def test_an_object_without_files_has_no_headers():
    movie = generate_dummy_imaging_extractor(num_samples=2)
    assert recording_behind("imaging", movie) is None
    assert (
        recording_behind("segmentation", generate_dummy_segmentation_extractor(num_rois=2, num_samples=3)) is None
    )


def test_what_is_in_the_file_already_is_described_by_no_header(tmp_path):
    one = MAKERS["ScanImage, one file"](tmp_path / "one")
    write_imaging_to_nwbfile(open_imaging(one.extractor, one.arguments), tmp_path / "a.nwb")
    other = MAKERS["ScanImage, three files"](tmp_path / "other")
    second = {"Ophys": {"MicroscopySeries": {"second": {"name": "Second", "unit": "n.a.", "rate": 10.0}}}}
    movie = open_imaging(other.extractor, other.arguments)
    write_imaging_to_nwbfile(movie, tmp_path / "a.nwb", metadata=second, append_on_disk_nwbfile=True)
    with NWBHDF5IO(tmp_path / "a.nwb", "r") as io:
        nwbfile = io.read()
        assert list(nwbfile.devices) == ["Microscope"]
        assert nwbfile.acquisition["Second"].scan_line_rate == one.facts["series.scan_line_rate"]
        assert nwbfile.acquisition["Second"].rate == 10.0


def planes_of_suite2p(folder):
    made = MAKERS["suite2p"](folder)
    names = find_extractor("segmentation", made.extractor).get_available_planes(made.folder)
    return made, [made.arguments | {"plane_name": name} for name in names]


def test_a_list_of_segmentations_is_written_as_the_operator_writes_it(tmp_path):
    made, planes = planes_of_suite2p(tmp_path / "recording")
    options = {"extractor": made.extractor, "extractor_kwargs": planes, "metadata": SESSION}
    convert_segmentation(SegmentationConversion(nwbfile_path=str(tmp_path / "a.nwb"), **options))
    cells = [open_segmentation(made.extractor, arguments) for arguments in planes]
    write_segmentation_to_nwbfile(cells, tmp_path / "b.nwb", metadata=SESSION)
    assert said_in(tmp_path / "b.nwb") == said_in(tmp_path / "a.nwb")
    write_segmentation_to_nwbfile(cells, tmp_path / "c.nwb", metadata=[SESSION, None])
    with NWBHDF5IO(tmp_path / "c.nwb", "r") as io:
        tables = io.read().processing["ophys"]["ImageSegmentation"].plane_segmentations
        assert list(tables) == ["PlaneSegmentation_0", "PlaneSegmentation_1"]
        assert [table.imaging_plane.imaging_rate for table in tables.values()] == [made.rate] * 2


def test_one_of_a_list_may_have_no_files(tmp_path):
    made, planes = planes_of_suite2p(tmp_path / "recording")
    cells = [
        open_segmentation(made.extractor, planes[0]),
        generate_dummy_segmentation_extractor(num_rois=2, num_samples=3),
    ]
    write_segmentation_to_nwbfile(cells, tmp_path / "a.nwb", metadata=SESSION)
    with NWBHDF5IO(tmp_path / "a.nwb", "r") as io:
        tables = io.read().processing["ophys"]["ImageSegmentation"].plane_segmentations
        rates = {name: table.imaging_plane.imaging_rate for name, table in tables.items()}
    assert rates == {"PlaneSegmentation_0": made.rate, "PlaneSegmentation_1": None}


TWO = {key: {"name": name, "description": "Ours"} for key, name in (("a", "Cells"), ("b", "Others"))}
DESCRIPTIONS = {
    "a name": ({"plane_segmentation_name": "Cells"}, {}, "Cells"),
    "a key": ({"metadata_key": "a"}, {}, "PlaneSegmentation_a"),
    "a table": ({}, {"PlaneSegmentations": {"a": {"name": "Cells", "description": "Ours"}}}, "Cells"),
    "one of two tables": (
        {"plane_segmentation_name": "Cells"},
        {
            "PlaneSegmentations": {
                key: {"name": name, "description": "Ours"} for key, name in (("a", "Cells"), ("b", "B"))
            }
        },
        "Cells",
    ),
    "traces only": ({}, {"RoiResponses": {"a": {"raw": {"name": "Raw", "unit": "n.a."}}}}, "PlaneSegmentation"),
    "background too": (
        {},
        {
            "PlaneSegmentations": {
                "a": {"name": "Cells", "description": "Ours"},
                "b": {"name": "BackgroundPlaneSegmentation", "description": "Others"},
            }
        },
        "Cells",
    ),
}


@pytest.mark.parametrize(("options", "ophys", "table"), DESCRIPTIONS.values(), ids=DESCRIPTIONS)
@pytest.mark.parametrize("by", ["operator", "writer", "session"])
def test_the_headers_of_a_segmentation_are_under_whatever_describes_it(tmp_path, by, options, ophys, table):
    made, (arguments, _) = planes_of_suite2p(tmp_path / "recording")
    metadata = SESSION | {"Ophys": ophys}
    if by == "operator":
        conversion = {"extractor": made.extractor, "extractor_kwargs": arguments, "metadata": metadata, **options}
        convert_segmentation(SegmentationConversion(nwbfile_path=str(tmp_path / "a.nwb"), **conversion))
    elif by == "session":
        part = {"extractor": made.extractor, "extractor_kwargs": arguments, **options}
        write_session({"segmentation": [part], "metadata": metadata}, tmp_path / "a.nwb")
    else:
        cells = open_segmentation(made.extractor, arguments)
        write_segmentation_to_nwbfile(cells, tmp_path / "a.nwb", metadata=metadata, **options)
    with NWBHDF5IO(tmp_path / "a.nwb", "r") as io:
        tables = io.read().processing["ophys"]["ImageSegmentation"].plane_segmentations
        assert list(tables) == [table]
        assert tables[table].imaging_plane.imaging_rate == made.rate


@pytest.mark.parametrize("by", ["operator", "writer"])
def test_a_series_whose_fields_tell_its_type_is_of_it_whatever_the_format_says(tmp_path, by):
    made = MAKERS["ScanImage, one file"](tmp_path / "recording")
    series = {"name": "Wide", "unit": "n.a.", "exposure_time": 0.01}
    metadata = {"Ophys": {"MicroscopySeries": {"a": series}}}
    if by == "operator":
        options = {"extractor": made.extractor, "extractor_kwargs": made.arguments, "metadata": metadata}
        convert_imaging(ImagingConversion(nwbfile_path=str(tmp_path / "a.nwb"), **options))
    else:
        write_imaging_to_nwbfile(
            open_imaging(made.extractor, made.arguments), tmp_path / "a.nwb", metadata=metadata
        )
    with NWBHDF5IO(tmp_path / "a.nwb", "r") as io:
        assert type(io.read().acquisition["Wide"]).__name__ == "OnePhotonSeries"


def test_comments_name_the_files_and_of_many_the_first_ones(tmp_path):
    made = MAKERS["Bruker, a file per frame"](tmp_path / "recording")
    movie = open_imaging(made.extractor, made.arguments)
    write_imaging_to_nwbfile(movie, tmp_path / "a.nwb", metadata=SESSION)
    several = MAKERS["ScanImage, three files"](tmp_path / "several")
    plain = find_extractor("imaging", several.extractor)(**paths_of(several.arguments))
    write_imaging_to_nwbfile(plain, tmp_path / "b.nwb")
    comments = []
    for name in ("a.nwb", "b.nwb"):
        with NWBHDF5IO(tmp_path / name, "r") as io:
            comments.append(io.read().acquisition["TwoPhotonSeries"].comments)
    names = [file.name for file in recording_of("imaging", made.extractor, made.arguments).files]
    assert len(names) < MOST_NAMED_FILES
    assert comments[0].startswith(f"Read from {', '.join(names)} with BrukerTiffImagingExtractor of roiextractors")
    three = "m1_00002_00001.tif, m1_00002_00002.tif, m1_00002_00003.tif"
    assert comments[1].startswith(f"Read from {three} with ScanImageImagingExtractor")


def test_comments_of_six_thousand_files_stay_short(tmp_path):
    files = [tmp_path / f"frame{number:05d}.tif" for number in range(6000)]
    for file in files:
        file.touch()
    arguments = {"file_paths": list(map(str, files)), "sampling_frequency": 1.0}
    movie = generate_dummy_imaging_extractor(num_samples=2)
    note_recording(movie, recording_of("imaging", "MultiTIFF", arguments))
    write_imaging_to_nwbfile(movie, tmp_path / "a.nwb", metadata=SESSION, source_metadata=False)
    with NWBHDF5IO(tmp_path / "a.nwb", "r") as io:
        comments = io.read().acquisition["TwoPhotonSeries"].comments
    assert comments.startswith("Read from frame00000.tif, frame00001.tif, ")
    assert "frame00009.tif and 5,990 more with" in comments
    assert len(comments) < 500


@pytest.mark.parametrize("name", ["OME-TIFF, three files", "TIFF, a stack", "suite2p", "CaImAn"])
@pytest.mark.parametrize("opened_by", ["this package", "roiextractors"])
def test_a_recording_that_changes_while_a_writer_reads_it_is_not_published(tmp_path, name, opened_by):
    made = MAKERS[name](tmp_path / "recording")
    arguments = last_part(made)
    opener, write, method = {
        "imaging": (open_imaging, write_imaging_to_nwbfile, "get_series"),
        "segmentation": (open_segmentation, write_segmentation_to_nwbfile, "get_traces_dict"),
    }[made.kind]
    if opened_by == "this package":
        extractor = opener(made.extractor, arguments)
    else:
        extractor = find_extractor(made.kind, made.extractor)(**paths_of(arguments))
    read, changed = getattr(extractor, method), recording_of(made.kind, made.extractor, arguments).files[-1]

    def change_and_read(*args, **kwargs):
        os.utime(changed)
        return read(*args, **kwargs)

    extractor.__dict__[method] = change_and_read
    with pytest.raises(SourceChangedError, match=f"changed while it was converted.*{changed.name}"):
        write(extractor, tmp_path / "a.nwb", metadata=SESSION)
    assert [path.name for path in tmp_path.iterdir()] == ["recording"]
    del extractor.__dict__[method]
    write(extractor, tmp_path / "a.nwb", metadata=SESSION)
