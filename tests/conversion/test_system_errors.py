"""What the system says of the recording or the output is sorted by what it is; docs/safety.md has the table."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import pytest
from roiextractors.testing import generate_dummy_imaging_extractor

from airflow_provider_ophys.conversion.publishing import naming_write_errors
from airflow_provider_ophys.exceptions import (
    DiskSpaceError,
    OphysError,
    OutputFolderError,
    OutputWriteError,
    SourceAccessError,
    SourceDataError,
    is_passing,
    unreadable,
)
from airflow_provider_ophys.nwb import write_imaging_to_nwbfile

DOCS = Path(__file__).parents[2] / "docs" / "safety.md"
METADATA = {"NWBFile": {"session_start_time": "2026-11-22T09:30:00+01:00"}}
H5PY = "Can't synchronously write data (file write failed: time = now, errno = {0}, error message = '{1}')"

# A number -> what becomes of it when the recording is read, and when the output is written.
SORTED = {
    **dict.fromkeys(
        ["EIO", "ESTALE", "ETIMEDOUT", "ENOTCONN", "ECONNRESET", "EHOSTDOWN", "EREMOTEIO", "EAGAIN", "EBUSY"],
        (SourceAccessError, OutputWriteError),
    ),
    **dict.fromkeys(["ENOSPC", "EDQUOT"], (SourceDataError, DiskSpaceError)),
    **dict.fromkeys(
        ["EACCES", "EPERM", "EROFS", "ENAMETOOLONG", "ENOTSUP", "ENOLCK", "ELOOP", "EFBIG"],
        (SourceDataError, OutputFolderError),
    ),
}


def forms(name: str) -> list[Exception]:
    """Return what Python, h5py and other libraries make of a number."""
    number = getattr(errno, name)
    text = H5PY.format(number, os.strerror(number))
    caused = ValueError("cannot write")
    caused.__cause__ = OSError(number, os.strerror(number))
    python = OSError(number, os.strerror(number))
    return [python, OSError(text), RuntimeError(text), KeyError(text), ValueError(str(python)), caused]


@pytest.mark.parametrize("name", SORTED)
def test_the_number_decides_whatever_the_library_makes_of_it(tmp_path, name):
    of_recording, of_output = SORTED[name]
    for error in forms(name):
        assert type(unreadable("Cannot read.", error)) is of_recording
        assert is_passing(error) == (of_recording is SourceAccessError)
        with pytest.raises(OphysError) as caught, naming_write_errors(tmp_path / "a.nwb"):
            raise error
        assert type(caught.value) is of_output
        assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("text", ["frame 5 is cut off", "errno 5", "page 116", "[Errno x]"])
def test_a_number_that_is_none_of_the_systems_means_nothing(text):
    assert not is_passing(ValueError(text))


def test_the_table_in_the_docs_is_this():
    rows = re.findall(r"^\| ((?:`E\w+`(?:, )?)+) \| `(\w+)`[^|]*\| `(\w+)`", DOCS.read_text(), re.MULTILINE)
    told = {name: (source, output) for names, source, output in rows for name in re.findall(r"E\w+", names)}
    assert told == {name: tuple(kind.__name__ for kind in kinds) for name, kinds in SORTED.items()}


@pytest.mark.parametrize("backend", ["hdf5", "zarr"])
def test_a_disk_that_fails_while_the_output_is_written_is_not_the_recordings_fault(tmp_path, backend):
    """A file that may not grow beyond 20 kB stands for it."""
    movie = generate_dummy_imaging_extractor(num_rows=100, num_columns=100, num_samples=50)
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises((OutputWriteError, OutputFolderError)) as caught:
            write_imaging_to_nwbfile(
                movie, tmp_path / "a.nwb", metadata=METADATA, backend=backend, compression="none"
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "recording" not in str(caught.value).lower()
    assert list(tmp_path.iterdir()) == []
