"""Where a number is wanted, true and false are none; pydantic takes them for 1 and 0."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from airflow_provider_ophys.acquisition.options import AcquisitionOptions
from airflow_provider_ophys.exceptions import ConfigurationError
from airflow_provider_ophys.extractors import open_imaging
from airflow_provider_ophys.models.backend import parse_backend_configuration
from airflow_provider_ophys.models.conversion import ImagingConversion
from airflow_provider_ophys.models.metadata import validate_metadata
from airflow_provider_ophys.staging.options import StageToS3Options
from airflow_provider_ophys.writing.iterator_options import check_iterator_options
from airflow_provider_ophys.writing.sharing import Wish

NOT_TRUE = "A number is wanted here, not true or false"
CHANNEL = {"name": "Green", "description": "a", "emission_lambda": 510.0}
PLANE = {
    "name": "Plane",
    "excitation_lambda": 920.0,
    "indicator": "a",
    "location": "b",
    "optical_channel": [CHANNEL],
}
SERIES = {"name": "Series", "unit": "n.a."}
MOVIE = {"extractor": "Tiff", "extractor_kwargs": {"file_path": "/a.tif"}, "nwbfile_path": "/a.nwb"}


@pytest.mark.parametrize(
    "fields",
    [
        {"rate": True},
        {"rate": np.True_},
        {"starting_time": False},
        {"binning": True},
        {"timestamps": [0.0, True]},
        {"control": [False]},
    ],
)
def test_a_series_takes_no_truth_for_a_number(fields):
    with pytest.raises(ConfigurationError, match=NOT_TRUE):
        validate_metadata({"Ophys": {"MicroscopySeries": {"s": SERIES | fields}}})


@pytest.mark.parametrize(
    "fields",
    [
        {"imaging_rate": True},
        {"excitation_lambda": True},
        {"grid_spacing": [1e-6, True]},
        {"optical_channel": [CHANNEL | {"emission_lambda": True}]},
    ],
)
def test_a_plane_takes_no_truth_for_a_number(fields):
    validate_metadata({"Ophys": {"ImagingPlanes": {"p": PLANE}}})
    with pytest.raises(ConfigurationError, match=NOT_TRUE):
        validate_metadata({"Ophys": {"ImagingPlanes": {"p": PLANE | fields}}})


def test_no_option_takes_a_truth_for_a_number():
    with pytest.raises(ConfigurationError, match=NOT_TRUE):
        AcquisitionOptions.create(path="/a", settle_seconds=True)
    with pytest.raises(ConfigurationError, match=NOT_TRUE):
        StageToS3Options.parse({"max_concurrency": True})
    for options in ({"threads": True}, {"photon_series_index": True}, {"memory_limit": True}):
        with pytest.raises(ValidationError, match="not true or false"):
            ImagingConversion(**MOVIE, **options)
    for options in ({"threads": True}, {"memory_limit": True}, {"threads": 0}):
        with pytest.raises(ConfigurationError, match="write a number above 0"):
            Wish(**options)
    with pytest.raises(ConfigurationError, match="chunk_shape"):
        check_iterator_options({"chunk_shape": (True, 4, 4)}, num_axes=3)
    chunks = {"location": "acquisition/a/data", "dataset_name": "data", "chunk_shape": [True, 4, 4]}
    with pytest.raises(ConfigurationError, match=NOT_TRUE):
        parse_backend_configuration("hdf5", {"dataset_configurations": {"acquisition/a/data": chunks}})


def test_no_argument_of_an_extractor_takes_a_truth_for_a_number(tmp_path):
    movie = tmp_path / "movie.tif"
    movie.touch()
    with pytest.raises(
        ConfigurationError, match="sampling_frequency of TiffImagingExtractor is True, which is no"
    ):
        open_imaging("TiffImagingExtractor", {"file_path": str(movie), "sampling_frequency": True})
