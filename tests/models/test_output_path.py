"""An output's path is absolute and local, and its name decides the backend where the user does not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from movies import METADATA, imaging, write_tiff
from roiextractors.testing import generate_dummy_imaging_extractor

from airflow_provider_ophys.conversion.run import convert_imaging
from airflow_provider_ophys.exceptions import ConfigurationError, PreflightError
from airflow_provider_ophys.models.conversion import ImagingConversion
from airflow_provider_ophys.models.output_path import check_output_path, choose_backend
from airflow_provider_ophys.nwb import write_imaging_to_nwbfile
from airflow_provider_ophys.nwb.existing import backend_of
from airflow_provider_ophys.operators.imaging import WriteImagingOperator


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("m1.nwb", "is relative"),
        (Path("nwb/m1.nwb"), "is relative"),
        ("~/m1.nwb", "is relative"),
        ("s3://lab/m1.nwb", "StageToS3Operator"),
        (Path("s3://lab/m1.nwb"), "StageToS3Operator"),
        ("gs://lab/m1.nwb", "copy it from there"),
        ("file:///data/m1.nwb", "is an address"),
        ("/data/m1\0.nwb", "is not a path"),
        (" ", "is not a path"),
    ],
)
def test_a_path_that_leads_elsewhere_is_refused_with_all_that_is_wrong(path, reason):
    with pytest.raises(ConfigurationError, match=reason):
        check_output_path(path)
    with pytest.raises(PreflightError, match=f"(?s){reason}.*no imaging extractor named 'x'"):
        convert_imaging(ImagingConversion(extractor="x", nwbfile_path=path, metadata=METADATA))


def test_a_path_is_taken_as_text_and_as_path():
    for path in ("/data/m1.nwb", Path("/data/m1.nwb")):
        assert ImagingConversion(extractor="Tiff", nwbfile_path=path).nwbfile_path == "/data/m1.nwb"


def test_an_operator_takes_paths_everywhere():
    operator = WriteImagingOperator(
        task_id="write",
        extractor="Tiff",
        extractor_kwargs={"file_path": Path("/data/m1.tif"), "file_paths": [Path("/data/m2.tif")]},
        nwbfile_path=Path("/data/m1.nwb"),
        metadata=[Path("/data/lab.yaml"), {"Subject": {}}],
    )
    rendered = {name: getattr(operator, name) for name in ("extractor_kwargs", "nwbfile_path", "metadata")}
    assert json.loads(json.dumps(rendered)) == {
        "extractor_kwargs": {"file_path": "/data/m1.tif", "file_paths": ["/data/m2.tif"]},
        "nwbfile_path": "/data/m1.nwb",
        "metadata": ["/data/lab.yaml", {"Subject": {}}],
    }


@pytest.mark.parametrize(
    ("name", "given", "chosen"),
    [
        ("m1.nwb", None, "hdf5"),
        ("m1.nwb", "hdf5", "hdf5"),
        ("m1.nwb", "zarr", "zarr"),
        ("m1.nwb.zarr", None, "zarr"),
        ("m1.ZARR", None, "zarr"),
        ("m1.zarr", "zarr", "zarr"),
        ("m1.h5", None, "hdf5"),
        ("m1", None, "hdf5"),
        ("m1", "zarr", "zarr"),
    ],
)
def test_the_name_decides_where_the_user_does_not(name, given, chosen):
    assert choose_backend(Path("/data", name), given) == chosen


@pytest.mark.parametrize(("name", "given"), [("m1.nwb.zarr", "hdf5"), ("m1.h5", "zarr"), ("m1.hdf5", "zarr")])
def test_a_name_that_says_another_backend_is_refused(tmp_path, name, given):
    movie = generate_dummy_imaging_extractor(num_rows=3, num_columns=4, num_samples=5)
    with pytest.raises(ConfigurationError, match=f"is to be '{given}', but its name says"):
        write_imaging_to_nwbfile(movie, tmp_path / name, metadata=METADATA, backend=given)
    assert list(tmp_path.iterdir()) == []


def test_a_store_is_written_by_its_name_and_added_to_whatever_its_name(tmp_path):
    movie = generate_dummy_imaging_extractor(num_rows=3, num_columns=4, num_samples=5)
    write_imaging_to_nwbfile(movie, str(tmp_path / "m1.nwb.zarr"), metadata=METADATA)
    assert backend_of(tmp_path / "m1.nwb.zarr") == "zarr"
    (tmp_path / "m1.nwb.zarr").rename(tmp_path / "m1.h5")
    second = {"Ophys": {"MicroscopySeries": {"second": {"name": "Second", "unit": "n.a."}}}}
    write_imaging_to_nwbfile(movie, tmp_path / "m1.h5", metadata=second, append_on_disk_nwbfile=True)
    assert backend_of(tmp_path / "m1.h5") == "zarr"


def test_a_script_may_use_a_relative_path_but_no_address(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    movie = generate_dummy_imaging_extractor(num_rows=3, num_columns=4, num_samples=5)
    write_imaging_to_nwbfile(movie, "m1.nwb", metadata=METADATA)
    assert backend_of(tmp_path / "m1.nwb") == "hdf5"
    with pytest.raises(ConfigurationError, match="Write to a folder that the workers share"):
        write_imaging_to_nwbfile(movie, "s3://lab/m1.nwb", metadata=METADATA)


def test_a_conversion_goes_by_the_name(tmp_path):
    conversion = ImagingConversion(**imaging(write_tiff(tmp_path / "movie.tif"), tmp_path / "m1.nwb.zarr"))
    assert convert_imaging(conversion).backend == "zarr"
