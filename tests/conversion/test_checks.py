"""The schema check: against the loaded schemas where the file has these, against the file's own otherwise."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import zarr
from hdmf_zarr import NWBZarrIO
from pynwb import NWBHDF5IO, validate
from pynwb.testing.mock.file import mock_NWBFile
from roiextractors import NumpyImagingExtractor

from airflow_provider_ophys.conversion import checks, storages
from airflow_provider_ophys.conversion.storages import open_storage
from airflow_provider_ophys.exceptions import InvalidOutputError
from airflow_provider_ophys.nwb import write_imaging_to_nwbfile

METADATA = {"NWBFile": {"session_start_time": "2026-11-22T09:30:00+01:00"}}


@pytest.fixture(params=["hdf5", "zarr"])
def written(tmp_path, request):
    path = tmp_path / f"a.nwb{'.zarr' if request.param == 'zarr' else ''}"
    movie = NumpyImagingExtractor(np.zeros((3, 8, 6, 1), "int16"), sampling_frequency=30.0)
    write_imaging_to_nwbfile(movie, path, metadata=METADATA, backend=request.param, validate=False)
    return path


def test_a_new_file_is_checked_without_reading_its_schemas_again(written):
    storage = open_storage(written)
    assert checks._has_own_schemas(storage, written)
    checks.check_schema(storage, written)


@pytest.mark.parametrize("change", ["an extension", "another version", "no schemas"])
def test_other_schemas_are_those_of_the_file(written, change):
    storage = open_storage(written)
    with storage.open_groups(written, "r+") as root:
        schemas = root["specifications"]
        if change == "an extension":
            schemas.create_group("ndx-lab").create_group("0.1.0")
        elif change == "another version":
            schemas["core"].create_group("2.0.0")
        else:
            del root["specifications"]
    assert not checks._has_own_schemas(storage, written)


def test_every_zarr_store_of_a_process_holds_the_schemas_that_hdmf_zarr_writes(tmp_path, monkeypatch):
    movie = NumpyImagingExtractor(np.zeros((3, 8, 6, 1), "int16"), sampling_frequency=30.0)
    monkeypatch.setattr(storages, "_SPECIFICATIONS", {})
    for name in ("first", "second"):
        write_imaging_to_nwbfile(movie, tmp_path / name, metadata=METADATA, backend="zarr")
    with NWBHDF5IO(tmp_path / "in.nwb", "w") as io:
        io.write(mock_NWBFile())
    with (
        NWBHDF5IO(tmp_path / "in.nwb", "r") as source,
        NWBZarrIO(tmp_path / "hdmf-zarrs", "w") as io,
        pytest.warns(UserWarning, match="Consolidated metadata"),
    ):
        io.export(source, write_args={"link_data": False})

    first, second, theirs = (
        {
            str(file.relative_to(tmp_path / name)): file.read_bytes()
            for file in (tmp_path / name / "specifications").rglob("*")
            if file.is_file()
        }
        for name in ("first", "second", "hdmf-zarrs")
    )
    assert first == second == theirs
    assert zarr.open_group(tmp_path / "second", mode="r").attrs[".specloc"] == "specifications"
    # With the schemas of the store, as a reader in five years has them.
    with NWBZarrIO(tmp_path / "second", "r", load_namespaces=True) as io:
        assert validate(io=io) == []


@pytest.mark.parametrize("own", [True, False])
def test_what_does_not_fit_is_refused_either_way(tmp_path, own):
    path = tmp_path / "a.nwb"
    movie = NumpyImagingExtractor(np.zeros((3, 8, 6, 1), "int16"), sampling_frequency=30.0)
    write_imaging_to_nwbfile(movie, path, metadata=METADATA, validate=False)
    with h5py.File(path, "r+") as file:
        del file["session_description"]
        if not own:
            file["specifications/core"].move("2.11.0", "2.11.0-lab")
    storage = open_storage(path)
    assert checks._has_own_schemas(storage, path) is own
    with pytest.raises(InvalidOutputError, match="session_description"):
        checks.check_schema(storage, path)
