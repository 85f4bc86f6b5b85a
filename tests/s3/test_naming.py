"""Destinations with fields of the file's metadata, and the names that the DANDI archive gives to files."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from roiextractors.testing import generate_dummy_imaging_extractor, generate_dummy_segmentation_extractor

from airflow_provider_ophys.exceptions import ConfigurationError, SourceDataError
from airflow_provider_ophys.nwb import write_imaging_to_nwbfile, write_segmentation_to_nwbfile
from airflow_provider_ophys.operators.staging import StageToS3Operator
from airflow_provider_ophys.staging.naming import destination_of

ROOT = Path(__file__).parents[2]
DANDI = ROOT / ".venv-dandi/bin/dandi"
SUBJECT = {"subject_id": "m_1", "species": "Mus musculus", "sex": "F", "age": "P60D"}
SESSION = {"session_start_time": "2026-01-02T03:04:05+01:00", "session_id": "a.1 b", "identifier": "i/1"}


def nwbfile(path, session=SESSION, subject=SUBJECT, *, cells=False, **options):
    metadata = {"NWBFile": session, **({"Subject": subject} if subject else {})}
    write_imaging_to_nwbfile(generate_dummy_imaging_extractor(), path, metadata=metadata, **options)
    if cells:
        write_segmentation_to_nwbfile(
            generate_dummy_segmentation_extractor(), path, metadata=metadata, append_on_disk_nwbfile=True
        )
    return path


@pytest.fixture(scope="module")
def movie(tmp_path_factory):
    return nwbfile(tmp_path_factory.mktemp("files") / "a.nwb")


@pytest.mark.parametrize(
    ("uri", "key"),
    [
        ("s3://bucket/nwb", "nwb/a.nwb"),
        ("s3://bucket/{subject_id}/{session_id}/", "m-1/a-1-b/a.nwb"),
        ("s3://bucket/{session_start_time:%Y/%m}/x", "2026-01/x/a.nwb"),
        ("s3://bucket/{session_start_time}", "20260102T030405/a.nwb"),
        ("s3://bucket/of-{identifier}", "of-i-1/a.nwb"),
    ],
)
def test_fields_stand_for_what_the_file_says(movie, uri, key):
    assert destination_of(uri, movie).key_of(movie) == key


def test_fields_of_a_zarr_store(tmp_path):
    store = nwbfile(tmp_path / "a.nwb.zarr", backend="zarr")
    assert destination_of("s3://bucket/{subject_id}", store).key_of(store) == "m-1/a.nwb.zarr"


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("s3://bucket/{mouse}/", "names 'mouse'; a file has subject_id, session_id"),
        ("s3://bucket/{subject_id", "cannot be read"),
        ("s3://bucket/{}/", "names ''"),
        ("s3://{subject_id}_/x", "is not an S3 location"),
    ],
)
def test_wrong_fields_are_refused_with_the_known_ones(movie, uri, told):
    with pytest.raises(ConfigurationError, match=told):
        destination_of(uri, movie)


def test_what_the_file_does_not_say_is_named(tmp_path):
    path = nwbfile(tmp_path / "a.nwb", {"session_start_time": "2026-01-02T03:04:05+00:00"}, None)
    with pytest.raises(SourceDataError, match="has no session_id, which the destination names"):
        destination_of("s3://bucket/{session_id}", path)
    with pytest.raises(SourceDataError, match=r"has no subject_id.*Write Subject.subject_id"):
        destination_of("s3://bucket/", path, dandi_path=True)


@pytest.mark.parametrize(
    ("session", "cells", "name"),
    [
        (SESSION, False, "sub-m-1/sub-m-1_ses-a-1-b_ophys.nwb"),
        (SESSION, True, "sub-m-1/sub-m-1_ses-a-1-b_ophys.nwb"),
        ({**SESSION, "session_id": None}, False, "sub-m-1/sub-m-1_ses-20260102T030405_ophys.nwb"),
    ],
)
def test_a_file_gets_the_name_that_dandi_would_give_it(tmp_path, session, cells, name):
    path = nwbfile(tmp_path / "a.nwb", session, cells=cells)
    assert destination_of("s3://bucket/000123", path, dandi_path=True).key_of(path) == f"000123/{name}"


def test_zarr_has_no_name_of_dandi(tmp_path):
    store = nwbfile(tmp_path / "a.nwb.zarr", backend="zarr")
    with pytest.raises(SourceDataError, match="dandi_path is for HDF5 files"):
        destination_of("s3://bucket/", store, dandi_path=True)


@pytest.mark.usefixtures("connection")
def test_the_operator_stages_and_audits_by_that_name(movie, place):
    def operator(source, **options):
        where = {"destination": f"{place.uri}{{subject_id}}/", "dandi_path": True}
        return StageToS3Operator(task_id="stage", source=source, **where, **options)

    result = operator(str(movie)).execute({})
    assert result["s3_uri"] == f"{place.uri}m-1/sub-m-1/sub-m-1_ses-a-1-b_ophys.nwb"
    assert operator(str(movie)).execute({})["uploaded"] == 0
    assert operator(str(movie), verify_only=True).execute({})["intact"]
    assert operator(result, verify_only=True).execute({})["intact"]


@pytest.mark.usefixtures("connection")
def test_versions_keep_that_name(movie, place):
    stage = StageToS3Operator(
        task_id="s", source=str(movie), destination=place.uri, dandi_path="True", layout="versioned"
    )
    first = stage.execute({})
    assert re.fullmatch(rf"{place.uri}sub-m-1/(sub-m-1_ses-a-1-b_ophys.nwb)/[0-9a-f]+/\1", first["s3_uri"]), first[
        "s3_uri"
    ]
    assert stage.execute({})["uploaded"] == 0


@pytest.mark.skipif(not DANDI.exists(), reason="make dandi builds an environment with dandi-cli")
def test_dandi_cli_finds_no_error_and_gives_the_same_names(tmp_path):
    movie = nwbfile(tmp_path / "a.nwb")
    with_cells = nwbfile(
        tmp_path / "b.nwb", {**SESSION, "session_id": "other"}, {**SUBJECT, "subject_id": "m2"}, cells=True
    )
    dandiset = tmp_path / "dandiset"
    dandiset.mkdir()
    (dandiset / "dandiset.yaml").write_text("identifier: '000123'\nname: A test\n")

    def dandi(*arguments):
        environment = {**os.environ, "DANDI_NO_ET": "1", "HOME": str(tmp_path)}
        return subprocess.run(
            [DANDI, *arguments], cwd=dandiset, env=environment, capture_output=True, text=True, check=False
        )

    organized = dandi("organize", "--files-mode", "copy", "--dandiset-path", dandiset, movie, with_cells)
    keys = [destination_of("s3://bucket/", path, dandi_path=True).key_of(path) for path in (movie, with_cells)]
    found = [str(file.relative_to(dandiset)) for file in dandiset.rglob("*.nwb")]
    assert sorted(found) == sorted(keys), organized.stderr
    files = [dandiset / key for key in keys]
    validated = dandi("validate", "--format", "json", "--output", tmp_path / "found.json", *files)
    found = json.loads((tmp_path / "found.json").read_text() or "[]")
    assert [one for one in found if one["severity"] in ("ERROR", "CRITICAL")] == [], validated.stderr
