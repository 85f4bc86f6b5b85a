"""``session.yaml`` holds every option of the writers; what is misspelt in it is refused by name."""

from __future__ import annotations

import pytest
import yaml

from airflow_provider_ophys.exceptions import ConfigurationError, MetadataError, PathNotAllowedError
from airflow_provider_ophys.models.conversion import (
    ImagingConversion,
    MovieOptions,
    SegmentationConversion,
    SegmentationOptions,
)
from airflow_provider_ophys.sessions.session_yaml import operator_options, read_session_yaml

MOVIE = {"extractor": "ScanImage", "extractor_kwargs": {"file_path": "m.tif"}}


@pytest.fixture
def read(tmp_path):
    def read(session, **options):
        text = session if isinstance(session, str) else yaml.safe_dump(session)
        (tmp_path / "session.yaml").write_text(text)
        return read_session_yaml(tmp_path, **options)

    return read


def test_paths_are_relative_to_the_folder_in_lists_and_by_any_name(read, tmp_path):
    (tmp_path / "masks.npy").touch()
    session = read(
        {
            "imaging": {
                "extractor": "MultiTIFF",
                "extractor_kwargs": {"file_paths": ["a.tif", "b/c.tif"], "x": 3},
            },
            "segmentation": {
                "extractor": "NumpySegmentation",
                "extractor_kwargs": {"image_masks": "masks.npy", "channel_names": ["Ch2", "none.npy"]},
            },
        }
    )

    assert session.imaging[0].extractor_kwargs == {
        "file_paths": [str(tmp_path / "a.tif"), str(tmp_path / "b/c.tif")],
        "x": 3,
    }
    assert session.segmentation[0].extractor_kwargs == {
        "image_masks": str(tmp_path / "masks.npy"),
        "channel_names": ["Ch2", "none.npy"],
    }


OTHER_OPTIONS = [
    {"photon_series_type": "OnePhotonSeries", "parent_container": "processing/ophys"},
    {"metadata_key": "green", "iterator_type": None, "always_write_timestamps": True},
]


@pytest.mark.parametrize("options", OTHER_OPTIONS)
def test_every_option_of_the_writers_arrives(read, options):
    (movie,) = read({"imaging": MOVIE | options}).imaging
    assert movie.model_dump(include=set(options)) == options


def test_a_section_has_one_entry_or_several_and_an_entry_several_arguments(read, tmp_path):
    planes = [{"folder_path": "s", "plane_name": f"plane{number}"} for number in range(2)]
    session = read(
        {
            "imaging": [MOVIE, MOVIE | {"extractor_kwargs": {"file_path": "red.tif"}, "metadata_key": "Red"}],
            "segmentation": {"extractor": "Suite2p", "extractor_kwargs": planes, "mask_type": "pixel"},
        }
    )

    movies = ImagingConversion.from_options({**operator_options(session.imaging), "nwbfile_path": "/x.nwb"})
    assert movies.parts == session.imaging
    assert [movie.metadata_key for movie in session.imaging] == [None, "Red"]
    cells = SegmentationConversion.from_options(
        {**operator_options(session.segmentation), "nwbfile_path": "/x.nwb"}
    )
    assert (
        cells.parts
        == session.segmentation
        == [
            SegmentationOptions(
                extractor="Suite2p",
                extractor_kwargs={"folder_path": str(tmp_path / "s"), "plane_name": plane},
                mask_type="pixel",
            )
            for plane in ("plane0", "plane1")
        ]
    )


def test_options_that_one_task_cannot_hold_apart_are_refused_for_it(read):
    session = read({"imaging": [MOVIE, MOVIE | {"always_write_timestamps": True}]})
    assert [movie.always_write_timestamps for movie in session.imaging] == [False, True]
    with pytest.raises(ConfigurationError, match="imaging in session.yaml differ in always_write_timestamps"):
        operator_options(session.imaging)


WRONG = {
    "section": ({"imaging": MOVIE, "segmentaton": MOVIE}, r"segmentaton is not known \(known there: imaging"),
    "option": (
        {"imaging": MOVIE | {"photon_series_typ": "x"}},
        r"imaging\.0\.photon_series_typ is not known .*type",
    ),
    "value": ({"imaging": MOVIE | {"photon_series_type": "Three"}}, r"imaging\.0\.photon_series_type.*Three"),
    "no extractor": ({"imaging": [MOVIE, {"extractor_kwargs": {}}]}, r"imaging\.1\.extractor is missing"),
    "text": ({"imaging": "movie.tif"}, r"imaging\.0 is 'movie.tif', which names no extractor"),
    "nothing": ({"imaging": []}, "names no recording"),
    "null": ({"imaging": None}, r"imaging\.0 is None"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named(read, case):
    session, message = WRONG[case]
    with pytest.raises(ConfigurationError, match=f"(?s)session.yaml.*{message}"):
        read(session)


@pytest.mark.parametrize("text", ["a movie", "- 1", "a: [", "a: &a [*a]", "\x00"])
def test_a_file_that_is_no_mapping_is_refused(read, text):
    with pytest.raises(MetadataError, match=r"session file .*session.yaml"):
        read(text)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(MetadataError, match=r"session file .*session.yaml cannot be read"):
        read_session_yaml(tmp_path)


@pytest.mark.parametrize("path", ["/etc/passwd", "../other/m.tif", "a/../../m.tif", "../{folder}x/m.tif"])
@pytest.mark.parametrize("arguments", ["file_path", "file_paths"])
def test_paths_that_lead_out_are_refused(read, tmp_path, path, arguments):
    path = path.format(folder=tmp_path.name)
    value = path if arguments == "file_path" else ["m.tif", path]
    with pytest.raises(PathNotAllowedError, match=rf"imaging\.0\.extractor_kwargs\.{arguments}.* leads out"):
        read({"imaging": {"extractor": "X", "extractor_kwargs": {arguments: value}}})


def test_what_is_no_path_is_named(read):
    with pytest.raises(ConfigurationError, match=r"imaging\.0\.extractor_kwargs\.file_path is .*which is no path"):
        read({"imaging": {"extractor": "X", "extractor_kwargs": {"file_path": "../a\0b"}}})


def test_a_file_that_is_a_link_is_read_only_from_where_its_paths_may_lead(tmp_path, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "common.yaml").write_text("imaging: {extractor: ScanImage, extractor_kwargs: {file_path: m.tif}}")
    (tmp_path / "session.yaml").symlink_to(elsewhere / "common.yaml")
    with pytest.raises(PathNotAllowedError, match="session.yaml leads to .*common.yaml, out of the folder"):
        read_session_yaml(tmp_path)
    assert read_session_yaml(tmp_path, [elsewhere]).imaging[0].extractor == "ScanImage"


def test_an_array_elsewhere_is_refused_whatever_its_argument_is_called(read, tmp_path_factory):
    array = tmp_path_factory.mktemp("elsewhere") / "a.npy"
    array.touch()
    with pytest.raises(PathNotAllowedError, match=r"timeseries"):
        read({"imaging": {"extractor": "Numpy", "extractor_kwargs": {"timeseries": str(array)}}})


def test_paths_may_lead_where_the_platform_allows_it(read, tmp_path, tmp_path_factory):
    root = tmp_path_factory.mktemp("raw")
    for path in (str(root / "m.tif"), str(tmp_path / "m.tif"), "a/../m.tif"):
        movie = MOVIE | {"extractor_kwargs": {"file_path": path}}
        (read_movie,) = read({"imaging": movie}, allowed_roots=[root]).imaging
        assert read_movie == MovieOptions(
            extractor="ScanImage", extractor_kwargs={"file_path": str(tmp_path / path)}
        )
