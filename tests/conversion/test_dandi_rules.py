"""``inspect="dandi"``: what the DANDI archive would not take is known before a pixel is read."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from airflow_provider_ophys.conversion.run import convert_imaging
from airflow_provider_ophys.exceptions import InvalidOutputError, OphysError
from airflow_provider_ophys.models.conversion import ImagingConversion

DANDI = Path(__file__).parents[2] / ".venv-dandi/bin/dandi"
SUBJECT = {"subject_id": "m1", "species": "Mus musculus", "sex": "F", "age": "P90D"}


@pytest.fixture(autouse=True)
def no_dandi(monkeypatch):
    """Find none of this machine's."""
    folders = os.environ["PATH"].split(os.pathsep)
    monkeypatch.setenv("PATH", os.pathsep.join(folder for folder in folders if not Path(folder, "dandi").exists()))


def convert(tmp_path, subject, session=None, name="a.nwb", **options):
    np.save(tmp_path / "movie.npy", np.arange(30 * 8 * 6, dtype="uint16").reshape(30, 8, 6, 1))
    metadata = {"NWBFile": {"session_start_time": "2026-01-02T03:04:05+00:00", **(session or {})}}
    given = {
        "extractor": "Numpy",
        "extractor_kwargs": {"timeseries": str(tmp_path / "movie.npy"), "sampling_frequency": 10.0},
        "nwbfile_path": str(tmp_path / name),
        "metadata": metadata | ({"Subject": subject} if subject else {}),
        "inspect": "dandi",
    }
    return convert_imaging(ImagingConversion(**given | options))


def without(*fields):
    return {name: value for name, value in SUBJECT.items() if name not in fields}


@pytest.mark.parametrize(
    ("subject", "session", "told"),
    [
        (None, {}, r"Subject is missing. Write Subject: \{subject_id: m1"),
        (without("subject_id"), {}, "Write Subject.subject_id"),
        (without("species"), {}, "Write Subject.species, for example Mus musculus"),
        (without("sex"), {}, "Write Subject.sex: M, F, O or U"),
        (without("age"), {}, "Write Subject.age, for example P90D, or Subject.date_of_birth"),
        (SUBJECT | {"species": "mouse"}, {}, "Write Subject.species"),
        (SUBJECT | {"sex": "female"}, {}, "Write Subject.sex"),
        (SUBJECT | {"age": "3 months"}, {}, "Write Subject.age"),
        (SUBJECT | {"age": "P90D/P30D"}, {}, "Write Subject.age, for example P90D/P120D"),
        (SUBJECT | {"subject_id": "m/1"}, {}, "Write Subject.subject_id, for example m-1"),
        (SUBJECT, {"session_id": "a/1"}, "Write NWBFile.session_id"),
    ],
)
def test_what_the_archive_asks_for_is_named_before_anything_is_written(tmp_path, subject, session, told):
    with pytest.raises(OphysError, match=told):
        convert(tmp_path, subject, session)
    assert [path.name for path in tmp_path.iterdir()] == ["movie.npy"]


def test_all_of_it_is_told_at_once(tmp_path):
    with pytest.raises(OphysError, match=r"(?s)would not take the file \(3 problem.*sex.*species.*age|age.*sex"):
        convert(tmp_path, {"subject_id": "m1"})


@pytest.mark.parametrize(
    "subject",
    [
        SUBJECT,
        SUBJECT | {"species": "http://purl.obolibrary.org/obo/NCBITaxon_10090", "sex": "U", "age": "P1D/P3D"},
        without("age") | {"date_of_birth": "2025-11-01T00:00:00+00:00"},
    ],
)
def test_what_it_takes_is_written_with_what_could_be_better(tmp_path, subject):
    result = convert(tmp_path, subject)
    assert Path(result.nwbfile_path).exists()
    assert {finding.importance for finding in result.inspection} <= {
        "BEST_PRACTICE_VIOLATION",
        "BEST_PRACTICE_SUGGESTION",
    }


def test_zarr_is_refused(tmp_path):
    with pytest.raises(OphysError, match="inspect='dandi' is for HDF5"):
        convert(tmp_path, SUBJECT, name="a.nwb.zarr", backend="zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["movie.npy"]


def dandi_that_finds(tmp_path, monkeypatch, problems):
    """Put an executable on PATH that answers as dandi-cli does."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "dandi"
    script.write_text(
        f"#!{sys.executable}\nimport pathlib, sys\nassert pathlib.Path(sys.argv[-1]).read_bytes()[1:4] == b'HDF'\n"
        f"pathlib.Path(sys.argv[sys.argv.index('--output') + 1]).write_text({json.dumps(problems)!r})\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


PROBLEM = {"id": "NWB.x", "severity": "ERROR", "message": "No good.", "within_asset_paths": {"f": "/general"}}


def test_dandi_cli_is_asked_where_it_is_found(tmp_path, monkeypatch):
    dandi_that_finds(tmp_path, monkeypatch, [PROBLEM])
    with pytest.raises(InvalidOutputError, match=r"(?s)What DANDI asks for found 1 thing.*NWB.x.*No good"):
        convert(tmp_path, SUBJECT)
    assert not (tmp_path / "a.nwb").exists()


def test_its_warnings_are_in_the_result(tmp_path, monkeypatch):
    warning = PROBLEM | {"severity": "WARNING", "within_asset_paths": None}
    dandi_that_finds(tmp_path, monkeypatch, [warning, PROBLEM | {"id": "NWBI.told_already"}])
    result = convert(tmp_path, SUBJECT)
    told = {finding.check: (finding.importance, finding.location) for finding in result.inspection}
    assert told["NWB.x"] == ("WARNING", "")
    assert "NWBI.told_already" not in told


@pytest.mark.skipif(not DANDI.exists(), reason="make dandi builds an environment with dandi-cli")
def test_the_real_one_takes_what_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(DANDI.parent), prepend=os.pathsep)
    result = convert(tmp_path, SUBJECT)
    assert "ERROR" not in {finding.importance for finding in result.inspection}
