"""A folder without ``session.yaml`` gets one from what is in it, and each assumption is said."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import yaml

from airflow_provider_ophys.models.metadata import validate_metadata
from demo.recording import simulate_acquisition
from demo.session import UnknownRecordingError, guess_session


def write_tiff(path: Path) -> None:
    import tifffile

    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, np.zeros((5, 8, 10), np.uint16), photometric="minisblack")


def test_scanimage_and_suite2p_are_recognised(tmp_path: Path) -> None:
    folder = simulate_acquisition(tmp_path / "session", num_samples=20)
    (folder / "session.yaml").unlink()
    write_tiff(folder / "a_snapshot.tif")
    guess = guess_session(folder)
    session = yaml.safe_load(guess.files["session.yaml"])
    assert session["imaging"] == {
        "extractor": "ScanImageImagingExtractor",
        "extractor_kwargs": {"file_path": "movie.tif"},
    }
    assert session["segmentation"] == {
        "extractor": "Suite2pSegmentationExtractor",
        "extractor_kwargs": {"folder_path": "suite2p", "plane_name": "plane0"},
    }
    metadata = validate_metadata(yaml.safe_load(guess.files["metadata.yaml"]))
    assert metadata.NWBFile.session_start_time.tzinfo is not None
    assert math.isnan(metadata.Ophys.ImagingPlanes["two_photon"].excitation_lambda)
    assert any("movie.tif, read as ScanImage" in assumption for assumption in guess.assumptions)
    with pytest.raises(UnknownRecordingError, match=r"movie.tif is ScanImage's.*leave out --sampling-frequency"):
        guess_session(folder, sampling_frequency=30)


def test_other_tiff_needs_its_rate(tmp_path: Path) -> None:
    write_tiff(tmp_path / "raw" / "movie_10.tiff")
    write_tiff(tmp_path / "raw" / "movie_2.tiff")
    with pytest.raises(UnknownRecordingError, match=r"movie_2.tiff is not ScanImage's.*--sampling-frequency HZ"):
        guess_session(tmp_path)
    guess = guess_session(tmp_path, sampling_frequency=15.5)
    session = yaml.safe_load(guess.files["session.yaml"])
    assert session["imaging"] == {
        "extractor": "TiffImagingExtractor",
        "extractor_kwargs": {"file_path": "raw/movie_2.tiff", "sampling_frequency": 15.5},
    }
    assert "segmentation" not in session
    assert any("no segmentation" in assumption for assumption in guess.assumptions)


def test_folder_without_a_movie_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownRecordingError, match=f"{tmp_path} holds no TIFF movie"):
        guess_session(tmp_path)
