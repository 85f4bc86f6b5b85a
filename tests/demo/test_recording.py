"""The simulated acquisition is what a two-photon microscope and suite2p would have left."""

from __future__ import annotations

import filecmp
import threading
import time
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from airflow_provider_ophys.extractors import open_imaging
from airflow_provider_ophys.sessions import describe_session
from demo.detector import GAIN, GAIN_SHAPE, OFFSET, READ_NOISE, Detector
from demo.recording import drop_like_a_microscope, simulate_acquisition, simulate_bruker, simulate_miniscope
from demo.scanimage import ScanImageWriter

pytestmark = [
    # roiextractors reads the head of a ScanImage file through a second handle, which it never closes.
    pytest.mark.filterwarnings("ignore:Exception ignored in. <_io.FileIO:pytest.PytestUnraisableExceptionWarning"),
]

NUM_SAMPLES, NUM_ROWS, NUM_COLUMNS, NUM_ROIS = 200, 96, 128, 12


@pytest.fixture(scope="module")
def acquisition(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate_acquisition(tmp_path_factory.mktemp("recordings") / "session", seed=7)


@pytest.fixture(scope="module")
def imaging(acquisition: Path) -> Any:
    from roiextractors import ScanImageImagingExtractor

    return ScanImageImagingExtractor(file_path=acquisition / "movie.tif")


@pytest.fixture(scope="module")
def movie(imaging: Any) -> npt.NDArray[np.int16]:
    return imaging.get_series()


@pytest.fixture(scope="module")
def segmentation(acquisition: Path) -> Any:
    from roiextractors import Suite2pSegmentationExtractor

    return Suite2pSegmentationExtractor(folder_path=acquisition / "suite2p")


def total_size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def load(acquisition: Path, name: str) -> Any:
    return np.load(acquisition / "suite2p" / "plane0" / name, allow_pickle=True)


def test_scanimage_extractor_reads_the_movie(imaging: Any) -> None:
    assert imaging.get_num_samples() == NUM_SAMPLES
    assert imaging.get_sample_shape() == (NUM_ROWS, NUM_COLUMNS)
    assert imaging.get_sampling_frequency() == 30.0
    assert imaging.get_dtype() == np.int16
    assert imaging.channel_names == ["Green"]
    np.testing.assert_allclose(imaging.get_native_timestamps(), np.arange(NUM_SAMPLES) / 30, atol=1e-9)


def test_each_page_is_the_frame_that_was_added(tmp_path: Path) -> None:
    import tifffile

    # An odd number of pixels, so that the pages need padding between them.
    frames = np.arange(3 * 5 * 7, dtype=np.int16).reshape(3, 5, 7) - 50
    path = tmp_path / "small.tif"
    with ScanImageWriter(path, num_samples=3, shape=(5, 7), sampling_frequency=12.5) as writer:
        for frame in frames:
            writer.add(frame)
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_bigtiff
        assert tiff.is_scanimage
        np.testing.assert_array_equal(np.stack([page.asarray() for page in tiff.pages]), frames)
        assert tiff.scanimage_metadata["FrameData"]["SI.hRoiManager.scanFrameRate"] == 12.5
        assert "frameTimestamps_sec = 0.160000000\n" in tiff.pages[2].description


def test_writer_notices_a_missing_frame(tmp_path: Path) -> None:
    writer = ScanImageWriter(tmp_path / "short.tif", num_samples=2, shape=(4, 4), sampling_frequency=30)
    with pytest.raises(ValueError, match=r"2 frames were announced, 1 were added"), writer:
        writer.add(np.zeros((4, 4), np.int16))


def test_more_frames_than_readers_can_number_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="70000 frames do not go into one file"):
        ScanImageWriter(tmp_path / "long.tif", num_samples=70_000, shape=(4, 4), sampling_frequency=30)


def test_masks_are_where_the_movie_is_bright(segmentation: Any, movie: npt.NDArray[np.int16]) -> None:
    covered = segmentation.get_roi_image_masks().sum(axis=2) > 0
    mean = movie.mean(axis=0)
    assert covered.shape == mean.shape
    assert np.corrcoef(covered.ravel(), mean.ravel())[0, 1] > 0.6
    # The same masks, elsewhere, would not fit.
    assert np.corrcoef(np.roll(covered, 20, axis=1).ravel(), mean.ravel())[0, 1] < 0.1


def test_traces_are_measured_in_the_movie(acquisition: Path, movie: npt.NDArray[np.int16]) -> None:
    options = load(acquisition, "ops.npy").item()
    for roi, statistics in enumerate(load(acquisition, "stat.npy")):
        rows = statistics["ypix"][:, None] + options["yoff"]
        columns = statistics["xpix"][:, None] + options["xoff"]
        expected = (movie[np.arange(NUM_SAMPLES), rows, columns] * statistics["lam"][:, None]).sum(axis=0)
        np.testing.assert_allclose(load(acquisition, "F.npy")[roi], expected, rtol=1e-4)


def test_suite2p_extractor_reads_the_segmentation(segmentation: Any, acquisition: Path) -> None:
    assert segmentation.get_num_rois() == NUM_ROIS
    assert segmentation.get_frame_shape() == (NUM_ROWS, NUM_COLUMNS)
    assert segmentation.get_sampling_frequency() == 30.0
    traces = segmentation.get_traces_dict()
    for name in ("raw", "neuropil", "deconvolved"):
        assert traces[name].shape == (NUM_SAMPLES, NUM_ROIS)
        assert np.isfinite(traces[name]).all()
    assert set(segmentation.get_images_dict()) == {"mean", "correlation"}
    accepted = load(acquisition, "iscell.npy")
    assert set(accepted[:, 0]) == {0.0, 1.0}, "some are cells and some are rejected"
    np.testing.assert_array_equal(accepted[:, 0] == 1, accepted[:, 1] > 0.5)


def test_the_brain_moves_and_registration_undoes_it(acquisition: Path, movie: npt.NDArray[np.int16]) -> None:
    options = load(acquisition, "ops.npy").item()
    assert np.ptp(options["yoff"]) >= 2
    assert np.ptp(options["xoff"]) >= 2
    shifts = zip(options["yoff"], options["xoff"], strict=True)
    registered = [np.roll(frame, (-y, -x), (0, 1)) for frame, (y, x) in zip(movie, shifts, strict=True)]
    np.testing.assert_allclose(options["meanImg"], np.mean(registered, axis=0), rtol=1e-4, atol=1e-2)
    assert options["meanImg"].var() > movie.mean(axis=0).var(), "registered neurons are sharper"


def test_noise_is_that_of_a_photomultiplier() -> None:
    detector = Detector(seed=3)
    for photons in (0.0, 1.0, 9.0):
        counts = detector.expose(np.full((300, 400), photons, np.float32), sample=5)
        assert counts.mean() == pytest.approx(OFFSET + GAIN * photons, abs=1, rel=0.01)
        variance = READ_NOISE**2 + photons * GAIN**2 * (1 + 1 / GAIN_SHAPE)
        assert counts.var() == pytest.approx(variance, rel=0.03)


def test_noise_differs_from_frame_to_frame_and_pixel_to_pixel() -> None:
    detector = Detector(seed=3)
    first, second = (detector.expose(np.full((200, 200), 2, np.float32), sample) for sample in (0, 1))
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(first[:, :-1].ravel(), first[:, 1:].ravel())[0, 1]) < 0.02


def test_movie_compresses_as_little_as_a_real_one(movie: npt.NDArray[np.int16]) -> None:
    pixels = movie.tobytes()
    assert 1.6 < len(pixels) / len(zlib.compress(pixels, 4)) < 1.9


def test_same_seed_gives_the_same_bytes_and_another_seed_does_not(acquisition: Path, tmp_path: Path) -> None:
    same = simulate_acquisition(tmp_path / "same", seed=7)
    other = simulate_acquisition(tmp_path / "other", seed=8)
    files = [str(file.relative_to(acquisition)) for file in acquisition.rglob("*") if file.is_file()]
    assert len(files) == 8
    assert filecmp.cmpfiles(acquisition, same, files, shallow=False) == (files, [], [])
    assert "movie.tif" in filecmp.cmpfiles(acquisition, other, files, shallow=False)[1]


def test_memory_does_not_grow_with_the_movie(tmp_path: Path) -> None:
    peaks = []
    for num_samples in (60, 360):
        tracemalloc.start()
        simulate_acquisition(tmp_path / str(num_samples), num_samples=num_samples, num_rows=128, num_columns=160)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    grown_movie = 300 * 128 * 160 * 2
    assert peaks[1] - peaks[0] < grown_movie / 20


def test_a_volume_of_two_channels_is_known_by_its_headers(tmp_path: Path) -> None:
    folder = simulate_acquisition(
        tmp_path / "m21_planes", num_samples=20, num_planes=3, channels=("Green", "Red"), sampling_frequency=10.0
    )
    session = describe_session(folder)
    assert [(movie.channel, movie.num_samples, movie.sample_shape) for movie in session.imaging] == [
        ("Green", 20, (NUM_ROWS, NUM_COLUMNS, 3)),
        ("Red", 20, (NUM_ROWS, NUM_COLUMNS, 3)),
    ]
    assert [(cells.plane, cells.num_rois, cells.imaging_plane) for cells in session.segmentation] == [
        (plane, NUM_ROIS, "Green") for plane in range(3)
    ]
    plane = session.metadata["Ophys"]["ImagingPlanes"]["Green"]
    assert plane["imaging_rate"] == 10.0
    assert plane["grid_spacing"] == pytest.approx([550e-6 / NUM_COLUMNS, 550e-6 / NUM_ROWS, 30e-6])
    red, green = (
        open_imaging("ScanImage", {"file_path": str(folder / "movie.tif"), "channel_name": name}).get_series()
        for name in ("Red", "Green")
    )
    for series in (red, green):
        planes = series.mean(axis=0).reshape(-1, 3).T
        assert np.corrcoef(planes).max(initial=0, where=~np.eye(3, dtype=bool)) < 0.7
    assert np.corrcoef(red[..., 1].mean(axis=0).ravel(), green[..., 1].mean(axis=0).ravel())[0, 1] > 0.9


def test_other_makers_recordings_are_known_by_their_headers(tmp_path: Path) -> None:
    sizes = {"num_samples": 12, "num_rows": NUM_ROWS, "num_columns": NUM_COLUMNS, "num_rois": NUM_ROIS}
    bruker = describe_session(simulate_bruker(tmp_path / "m22_cortex", **sizes))
    miniscope = describe_session(simulate_miniscope(tmp_path / "m23_openfield", **sizes, animal="m23"))
    for session, extractor, rate in (
        (bruker, "BrukerTiffImagingExtractor", 30.0),
        (miniscope, "MiniscopeImagingExtractor", 20.0),
    ):
        (movie,) = session.imaging
        assert (movie.extractor, movie.num_samples, movie.rate) == (extractor, 12, rate)
        assert movie.sample_shape == (NUM_ROWS, NUM_COLUMNS)
    assert bruker.metadata["Ophys"]["ImagingPlanes"]["default_metadata_key"]["excitation_lambda"] == 920
    assert miniscope.metadata["Subject"] == {"subject_id": "m23"}
    assert miniscope.metadata["NWBFile"]["session_start_time"] == "2026-01-17T14:30:00.250000-08:00"


def test_marker_is_written_last(acquisition: Path) -> None:
    marker = (acquisition / "DONE").stat()
    assert marker.st_size == 0
    assert marker.st_mtime_ns >= max(file.stat().st_mtime_ns for file in acquisition.rglob("*"))


def test_neurons_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"500 neurons do not fit into frames of 96 x 128 pixels, only \d+ do"):
        simulate_acquisition(tmp_path / "crowded", num_rois=500)


def test_existing_folder_is_not_touched(acquisition: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in acquisition.rglob("*")}
    with pytest.raises(FileExistsError):
        simulate_acquisition(acquisition)
    assert {file: file.stat().st_mtime_ns for file in acquisition.rglob("*")} == before


def test_drop_grows_and_sets_the_marker_last(acquisition: Path, tmp_path: Path) -> None:
    target = tmp_path / acquisition.name
    sizes, early_marker = set(), False
    everything = total_size(acquisition)
    copy = threading.Thread(target=drop_like_a_microscope, args=(acquisition, tmp_path, 1.0))
    started = time.monotonic()
    copy.start()
    while copy.is_alive():
        # Asked in this order: what is missing after the marker was seen came too late.
        marked = (target / "DONE").exists()
        early_marker |= marked and total_size(target) < everything
        if (target / "movie.tif").exists():
            sizes.add((target / "movie.tif").stat().st_size)
        time.sleep(0.01)
    copy.join()
    assert time.monotonic() - started >= 1.0
    assert len(sizes) >= 3, "the movie was seen growing"
    assert not early_marker
    files = [str(file.relative_to(acquisition)) for file in acquisition.rglob("*") if file.is_file()]
    assert filecmp.cmpfiles(acquisition, target, files, shallow=False) == (files, [], [])


def test_drop_refuses_a_name_that_is_taken(acquisition: Path, tmp_path: Path) -> None:
    drop_like_a_microscope(acquisition, tmp_path, 0)
    with pytest.raises(FileExistsError):
        drop_like_a_microscope(acquisition, tmp_path, 0)
