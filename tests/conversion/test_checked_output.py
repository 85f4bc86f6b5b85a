"""nwbinspector's findings are in the result and the log, and stop a file that is to be without them."""

from __future__ import annotations

import logging
import sys

import pytest
from described import simulate_described

from airflow_provider_ophys.conversion.run import convert_imaging
from airflow_provider_ophys.exceptions import ConfigurationError, InvalidOutputError
from airflow_provider_ophys.models.conversion import ImagingConversion

BACKENDS = ["hdf5", "zarr"]
BARE = {"NWBFile": {"session_start_time": "2026-11-22T09:30:00+01:00"}}

pytestmark = pytest.mark.filterwarnings(
    # roiextractors reads the head of a ScanImage file through a second handle, which it never closes.
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    return simulate_described(tmp_path_factory.mktemp("session") / "m1", num_samples=140)


def convert(session, path, **options):
    known = {
        "extractor": "ScanImage",
        "extractor_kwargs": {"file_path": str(session / "movie.tif")},
        "nwbfile_path": str(path),
    }
    return convert_imaging(ImagingConversion(**known | options))


@pytest.mark.parametrize("backend", BACKENDS)
def test_findings_are_reported(session, tmp_path, backend, caplog):
    path = tmp_path / "a.nwb"
    with caplog.at_level(logging.INFO):
        result = convert(session, path, metadata=BARE, backend=backend, inspect="report")
    checks = {finding.check: finding.importance for finding in result.inspection}
    assert checks["check_subject_exists"] == "CRITICAL"
    assert result.inspection[0].importance == "CRITICAL", "the most important comes first"
    # Of Zarr format 3, nwbinspector's own checks of compression fail; that is no finding.
    assert "ERROR" not in checks.values()
    levels = {record.levelname for record in caplog.records if record.getMessage().startswith("nwbinspector:")}
    assert levels <= {"INFO", "WARNING"}
    again = convert(session, path, metadata=BARE, backend=backend, inspect="report")
    assert (again.reused, again.inspection) == (True, result.inspection)


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_has_to_be_mended_is_not_published(session, tmp_path, backend):
    with pytest.raises(InvalidOutputError, match=r"(?s)nwbinspector found 1 thing.*check_subject_exists"):
        convert(session, tmp_path / "a.nwb", metadata=BARE, backend=backend, inspect="fail")
    assert list(tmp_path.iterdir()) == []


def test_suggestions_do_not_fail(session, tmp_path):
    metadata = str(session / "metadata.yaml")
    result = convert(session, tmp_path / "a.nwb", metadata=metadata, inspect="fail")
    assert {finding.importance for finding in result.inspection} <= {"BEST_PRACTICE_SUGGESTION"}


def test_it_is_not_asked_by_itself(session, tmp_path):
    assert convert(session, tmp_path / "a.nwb", metadata=BARE).inspection is None


def test_without_nwbinspector_it_says_what_to_install(session, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nwbinspector", None)  # as if it were not installed
    with pytest.raises(ConfigurationError, match=r"pip install 'airflow-provider-ophys\[inspect\]'"):
        convert(session, tmp_path / "a.nwb", metadata=BARE, inspect="report")


def test_the_result_tells_sizes_and_how_long_each_phase_took(session, tmp_path):
    result = convert(session, tmp_path / "a.nwb", metadata=BARE)
    assert list(result.durations) == ["prepare", "allocate", "fill", "check", "publish"]
    assert sum(result.durations.values()) == pytest.approx(result.elapsed_seconds, abs=0.5, rel=0.5)
    assert result.source_bytes == (session / "movie.tif").stat().st_size
    assert result.uncompressed_bytes == 140 * 96 * 128 * 2
