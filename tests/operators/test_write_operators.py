"""The write operators in real DAG runs: on real recordings, mapped, templated, repeated and with bad input."""

from __future__ import annotations

import json
import os
import shutil
from datetime import timedelta
from pathlib import Path
from time import sleep

import h5py
import numpy as np
import pytest
import tifffile
from airflow.sdk import DAG, Asset, AssetAlias, task
from airflow_runs import events_of, result_of, run_dag
from airflow_versions import DagSerialization, task_fails
from hdmf_zarr import NWBZarrIO
from movies import METADATA, imaging, write_tiff
from pynwb import NWBHDF5IO
from roiextractors import TiffImagingExtractor

from airflow_provider_ophys.exceptions import (
    ConfigurationError,
    ConversionStoppedError,
    OphysError,
    OutputExistsError,
)
from airflow_provider_ophys.operators import stopping
from airflow_provider_ophys.operators.imaging import WriteImagingOperator
from airflow_provider_ophys.operators.segmentation import WriteSegmentationOperator
from airflow_provider_ophys.operators.session import WriteSessionOperator

pytestmark = pytest.mark.usefixtures("airflow_db")


def run_one(operator, **options):
    with DAG(f"one_{options.get('task_id', 'write')}"):
        pass
    return operator(task_id="write", **options).execute({"outlet_events": {}})


def pixels(path):
    io = NWBZarrIO(str(path), "r") if Path(path).is_dir() else NWBHDF5IO(path, "r")
    with io:
        return io.read().acquisition["TwoPhotonSeries"].data[:]


@pytest.mark.parametrize("backend", ["hdf5", "zarr"])
def test_the_result_is_plain_json_and_goes_to_the_outlets_event(tmp_path, tiff, backend):
    path = tmp_path / "movie.nwb"
    dag_id = f"movie_{backend}"
    outlets = [Asset(f"nwb_{backend}"), AssetAlias(f"sessions_{backend}")]
    with DAG(dag_id) as dag:
        WriteImagingOperator(task_id="write", **imaging(tiff, path, backend=backend), outlets=outlets)
    (instance,) = run_dag(dag)["write"]
    assert instance.state == "success"
    result = result_of(instance)
    assert json.loads(json.dumps(result)) == result
    assert {key: result[key] for key in ("nwbfile_path", "backend", "num_samples", "sample_shape", "dtype")} == {
        "nwbfile_path": str(path),
        "backend": backend,
        "num_samples": 20,
        "sample_shape": [29, 13],
        "dtype": "uint16",
    }
    assert result["reused"] is False
    assert result["validation"] == "valid"
    assert result["size_bytes"] > 0
    assert result["elapsed_seconds"] > 0
    assert result["throughput_mb_per_s"] >= 0
    assert result["peak_memory_bytes"] >= 0
    np.testing.assert_array_equal(pixels(path), tifffile.imread(tiff).transpose(0, 2, 1))
    events = dict(events_of(dag_id))
    assert events[f"nwb_{backend}"] == result
    assert events[path.as_uri()] == result


def test_a_nan_in_the_metadata_survives_airflows_json(tmp_path, tiff):
    channel = {"name": "c", "description": "d", "emission_lambda": float("nan")}
    plane = {
        "name": "P",
        "excitation_lambda": float("nan"),
        "indicator": "x",
        "location": "y",
        "optical_channel": [channel],
    }
    series = {"name": "S", "unit": "n.a.", "imaging_plane_metadata_key": "p"}
    ophys = {"ImagingPlanes": {"p": plane}, "MicroscopySeries": {"s": series}}
    with DAG("nan") as dag:
        WriteImagingOperator(
            task_id="write", **imaging(tiff, tmp_path / "a.nwb", metadata=METADATA | {"Ophys": ophys})
        )
    assert run_dag(dag)["write"][0].state == "success"
    with NWBHDF5IO(tmp_path / "a.nwb", "r") as io:
        assert np.isnan(io.read().imaging_planes["P"].excitation_lambda)


def test_options_come_from_templates_and_other_tasks_and_are_mapped(tmp_path, tiff):
    with DAG("mapped", params={"limit": "64MiB"}) as dag:

        @task
        def sessions():
            return [imaging(tiff, tmp_path / f"{name}.nwb") for name in ("a", "b")]

        written = WriteImagingOperator.partial(
            task_id="write",
            memory_limit="{{ params.limit }}",
            validate="{{ 1 == 1 }}",
            map_index_template="{{ task.nwbfile_path }}",
        ).expand_kwargs(sessions())

        @task
        def paths(results):
            return [result["nwbfile_path"] for result in results]

        paths(written.output)
    instances = run_dag(dag)
    assert [instance.state for instance in instances["write"]] == ["success", "success"]
    assert result_of(instances["paths"][0]) == [str(tmp_path / "a.nwb"), str(tmp_path / "b.nwb")]
    for name in ("a", "b"):
        np.testing.assert_array_equal(pixels(tmp_path / f"{name}.nwb"), tifffile.imread(tiff).transpose(0, 2, 1))


def test_the_same_conversion_is_reused_and_another_is_refused(tmp_path, tiff):
    options = imaging(tiff, tmp_path / "movie.nwb")
    first = run_one(WriteImagingOperator, **options)
    before = (tmp_path / "movie.nwb").read_bytes()
    again = run_one(WriteImagingOperator, **options)
    assert again["reused"] is True
    assert {key: again[key] for key in ("num_samples", "sample_shape", "dtype", "size_bytes")} == {
        key: first[key] for key in ("num_samples", "sample_shape", "dtype", "size_bytes")
    }
    with task_fails(OphysError, match="was not written by this conversion"):
        run_one(WriteImagingOperator, **options | {"photon_series_type": "OnePhotonSeries"})
    changed = tifffile.imread(tiff)
    changed[0, 0, 0] += 1
    write_tiff(tiff, changed)
    with task_fails(OphysError, match="the recording, an option or the metadata differ"):
        run_one(WriteImagingOperator, **options)
    with task_fails(OphysError, match="if_exists='fail'"):
        run_one(WriteImagingOperator, **options, if_exists="fail")
    assert (tmp_path / "movie.nwb").read_bytes() == before
    assert run_one(WriteImagingOperator, **options, if_exists="overwrite")["reused"] is False
    np.testing.assert_array_equal(pixels(tmp_path / "movie.nwb"), changed.transpose(0, 2, 1))


@pytest.mark.parametrize("backend", ["hdf5", "zarr"])
def test_appending_twice_appends_once(tmp_path, tiff, shared_data, backend):
    path = tmp_path / "session.nwb"
    run_one(WriteImagingOperator, **imaging(tiff, path, backend=backend))
    options = {
        "extractor": "Suite2p",
        "extractor_kwargs": {"folder_path": str(shared_data / "suite2p")},
        "nwbfile_path": str(path),
        "metadata": METADATA,
        "if_exists": "append",
    }
    first = run_one(WriteSegmentationOperator, **options)
    assert (first["num_rois"], first["traces"], first["reused"]) == (54, ["raw", "neuropil", "deconvolved"], False)
    assert run_one(WriteSegmentationOperator, **options)["reused"] is True
    assert run_one(WriteImagingOperator, **imaging(tiff, path, backend=backend))["reused"] is True
    np.testing.assert_array_equal(pixels(path), tifffile.imread(tiff).transpose(0, 2, 1))


def test_several_segmentations_go_into_one_file_in_one_task(tmp_path, shared_data):
    path = tmp_path / "planes.nwb"
    planes = {key: {"name": key.capitalize(), "description": "a plane"} for key in ("upper", "lower")}
    options = {
        "extractor": ["Suite2p", "Caiman"],
        "extractor_kwargs": [
            {"folder_path": str(shared_data / "suite2p")},
            {"file_path": str(shared_data / "caiman" / "cellset.hdf5")},
        ],
        "nwbfile_path": str(path),
        "metadata": [METADATA, {"Ophys": {"PlaneSegmentations": planes}}],
        "metadata_key": ["upper", "lower"],
        "mask_type": "pixel",
    }
    result = run_one(WriteSegmentationOperator, **options)
    assert (result["num_rois"], sorted(result["plane_segmentations"])) == (59, ["Lower", "Upper"])
    assert result["traces"] == ["raw", "neuropil", "deconvolved", "denoised"]
    assert run_one(WriteSegmentationOperator, **options)["reused"] is True
    with NWBHDF5IO(path, "r") as io:
        ophys = io.read().processing["ophys"]
        assert len(ophys["ImageSegmentation"]["Upper"]) == 54
        assert ophys["ImageSegmentation"]["Upper"]["iscell"].data[:].dtype == bool
        assert ophys["Fluorescence"]["Denoised_lower"].rois.table is ophys["ImageSegmentation"]["Lower"]
    with task_fails(ConfigurationError, match="lists must be equally long"):
        run_one(WriteSegmentationOperator, **options | {"metadata_key": ["upper"]})


def test_metadata_is_merged_from_files_and_dicts(tmp_path, tiff):
    (tmp_path / "lab.yaml").write_text(
        "NWBFile: {lab: the lab, institution: nowhere}\nSubject: {subject_id: m0}\n"
    )
    (tmp_path / "session.json").write_text(json.dumps(METADATA | {"Subject": {"subject_id": "m1"}}))
    metadata = [str(tmp_path / "lab.yaml"), str(tmp_path / "session.json"), {"NWBFile": {"institution": "here"}}]
    run_one(WriteImagingOperator, **imaging(tiff, tmp_path / "movie.nwb", metadata=metadata))
    with NWBHDF5IO(tmp_path / "movie.nwb", "r") as io:
        nwbfile = io.read()
        assert (nwbfile.lab, nwbfile.institution, nwbfile.subject.subject_id) == ("the lab", "here", "m1")


BAD_INPUT = {
    "missing recording": (
        {"extractor_kwargs": {"file_path": "/nowhere.tif", "sampling_frequency": 30.0}},
        "does not exist: /nowhere.tif",
    ),
    "unknown extractor": ({"extractor": "ScanImagImagingExtractor"}, "Did you mean ScanImageImagingExtractor"),
    "wrong kind of extractor": (
        {"extractor": "Suite2pSegmentationExtractor"},
        "Use the operator for segmentation",
    ),
    "wrong arguments": ({"extractor_kwargs": {"file": "x"}}, "extractor_kwargs do not fit TiffImagingExtractor"),
    "no start time": ({"metadata": {}}, r"NWBFile\.session_start_time"),
    "unknown metadata": ({"metadata": METADATA | {"Ophis": {}}}, "Ophis is not known"),
    "missing metadata file": ({"metadata": "/nowhere.yaml"}, "metadata file /nowhere.yaml cannot be read"),
    "missing output folder": ({"nwbfile_path": "/nowhere/a.nwb"}, "output folder /nowhere does not exist"),
    "wrong options": ({"backend": "hdf", "memory_limit": "a lot"}, r"2 option\(s\).*backend.*memory_limit"),
    "wrong iterator option": ({"iterator_options": {"chunks": 3}}, "iterator options .* are wrong.*'chunks'"),
    "wrong series type": ({"photon_series_type": "ThreePhotonSeries"}, "photon_series_type"),
}


@pytest.mark.parametrize(("options", "message"), BAD_INPUT.values(), ids=BAD_INPUT.keys())
def test_bad_input_is_one_clear_error_without_a_retry(tmp_path, tiff, options, message):
    before = sorted(tmp_path.iterdir())
    with task_fails(OphysError, match=f"(?s){message}"):
        run_one(WriteImagingOperator, **imaging(tiff, tmp_path / "movie.nwb") | options)
    assert sorted(tmp_path.iterdir()) == before


def test_a_change_between_the_samples_of_a_large_file_is_no_reason_to_reuse(tmp_path):
    movie = np.random.default_rng(0).integers(0, 1000, (200, 128, 128), "int16")
    tifffile.imwrite(tmp_path / "m.tif", movie)
    before = (tmp_path / "m.tif").stat()
    options = imaging(tmp_path / "m.tif", tmp_path / "a.nwb")
    run_one(WriteImagingOperator, **options)
    shutil.copytree(tmp_path, tmp_path / "copy")  # keeps the times
    assert (
        run_one(WriteImagingOperator, **imaging(tmp_path / "copy" / "m.tif", tmp_path / "a.nwb"))["reused"] is True
    )
    with (tmp_path / "m.tif").open("r+b") as file:
        file.seek(before.st_size // 40)
        file.write(bytes(1000))
    with task_fails(OutputExistsError, match="only samples are compared"):
        run_one(WriteImagingOperator, **options)


def test_with_reuse_by_content_times_prove_nothing_and_are_not_needed(tmp_path):
    movie = np.random.default_rng(0).integers(0, 1000, (200, 128, 128), "int16")
    tifffile.imwrite(tmp_path / "m.tif", movie)
    before = (tmp_path / "m.tif").stat()
    options = imaging(tmp_path / "m.tif", tmp_path / "a.nwb", reuse="content")
    assert run_one(WriteImagingOperator, **options)["reused"] is False
    assert run_one(WriteImagingOperator, **options)["reused"] is True
    (tmp_path / "copy").mkdir()
    shutil.copyfile(tmp_path / "m.tif", tmp_path / "copy" / "m.tif")  # with times of its own
    for reuse in ("content", "state"):
        copied = imaging(tmp_path / "copy" / "m.tif", tmp_path / "a.nwb", reuse=reuse)
        assert run_one(WriteImagingOperator, **copied)["reused"] is True
    with (tmp_path / "m.tif").open("r+b") as file:
        file.seek(before.st_size // 40)
        file.write(bytes(1000))
    os.utime(tmp_path / "m.tif", ns=(before.st_atime_ns, before.st_mtime_ns))
    with task_fails(OutputExistsError, match="has other content by now"):
        run_one(WriteImagingOperator, **options)


def test_an_output_of_which_the_content_is_not_known_is_not_reused_by_content(tmp_path, tiff):
    options = imaging(tiff, tmp_path / "a.nwb")
    run_one(WriteImagingOperator, **options)
    with task_fails(OutputExistsError, match="is not known"):
        run_one(WriteImagingOperator, **options, reuse="content")


def test_a_missing_package_says_what_to_install(tmp_path, tiff, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "isx", None)  # as if it were not installed
    recording = {"extractor": "Inscopix", "extractor_kwargs": {"file_path": str(tiff)}, "check_recording": False}
    with task_fails(OphysError, match=r"pip install 'airflow-provider-ophys\[inscopix\]'"):
        run_one(WriteImagingOperator, **imaging(tiff, tmp_path / "a.nwb", **recording))


def test_a_failed_task_does_not_use_up_its_retries(tmp_path, tiff):
    with DAG("fails") as dag:
        WriteImagingOperator(task_id="write", retries=3, **imaging(tiff, tmp_path / "a.nwb", extractor="Nothing"))
    (instance,) = run_dag(dag)["write"]
    assert (instance.state, instance.try_number) == ("failed", 1)


def test_the_platforms_defaults_count(tmp_path, tiff, monkeypatch):
    import h5py

    monkeypatch.setenv("AIRFLOW__OPHYS__COMPRESSION", "none")
    run_one(WriteImagingOperator, **imaging(tiff, tmp_path / "a.nwb"))
    with h5py.File(tmp_path / "a.nwb") as file:
        assert file["acquisition/TwoPhotonSeries/data"].compression is None
    monkeypatch.setenv("AIRFLOW__OPHYS__MEMORY_LIMIT", "1kB")
    with pytest.raises(MemoryError, match="memory budget"):
        run_one(WriteImagingOperator, **imaging(tiff, tmp_path / "b.nwb"))
    monkeypatch.setenv("AIRFLOW__OPHYS__COMPRESSION", "best")
    with task_fails(OphysError, match=r"\[ophys\].*compression is 'best'"):
        run_one(WriteImagingOperator, **imaging(tiff, tmp_path / "b.nwb"))


REQUIRED = {
    WriteImagingOperator: {"extractor": "Tiff"},
    WriteSegmentationOperator: {"extractor": "Suite2p"},
    WriteSessionOperator: {"session": {}},
}


@pytest.mark.parametrize("operator", REQUIRED)
def test_options_survive_serialization(operator):
    with DAG("serialized") as dag:
        operator(task_id="write", nwbfile_path="{{ params.x }}", threads="{{ params.y }}", **REQUIRED[operator])
    back = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag)).get_task("write")
    assert (back.nwbfile_path, back.threads) == ("{{ params.x }}", "{{ params.y }}")


def test_on_kill_stops_the_writing(tmp_path, tiff):
    operator = WriteImagingOperator(task_id="write", **imaging(tiff, tmp_path / "a.nwb"))
    operator.on_kill()  # before it runs, there is nothing to stop
    with operator._stoppable() as stop:
        operator.on_kill()
    assert stop.is_set()


def test_a_time_limit_holds_even_if_airflows_exception_is_lost(tmp_path, tiff, monkeypatch):
    monkeypatch.setattr(stopping, "LATE_SECONDS", 0.0)
    limit = timedelta(seconds=0.2)
    operator = WriteImagingOperator(
        task_id="write",
        execution_timeout=limit,
        **imaging(tiff, tmp_path / "a.nwb", if_exists="overwrite"),
    )
    with h5py.File(tmp_path / "a.nwb", "w") as file:
        file.attrs["nwb_version"] = "2.9.0"
    old = (tmp_path / "a.nwb").read_bytes()
    read = TiffImagingExtractor.get_series
    # Outside of Airflow's own runner nothing is raised, as when what is raised is lost.
    monkeypatch.setattr(
        TiffImagingExtractor, "get_series", lambda *arguments, **options: sleep(1) or read(*arguments, **options)
    )
    with pytest.raises(ConversionStoppedError):
        operator.execute({"outlet_events": {}})
    assert (tmp_path / "a.nwb").read_bytes() == old
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")] == []
