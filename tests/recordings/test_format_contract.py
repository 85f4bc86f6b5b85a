"""
What every format keeps, on recordings made here: all files known, whole or refused, contents and headers right.

A format joins by a module in ``recording_makers``.
"""

from __future__ import annotations

import functools
import gc
import inspect
import os
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from recording_makers import MAKERS, Made

from airflow_provider_ophys.exceptions import OphysError, SourceDataError, SourceNotFoundError
from airflow_provider_ophys.extractor_internals import traces_of
from airflow_provider_ophys.extractors import find_extractor, open_imaging, open_segmentation
from airflow_provider_ophys.models.metadata import merge_metadata, validate_metadata
from airflow_provider_ophys.recordings import recording_of
from airflow_provider_ophys.recordings.formats import FORMATS, format_of
from airflow_provider_ophys.recordings.headers import SECTIONS
from airflow_provider_ophys.recordings.state import SourceState, fingerprint

LONG_AGO = 1_700_000_000

pytestmark = [
    # What the readers say of a bad file on the way to their error.
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::ResourceWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True, scope="module")
def _readers_are_gone():
    yield
    gc.collect()


@pytest.fixture(params=MAKERS)
def made(request, tmp_path) -> Made:
    recording = MAKERS[request.param](tmp_path / "recording")
    for file in recording.folder.rglob("*"):
        os.utime(file, (LONG_AGO, LONG_AGO))
    return recording


def known(made: Made):
    return recording_of(made.kind, made.extractor, made.arguments)


def opened(made: Made, arguments=None, **options):
    opener = open_imaging if made.kind == "imaging" else open_segmentation
    return opener(made.extractor, made.arguments if arguments is None else arguments, **options)


def entries(made: Made):
    """What contents tells of: movies, or segmentations."""
    contents = known(made).contents()
    return contents.movies if made.kind == "imaging" else contents.segmentations


_opened_files: list[str] | None = None


def _note(event: str, arguments: tuple) -> None:
    if event == "open" and _opened_files is not None and isinstance(arguments[0], (str, os.PathLike)):
        _opened_files.append(os.fspath(arguments[0]))


@functools.cache
def _take_notes() -> None:
    """Only where a test needs it: there is no way to take it away again, and all that follows pays for it."""
    sys.addaudithook(_note)


@contextmanager
def opened_below(folder: Path):
    """The files below a folder that this process opens; of those of C libraries, what it has open at the end."""
    global _opened_files  # noqa: PLW0603
    _take_notes()
    files: set[Path] = set()
    _opened_files = []
    try:
        yield files
        _opened_files += [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    finally:
        names, _opened_files = _opened_files, None
        files.update(Path(name) for name in names if Path(name).is_relative_to(folder) and Path(name).is_file())


def test_its_files_are_those_that_are_read(made):
    arguments = entries(made)[0].extractor_kwargs
    with opened_below(made.folder) as files:
        if made.kind == "segmentation":
            opened(made, arguments)
        else:
            extractor = opened(made, arguments, check=False)
            np.asarray(extractor.get_series())
            extractor.get_native_timestamps()
    assert set(known(made).files) == set(made.files)
    assert files <= set(made.files)


def test_a_whole_one_is_whole(made):
    known(made).check()


def test_it_is_found_in_its_folder_and_by_no_other_format(made):
    found = [
        recording
        for kind, formats in FORMATS.items()
        for cls in dict.fromkeys(format_of(kind, name) for name in formats)
        for folder in [made.folder, *filter(Path.is_dir, made.folder.rglob("*"))]
        for recording in cls.find(folder)
    ]
    arguments = {name: value for name, value in made.arguments.items() if name not in made.unknown}
    expected = made.found_arguments or arguments
    if made.is_found:
        assert [(each.extractor, each.extractor_kwargs) for each in found] == [(made.extractor, expected)]
    elif made.is_found is None:
        assert [each.extractor_kwargs for each in found] == [expected]
        assert made.extractor not in [each.extractor for each in found]
    else:
        assert made.extractor not in [each.extractor for each in found]


def test_a_channel_that_is_not_there_is_refused(made):
    """Also where there is one only, of which roiextractors overlooks the name."""
    takes = inspect.signature(find_extractor(made.kind, made.extractor)).parameters
    if made.kind != "imaging" or "channel_name" not in takes or not any(each.channel for each in entries(made)):
        pytest.skip("its files name no channels, or its extractor takes none")
    with pytest.raises(OphysError, match="Nope"):
        opened(made, made.arguments | {"channel_name": "Nope"})


def test_every_movie_is_what_the_extractor_gives(made):
    if made.kind != "imaging":
        pytest.skip("a segmentation has no movies")
    movies = entries(made)
    assert len(movies) == made.num_movies
    for movie in movies:
        imaging = opened(made, movie.extractor_kwargs)
        assert imaging.get_num_samples() == movie.num_samples
        assert tuple(imaging.get_sample_shape()) == movie.sample_shape
        assert movie.dtype in (None, np.dtype(imaging.get_dtype()).name)
        assert movie.rate == pytest.approx(made.rate)
        assert imaging.get_sampling_frequency() == pytest.approx(made.rate)
        assert movie.start == made.start or made.start is None
        for index, plane in enumerate(movie.planes):
            np.testing.assert_array_equal(opened(made, plane).get_series(), imaging.get_series()[..., index])
    np.testing.assert_array_equal(opened(made, movies[0].extractor_kwargs).get_series(), made.truth)


def test_every_segmentation_is_what_the_extractor_gives(made):
    if made.kind != "segmentation":
        pytest.skip("a movie has no ROIs")
    planes = entries(made)
    assert len(planes) == made.num_movies
    for plane in planes:
        cells = opened(made, plane.extractor_kwargs)
        assert cells.get_num_rois() == plane.num_rois
        assert cells.get_num_samples() == plane.num_samples
        assert tuple(cells.get_frame_shape()) == (made.reader_shape or plane.image_shape)
        assert plane.rate == pytest.approx(made.rate)
        assert cells.get_sampling_frequency() == pytest.approx(made.rate)
    cells = opened(made, planes[0].extractor_kwargs)
    first, *_ = traces_of(cells).values()
    np.testing.assert_array_equal(np.asarray(first), made.truth)


def test_the_headers_are_understood(made):
    headers = known(made).metadata()
    flat = dict(_leaves(headers.metadata))
    for fact, value in made.facts.items():
        section, _, field = fact.partition(".")
        path = ".".join((*SECTIONS.get(section, (section,)), field))
        assert path in headers.sources
        if isinstance(value, str):
            assert value in flat[path]
        else:
            assert flat[path] == value
    assert set(headers.sources) <= set(flat)


def test_its_metadata_is_valid_once_the_series_has_a_name(made):
    headers = known(made).metadata().metadata
    named = {"name": "Movie", "unit": "n.a."}
    series = {key: named | entry for key, entry in headers.get("Ophys", {}).get("MicroscopySeries", {}).items()}
    start = {"session_start_time": "2026-01-01T00:00:00+00:00"}
    complete = merge_metadata({"NWBFile": start}, headers)
    validate_metadata(merge_metadata(complete, {"Ophys": {"MicroscopySeries": series}}))


def _leaves(metadata, path=()):
    for name, value in metadata.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*path, name))
        else:
            yield ".".join((*path, name)), _close(value)


def _close(value):
    if isinstance(value, list):
        return [_close(item) for item in value]
    if isinstance(value, dict):
        return {name: _close(item) for name, item in value.items()}
    return pytest.approx(value) if isinstance(value, float) else value


@pytest.mark.parametrize("change", ["byte", "size", "time"])
def test_no_file_changes_unnoticed(made, change):
    before, print_before = SourceState.of([known(made)]).files, fingerprint([known(made)])
    for file in made.files:
        content, stat = file.read_bytes(), file.stat()
        middle = len(content) // 2
        if change == "byte":
            file.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
            assert fingerprint([_with_these_files(made)]) != print_before
        elif change == "size":
            file.write_bytes(content + b"\0")
            assert fingerprint([_with_these_files(made)]) != print_before
        else:
            os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
        assert SourceState.of([_with_these_files(made)]).files != before
        file.write_bytes(content)
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert SourceState.of([known(made)]).files == before


def _with_these_files(made: Made):
    """The recording, with the files that it had: a changed header may name others, or none."""
    recording = known(made)
    recording.__dict__["files"] = sorted(made.files)
    return recording


def test_a_missing_file_is_noticed(made):
    for file in set(made.files) - set(made.dispensable):
        aside = made.folder.parent / "aside"
        shutil.move(file, aside)
        os.utime(made.folder, (LONG_AGO, LONG_AGO))
        with pytest.raises((SourceDataError, SourceNotFoundError)) as caught:
            opened(made)
        assert file.name in str(caught.value) or made.folder.name in str(caught.value)
        shutil.move(aside, file)


@pytest.mark.parametrize("keep", [0.3, 0.7, 0.97])
def test_a_file_that_was_cut_off_is_refused_and_named(made, keep):
    for file in set(made.files) - set(made.uncut):
        content = file.read_bytes()
        file.write_bytes(content[: int(len(content) * keep)])
        os.utime(file, (LONG_AGO, LONG_AGO))
        with pytest.raises(SourceDataError) as caught:
            opened(made)
        assert file.name in str(caught.value)
        file.write_bytes(content)
        os.utime(file, (LONG_AGO, LONG_AGO))


def test_a_file_that_the_extractor_finds_by_itself_may_not_be_a_link_that_leads_out(made, tmp_path):
    named = {str(value) for value in _texts(made.arguments)}
    for file in made.files:
        if str(file) in named:
            continue
        outside = tmp_path / f"outside-{file.name}"
        shutil.move(file, outside)
        file.symlink_to(outside)
        with pytest.raises(SourceDataError, match=r"leads? to|out of") as caught:
            opened(made)
        assert file.name in str(caught.value)
        file.unlink()
        shutil.move(outside, file)


def _texts(value):
    if isinstance(value, dict):
        value = list(value.values())
    return [text for item in value for text in _texts(item)] if isinstance(value, list) else [value]
