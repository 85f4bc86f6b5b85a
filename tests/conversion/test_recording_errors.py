"""What a library raises is put down to the recording only where a reader was at work."""

from __future__ import annotations

import numpy as np
import pytest
from movies import write_tiff
from roiextractors import NumpyImagingExtractor

from airflow_provider_ophys.conversion.recording_errors import naming_recordings
from airflow_provider_ophys.exceptions import SourceAccessError, SourceDataError
from airflow_provider_ophys.recordings import recording_of


@pytest.fixture
def recording(tmp_path):
    tiff = write_tiff(tmp_path / "movie.tif")
    return recording_of("imaging", "TiffImagingExtractor", {"file_path": str(tiff), "sampling_frequency": 10.0})


def test_what_a_reader_stumbles_over_is_put_down_to_the_files(recording):
    with (
        pytest.raises(SourceDataError, match=r"movie\.tif.*Check that the files are complete"),
        naming_recordings([recording]),
    ):
        NumpyImagingExtractor(timeseries=np.zeros(3), sampling_frequency=10.0)


def test_what_is_raised_elsewhere_is_not(recording):
    with (
        pytest.raises(SourceDataError, match=r"movie\.tif.*TypeError: no such.*may be sound") as caught,
        naming_recordings([recording]),
    ):
        raise TypeError("no such filter")
    assert "complete" not in str(caught.value)


def test_a_share_that_fails_is_tried_again_wherever_it_was_noticed(recording):
    with pytest.raises(SourceAccessError), naming_recordings([recording]):
        raise ValueError("h5py says") from OSError(5, "Input/output error")
