"""What the system says of the recording or the output is sorted by what it is; docs/safety.md has the table."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from movies import METADATA, imaging, write_tiff
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


def test_a_share_that_fails_while_the_recording_is_looked_at_is_tried_again(tmp_path, monkeypatch):
    from airflow_provider_ophys.conversion import run
    from airflow_provider_ophys.models.conversion import ImagingConversion

    def fails(recordings):
        raise OSError(errno.ESTALE, "Stale file handle")

    conversion = ImagingConversion(**imaging(write_tiff(tmp_path / "movie.tif"), tmp_path / "a.nwb"))
    for where, step in ((run.SourceState, "of"), (run, "fingerprint")):
        with monkeypatch.context() as patched:
            patched.setattr(where, step, fails)
            looked = run.Run(conversion, run.Environment())
            looked.look()
            with pytest.raises(SourceAccessError, match="Stale file handle"):
                looked.problems.raise_found()


@pytest.fixture
def open_folder():
    """A folder that every user may enter; those of pytest are its user's alone."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


def test_what_another_user_left_is_named_with_the_user(open_folder):
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    part = open_folder / ".a.part.nwb"
    part.mkdir()
    (part / "zarr.json").touch()
    (open_folder / ".a.nwb.lock").touch()
    script = (
        "import os, pathlib, sys\n"
        "from airflow_provider_ophys.conversion.publishing import publishing\n"
        "os.setuid(65534)\n"
        "with publishing(pathlib.Path(sys.argv[1]), replace=False): pass"
    )
    command = [sys.executable, "-c", script, str(open_folder / "a.nwb")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "OutputFolderError" in done.stderr
    assert f"{part} was left by a killed task of the user 'root'" in done.stderr
    (open_folder / ".a.nwb.lock").write_text("")
    (open_folder / ".a.nwb.lock").chmod(0o600)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "belongs to the user 'root' and may not be opened" in done.stderr
