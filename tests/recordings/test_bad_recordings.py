"""Every bad recording is refused with an error of ours that names its file and the frame or field."""

from __future__ import annotations

import gc
import os
import shutil
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from airflow_provider_ophys.conversion.run import convert_imaging, convert_segmentation
from airflow_provider_ophys.exceptions import (
    OphysError,
    SourceChangedError,
    SourceDataError,
    unreadable,
)
from airflow_provider_ophys.models.conversion import ImagingConversion, SegmentationConversion
from demo.recording import simulate_acquisition

METADATA = {"NWBFile": {"session_start_time": "2026-11-22T09:30:00+01:00"}}
MOVIE = np.random.default_rng(0).poisson(100, (60, 30, 40)).astype("uint16")
LONG_AGO = 1_700_000_000
RAN = Path(__file__).with_name("a-pickle-ran")

pytestmark = pytest.mark.filterwarnings(
    # What the readers say of a bad file on the way to their error.
    "ignore::UserWarning",
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)


@pytest.fixture(autouse=True)
def _readers_are_gone():
    """
    Readers that fail half-way complain when they are collected: here, not in somebody else's test.

    What was there before, which is all of Airflow, is not looked through for it: that takes half a second.
    """
    gc.freeze()
    yield
    gc.collect()
    gc.unfreeze()


def write_tiff(path: Path, kind: str) -> None:
    if kind == "contiguous":
        tifffile.imwrite(path, MOVIE, photometric="minisblack")
    elif kind == "big":
        tifffile.imwrite(path, MOVIE, photometric="minisblack", bigtiff=True, byteorder=">")
    elif kind == "imagej":
        tifffile.imwrite(path, MOVIE, imagej=True)
    elif kind == "compressed":
        tifffile.imwrite(path, MOVIE, photometric="minisblack", compression="zlib")
    elif kind == "paged":
        with tifffile.TiffWriter(path) as writer:
            for frame in MOVIE:
                writer.write(frame, contiguous=False, metadata=None, photometric="minisblack")
    elif kind == "one page":
        # As ImageJ writes stacks of more than 4 GB: after the first page there are only pixels.
        tifffile.imwrite(path, MOVIE, imagej=True)
        with tifffile.TiffFile(path) as file:
            fields, last_pixel = len(file.pages[0].tags), file.pages[59].dataoffsets[0] + MOVIE[0].nbytes
            next_page = file.pages[0].offset + 2 + 12 * fields
        with path.open("r+b") as stream:
            stream.seek(next_page)
            stream.write(bytes(4))
            stream.truncate(last_pixel)


def cut(path: Path, keep: float) -> None:
    os.truncate(path, int(path.stat().st_size * keep))
    os.utime(path, (LONG_AGO, LONG_AGO))


def tiff_arguments(extractor: str, path: Path) -> dict[str, object]:
    paths = {"file_paths": [str(path)]} if extractor.startswith("Multi") else {"file_path": str(path)}
    return paths | {"sampling_frequency": 30.0}


def refuse(tmp_path: Path, kind: str, extractor: str, arguments: dict[str, object]) -> OphysError:
    """Convert, and return the error; nothing may be left of the output."""
    (tmp_path / "output").mkdir()
    options = {
        "extractor": extractor,
        "extractor_kwargs": arguments,
        "nwbfile_path": str(tmp_path / "output" / "a.nwb"),
        "metadata": METADATA,
    }
    with pytest.raises(OphysError) as caught:
        if kind == "imaging":
            convert_imaging(ImagingConversion(**options))
        else:
            convert_segmentation(SegmentationConversion(**options))
    assert list((tmp_path / "output").iterdir()) == []
    return caught.value


@pytest.mark.parametrize("extractor", ["Tiff", "MultiTIFFMultiPage"])
@pytest.mark.parametrize("keep", [0.5, 0.99])
@pytest.mark.parametrize("kind", ["contiguous", "big", "imagej", "compressed", "paged"])
def test_a_truncated_tiff_is_named_with_its_frame(tmp_path, kind, keep, extractor):
    path = tmp_path / "movie.tif"
    write_tiff(path, kind)
    cut(path, keep)
    error = refuse(tmp_path, "imaging", extractor, tiff_arguments(extractor, path))
    assert isinstance(error, SourceDataError)
    assert f"{path} is not whole: frame " in str(error)


def test_a_truncated_scanimage_movie_is_not_a_shorter_one(tmp_path):
    """Cut between two pages, it opens as a movie of fewer frames: every page of what is left can be read."""
    path = simulate_acquisition(tmp_path / "session", num_samples=20) / "movie.tif"
    with tifffile.TiffFile(path) as file:
        page = file.pages[12].offset
    os.truncate(path, page)
    os.utime(path, (LONG_AGO, LONG_AGO))
    error = refuse(tmp_path, "imaging", "ScanImage", {"file_path": str(path)})
    assert f"{path} is not whole: frame 12 (counted from 0)" in str(error)


def test_frames_without_pages_are_not_left_out(tmp_path):
    path = tmp_path / "movie.tif"
    write_tiff(path, "one page")
    error = refuse(tmp_path, "imaging", "MultiTIFFMultiPage", tiff_arguments("Multi", path))
    assert "60 frames behind a single TIFF page" in str(error)
    shutil.rmtree(tmp_path / "output")
    cut(path, 0.9)
    error = refuse(tmp_path, "imaging", "Tiff", tiff_arguments("Tiff", path))
    assert f"{path} is not whole: its description announces 60 frames" in str(error)


@pytest.mark.parametrize("kind", ["contiguous", "big", "imagej", "compressed", "paged"])
def test_whole_ones_are_converted(tmp_path, kind):
    write_tiff(tmp_path / "movie.tif", kind)
    for extractor in ("Tiff", "MultiTIFFMultiPage"):
        result = convert_imaging(
            ImagingConversion(
                extractor=extractor,
                extractor_kwargs=tiff_arguments(extractor, tmp_path / "movie.tif"),
                nwbfile_path=str(tmp_path / f"{extractor}.nwb"),
                metadata=METADATA,
            )
        )
        assert result.num_samples == 60


NO_PAGES = b"II*\0" + (0).to_bytes(4, "little")
OF_ANOTHER_FORMAT = {
    "empty": (b"", "is no TIFF file"),
    "text": (b"hello, this is a text", "is no TIFF file"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "is no TIFF file"),
    "no page": (NO_PAGES, "has no frames"),
    "half a header": (b"II+\0\x08\0", "is no TIFF file"),
    "noise": (b"II*\0" + np.random.default_rng(0).bytes(500), "is not whole"),
}


@pytest.mark.parametrize("extractor", ["Tiff", "MultiTIFFMultiPage", "ScanImage"])
@pytest.mark.parametrize(("content", "message"), OF_ANOTHER_FORMAT.values(), ids=OF_ANOTHER_FORMAT.keys())
def test_what_is_no_tiff_movie_is_said(tmp_path, content, message, extractor):
    path = tmp_path / "movie.tif"
    path.write_bytes(content)
    os.utime(path, (LONG_AGO, LONG_AGO))
    arguments = tiff_arguments(extractor, path)
    if extractor == "ScanImage":
        del arguments["sampling_frequency"]
    error = refuse(tmp_path, "imaging", extractor, arguments)
    assert isinstance(error, SourceDataError)
    assert f"{path} {message}" in str(error)


def test_a_tiff_that_is_no_scanimage_one_is_said(tmp_path):
    write_tiff(tmp_path / "movie.tif", "contiguous")
    error = refuse(tmp_path, "imaging", "ScanImage", {"file_path": str(tmp_path / "movie.tif")})
    assert f"{tmp_path / 'movie.tif'} has no settings of ScanImage" in str(error)


def test_a_movie_that_is_not_whole_yet_may_be_tried_again(tmp_path):
    path = tmp_path / "movie.tif"
    write_tiff(path, "paged")
    cut(path, 0.6)
    os.utime(path)
    error = refuse(tmp_path, "imaging", "Tiff", tiff_arguments("Tiff", path))
    assert isinstance(error, SourceChangedError)
    assert error.retryable
    assert "so it may still be growing" in str(error)


def test_a_movie_that_grows_while_it_is_converted_is_not_published(tmp_path):
    path = tmp_path / "movie.tif"
    write_tiff(path, "paged")
    finished = threading.Event()

    def grow() -> None:
        """Add to the movie as soon as its conversion writes."""
        while not finished.wait(0.0005):
            if list((tmp_path / "output").glob(".*.part*")):
                with path.open("ab") as stream:
                    stream.write(b"more")
                return

    growing = threading.Thread(target=grow)
    growing.start()
    try:
        error = refuse(tmp_path, "imaging", "MultiTIFFMultiPage", tiff_arguments("Multi", path))
    finally:
        finished.set()
        growing.join()
    assert isinstance(error, SourceChangedError)
    assert error.retryable
    assert f"changed while it was converted: {path} (" in str(error)


@pytest.fixture(scope="module")
def session(tmp_path_factory) -> Path:
    return simulate_acquisition(tmp_path_factory.mktemp("session") / "m1", num_samples=60)


def edit_array(name, edit):
    def change(plane: Path) -> None:
        array = np.load(plane / name, allow_pickle=True)
        np.save(plane / name, edit(array))

    return change


def set_option(name, value):
    def edit(array):
        options = array.item()
        options[name] = value
        return np.array(options)

    return edit_array("ops.npy", edit)


def lose_file(name):
    return lambda plane: (plane / name).unlink()


def lose_half(name):
    return lambda plane: cut(plane / name, 0.5)


def move_first_roi(array):
    array[0]["xpix"] = array[0]["xpix"] + 1000
    return array


def lose_weights(array):
    array[3]["lam"] = array[3]["lam"][:-1]
    return array


def run_something(array):
    class Something:
        def __reduce__(self):
            return (os.system, (f"touch {RAN}",))

    array[0] = Something()
    return array


ARRAYS = ("F.npy", "Fneu.npy", "spks.npy", "stat.npy", "ops.npy", "iscell.npy")
BAD_SUITE2P = {
    **{f"no {name}": (lose_file(name), f"plane0 is not whole: it lacks {name}") for name in ARRAYS},
    **{f"half of {name}": (lose_half(name), f"plane0/{name} ") for name in ARRAYS},
    "fewer ROIs in F": (edit_array("F.npy", lambda a: a[:-2]), "F.npy has the shape (10, 60)"),
    "fewer frames in F": (edit_array("F.npy", lambda a: a[:, :-5]), "F.npy has 55 frames, but ops.npy says 60"),
    "fewer frames in spks": (edit_array("spks.npy", lambda a: a[:, :-5]), "spks.npy has 55 frames"),
    "fewer ROIs in iscell": (edit_array("iscell.npy", lambda a: a[:-2]), "iscell.npy has the shape (10, 2)"),
    "fewer ROIs in stat": (edit_array("stat.npy", lambda a: a[:-2]), "but stat.npy has 10 ROIs"),
    "another number of frames": (set_option("nframes", 50), "F.npy has 60 frames, but ops.npy says 50"),
    "an ROI outside": (edit_array("stat.npy", move_first_roi), "ROI 0 of stat.npy has xpix from 1"),
    "an ROI of two lengths": (edit_array("stat.npy", lose_weights), "ROI 3 of stat.npy has fields of different"),
    "a text instead of an array": (
        lambda plane: (plane / "F.npy").write_text("F"),
        "plane0/F.npy is not whole: it cannot be read",
    ),
    "no rate": (edit_array("ops.npy", lambda _: np.array({"nframes": 60, "Ly": 96, "Lx": 128})), "has no fs"),
    "a pickle that runs something": (edit_array("stat.npy", run_something), "posix.system, which is not data"),
}


@pytest.mark.parametrize(("change", "message"), BAD_SUITE2P.values(), ids=BAD_SUITE2P.keys())
def test_a_bad_suite2p_folder_is_named_with_its_array(tmp_path, session, change, message):
    folder = tmp_path / "suite2p"
    shutil.copytree(session / "suite2p", folder)
    change(folder / "plane0")
    error = refuse(tmp_path, "segmentation", "Suite2p", {"folder_path": str(folder)})
    assert isinstance(error, SourceDataError)
    assert str(folder) in str(error)
    assert message in str(error)
    assert not RAN.exists()


def test_a_folder_without_a_plane_is_no_suite2p_folder(tmp_path, session):
    error = refuse(tmp_path, "segmentation", "Suite2p", {"folder_path": str(session)})
    assert f"{session} is no suite2p folder" in str(error)


@pytest.fixture(scope="module")
def nwb_movie(tmp_path_factory, session) -> Path:
    path = tmp_path_factory.mktemp("nwb") / "movie.nwb"
    convert_imaging(
        ImagingConversion(
            extractor="ScanImage",
            extractor_kwargs={"file_path": str(session / "movie.tif")},
            nwbfile_path=str(path),
            metadata=METADATA,
            backend_configuration={"acquisition/TwoPhotonSeries/data": {"chunk_shape": [10, 128, 96]}},
        )
    )
    return path


def test_a_damaged_chunk_of_an_nwb_movie_is_named_with_its_frame(tmp_path, nwb_movie):
    path = tmp_path / "damaged.nwb"
    shutil.copy(nwb_movie, path)
    with h5py.File(path) as file:
        chunk = file["acquisition/TwoPhotonSeries/data"].id.get_chunk_info(3)
    with path.open("r+b") as stream:
        stream.seek(chunk.byte_offset)
        stream.write(b"\xff" * chunk.size)
    error = refuse(tmp_path, "imaging", "Nwb", {"file_path": str(path)})
    assert isinstance(error, SourceDataError)
    assert "NwbImagingExtractor cannot read sample 30 (counted from 0)" in str(error)
    assert str(path) in str(error)


@pytest.mark.parametrize("keep", [0.02, 0.5, 0.95])
def test_a_truncated_nwb_file_is_named(tmp_path, nwb_movie, keep):
    path = tmp_path / "cut.nwb"
    shutil.copy(nwb_movie, path)
    cut(path, keep)
    error = refuse(tmp_path, "imaging", "Nwb", {"file_path": str(path)})
    assert isinstance(error, SourceDataError)
    assert str(path) in str(error)


@pytest.mark.parametrize("change", ["cut", "no traces", "text"])
def test_a_damaged_caiman_file_is_named(tmp_path, shared_data, change):
    path = tmp_path / "caiman.hdf5"
    shutil.copy(shared_data / "caiman" / "cellset.hdf5", path)
    if change == "cut":
        cut(path, 0.6)
    elif change == "text":
        path.write_text("this is no HDF5 file")
    else:
        with h5py.File(path, "r+") as file:
            del file["estimates"]
    error = refuse(tmp_path, "segmentation", "Caiman", {"file_path": str(path)})
    assert isinstance(error, SourceDataError)
    assert str(path) in str(error)


@pytest.mark.parametrize("role", ["C", "S"])
def test_caiman_traces_of_another_length_are_named(tmp_path, shared_data, role):
    path = tmp_path / "caiman.hdf5"
    shutil.copy(shared_data / "caiman" / "cellset.hdf5", path)
    with h5py.File(path, "r+") as file:
        traces = file["estimates"][role][:]
        del file["estimates"][role]
        file["estimates"][role] = traces[:, :-7]
    error = refuse(tmp_path, "segmentation", "Caiman", {"file_path": str(path)})
    assert isinstance(error, SourceDataError)
    assert str(path) in str(error)


def test_a_share_that_fails_may_be_tried_again():
    stale = OSError(116, "Stale file handle")
    assert unreadable("x", stale).retryable
    of_a_library = ValueError("cannot read")
    of_a_library.__cause__ = stale
    assert unreadable("x", of_a_library).retryable
    assert not unreadable("x", OSError(2, "No such file")).retryable
