"""All that is in the way of a conversion is told at once, before a pixel is read; a full disk harms nothing."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from movies import METADATA, imaging, write_tiff
from roiextractors.testing import generate_dummy_imaging_extractor

from airflow_provider_ophys.conversion.environment import Environment
from airflow_provider_ophys.conversion.run import convert_imaging
from airflow_provider_ophys.exceptions import (
    DiskSpaceError,
    MetadataError,
    OphysError,
    OutputFolderError,
    PreflightError,
)
from airflow_provider_ophys.models.conversion import ImagingConversion
from airflow_provider_ophys.nwb import write_imaging_to_nwbfile

BACKENDS = ["hdf5", "zarr"]
DATA = "acquisition/TwoPhotonSeries/data"


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A disk of 6 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6M", "tmpfs", folder], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"a disk can only be mounted by root: {mounted.stderr.decode()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture(scope="module")
def noise(tmp_path_factory) -> Path:
    """8.4 MB that no compression makes smaller."""
    pixels = np.random.default_rng(0).integers(0, 2**16, (64, 256, 256), dtype="uint16")
    return write_tiff(tmp_path_factory.mktemp("noise") / "noise.tif", pixels)


def movie(tiff, path, **options) -> ImagingConversion:
    return ImagingConversion(**imaging(tiff, path, **options))


def refusal(*arguments, **options) -> OphysError:
    with pytest.raises(OphysError) as caught:
        convert_imaging(*arguments, **options)
    return caught.value


def test_every_problem_is_in_one_message(tmp_path, noise):
    _, wrong = ImagingConversion.read_options(
        {"extractor": "x", "nwbfile_path": "y", "backend": "hdf", "threads": 0, "colour": "red"}
    )
    conversion = movie(
        noise,
        tmp_path / "missing" / "a.nwb",
        extractor="TifImagingExtractor",
        metadata={"NWBFile": {"session_start_time": "yesterday"}, "Ophis": {}},
    )
    error = refusal(conversion, Environment(problems=[wrong]))
    assert isinstance(error, PreflightError)
    assert not error.retryable
    for part in (
        "4 things are in the way",
        "3 option(s) of the conversion are wrong",
        "backend",
        "colour",
        "output folder",
        "session_start_time",
        "Ophis is not known",
        "Did you mean Tiff",
    ):
        assert part in str(error), part


def test_what_the_recording_has_to_do_with_is_told_together_too(tmp_path, noise):
    error = refusal(
        movie(
            noise,
            tmp_path / "missing" / "a.nwb",
            backend_configuration={DATA: {"chunk_shape": [65, 256, 256]}},
            memory_limit=1000,
        )
    )
    assert isinstance(error, PreflightError)
    assert "output folder" in str(error)
    assert "chunk_shape (65, 256, 256)" in str(error)
    error = refusal(movie(noise, tmp_path / "missing" / "a.nwb", memory_limit=1000))
    assert "memory budget" in str(error)
    assert not error.retryable, "the folder will not be there on the next try either"
    assert list(tmp_path.iterdir()) == []


def test_one_problem_is_the_error_itself(tmp_path, noise):
    assert isinstance(refusal(movie(noise, tmp_path / "missing" / "a.nwb")), OutputFolderError)
    assert isinstance(refusal(movie(noise, tmp_path / "a.nwb", metadata={})), MetadataError)


def test_a_file_of_metadata_that_is_missing_is_not_blamed_on_the_recording(tmp_path, noise):
    error = refusal(movie(noise, tmp_path / "a.nwb", metadata=str(tmp_path / "no.yaml")))
    assert isinstance(error, MetadataError)
    assert "no.yaml" in str(error)
    assert noise.name not in str(error)


@pytest.mark.parametrize("append", [False, True])
def test_no_pixel_is_read_before_all_is_found_right(tmp_path, append):
    imaging = generate_dummy_imaging_extractor(num_rows=13, num_columns=29, num_samples=40)
    path = tmp_path / "a.nwb"
    if append:
        write_imaging_to_nwbfile(imaging, path, metadata=METADATA)
    before = path.read_bytes() if append else b""
    second = METADATA | {"Ophys": {"MicroscopySeries": {"second": {"name": "Second", "unit": "n.a."}}}}

    def get_series(*_):
        raise AssertionError("a pixel was read")

    imaging.get_series = get_series
    with pytest.raises(MemoryError, match="memory budget"):
        write_imaging_to_nwbfile(imaging, path, metadata=second, memory_limit=1, append_on_disk_nwbfile=append)
    assert (path.read_bytes() if append else b"") == before
    assert len(list(tmp_path.iterdir())) == append


@pytest.mark.parametrize("backend", BACKENDS)
def test_too_small_a_disk_is_told_before_anything_is_written(small_disk, noise, backend):
    error = refusal(movie(noise, small_disk / "a.nwb", backend=backend, compression="none"))
    assert isinstance(error, DiskSpaceError)
    assert error.retryable
    assert "will need at least 8.4 MB" in str(error)
    assert list(small_disk.iterdir()) == []


@pytest.mark.parametrize("if_exists", ["overwrite", "append"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_disk_that_becomes_full_leaves_the_old_output(small_disk, noise, backend, if_exists):
    """What compression leaves is not known before: this movie passes the estimate and then does not fit."""
    path = small_disk / "a.nwb"
    old = generate_dummy_imaging_extractor(num_rows=13, num_columns=29, num_samples=40)
    named = METADATA | {"Ophys": {"MicroscopySeries": {"old": {"name": "Old", "unit": "n.a."}}}}
    write_imaging_to_nwbfile(old, path, metadata=named, backend=backend)
    before = contents(path)
    error = refusal(movie(noise, path, backend=backend, if_exists=if_exists, validate=False))
    assert isinstance(error, DiskSpaceError), error
    assert error.retryable
    assert f"The disk of {small_disk} became full while a.nwb was written" in str(error)
    assert contents(path) == before
    assert [entry.name for entry in small_disk.iterdir()] == ["a.nwb"]


def contents(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return {str(file.relative_to(path.parent)): file.read_bytes() for file in files}
